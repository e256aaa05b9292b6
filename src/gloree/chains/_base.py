"""What the library asks of an input law."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from gloree.sequences import Array, Batch, IntArray

RandomState = int | np.random.Generator | np.random.SeedSequence | None


class NonStationaryChainError(ValueError):
    """A chain without a stationary law was asked for something that needs one."""


@runtime_checkable
class Chain(Protocol):
    """The law of the inputs: anything with a density whose gradient can be computed.

    A law is all that the moments need to know about the inputs. `scores` is the first-order
    partial score s_t = -grad_{x_t} log p(x_1, .., x_n), the first and last steps of a sequence
    included; it may depend on `context` rows on either side of the step, so a segment cut out of
    a long sequence must carry that many rows.
    """

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        ...

    @property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step that its score depends on."""
        ...

    def scores(self, batch: Batch) -> Array:
        """First-order partial scores, shape (n_rows, n_inputs)."""
        ...

    def log_density(self, X: Any, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,)."""
        ...

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs)."""
        ...


@runtime_checkable
class GaussianChain(Chain, Protocol):
    """A law whose log-density is quadratic: score tensors of every order are Hermite tensors.

    The covariance of s_t is then the matrix K = -grad^2_{x_t} log p, which does not depend on the
    inputs. It is the same for all steps far from the ends, and the few other values are told
    apart by an integer, the *kind* of a step; kind 0 is the interior.
    """

    @property
    def n_kinds(self) -> int:
        """How many kinds of step there are."""
        ...

    def kind_name(self, kind: int) -> str:
        """Say in words which steps are of this kind."""
        ...

    def precision_blocks(self, lag: int = 0) -> Array:
        """Cov(s_t, s_{t-lag}) for every kind of step t, shape (n_kinds, n_inputs, n_inputs)."""
        ...

    def score_covariance_kinds(self, batch: Batch) -> tuple[IntArray, Array]:
        """Kind of every row and the score covariance K of every kind."""
        ...

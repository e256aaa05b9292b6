"""What the library asks of an input law, and how it asks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from gloree._random import RandomState
from gloree.sequences import Array, Batch, IntArray

Self = TypeVar("Self")

REPR_LENGTH = 120
"""Characters of a law's representation that a message quotes."""


class NonStationaryChainError(ValueError):
    """A chain without a stationary law was asked for something that needs one."""


LARGEST_CONDITION = 1e12
"""Condition of the covariances of a law from which its scores, which are products with inverses,
hold fewer than four digits: laws beyond it are refused."""

GOOD_CONDITION = 1e8
"""Condition up to which scores hold eight digits, and so nothing is said."""


class LawError(ValueError):
    """An input law was asked for something that it does not declare, or does not hold."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an input law can do: the law declares it, and `require` checks it.

    Parameters
    ----------
    max_score_order : int or None
        Largest order m for which the score tensor S_m is known; None means every order.
    hermite : bool
        Whether the log-density is quadratic, so that S_m is the Hermite tensor of the
        first-order score and its covariance. Such a law is a `HermiteLaw`.
    edges : bool
        Whether the scores of the first and last steps of a sequence are exact too.
    """

    max_score_order: int | None
    hermite: bool
    edges: bool

    def __post_init__(self) -> None:
        if self.max_score_order is not None and self.max_score_order < 1:
            raise ValueError(
                f"`max_score_order` is {self.max_score_order}, expected at least 1, or None for "
                f"every order"
            )


class InputLaw(Protocol):
    """The law of the inputs: anything with a density whose gradient can be computed.

    Any object with these members is a law; nothing has to be inherited. Laws are sent to worker
    processes and copied with estimators, so they should be immutable and picklable.
    """

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""

    @property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step that its score depends on."""

    @property
    def capabilities(self) -> Capabilities:
        """What the law can do."""

    def scores(self, batch: Batch) -> Array:
        """First-order score s_t = -grad_{x_t} log p(x_1, .., x_n), shape (n_rows, n_inputs).

        A segment that is cut out of a longer sequence carries `context` rows on either side, whose
        own scores may be zero. Where `batch.X` is a PyTorch tensor, the result is one too.
        """

    def log_density(self, X: Any, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,)."""

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs)."""

    def shifted(self: Self, offset: Array) -> Self:
        """Law of x - offset, with an offset of shape (n_inputs,)."""


class HermiteLaw(InputLaw, Protocol):
    """A law whose log-density is quadratic: score tensors of every order are Hermite tensors.

    The covariance of s_t is then the matrix K = -grad^2_{x_t} log p, which does not depend on the
    inputs. It is the same for all interior steps, which have `context` steps on either side, and
    takes a few other values near the ends of sequences. An integer, the *boundary type* of a step,
    says which value applies; 0 is the interior.
    """

    @property
    def n_boundary_types(self) -> int:
        """Number of boundary types, the interior included."""

    def boundary_name(self, boundary_type: int) -> str:
        """Which steps are of this boundary type, in words."""

    def boundary_types(self, batch: Batch) -> IntArray:
        """Boundary type of every row, shape (n_rows,), numbered alike in all batches."""

    def precision_blocks(self, lag: int = 0) -> Array:
        """Cov(s_t, s_{t-lag}) for each boundary type of t, (n_boundary_types, n_inputs, n_inputs).

        Lag 0 gives K; lags beyond `context` give zero. Values for boundary types of steps without
        a step t - lag before them are not used.
        """


Derivatives: TypeAlias = Callable[[IntArray], tuple[Array, ...]]
"""From row indices to (D_1, .., D_m) of these rows, D_k of shape (n_rows, n_inputs, .., n_inputs).

D_k = grad^k_{x_t} log p(x_1, .., x_n)."""


class DerivativeLaw(InputLaw, Protocol):
    """A law that knows the derivatives of its joint log-density in one step.

    All score tensors follow from them: S_m is (-1)^m times the complete Bell polynomial of
    D_1, .., D_m (see `gloree.score_functions.score_tensors`). A law that is Hermite need not have
    the method, as its derivatives are -s, -K and zero; `law_derivatives` serves both.
    """

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Derivatives of orders 1 to `order` in the steps of a batch, as a function of rows.

        Nothing of the size of the batch is built: moments ask for a block of rows at a time. The
        rows asked for have `context` rows around them, or are first or last in their sequence.
        """


@overload
def require(
    law: object,
    *,
    tensors: Literal[True],
    order: int = ...,
    edges: bool = ...,
    digits: bool = ...,
    purpose: str = ...,
) -> DerivativeLaw: ...


@overload
def require(
    law: object,
    *,
    hermite: Literal[True],
    order: int = ...,
    edges: bool = ...,
    digits: bool = ...,
    purpose: str = ...,
) -> HermiteLaw: ...


@overload
def require(
    law: object,
    *,
    order: int = ...,
    hermite: bool = ...,
    tensors: bool = ...,
    edges: bool = ...,
    digits: bool = ...,
    purpose: str = ...,
) -> InputLaw: ...


def require(
    law: object,
    *,
    order: int = 1,
    hermite: bool = False,
    tensors: bool = False,
    edges: bool = False,
    digits: bool = False,
    purpose: str = "moment='score'",
) -> InputLaw:
    """Return an input law that declares all that is needed; refuse any other by name.

    It is a `HermiteLaw` if `hermite` is true.

    Parameters
    ----------
    law : object
    order : int, default 1
        Largest order of the score tensors that are needed.
    hermite : bool, default False
        Whether they have to be Hermite tensors of the first-order score.
    tensors : bool, default False
        Whether score tensors of orders above 1 are needed, Hermite or from the derivatives of a
        `DerivativeLaw`.
    edges : bool, default False
        Whether the scores of first and last steps have to be exact.
    digits : bool, default False
        Whether to warn of a law whose scores hold fewer than eight digits, too.
    purpose : str
        What needs them, for the message.

    Raises
    ------
    TypeError
        If the object is no input law; the message names the members that it lacks.
    LawError
        If the law does not declare what is needed, or declares ``hermite=True`` but lacks members
        of `HermiteLaw`; or if its `condition`, where it has one, is beyond 1e12: its scores would
        hold fewer than four digits.

    Warns
    -----
    RuntimeWarning
        With `digits`, for a `condition` beyond 1e8.

    Examples
    --------
    >>> from gloree.chains import GaussianVAR, require
    >>> require(GaussianVAR([[0.5]], [[1.0]]), order=3, hermite=True, edges=True)
    GaussianVAR(n_inputs=1, order=1, spectral_radius=0.5)
    """
    name = type(law).__name__
    if isinstance(law, type):
        raise TypeError(f"`chain` is the class {law.__name__}: give an instance of it")
    lacking = _lacking(law, InputLaw)
    if lacking:
        raise TypeError(
            f"`chain` is of type {name}, and no input law, which {purpose} needs: it lacks "
            f"{lacking}. Give a `GaussianVAR`, or an object with all members of "
            f"`gloree.chains.InputLaw`"
        )
    declared = law.capabilities  # type: ignore[attr-defined]
    if not isinstance(declared, Capabilities):
        raise TypeError(
            f"`capabilities` of the input law {named(law)} is {declared!r}: expected an instance "
            f"of `gloree.chains.Capabilities`"
        )
    missing = _lacking(law, HermiteLaw)
    if declared.hermite and missing:
        raise LawError(
            f"the input law {named(law)} declares `hermite=True`, but lacks {missing}: add "
            f"what `gloree.chains.HermiteLaw` has, or declare `hermite=False`"
        )
    unmet = []
    if declared.max_score_order is not None and order > declared.max_score_order:
        unmet.append(f"score tensors of order {order}")
    if hermite and not declared.hermite:
        unmet.append("score tensors that are Hermite tensors of the first-order score (`hermite`)")
    if tensors and not declared.hermite and not hasattr(law, "derivatives"):
        unmet.append(
            "score tensors, Hermite tensors of the first-order score (`hermite`) or from "
            "derivatives of the log-density (`derivatives`),"
        )
    if edges and not declared.edges:
        unmet.append("exact scores of first and last steps (`edges`)")
    if unmet:
        raise LawError(
            f"{purpose} asks the input law {named(law)} for {' and '.join(unmet)}, and it "
            f"declares {declared!r}. Give a law that can do this, as `GaussianVAR` can, ask for "
            f"less, or do without a law (an estimator fits one if `chain` is left out)"
        )
    _check_condition(law, digits=digits, purpose=purpose)
    return law  # type: ignore[return-value]


def _check_condition(law: object, *, digits: bool, purpose: str) -> None:
    condition = float(getattr(law, "condition", 1.0))
    if condition <= GOOD_CONDITION or (condition <= LARGEST_CONDITION and not digits):
        return
    text = (
        f"the input law {named(law)} is nearly singular: its covariances have condition "
        f"{condition:.1e}, so that the scores that {purpose} needs hold about "
        f"{max(0, int(16 - np.log10(condition)))} digits"
    )
    remedy = "leave columns out or project the inputs on fewer directions"
    if not condition <= LARGEST_CONDITION:
        raise LawError(f"{text}, and at least 4 are needed: {remedy}")
    warnings.warn(f"{text}: {remedy}", RuntimeWarning, stacklevel=4)


def named(law: object) -> str:
    """Class of a law, and its representation as far as that fits in a line."""
    name = type(law).__name__
    if type(law).__repr__ is object.__repr__:
        return name
    text = " ".join(repr(law).split())
    text = text if len(text) <= REPR_LENGTH else f"{text[:REPR_LENGTH]} .."
    return text if text.startswith(name) else f"{name} {text}"


def _lacking(law: object, protocol: type) -> str:
    members = (each for each in vars(protocol) if not each.startswith("_"))
    return ", ".join(f"`{each}`" for each in members if not hasattr(law, each))

"""What the library asks of an input law, and how it asks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import to_host
from gloree.sequences import Array, Batch, IntArray

RandomState = int | np.random.Generator | np.random.SeedSequence | None

Self = TypeVar("Self")

REPR_LENGTH = 120
"""Characters of a law's representation that a message quotes."""


class NonStationaryChainError(ValueError):
    """A chain without a stationary law was asked for something that needs one."""


class LawError(ValueError):
    """An input law was asked for something that it does not declare, or does not hold."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an input law can give; the law declares it, and `require` compares it with a need.

    Parameters
    ----------
    max_score_order : int or None
        Largest order m for which the score tensor S_m is known; None means every order.
    hermite : bool
        Whether the log-density is quadratic, so that S_m is the Hermite tensor of the
        first-order score and its covariance. Such a law is a `HermiteLaw`.
    edges : bool
        Whether the scores of the first and last steps of a sequence are exact too.

    Raises
    ------
    ValueError
        If `max_score_order` is below 1.
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

    This is all that the library needs to know about the inputs. Any object with these members
    is a law; nothing has to be inherited. Laws travel to worker processes and into copies of an
    estimator, so they should be immutable and picklable.
    """

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        ...

    @property
    def context(self) -> tuple[int, int]:
        """Rows before and after a step that its score depends on."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the law can give."""
        ...

    def scores(self, batch: Batch) -> Array:
        """First-order score s_t = -grad_{x_t} log p(x_1, .., x_n) of every row.

        A segment that is cut out of a longer sequence carries `context` rows on either side;
        rows of context may hold zeros. `batch.X` is an array of NumPy, or a PyTorch tensor if
        the law is used with those; the result is of the same sort.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        ndarray of shape (n_rows, n_inputs)
        """
        ...

    def log_density(self, X: Any, *, lengths: ArrayLike | None = None) -> Array:
        """Log-density of every sequence, shape (n_sequences,)."""
        ...

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw sequences, shape (n_sequences, n_steps, n_inputs)."""
        ...

    def shifted(self: Self, offset: Array) -> Self:
        """Law of x - offset, where `offset` has shape (n_inputs,)."""
        ...


class HermiteLaw(InputLaw, Protocol):
    """A law whose log-density is quadratic: score tensors of every order are Hermite tensors.

    The covariance of s_t is then the matrix K = -grad^2_{x_t} log p, which does not depend on the
    inputs. It is the same for all steps with `context` steps on either side. The few other values,
    near the ends of sequences, are told apart by an integer, the *boundary type* of a step; type
    0 is the interior.
    """

    @property
    def n_boundary_types(self) -> int:
        """Number of boundary types, the interior included."""
        ...

    def boundary_name(self, boundary_type: int) -> str:
        """Say in words which steps are of this boundary type."""
        ...

    def boundary_types(self, batch: Batch) -> IntArray:
        """Boundary type of every row, shape (n_rows,); their numbers do not depend on the batch."""
        ...

    def precision_blocks(self, lag: int = 0) -> Array:
        """Cov(s_t, s_{t-lag}) for each boundary type of t, (n_boundary_types, n_inputs, n_inputs).

        Lag 0 gives K. Zero for lags beyond `context`; what is returned for boundary types that
        lack the step t - lag is not used.
        """
        ...


@overload
def require(
    law: object,
    *,
    order: int = ...,
    hermite: Literal[True],
    edges: bool = ...,
    purpose: str = ...,
) -> HermiteLaw: ...


@overload
def require(
    law: object, *, order: int = ..., hermite: bool = ..., edges: bool = ..., purpose: str = ...
) -> InputLaw: ...


def require(
    law: object,
    *,
    order: int = 1,
    hermite: bool = False,
    edges: bool = False,
    purpose: str = "moment='score'",
) -> InputLaw:
    """Return the law if it declares what is asked of it; refuse it by name otherwise.

    Parameters
    ----------
    law : object
        What was given as input law.
    order : int, default 1
        Largest order of the score tensors that are needed.
    hermite : bool, default False
        Whether they are to be Hermite tensors of the first-order score.
    edges : bool, default False
        Whether the scores of first and last steps are to be exact.
    purpose : str
        What asks, for the message.

    Returns
    -------
    InputLaw
        The same object; a `HermiteLaw` if `hermite` is asked for.

    Raises
    ------
    TypeError
        If the object is no input law; the message names the members that it lacks.
    LawError
        If the law does not declare what is asked for, or declares ``hermite=True`` without
        having the members of a `HermiteLaw`.

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
            f"`chain` is a {name}, and no input law, which {purpose} needs: it lacks {lacking}. "
            f"Give a `GaussianVAR`, or an object with all members of `gloree.chains.InputLaw`"
        )
    declared = law.capabilities  # type: ignore[attr-defined]
    if not isinstance(declared, Capabilities):
        raise TypeError(
            f"`capabilities` of the input law {_named(law)} is {declared!r}: expected an instance "
            f"of `gloree.chains.Capabilities`"
        )
    missing = _lacking(law, HermiteLaw)
    if declared.hermite and missing:
        raise LawError(
            f"the input law {_named(law)} declares `hermite=True`, but lacks {missing}: add "
            f"what `gloree.chains.HermiteLaw` has, or declare `hermite=False`"
        )
    unmet = []
    if declared.max_score_order is not None and order > declared.max_score_order:
        unmet.append(f"score tensors of order {order}")
    if hermite and not declared.hermite:
        unmet.append("score tensors that are Hermite tensors of the first-order score (`hermite`)")
    if edges and not declared.edges:
        unmet.append("exact scores of first and last steps (`edges`)")
    if unmet:
        raise LawError(
            f"{purpose} asks the input law {_named(law)} for {' and '.join(unmet)}, and it "
            f"declares {declared!r}. Give a law that can do this, as `GaussianVAR` can, ask for "
            f"less, or do without a law (an estimator fits one if `chain` is left out)"
        )
    return law  # type: ignore[return-value]


def _named(law: object) -> str:
    """Class of a law, with its representation as far as that fits in a line."""
    name = type(law).__name__
    if type(law).__repr__ is object.__repr__:
        return name
    text = " ".join(repr(law).split())
    text = text if len(text) <= REPR_LENGTH else f"{text[:REPR_LENGTH]} .."
    return text if text.startswith(name) else f"{name} {text}"


def _lacking(law: object, protocol: type) -> str:
    """Members of a protocol that an object lacks, as text."""
    members = (each for each in vars(protocol) if not each.startswith("_"))
    return ", ".join(f"`{each}`" for each in members if not hasattr(law, each))


def fingerprint(law: object) -> str:
    """Text that tells an input law from others: its representation, and a checksum of its values.

    Two laws with the same arrays and other attributes have the same fingerprint, in every
    process. Derived attributes (`functools.cached_property`) do not count.

    Examples
    --------
    >>> from gloree.chains import GaussianVAR, fingerprint
    >>> fingerprint(GaussianVAR([[0.5]], [[1.0]])) == fingerprint(GaussianVAR([[0.5]], [[1.0]]))
    True
    """
    return f"{_named(law)} of checksum {_checksum(law, 0)}"


def _checksum(value: object, code: int) -> int:
    """Checksum over arrays, containers and the attributes of objects, continued from `code`."""
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(to_host(value))
        code = zlib.crc32(f"{array.dtype.str} {array.shape}".encode(), code)
        return zlib.crc32(array.tobytes(), code)
    if isinstance(value, (list, tuple)):
        parts: dict[str, object] = {str(i): part for i, part in enumerate(value)}
    elif isinstance(value, dict):
        parts = {repr(key): part for key, part in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
    else:
        parts = {
            name: part
            for name, part in getattr(value, "__dict__", {}).items()
            if not isinstance(getattr(type(value), name, None), cached_property)
        }
        if not parts or isinstance(value, type):
            return zlib.crc32(repr(value).encode(), code)
    code = zlib.crc32(type(value).__qualname__.encode(), code)
    for name, part in parts.items():
        code = _checksum(part, zlib.crc32(name.encode(), code))
    return code

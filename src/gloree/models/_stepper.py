"""A network one row at a time, for loops that cannot wait for the rest of a record."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gloree._frames import refuse_masked
from gloree.activations import Activation, Polynomial, linear, quadratic, tanh
from gloree.models._forward import ExplosionError, explosion_limit
from gloree.models._states import n_past, read_states
from gloree.sequences import Array

if TYPE_CHECKING:
    from gloree.models._network import Network


Function = Callable[[Array, Array], object]

_FLOAT = np.dtype(np.float64)
_UFUNCS: tuple[tuple[Activation, Function], ...] = (
    (linear, np.positive),
    (quadratic, np.square),
    (tanh, np.tanh),
)
"""The same values to the last bit, a microsecond sooner."""


class Stepper:
    """Runs a network one row at a time; made by `Network.stepper`.

    Called with one row of inputs it moves the state one step on and returns one row of outputs, a
    new array of shape (n_outputs,). Row after row these are the predictions for the whole record,
    to rounding.

    Parameters
    ----------
    model : Network
        Without backward units.
    state : ndarray of shape (n_state,), optional
        State before the first row; zeros by default.

    Raises
    ------
    TypeError, ValueError
        If `state` does not fit, or the outputs of the network depend on inputs to come.

    Notes
    -----
    With v = [1, x_t, .., x_(t-lags+1), h], a step is two products, z = [b, A1, U] v and
    y = [c, D^T, A2^T] v, and one call of the activation between them, in memory that is kept.
    Copies and pickles go on from the same state on their own.

    Examples
    --------
    >>> from gloree.models import IORNN
    >>> step = IORNN([[1.0]], [[0.5]], [[2.0]], activation="linear").stepper()
    >>> step([1.0]), step([0.0])
    (array([2.]), array([1.]))
    >>> step.state
    array([0.5])
    """

    def __init__(self, model: Network, state: object = None) -> None:
        from scipy.linalg.blas import dasum  # a tenth of the time of NumPy's, and no warnings

        wide = model.direct_weights is not None and model.lags > 1
        if model.n_backward or (wide and "forward_input_weights" in model.weight_names):
            raise ValueError(
                f"a {type(model).__name__} with backward units, or a window into the future, has "
                f"no stepper: its outputs depend on inputs that are still to come. Predict whole "
                f"records, or fit a network of one direction"
            )
        chain = model.recursions[0]
        width, k = model.lags * model.n_inputs, model.n_forward
        self._model = model
        self._hidden = np.column_stack(
            (chain.hidden_bias, chain.input_weights, chain.recurrent_weights)
        )
        D = np.zeros((width, model.n_outputs))
        if model.direct_weights is not None:
            D = model.direct_weights[:width]
        self._readout = np.ascontiguousarray(
            np.vstack((model.output_bias[np.newaxis], D, model.output_weights)).T
        )
        self._joined, self._work = np.zeros(1 + width + k), np.zeros(2 * k)
        self._joined[0] = 1.0
        self._row, self._h = self._joined[1 : 1 + model.n_inputs], self._joined[1 + width :]
        # the newest input first: a step on, each row stands where the next older one stood
        self._past = self._joined[1 + model.n_inputs : 1 + width]
        self._newer = self._joined[1 : 1 + n_past(model)] if model.lags > 1 else None
        self._z, self._new = self._work[:k], self._work[k:]
        self._parts = [
            (f, self._z[units], self._new[units]) for units, f in _stretches(chain.activation, k)
        ]
        self._limit = math.inf
        if chain.recurrent_weights.any():
            self._limit = explosion_limit(chain.recurrent_weights, chain.activation)
        self._size = dasum
        self._shape = (model.n_inputs,)
        self._n_steps = 0
        self._first = np.zeros(model.n_state)
        self.reset(state)

    @property
    def model(self) -> Network:
        """The network."""
        return self._model

    @property
    def state(self) -> Array:
        """State before the next row, a copy of shape (n_state,); can be set."""
        return np.concatenate((self._h, self._past))

    @state.setter
    def state(self, value: object) -> None:
        given = read_states(self._model, value, 1)[0]
        self._h[:], self._past[:] = np.split(given, [self._h.shape[0]])

    def reset(self, state: object = None) -> None:
        """Go back to the state that the stepper was made with, or to another one from now on."""
        if state is not None:
            self._first = read_states(self._model, state, 1)[0].copy()
        self.state, self._n_steps = self._first, 0

    def __reduce__(self) -> tuple[object, ...]:
        # through the constructor: views have to be views of the copy
        return _restored, (self._model, self._first, self.state)

    def __repr__(self) -> str:
        return f"Stepper({self._model!r})"

    def __call__(self, x: ArrayLike) -> Array:
        """Take one row of inputs, (n_inputs,), and return one row of outputs, (n_outputs,).

        Raises a TypeError or ValueError for what is no row of finite numbers, and an ExplosionError
        where the state runs away; the state stays as it was then.
        """
        row = x
        if type(row) is not np.ndarray or row.dtype is not _FLOAT or row.shape != self._shape:
            row = self._as_row(x)
        self._row[:] = row
        joined, work = self._joined, self._work
        np.dot(self._hidden, joined, out=self._z)
        for f, z, new in self._parts:
            f(z, new)
        # the sum of magnitudes finds NaN and infinity, of inputs too, and states beyond the limit
        if not self._size(work) < self._limit:
            self._require_sound(row)
        self._h[:] = self._new
        outputs: Array = np.dot(self._readout, joined)
        if self._newer is not None:
            self._past[:] = self._newer
        self._n_steps += 1
        return outputs

    def _as_row(self, x: ArrayLike) -> Array:
        if isinstance(x, np.ma.MaskedArray):
            refuse_masked(x, "x")
        row = np.asarray(x)
        if row.dtype.kind not in "biuf":
            raise TypeError(f"`x` has dtype {row.dtype}, expected real numbers")
        if row.shape == () and self._shape == (1,):
            row = row[np.newaxis]
        if row.shape != self._shape:
            raise ValueError(
                f"`x` has shape {row.shape}, expected one row of inputs, {self._shape}"
            )
        return row.astype(np.float64)

    def _require_sound(self, row: Array) -> None:
        if not np.all(np.isfinite(row)):
            column = int(np.flatnonzero(~np.isfinite(row))[0])
            raise ValueError(
                f"`x` holds {row[column]} in column {column}: fill in a missing input, for example "
                f"by the last one that was measured"
            )
        size = float(np.abs(self._new).max())
        if not (math.isfinite(size) and size <= self._limit):
            raise ExplosionError(0, self._n_steps, size)


def _stretches(activation: Activation, n_units: int) -> list[tuple[slice, Function]]:
    """Neighbouring units that are linear, polynomials, or neither; functions of (values, out)."""
    units: tuple[Activation, ...] = getattr(activation, "units", (activation,) * n_units)
    found: list[tuple[slice, Function]] = []
    begin = 0
    for _, group in groupby(units, lambda unit: (unit == linear, isinstance(unit, Polynomial))):
        members = list(group)
        where = slice(begin, begin + len(members))
        polynomials = [unit.coefficients for unit in members if isinstance(unit, Polynomial)]
        known = [ufunc for one, ufunc in _UFUNCS if all(unit == one for unit in members)]
        f: Function = known[0] if known else activation.select(where)
        if polynomials and not known:
            f = _Horner(polynomials)
        found.append((where, f))
        begin = where.stop
    return found


class _Horner:
    """Polynomials of neighbouring units, in as few calls as their highest degree allows."""

    def __init__(self, polynomials: list[tuple[float, ...]]) -> None:
        rows = np.array(list(zip_longest(*polynomials, fillvalue=0.0)))
        self.leading, self.constant = rows[-1], rows[0] if rows[0].any() else None
        self.others = list(rows[-2:0:-1])

    def __call__(self, z: Array, out: Array) -> None:
        np.multiply(z, self.leading, out)
        for row in self.others:
            np.add(out, row, out)
            np.multiply(out, z, out)
        if self.constant is not None:
            np.add(out, self.constant, out)


def _restored(model: Network, first: Array, state: Array) -> Stepper:
    stepper = Stepper(model, first)
    stepper.state = state
    return stepper

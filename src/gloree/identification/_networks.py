r"""Networks of linear states and nonlinear units, from a realisation and directions.

A unit is f(v_t + bias) of v_t = w . [h_{t-1}, u_t]; a few biases are spread over the range of v,
and several directions w share the units equally. The matrix Gamma by which units enter
the states is found by linear least squares: unit i injected into state m appears in output a as the
filter sum_j (C U^j)_{am} f_i(t - j), a linear recursion with U^T.

If the units drive the states that they see, there is feedback, which the moments of a cascade do
not account for. There are two remedies: a second copy of the states to be driven by the units
(`with_copied_states`), or a partition of the modes into those that the units see and those that
they drive (`with_shared_states`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from scipy.linalg import block_diag

from gloree._brief import Brief
from gloree.activations import Activation, PerUnit, linear
from gloree.identification._directions import NonlinearDirection
from gloree.identification._realisation import Realisation
from gloree.models import IORNN
from gloree.sequences import Array, IntArray

Directions: TypeAlias = Sequence[NonlinearDirection]

RIDGE, OUTPUT_RIDGE = 1e-8, 1e-10  # relative, of the least squares for injections and for outputs


@dataclass(frozen=True)
class LinearModel(Brief):
    """A realisation with output weights, and its inputs, outputs and states on rows of one record.

    Shapes: `u` (n_rows, n_inputs), `y` (n_rows, n_outputs) and `h` (n_rows, order); `start`
    (order,) is the state in front of the first row, zero by default.
    """

    realisation: Realisation
    model: IORNN
    u: Array
    y: Array
    h: Array
    start: Array | None = None

    def shortened(self, n_rows: int) -> LinearModel:
        """Return the same model along the first so many rows."""
        return replace(self, u=self.u[:n_rows], y=self.y[:n_rows], h=self.h[:n_rows])

    @property
    def entering(self) -> Array:
        """[h_{t-1}, u_t] of every step."""
        first = np.zeros(self.h.shape[1]) if self.start is None else self.start
        return np.column_stack((np.vstack((first, self.h[:-1])), self.u))

    @property
    def residual(self) -> Array:
        """Outputs minus those of the model."""
        model = self.model
        assert model.direct_weights is not None
        fitted = self.h @ model.output_weights + self.u @ model.direct_weights
        return np.asarray(self.y - fitted - model.output_bias)


def linear_model(realisation: Realisation, u: Array, y: Array) -> LinearModel:
    """Add output weights, fitted to u and y, and scale modes to root mean squares of one."""
    U, B, n = realisation.transition, realisation.inputs, realisation.order
    D = np.zeros((u.shape[1], y.shape[1]))
    model = IORNN(B, U, np.zeros((n, y.shape[1])), direct_weights=D, activation="linear")
    h = model.hidden_states(u)
    size = np.ones(n)
    for mode in realisation.modes:
        rms = float(np.sqrt(np.mean(h[:, mode] ** 2)))
        size[mode] = rms if rms > 0 else 1.0
    U, B = U / size[:, None] * size[None, :], B / size[:, None]
    model = model.replace(input_weights=B, recurrent_weights=U)
    scaled = replace(realisation, transition=U, inputs=B)
    return LinearModel(scaled, with_outputs(model, u, y), u, y, h / size)


def with_outputs(model: IORNN, u: Array, y: Array) -> IORNN:
    """Output weights, bias and direct path by least squares on the states."""
    regressors = np.column_stack((model.hidden_states(u), u, np.ones(u.shape[0])))
    weights = _solve(regressors.T @ regressors, regressors.T @ y, OUTPUT_RIDGE)
    A2, D, c = np.split(weights, (model.n_hidden, -1))
    return model.replace(output_weights=A2, direct_weights=D, output_bias=c[0])


def unit_biases(n_units: int, spread: float = 2.0, *, n_directions: int = 1) -> Array:
    """Biases of units, spread for each direction over the range of a standard normal variable."""
    counts = np.bincount(unit_directions(n_units, n_directions), minlength=n_directions)
    return np.concatenate(
        [np.linspace(-spread, spread, q) if q > 1 else np.array([0.5]) for q in counts.tolist()]
    )


def unit_directions(n_units: int, n_directions: int) -> IntArray:
    """Number of the direction that each unit sees: equal shares, the first ones larger by one."""
    if not 1 <= n_directions <= n_units:
        raise ValueError(
            f"{n_units} unit(s) cannot be shared among {n_directions} directions: each direction "
            f"needs one"
        )
    return np.sort(np.arange(n_units) % n_directions)


def _unit_weights(directions: Directions, n_units: int) -> tuple[Array, Array]:
    """Weights (n_columns, n_units) and offsets (n_units,) of the direction of each unit."""
    places = unit_directions(n_units, len(directions))
    weights = np.column_stack([direction.weights for direction in directions])
    offsets = np.array([direction.offset for direction in directions])
    return weights[:, places], offsets[places]


def with_copied_states(
    linear_part: LinearModel, directions: Directions, unit: Activation, biases: Array
) -> IORNN:
    """Cascades without feedback: linear states, a copy of them driven by the units, the units."""
    U = linear_part.realisation.transition
    weights, offsets = _unit_weights(directions, biases.shape[0])
    v = linear_part.entering @ weights + offsets
    injection = _injection(linear_part, unit(v + biases), np.arange(U.shape[0]))
    copied = np.vstack((np.zeros_like(injection), injection))
    return _network(linear_part, block_diag(U, U), copied, weights, biases + offsets, unit)


def with_shared_states(
    linear_part: LinearModel,
    directions: Directions,
    unit: Activation,
    biases: Array,
    seen: IntArray,
    driven: IntArray,
) -> IORNN:
    """One set of states: the units see some of them and drive some of them.

    The directions share the units equally, the first ones with one more if need be, and are fitted
    again to the states that are seen; `seen` and `driven` are numbers of states.
    """
    transition, q = linear_part.realisation.transition, biases.shape[0]
    entering = np.column_stack((linear_part.entering, np.ones(linear_part.u.shape[0])))
    whole, offsets = _unit_weights(directions, q)
    columns = np.concatenate((seen, np.arange(transition.shape[0], entering.shape[1])))
    weights = np.zeros((entering.shape[1], q))
    kept, v = entering[:, columns], entering[:, :-1] @ whole + offsets
    weights[columns] = _solve(kept.T @ kept, kept.T @ v, OUTPUT_RIDGE)
    if not seen.size:
        # inputs alone explain little of v, with which a unit would be nearly linear
        fitted = entering @ weights
        weights *= v.std(axis=0) / np.maximum(fitted.std(axis=0), np.finfo(np.float64).tiny)
    injection = _injection(linear_part, unit(entering @ weights + biases), driven)
    return _network(linear_part, transition, injection, weights[:-1], biases + weights[-1], unit)


def nested_partitions(
    linear_part: LinearModel, directions: Directions
) -> list[tuple[IntArray, IntArray]]:
    """Pairs of seen and driven states, modes in the order of their share in the variance of the v.

    In the first pair units see the inputs alone (a Hammerstein system), whatever the direction says
    of the states; in the last one all states are both seen and driven (feedback).
    """
    found, n = linear_part.realisation, linear_part.realisation.order
    weights = np.column_stack([one.weights for one in directions])[:n]
    states = linear_part.entering[:, :n]
    shares = [float(np.var(states[:, mode] @ weights[mode], axis=0).sum()) for mode in found.modes]
    order = np.argsort(-np.array(shares), kind="stable")
    everything = np.arange(n)
    parts = [(everything[:0], everything)]
    for cut in range(1, len(order)):
        seen = np.sort(np.concatenate([found.modes[i] for i in order[:cut]]))
        parts.append((seen, np.setdiff1d(everything, seen)))
        parts.append((seen, everything))
    parts.append((everything, everything))
    return parts


def _network(
    linear_part: LinearModel,
    transition: Array,
    injection: Array,
    weights: Array,
    bias: Array,
    unit: Activation,
) -> IORNN:
    """Linear states, and units that see [h_{t-1}, u_t] by `weights` and enter by `injection`."""
    inputs, n_outputs = linear_part.realisation.inputs, linear_part.y.shape[1]
    order, d = inputs.shape
    n_states, q = injection.shape
    U, A1 = np.zeros((n_states + q, n_states + q)), np.zeros((n_states + q, d))
    U[:n_states] = np.hstack((transition, injection))
    U[n_states:, :order] = weights[:order].T
    A1[:order], A1[n_states:] = inputs, weights[order:].T
    A2, D = np.zeros((n_states + q, n_outputs)), np.zeros((d, n_outputs))
    b, f = np.concatenate((np.zeros(n_states), bias)), PerUnit([linear] * n_states + [unit] * q)
    model = IORNN(A1, U, A2, hidden_bias=b, direct_weights=D, activation=f)
    return with_outputs(model, linear_part.u, linear_part.y)


def _injection(linear_part: LinearModel, values: Array, driven: IntArray) -> Array:
    """Gamma by least squares of the outputs, with states, inputs and units as other regressors."""
    found, h, u = linear_part.realisation, linear_part.h, linear_part.u
    n_rows, q, n_driven = values.shape[0], values.shape[1], driven.shape[0]
    part = found.transition[np.ix_(driven, driven)]
    C = linear_part.model.output_weights[driven]
    basis = np.linalg.qr(np.column_stack((h, u, np.ones(n_rows), values)))[0]
    size = q * n_driven
    gram, right = np.zeros((size, size)), np.zeros(size)
    for a in range(linear_part.y.shape[1]):
        # the contribution of unit i by way of state m to output a is a recursion with U^T
        dual = IORNN(C[:, a : a + 1], part.T, np.ones((n_driven, 1)), activation="linear")
        responses = dual.hidden_states([values[:, i : i + 1] for i in range(q)])
        # a unit enters a state one step later
        moved = [np.vstack((np.zeros((1, n_driven)), r[:-1])) for r in responses]
        filtered = np.column_stack(moved)
        filtered -= basis @ (basis.T @ filtered)
        target = linear_part.y[:, a] - basis @ (basis.T @ linear_part.y[:, a])
        gram += filtered.T @ filtered
        right += filtered.T @ target
    injection = np.zeros((found.order, q))
    injection[driven] = _solve(gram, right[:, None], RIDGE).reshape(q, n_driven).T
    return injection


def _solve(gram: Array, right: Array, ridge: float) -> Array:
    """Solve normal equations, scaled to a diagonal of ones, with a ridge on it."""
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))[:, None]
    scaled = gram / (scale * scale.T) + ridge * np.eye(gram.shape[0])
    return np.asarray(np.linalg.solve(scaled, right / scale) / scale)

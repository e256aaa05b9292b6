r"""Networks of linear states and nonlinear units, from a realisation and directions.

The units see v_t = w . [h_{t-1}, u_t] through f(scale v + bias) for a few biases, and are shared
among the directions w where there are several (`unit_directions`). What they add to the states is a
matrix Gamma, found by linear least squares: unit i injected into state m appears in output a as the
filter sum_j (C U^j)_{am} f_i(t - j), a linear recursion with U^T.

Where the injected states are also the states that the units see, the injection feeds back, which
the moments of a cascade do not know. Two ways out: a second copy of the states for what the units
add (`with_copied_states`), or a partition of the modes into those that the units see and those
that they drive (`with_shared_states`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag

from gloree.activations import Activation, PerUnit, linear
from gloree.identification._direction import NonlinearDirection
from gloree.identification._realisation import Realisation
from gloree.models import IORNN
from gloree.sequences import Array, IntArray

RIDGE = 1e-8
"""Relative ridge of the least squares for injections and outputs."""


@dataclass(frozen=True)
class LinearModel:
    """A realisation with its outputs, and its states on some rows of one record.

    Attributes
    ----------
    realisation : Realisation
    model : IORNN
    u, y, h : ndarray of shape (n_rows, ..)
        Inputs, outputs and states; one record.
    """

    realisation: Realisation
    model: IORNN
    u: Array
    y: Array
    h: Array

    def shortened(self, n_rows: int) -> LinearModel:
        """Return the same on the first so many rows."""
        return replace(self, u=self.u[:n_rows], y=self.y[:n_rows], h=self.h[:n_rows])

    @property
    def entering(self) -> Array:
        """[h_{t-1}, u_t] of every step."""
        return np.column_stack((np.vstack((np.zeros((1, self.h.shape[1])), self.h[:-1])), self.u))

    @property
    def residual(self) -> Array:
        """What the model leaves of the outputs."""
        model = self.model
        assert model.direct_weights is not None
        fitted = self.h @ model.output_weights + self.u @ model.direct_weights
        return np.asarray(self.y - fitted - model.output_bias)


def linear_model(realisation: Realisation, u: Array, y: Array) -> LinearModel:
    """Outputs of a realisation by least squares on its states; states scaled to unit size."""
    n = realisation.order
    model = IORNN(
        realisation.inputs,
        realisation.transition,
        np.zeros((n, y.shape[1])),
        direct_weights=np.zeros((u.shape[1], y.shape[1])),
        activation="linear",
    )
    h = model.hidden_states(u)
    size = np.ones(n)
    for mode in realisation.modes:
        rms = float(np.sqrt(np.mean(h[:, mode] ** 2)))
        size[mode] = rms if rms > 0 else 1.0
    scaled = Realisation(
        realisation.transition / size[:, None] * size[None, :],
        realisation.inputs / size[:, None],
        realisation.modes,
        realisation.singular_values,
        realisation.n_moved,
    )
    model = model.replace(input_weights=scaled.inputs, recurrent_weights=scaled.transition)
    return LinearModel(scaled, with_outputs(model, u, y), u, y, h / size)


def with_outputs(model: IORNN, u: Array, y: Array) -> IORNN:
    """Output weights, bias and direct path by least squares on the states."""
    h = model.hidden_states(u)
    regressors = np.column_stack((h, u, np.ones(u.shape[0])))
    weights = _least_squares(regressors, y)
    k = model.n_hidden
    return model.replace(
        output_weights=weights[:k], direct_weights=weights[k:-1], output_bias=weights[-1]
    )


def unit_biases(n_units: int, spread: float = 2.0, *, n_directions: int = 1) -> Array:
    """Biases of units, on each direction spread over the range of a standard normal variable."""
    counts = np.bincount(unit_directions(n_units, n_directions), minlength=n_directions)
    return np.concatenate(
        [np.linspace(-spread, spread, q) if q > 1 else np.array([0.5]) for q in counts.tolist()]
    )


def unit_directions(n_units: int, n_directions: int) -> IntArray:
    """Direction that each unit sees: equal shares, the first directions having what is over."""
    if not 1 <= n_directions <= n_units:
        raise ValueError(
            f"{n_units} unit(s) cannot be shared among {n_directions} directions: each direction "
            f"needs one"
        )
    return np.sort(np.arange(n_units) % n_directions)


Directions = NonlinearDirection | Sequence[NonlinearDirection]
"""One direction or several."""


def _several(directions: Directions) -> Sequence[NonlinearDirection]:
    return [directions] if isinstance(directions, NonlinearDirection) else directions


def _unit_weights(directions: Directions, n_units: int) -> tuple[Array, Array]:
    """What each unit sees: weights (n_columns, n_units) and offsets (n_units,)."""
    several = _several(directions)
    places = unit_directions(n_units, len(several))
    weights = np.column_stack([direction.weights for direction in several])
    offsets = np.array([direction.offset for direction in several])
    return weights[:, places], offsets[places]


def with_copied_states(
    linear_part: LinearModel, direction: Directions, unit: Activation, biases: Array
) -> IORNN:
    """Cascades without feedback: linear states, a copy of them driven by the units, the units."""
    U = linear_part.realisation.transition
    everything = np.arange(U.shape[0])
    weights, offsets = _unit_weights(direction, biases.shape[0])
    v = linear_part.entering @ weights + offsets
    injection = _injection(linear_part, unit(v + biases), everything)
    copied = np.vstack((np.zeros_like(injection), injection))
    return _network(linear_part, block_diag(U, U), copied, weights, biases + offsets, unit)


def with_shared_states(
    linear_part: LinearModel,
    direction: Directions,
    unit: Activation,
    biases: Array,
    seen: IntArray,
    driven: IntArray,
) -> IORNN:
    """One set of states: the units see some of them and drive some of them.

    Parameters
    ----------
    linear_part : LinearModel
    direction : NonlinearDirection or sequence of them
        Several share the units as `unit_directions` says.
    unit : Activation
    biases : ndarray of shape (n_units,)
    seen, driven : ndarray of int
        States; v is fitted anew to those that are seen.
    """
    transition, q = linear_part.realisation.transition, biases.shape[0]
    entering = np.column_stack((linear_part.entering, np.ones(linear_part.u.shape[0])))
    whole, offsets = _unit_weights(direction, q)
    columns = np.concatenate((seen, np.arange(transition.shape[0], entering.shape[1])))
    weights = np.zeros((entering.shape[1], q))
    weights[columns] = _least_squares(entering[:, columns], entering[:, :-1] @ whole + offsets)
    injection = _injection(linear_part, unit(entering @ weights + biases), driven)
    return _network(linear_part, transition, injection, weights[:-1], biases + weights[-1], unit)


def nested_partitions(
    linear_part: LinearModel, direction: Directions
) -> list[tuple[IntArray, IntArray]]:
    """Partitions of the states into seen and driven ones, modes ordered by what v owes them.

    Several directions count together. The last one is no partition: all states are seen and driven
    (feedback).
    """
    found, n = linear_part.realisation, linear_part.realisation.order
    weights = np.column_stack([one.weights for one in _several(direction)])[:n]
    states = linear_part.entering[:, :n]
    shares = [float(np.var(states[:, mode] @ weights[mode], axis=0).sum()) for mode in found.modes]
    order = np.argsort(-np.array(shares), kind="stable")
    everything = np.arange(n)
    parts = []
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
    """Linear states and the units that are injected into them; these see [h_{t-1}, u_t]."""
    inputs, n_outputs = linear_part.realisation.inputs, linear_part.y.shape[1]
    order, d = inputs.shape
    n_states, q = injection.shape
    U = np.zeros((n_states + q, n_states + q))
    U[:n_states] = np.hstack((transition, injection))
    U[n_states:, :order] = weights[:order].T
    A1 = np.zeros((n_states + q, d))
    A1[:order], A1[n_states:] = inputs, weights[order:].T
    model = IORNN(
        A1,
        U,
        np.zeros((n_states + q, n_outputs)),
        hidden_bias=np.concatenate((np.zeros(n_states), bias)),
        direct_weights=np.zeros((d, n_outputs)),
        activation=PerUnit([linear] * n_states + [unit] * q),
    )
    return with_outputs(model, linear_part.u, linear_part.y)


def _injection(linear_part: LinearModel, values: Array, driven: IntArray) -> Array:
    """Gamma by least squares of the outputs, beside states, inputs and the units themselves."""
    found = linear_part.realisation
    n, q = found.order, values.shape[1]
    part = found.transition[np.ix_(driven, driven)]
    C = linear_part.model.output_weights[driven]
    own = np.column_stack((linear_part.h, linear_part.u, np.ones(linear_part.u.shape[0]), values))
    basis = np.linalg.qr(own)[0]
    size = q * driven.shape[0]
    gram, right = np.zeros((size, size)), np.zeros(size)
    for a in range(linear_part.y.shape[1]):
        # what unit i adds to state m reaches output a through the recursion with U^T
        dual = IORNN(C[:, a : a + 1], part.T, np.ones((driven.shape[0], 1)), activation="linear")
        responses = dual.hidden_states([values[:, i : i + 1] for i in range(q)])
        # a state takes up what the units were one step before
        moved = [np.vstack((np.zeros((1, driven.shape[0])), r[:-1])) for r in responses]
        filtered = np.column_stack(moved)
        filtered -= basis @ (basis.T @ filtered)
        target = linear_part.y[:, a] - basis @ (basis.T @ linear_part.y[:, a])
        gram += filtered.T @ filtered
        right += filtered.T @ target
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    solved = np.linalg.solve(gram / np.outer(scale, scale) + RIDGE * np.eye(size), right / scale)
    injection = np.zeros((n, q))
    injection[driven] = (solved / scale).reshape(q, driven.shape[0]).T
    return injection


def _least_squares(regressors: Array, targets: Array) -> Array:
    gram = regressors.T @ regressors
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    scaled = gram / np.outer(scale, scale) + RIDGE * 1e-2 * np.eye(gram.shape[0])
    solved = np.linalg.solve(scaled, regressors.T @ targets / scale[:, None])
    return np.asarray(solved / scale[:, None])

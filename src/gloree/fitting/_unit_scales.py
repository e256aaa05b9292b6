r"""Scale and bias of every unit, once its direction is known.

With u = a_i . v the polynomial of unit i, sum_m u^m w_im, is the projection of A2_i f(s u + b) on
powers of u under the law of the inputs. A grid of (s, b) finds it; then each unit in turn takes the
point of the grid that explains most of y beside the other units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.activations import Activation
from gloree.fitting._derivatives import Derivatives
from gloree.sequences import Array

SCALES, SMALLEST, LARGEST = 12, 0.25, 3.0
"""Scales that are tried, of a drive whose inputs have unit variance, and their range."""

BIASES, LARGEST_BIAS, LARGEST_BIAS_AGAIN = 17, 2.0, 2.4
"""Biases that are tried, and their range by the projections, and by what explains y."""

USUAL = 0.5
"""Standard deviation of log s in the prior; that of b is 1."""

PROJECTION_ROWS, BACKFIT_ROWS, SWEEPS = 3_000, 1_200, 2
"""Rows that stand for the law of the inputs, rows that units are fitted to in turn, and how
often."""

QUANTILES = 500
"""Values that stand for the law of the inputs in one direction."""

KEPT_NUMBERS = 2**23
"""Numbers of all that is tried that are kept from one sweep to the next, at most: 64 MiB."""

SHARE = 0.05
"""Error of a projection beside that of the moments: of what is not a polynomial."""


@dataclass(frozen=True)
class Units:
    """Directions in the whitened inputs, (n_units, r), scales and biases, (n_units,)."""

    directions: Array
    scales: Array
    biases: Array


def grid_of_scales(activation: Activation) -> Array:
    """Scales that differ: of both signs unless another sign or bias imitates them."""
    grid = np.exp(np.linspace(np.log(SMALLEST), np.log(LARGEST), SCALES))
    if activation.homogeneity is not None and activation.homogeneity > 0:
        grid = np.ones(1)
    if activation.parity is None and activation.centre is None:
        return np.concatenate([-grid[::-1], grid])
    return grid


def grid_of_biases(largest: float, *, free: bool) -> Array:
    """Biases that are tried."""
    return np.linspace(-largest, largest, BIASES) if free else np.zeros(1)


def units_by_projection(
    activation: Activation,
    directions: Array,
    loadings: Array,
    found: Derivatives,
    v: Array,
    *,
    free_biases: bool,
) -> Units:
    """Scales and biases whose projections fit the polynomials best.

    `loadings`, (degree, n_units, n_outputs), are those of u, u^2, ..; `v` holds whitened rows.
    Order 1 says nothing where it was a control, or is shared between more units than directions.
    """
    k, r = directions.shape
    degree = loadings.shape[0]
    lowest = 1 if found.features.linear and k <= r else 2
    scales, biases = grid_of_scales(activation), grid_of_biases(LARGEST_BIAS, free=free_biases)
    prior = biases[None, :] ** 2 + (np.log(np.abs(scales))[:, None] / USUAL) ** 2
    s, b = np.ones(k), np.zeros(k)
    for i in range(k):
        u = v @ directions[i]
        size = float(u.std())
        u = _few(u / size)
        powers = np.stack([u**m for m in range(degree + 1)], axis=1)
        # orthonormal polynomials of this law: their coefficients have independent errors
        basis, triangle = np.linalg.qr(powers)
        basis, triangle = basis * np.sqrt(len(u)), triangle / np.sqrt(len(u))
        drive = scales[:, None, None] * u + biases[None, :, None]
        projections = (_finite(activation, drive) @ basis / len(u))[..., lowest:]
        own = loadings[:, i] * (size ** np.arange(1, degree + 1))[:, None]
        own = triangle[lowest:, lowest:] @ own[lowest - 1 :]
        target = own @ np.linalg.svd(own, full_matrices=False)[2][0]
        variance = 9.0 / found.n_rows + (SHARE * np.abs(target).max()) ** 2
        norms = np.maximum(np.sum(projections**2, axis=-1), 1e-300)
        factor = (projections @ target) / norms
        off = np.sum((target - factor[..., None] * projections) ** 2, axis=-1) / variance
        place = np.unravel_index(int(np.argmin(off + prior)), off.shape)
        s[i], b[i] = scales[place[0]] / size, biases[place[1]]
    return Units(directions, s, b)


def _few(u: Array) -> Array:
    """Some of the values of one direction, evenly among them all: a quadrature of their law."""
    every = max(1, len(u) // QUANTILES)
    return np.sort(u)[every // 2 :: every]


def units_in_turn(
    activation: Activation,
    units: Units,
    v: Array,
    y: Array,
    beside: Array,
    *,
    free_biases: bool,
) -> Units:
    """Grid points of one unit after the other that explain most of y beside the others.

    `v`, (n, r), `y`, (n, n_outputs) in units of the noise, less what controls explain, and
    `beside`, (n, n_columns), what else is fitted with the units.
    """
    u = v @ units.directions.T
    size = u.std(axis=0)
    s, b = units.scales.copy(), units.biases.copy()
    scales = grid_of_scales(activation)
    biases = grid_of_biases(LARGEST_BIAS_AGAIN, free=free_biases)
    H = _finite(activation, s * u + b)
    all_tried: dict[int, Array] = {}
    keep = len(s) * len(scales) * len(biases) * len(u) <= KEPT_NUMBERS
    for _ in range(SWEEPS):
        changed = False
        for i in range(len(s)):
            others = np.column_stack([np.delete(H, i, axis=1), np.ones(len(u)), beside])
            Q = np.linalg.qr(others)[0]
            left = y - Q @ (Q.T @ y)
            if i not in all_tried:
                drive = (scales / size[i])[:, None, None] * u[:, i] + biases[None, :, None]
                tried = _finite(activation, drive).reshape(-1, len(u))
                if keep:
                    all_tried[i] = tried
            else:
                tried = all_tried[i]
            tried = np.vstack([tried, H[:, i]])
            tried -= (tried @ Q) @ Q.T
            norms = np.maximum(np.sum(tried**2, axis=1), 1e-8 * len(u))
            gain = np.sum((tried @ left) ** 2, axis=1) / norms
            best = int(np.argmax(gain))
            if best < len(tried) - 1 and gain[best] > gain[-1] * (1.0 + 1e-4):
                s[i], b[i] = (scales / size[i])[best // len(biases)], biases[best % len(biases)]
                H[:, i] = _finite(activation, s[i] * u[:, i] + b[i])
                changed = True
        if not changed:
            break
    return Units(units.directions, s, b)


def _finite(activation: Activation, z: Array) -> Array:
    """Values, with zeros where there are none: the check of the activation has passed them."""
    return np.nan_to_num(activation(z), nan=0.0, posinf=0.0, neginf=0.0)

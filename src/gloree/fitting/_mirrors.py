r"""Mirror images of units, tried after the refinement of polynomials of degree three.

About its centre z0 = -c_2 / (3 c_3) a cubic is odd, f(2 z0 - z) = 2 f0 - f(z) with f0 = f(z0). A
unit i whose drive becomes 2 z0 - z_i has the state 2 f0 - h_i, and with :eq:`mirror`

    a_i, U_ij -> -a_i, -U_ij;   U_ji, A2_i -> -U_ji, -A2_i   (j /= i; U_ii stays)
    b_i -> 2 z0 - b_i - 2 f0 U_ii;   b_j -> b_j + 2 f0 U_ji;   c -> c + 2 f0 A2_i

nothing else in the network notices, but for the first step: the state before it is zero, where the
mirror image would have 2 f0. Descents therefore end in mirror images as often as not, as many noise
variances above the optimum as sequences tell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gloree.activations import Polynomial
from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.refinement import GaussNewton, Layout, Solution, SquaredError
from gloree.sequences import Array

MIRROR_ROWS = 20_000
"""Rows on which mirror images are compared, about."""

ENOUGH = 1.0
"""Fall of the squared error on those rows, in noise variances, that makes a mirror image better."""


def centre(activation: object) -> tuple[float, float] | None:
    """The point (z0, f0) about which the activation is odd; None where there is none."""
    if not isinstance(activation, Polynomial) or activation.degree != 3:
        return None
    middle = -activation.coefficients[2] / (3 * activation.coefficients[3])
    return middle, float(activation(np.array(middle)))


def has_mirrors(model: Network, layout: Layout) -> bool:
    """Whether units have mirror images that differ by more than a symmetry."""
    about = centre(model.activation)
    return layout.recurrent and layout.unit_bias and about is not None and about[1] != 0.0


def mirrored(model: Network, layout: Layout, unit: int) -> Network:
    """Return the network with one unit in its mirror image; free biases and a cubic are needed."""
    about = centre(model.activation)
    assert about is not None
    middle, height = about
    weights = {name: np.array(values) for name, values in layout.weights(model).items()}
    biases, outputs = weights["hidden_bias"], weights["output_weights"]
    own_bias = 2 * middle - model.hidden_bias[unit]
    for part in layout.directions:
        if not part.units.start <= unit < part.units.stop:
            continue
        own = unit - part.units.start
        weights[f"{part.prefix}input_weights"][own] *= -1.0
        if layout.recurrent:
            feedback = weights[f"{part.prefix}recurrent_weights"]
            biases[part.units] += 2 * height * feedback[:, own]
            own_bias -= 2 * height * feedback[own, own]
            # twice for U_ii, which stays
            feedback[own] *= -1.0
            feedback[:, own] *= -1.0
    biases[unit] = own_bias
    weights["output_bias"] += 2 * height * outputs[unit]
    outputs[unit] *= -1.0
    return model.replace(**weights)


def best_mirror(
    model: Network, layout: Layout, engine: Engine, source: Source
) -> tuple[Network, int]:
    """Put units in their mirror images until no other one fits better; how many were changed.

    Each is judged after one Gauss-Newton step on a part of the data, which decides: the images
    differ in the first steps of sequences alone, and little is left to gain after that step.
    """
    stride = max(source.data.n_rows // MIRROR_ROWS, 1) * source.stride
    some = replace(source, stride=stride)
    found = _one_step(model, layout, engine, some)
    start, changed, waiting = model, 0, list(range(layout.n_hidden))
    while waiting:
        unit = waiting.pop(0)
        image = mirrored(start, layout, unit)
        tried = _one_step(image, layout, engine, some)
        before, after = _total(found), _total(tried)
        if before - after > ENOUGH * before / (found.n_rows * layout.n_outputs):
            start, found, changed = tried.model, tried, changed + 1
            waiting = [other for other in range(layout.n_hidden) if other != unit]
    return start, changed


def _one_step(model: Network, layout: Layout, engine: Engine, source: Source) -> Solution:
    solver = GaussNewton(to_convergence=True, max_steps=1)
    return solver.minimise(SquaredError(), model, layout, engine, source)


def _total(solution: Solution) -> float:
    squares: Array | None = solution.squares
    assert squares is not None
    return float(squares.sum())

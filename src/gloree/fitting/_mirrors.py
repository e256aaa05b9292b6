r"""Mirror images of units, tried after the refinement of polynomials of degree three.

About its centre z0 = -c_2 / (3 c_3) a cubic is odd, f(2 z0 - z) = 2 f0 - f(z) with f0 = f(z0), and
so is the sigmoid. A
unit i whose drive becomes 2 z0 - z_i has the state 2 f0 - h_i, and with :eq:`mirror`

    a_i, U_ij -> -a_i, -U_ij;   U_ji, A2_i -> -U_ji, -A2_i   (j /= i; U_ii stays)
    b_i -> 2 z0 - b_i - 2 f0 U_ii;   b_j -> b_j + 2 f0 U_ji;   c -> c + 2 f0 A2_i

nothing else in the network notices, but for the first step: the state before it is zero, where the
mirror image would have 2 f0. Descents therefore end in mirror images as often as not, as many noise
variances above the optimum as sequences tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from gloree._arrays import to_host
from gloree._sums import Sums
from gloree.engine import Engine, Source
from gloree.models import ExplosionError, Network
from gloree.refinement import (
    GaussNewton,
    Layout,
    Solution,
    SquaredError,
    gradient_sums,
    hessian_pass,
)
from gloree.sequences import Array, Batch, IntArray
from gloree.states import residual_rows, without_context

MIRROR_ROWS = 20_000
"""Rows on which mirror images are compared, about."""

ENOUGH = 1.0
"""Fall of the squared error on those rows, in noise variances, that makes a mirror image better."""

MOST_WEIGHTS = 1500
"""Weights up to which J^T J is formed, and mirror images are tried."""

MOST_ROUNDS, MOST_TRIED = 8, 16
"""Rounds of changes, and sets of units that are tried in each."""

ENUMERATED = 12
"""Units of which all sets are looked at."""

DEPENDENT = 1e-10
"""Singular values of J^T J, relative to the largest, that count as zero."""


def has_mirrors(model: Network, layout: Layout) -> bool:
    """Whether units have mirror images that differ by more than a symmetry."""
    about = model.activation.centre
    return layout.recurrent and layout.unit_bias and about is not None and about[1] != 0.0


def mirrored(model: Network, layout: Layout, unit: int) -> Network:
    """Return the network with one unit in its mirror image; free biases and a centre are needed."""
    about = model.activation.centre
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


@dataclass(frozen=True)
class MirrorSums(Sums):
    """Sums over rows of P^T P, P^T r and J^T P, for :eq:`mirror-choice`.

    Column i of P, (n_rows n_outputs, n_hidden), is how predictions change if unit i alone is in its
    mirror image; r are residuals and J the derivative of the predictions in the weights.
    """

    squares: Array
    residuals: Array
    slopes: Array


def mirror_sums(
    batch: Batch, model: Network, layout: Layout, images: tuple[Network, ...]
) -> MirrorSums:
    """Sums of one batch; a forward pass and an adjoint for each unit."""
    r = without_context(batch, residual_rows(model, batch))
    predictions, changes, slopes = batch.targets - r, [], []
    for image in images:
        change = r - without_context(batch, residual_rows(image, batch))
        aimed = gradient_sums(replace(batch, Y=predictions + change), model, layout, 1)
        changes.append(to_host(change).ravel())
        slopes.append(aimed.gradient)
    P = np.array(changes)
    return MirrorSums(P @ P.T, P @ to_host(r).ravel(), np.array(slopes).T)


class MirrorSearch(NamedTuple):
    """The network of the best mirror images found.

    `is_new` says whether any unit was changed; if none was, `missed` whether images promised a
    smaller error that none of those tried held.
    """

    model: Network
    is_new: bool
    missed: bool


def best_mirror(model: Network, layout: Layout, engine: Engine, source: Source) -> MirrorSearch:
    """Put units in their mirror images while that fits better.

    Which units is foreseen from the linearised network, all combinations at once, and decided after
    a Gauss-Newton step from the images on a part of the data: they differ in the first steps of
    sequences alone, and little is left to gain after one step.
    """
    stride = max(source.data.n_rows // MIRROR_ROWS, 1) * source.stride
    some = replace(source, stride=stride)
    if layout.size > MOST_WEIGHTS:
        return MirrorSearch(model, is_new=False, missed=False)
    found, is_new, missed = _one_step(model, layout, engine, some), False, False
    for _ in range(MOST_ROUNDS):
        before, better = _total(found), None
        enough = ENOUGH * before / (found.n_rows * layout.n_outputs)
        sets = _promising(found.model, layout, engine, some, enough)
        for units in sets:
            image = found.model
            for unit in units:
                image = mirrored(image, layout, int(unit))
            tried = _one_step(image, layout, engine, some)
            if before - _total(tried) > enough:
                better = tried
                break
        if better is None:
            missed = bool(sets) and not is_new
            break
        found, is_new = better, True
    return MirrorSearch(found.model if is_new else model, is_new, missed)


def _promising(
    model: Network, layout: Layout, engine: Engine, source: Source, enough: float
) -> list[IntArray]:
    """Sets of units whose mirror images promise an error smaller by `enough`, the best ones first.

    With s_i = 1 for units in their image, the squared error that is left once the other weights
    have adapted changes by s^T Q s - 2 s^T q (:eq:`mirror-choice`).
    """
    current = engine.run(partial(gradient_sums, model=model, layout=layout), source, label="J^T r")
    hessian = hessian_pass(model, layout, engine, source, current).hessian
    images = tuple(mirrored(model, layout, unit) for unit in range(layout.n_hidden))
    function = partial(mirror_sums, model=model, layout=layout, images=images)
    try:
        sums = engine.run(function, source, label="mirror images")
    except ExplosionError:
        return []
    scale = 1.0 / np.sqrt(np.maximum(np.diag(hessian), np.finfo(np.float64).tiny))
    slopes = sums.slopes * scale[:, None]
    scaled = hessian * np.outer(scale, scale)
    adapted = np.linalg.lstsq(scaled, slopes, rcond=DEPENDENT)[0]
    Q = sums.squares - slopes.T @ adapted
    q = sums.residuals - (scale * current.gradient) @ adapted
    sets = _combinations(Q, q)
    change = np.einsum("si,ij,sj->s", sets, Q, sets) - 2 * sets @ q
    order = np.argsort(change, kind="stable")[:MOST_TRIED]
    return [np.flatnonzero(sets[i]) for i in order if change[i] < -enough]


def _combinations(Q: Array, q: Array) -> Array:
    """All sets of units as rows of zeros and ones; of many units what single changes lead to."""
    n_units = q.shape[0]
    if n_units <= ENUMERATED:
        numbers = np.arange(1, 2**n_units)
        return (numbers[:, None] >> np.arange(n_units) & 1).astype(np.float64)
    chosen, visited = np.zeros(n_units), []
    for _ in range(n_units):
        signs = 1 - 2 * chosen
        change = signs * (2 * Q @ chosen - 2 * q) + np.diag(Q)
        unit = int(np.argmin(change))
        if change[unit] >= 0:
            break
        chosen[unit] = 1 - chosen[unit]
        visited.append(chosen.copy())
    return np.array(visited[::-1]).reshape(-1, n_units)


def _one_step(model: Network, layout: Layout, engine: Engine, source: Source) -> Solution:
    solver = GaussNewton(to_convergence=True, max_steps=1)
    return solver.minimise(SquaredError(), model, layout, engine, source)


def _total(solution: Solution) -> float:
    squares: Array | None = solution.squares
    assert squares is not None
    return float(squares.sum())

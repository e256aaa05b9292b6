"""Stein's identity for scores of order one alone: products with monomials of degree three."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gloree._arrays import to_host
from gloree._monomials import block_rows, monomial_positions, n_monomials, symmetric_powers
from gloree.chains import ScoreArrays, law_derivatives
from gloree.score_functions._lower_orders import mean_defect
from gloree.score_functions._verdict import (
    EdgeCheck,
    NeighbourDefect,
    ScoreCheck,
    judge_alone,
)
from gloree.score_functions._whitening import SymmetricWhitening, jackknife_variance
from gloree.sequences import Array, Batch, IntArray, Sequences


def first_order_check(
    data: Sequences, law: ScoreArrays, *, max_inputs: int | None, n_groups: int
) -> ScoreCheck:
    r"""Check E[s_i x_j x_k x_l] = E[d_i (x_j x_k x_l)] in white coordinates.

    The defect is the norm of the difference over that of the right-hand side: for a Gaussian score
    of inputs with kurtosis kappa, (kappa - 3) / 3, about the defect of second order. There is no
    rho.
    """
    batch = data.whole()
    X = to_host(batch.X)
    covariance = np.cov(X.T, bias=True).reshape(data.n_inputs, data.n_inputs)
    whitening = SymmetricWhitening.from_moments(X.mean(axis=0), covariance, max_inputs)
    k = whitening.inputs.shape[0]
    white = (X - whitening.centre) @ whitening.inputs.T
    first = -law_derivatives(law, batch, 1)(np.arange(data.n_rows))[0]
    scores = first @ whitening.scores.T
    target = _derivatives_of_cubes(k)
    norm = float(np.linalg.norm(target))
    # blocks of rows in the order of the data: neighbours stay together
    bounds = np.linspace(0, data.n_rows, n_groups + 1).astype(int)
    counts, sums = np.diff(bounds), np.zeros((n_groups, *target.shape))
    totals = np.stack([scores[begin:end].sum(axis=0) for begin, end in pairwise(bounds)])
    step = block_rows(target.shape[1])
    for group, (begin, end) in enumerate(pairwise(bounds)):
        for at in range(begin, end, step):
            rows = slice(at, min(at + step, end))
            cubes = symmetric_powers(np.ascontiguousarray(white[rows].T), 3)
            sums[group] += scores[rows].T @ cubes.T
    if np.count_nonzero(counts) < 2:
        raise ValueError(f"`X` has {data.n_rows} steps, too few to estimate the noise of the check")
    whole = sums.sum(axis=0) / data.n_rows - target
    others = (data.n_rows - counts)[:, np.newaxis, np.newaxis]
    left = (sums.sum(axis=0) - sums) / others - target
    noise = float(np.sqrt(jackknife_variance(left).sum())) / norm
    raw = float(np.linalg.norm(whole)) / norm
    error = float(np.sqrt(jackknife_variance(np.linalg.norm(left, axis=(1, 2)) / norm)))
    excess = float(np.sqrt(max(raw**2 - noise**2, 0.0)))
    beside = NeighbourDefect.largest(
        [_beside(batch, white, scores, bounds, lag) for lag in (1, -1)] if data.longest > 1 else []
    )
    used = np.flatnonzero(counts > 0)
    mean = mean_defect(totals, counts.astype(np.float64), used)
    status = judge_alone(excess, error, noise, beside, mean)
    information = first.T @ first / data.n_rows
    edge = EdgeCheck("all", data.n_rows, first.mean(axis=0), information, information)
    return ScoreCheck(
        status=status,
        defect=excess,
        defect_raw=raw,
        defect_error=error,
        noise_floor=noise,
        radius=float("nan"),
        radius_error=float("nan"),
        radius_noise=float("nan"),
        n_steps=data.n_rows,
        n_inputs=data.n_inputs,
        n_checked=k,
        n_groups=n_groups,
        edges=(edge,),
        input_slope=first.T @ (X - whitening.centre) / data.n_rows,
        chain=repr(law),
        neighbours=beside,
        mean=mean,
    )


def _beside(
    batch: Batch, white: Array, scores: Array, bounds: IntArray, lag: int
) -> NeighbourDefect | None:
    """Covariance of s_i x_j - [i = j] with products of the step before or after: expected zero."""
    there = batch.local >= lag if lag > 0 else batch.local_after >= -lag
    k = white.shape[1]
    i, j = np.triu_indices(k)
    norm = float(np.linalg.norm(np.where(i == j, 2.0, 1.0)))
    groups = np.array_split(np.flatnonzero(there), bounds.shape[0] - 1)
    found = []
    for rows in groups:
        if rows.size > 1:
            own = (scores[rows][:, :, np.newaxis] * white[rows][:, np.newaxis, :]).reshape(
                -1, k * k
            )
            other = white[rows - lag]
            squares = other[:, i] * other[:, j]
            found.append(own.T @ (squares - squares.mean(axis=0)) / rows.size)
    if len(found) < 2:
        return None
    n, stacked = len(found), np.array(found)
    noise = float(np.sqrt((stacked.var(axis=0, ddof=1) / n).sum())) / norm
    raw = float(np.linalg.norm(stacked.mean(axis=0))) / norm
    left = (stacked.sum(axis=0) - stacked) / (n - 1)
    error = float(np.sqrt(jackknife_variance(np.linalg.norm(left, axis=(1, 2)) / norm)))
    return NeighbourDefect(float(np.sqrt(max(raw**2 - noise**2, 0.0))), error, noise)


def _derivatives_of_cubes(k: int) -> Array:
    """E[d_i (x_j x_l x_m)] for white inputs, (k, n_monomials): 3 on cubes, 1 on x_i x_j^2."""
    positions = monomial_positions(k, 3)
    target = np.zeros((k, n_monomials(k, 3)))
    for i in range(k):
        for j in range(k):
            target[i, positions[i, j, j]] = 3.0 if i == j else 1.0
    return target

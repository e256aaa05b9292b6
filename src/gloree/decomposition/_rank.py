"""How many hidden units the moments support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorly as tl
from numpy.typing import ArrayLike

from ._pipeline import decompose
from ._result import FloatArray
from ._validation import check_not_zero, check_tensor, degrees_of_freedom, n_entries
from ._whitening import NoiseMetric

# A singular value is signal when it exceeds the largest of the noise by this factor.
NOISE_FACTOR = 1.1
# Half-width of the residual test in standard deviations.
RESIDUAL_WIDTH = 3.0
# Below this share of the norm the half-difference is rounding error.
NO_NOISE = 1e-12


@dataclass(frozen=True)
class RankChoice:
    """The chosen number of components and why.

    Attributes
    ----------
    rank : int
        The choice.
    singular_values : ndarray
        Of the input unfolding of the mean tensor, decreasing (in the noise metric).
    output_singular_values : ndarray
        Of the output unfolding.
    noise_level : float
        Largest singular value of the same unfoldings of the noise estimate; NaN without a second
        half.
    is_lower_bound : bool
        Whether no test could settle the choice, so that more components could be hidden.
    reason : str
        The rule that decided, in words.
    """

    rank: int
    singular_values: FloatArray
    output_singular_values: FloatArray
    noise_level: float
    is_lower_bound: bool
    reason: str

    def __str__(self) -> str:
        return f"rank {self.rank}: {self.reason}"


def choose_rank(
    T1: ArrayLike,
    T2: ArrayLike | None = None,
    *,
    output_mode: bool = True,
    score_covariance: ArrayLike | None = None,
    output_scale: ArrayLike | None = None,
    max_rank: int | None = None,
    random_state: Any = None,
) -> RankChoice:
    r"""Choose the number of components from moments of two halves of the data.

    With T = (T1 + T2) / 2 and the noise E = (T1 - T2) / 2, the singular values of the unfoldings of
    T above 1.1 times the largest of E give a lower bound, usually the answer when it is less than
    d. From there the rank is raised until the residual of the decomposition is noise:
    |R|^2 / (sigma_E^2 (N - q)) below 1 + 3 sqrt(2 / (N - q) + 2 / N), with N independent entries,
    q parameters and sigma_E^2 = |E|^2 / N.

    Parameters
    ----------
    T1, T2 : array_like of shape (n_outputs, d, d[, d, ..])
        Moment tensors of the two halves. Without `T2` the largest gap between singular values of
        `T1` decides, which is a guess.
    output_mode : bool, default True
        As in `decompose`.
    score_covariance, output_scale : array_like, optional
        Noise metric, as in `decompose`; without it the residual test is only right for isotropic
        noise.
    max_rank : int, optional
        Largest rank to try; by default d, or 3 d when all d directions carry signal.
    random_state : None, int, SeedSequence or Generator
        For the decompositions of the residual test.

    Returns
    -------
    RankChoice
        `rank`, the singular values, the noise level and the reason.

    Notes
    -----
    Costs one `decompose` for every rank tried.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.decomposition import choose_rank, cp_tensor
    >>> rng = np.random.default_rng(0)
    >>> T = cp_tensor(rng.standard_normal((3, 4)), rng.standard_normal((3, 6)), order=2)
    >>> choose_rank(T, T).rank
    3
    """
    first = check_tensor(T1, output_mode=output_mode, name="T1")
    check_not_zero(first, "T1")
    n_outputs, n_inputs = first.shape[:2]
    metric = NoiseMetric(n_outputs, n_inputs, score_covariance, output_scale)
    first = metric.whiten(first)
    if T2 is None:
        inputs, outputs = _singular_values(first)
        return _largest_gap(inputs, outputs)
    second = check_tensor(T2, output_mode=output_mode, name="T2")
    if second.shape != first.shape:
        raise ValueError(
            "`T1` and `T2` must have one shape, as moments of two halves of the same data, got "
            f"{np.shape(T1)} and {np.shape(T2)}."
        )
    second = metric.whiten(second)
    mean, noise = (first + second) / 2, (first - second) / 2
    inputs, outputs = _singular_values(mean)
    noise_inputs, noise_outputs = _singular_values(noise)
    rounding = NO_NOISE * inputs[0]
    input_bar = max(NOISE_FACTOR * noise_inputs[0], rounding)
    output_bar = max(NOISE_FACTOR * noise_outputs[0], rounding)
    bound = max(int(np.sum(inputs > input_bar)), int(np.sum(outputs > output_bar)), 1)
    level = float(max(noise_inputs[0], noise_outputs[0]))
    found = f"{bound} singular values exceed {NOISE_FACTOR} times the largest of the noise"
    order = first.ndim - 1
    entries = n_entries(n_outputs, n_inputs, order)
    if max_rank is None:
        max_rank = n_inputs if bound < n_inputs else 3 * n_inputs
    variance = max(float(np.vdot(noise, noise)) / entries, rounding**2 / entries)
    for rank in range(bound, max(max_rank, bound) + 1):
        freedom = degrees_of_freedom(n_outputs, n_inputs, rank, order)
        if freedom <= 0:
            break
        fit = decompose(mean, rank, ridge=None, random_state=random_state)
        ratio = fit.residual**2 * float(np.vdot(mean, mean)) / (variance * freedom)
        width = RESIDUAL_WIDTH * np.sqrt(2 / freedom + 2 / entries)
        if ratio < 1 + width:
            reason = (
                f"{found}, and {rank} is the smallest rank from there on whose residual is noise "
                f"(ratio {ratio:.3g}, limit {1 + width:.3g})"
            )
            return RankChoice(rank, inputs, outputs, level, False, reason)
    reason = (
        f"{found}; no rank up to {max_rank} leaves a residual as small as the noise, so this is a "
        "lower bound. Noise far from isotropic is the usual cause: pass `score_covariance` and "
        "`output_scale`"
    )
    return RankChoice(bound, inputs, outputs, level, True, reason)


def _singular_values(tensor: FloatArray) -> tuple[FloatArray, FloatArray]:
    inputs = np.linalg.svd(tl.unfold(tensor, 1), compute_uv=False)
    outputs = np.linalg.svd(tl.unfold(tensor, 0), compute_uv=False)
    return np.asarray(inputs), np.asarray(outputs)


def _largest_gap(inputs: FloatArray, outputs: FloatArray) -> RankChoice:
    floor = NO_NOISE * inputs[0]
    values = np.maximum(inputs, floor)
    ratios = values[:-1] / values[1:]
    gap = int(np.argmax(ratios)) + 1 if len(ratios) else 1
    strongest = float(ratios[gap - 1]) if len(ratios) else 1.0
    reason = (
        f"the largest gap between singular values, a factor of {strongest:.3g}, follows number "
        f"{gap}; a guess, since no second half of the data gives the noise"
    )
    return RankChoice(gap, inputs, outputs, float("nan"), True, reason)

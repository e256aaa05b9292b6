"""How many hidden units the moments support."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gloree._brief import Brief
from gloree._monomials import n_monomials
from gloree._parameters import optional_integer
from gloree._random import RandomState

from ._decompose import decompose
from ._tensor import (
    FloatArray,
    NoiseMetric,
    check_not_zero,
    check_tensor,
    degrees_of_freedom,
)

# A singular value is signal when it exceeds the largest of the noise by this factor.
NOISE_FACTOR = 1.1
# Half-width of the residual test in standard deviations.
RESIDUAL_WIDTH = 3.0
# Below this share of the norm the half-difference is rounding error.
NO_NOISE = 1e-12


@dataclass(frozen=True)
class RankChoice(Brief):
    """The chosen number of components, and why.

    Attributes
    ----------
    rank : int
        The choice.
    singular_values : ndarray
        Of the input unfolding of the mean tensor, decreasing (in the noise metric): d of them, or
        fewer if the unfolding has fewer columns.
    output_singular_values : ndarray
        Of the output unfolding.
    noise_level : float
        Largest singular value of the same unfoldings of the noise estimate; NaN without a second
        half.
    is_lower_bound : bool
        Whether no test could settle the choice, so that there may be more components.
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
    random_state: RandomState = None,
) -> RankChoice:
    r"""Choose the number of components from the moments of two halves of the data.

    With :math:`T = (T_1 + T_2) / 2` and the noise :math:`E = (T_1 - T_2) / 2`, the singular values
    of the unfoldings of T above 1.1 times the largest one of E are counted. That is a lower bound,
    and usually the answer if it is less than d. From there the rank is raised until the residual R
    of the decomposition is noise,

    .. math:: \frac{\|R\|^2}{\hat\sigma^2 (N - q)} < 1 + 3 \sqrt{\frac{2}{N - q} + \frac{2}{N}},
              \qquad \hat\sigma^2 = \frac{\|E\|^2}{N}

    with N independent entries and q parameters (see :ref:`theory-accept`).

    Parameters
    ----------
    T1, T2 : array_like of shape (n_outputs, d, d[, d, ..])
        Moment tensors of the two halves. Without `T2` the largest gap between singular values of
        `T1` decides, which is a guess.
    output_mode : bool, default True
        With False, the tensors have symmetric modes only.
    score_covariance : array_like of shape (d, d), optional
        Noise metric of the symmetric modes, as in `decompose`. Without it, the residual test is
        right for isotropic noise only.
    output_scale : array_like of shape (n_outputs,), optional
        Noise metric of the output mode, as in `decompose`.
    max_rank : int, optional
        Largest rank to try, and to return; by default d, or 3 d if all d directions carry signal.
    random_state : None, int, SeedSequence, Generator or RandomState
        For the decompositions of the residual test.

    Returns
    -------
    RankChoice
        `rank`, the singular values, the noise level and the reason.

    Raises
    ------
    ValueError
        For tensors that `decompose` would refuse, or that differ in shape.

    Notes
    -----
    Costs two singular value decompositions, O(n_outputs d^(p+1)) time, and one `decompose` for
    each rank that is tried.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.decomposition import choose_rank, cp_tensor
    >>> rng = np.random.default_rng(0)
    >>> T = cp_tensor(rng.standard_normal((3, 4)), rng.standard_normal((3, 6)), order=2)
    >>> choose_rank(T, T).rank
    3
    """
    max_rank = optional_integer("max_rank", max_rank, 1)
    first, exponent = check_tensor(T1, output_mode=output_mode, name="T1")
    check_not_zero(first, "T1")
    metric = NoiseMetric.of(first, score_covariance, output_scale)
    if T2 is None:
        inputs, outputs = _singular_values(metric.whiten(first))
        scale = exponent + metric.exponent
        return _largest_gap(np.ldexp(inputs, scale), np.ldexp(outputs, scale), max_rank)
    second, other = check_tensor(T2, output_mode=output_mode, name="T2")
    if second.shape != first.shape:
        raise ValueError(
            "`T1` and `T2` must have one shape, as moments of two halves of the same data, got "
            f"{np.shape(T1)} and {np.shape(T2)}."
        )
    larger = max(exponent, other)
    first = metric.whiten(np.ldexp(first, exponent - larger))
    second = metric.whiten(np.ldexp(second, other - larger))
    mean, noise = (first + second) / 2, (first - second) / 2
    inputs, outputs = _singular_values(mean)
    levels = [float(values[0]) for values in _singular_values(noise)]
    rounding = NO_NOISE * inputs[0]
    bars = [max(NOISE_FACTOR * level, rounding) for level in levels]
    bound = max(int(np.sum(inputs > bars[0])), int(np.sum(outputs > bars[1])), 1)
    scale = larger + metric.exponent
    shown = (np.ldexp(inputs, scale), np.ldexp(outputs, scale), float(np.ldexp(max(levels), scale)))
    found = f"{bound} singular values exceed {NOISE_FACTOR} times the largest of the noise"
    n_outputs, n_inputs = mean.shape[:2]
    order = mean.ndim - 1
    entries = n_outputs * n_monomials(n_inputs, order)
    if max_rank is None:
        max_rank = n_inputs if bound < n_inputs else 3 * n_inputs
    else:
        bound = min(bound, max_rank)
    variance = max(float(np.vdot(noise, noise)) / entries, rounding**2 / entries)
    for rank in range(bound, max(max_rank, bound) + 1):
        freedom = degrees_of_freedom(n_outputs, n_inputs, rank, order)
        if freedom <= 0:
            break
        fit = decompose(mean, rank, ridge=None, random_state=random_state)
        ratio = fit.residual**2 * float(np.vdot(mean, mean)) / (variance * freedom)
        limit = 1 + RESIDUAL_WIDTH * np.sqrt(2 / freedom + 2 / entries)
        if ratio < limit:
            reason = (
                f"{found}, and {rank} is the smallest rank from there on whose residual is noise "
                f"(ratio {ratio:.3g}, limit {limit:.3g})"
            )
            return RankChoice(rank, *shown, False, reason)
    reason = (
        f"{found}; no rank up to {max_rank} leaves a residual as small as the noise, so this is a "
        "lower bound. Noise far from isotropic is the usual cause: pass `score_covariance` and "
        "`output_scale`"
    )
    return RankChoice(bound, *shown, True, reason)


def _singular_values(tensor: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of the input unfolding and of the output unfolding."""
    import tensorly as tl  # slow to import

    inputs = np.linalg.svd(tl.unfold(tensor, 1), compute_uv=False)
    outputs = np.linalg.svd(tl.unfold(tensor, 0), compute_uv=False)
    return np.asarray(inputs), np.asarray(outputs)


def _largest_gap(inputs: FloatArray, outputs: FloatArray, max_rank: int | None) -> RankChoice:
    values = np.maximum(inputs, NO_NOISE * inputs[0])
    ratios = np.append(values[:-1] / values[1:], 1.0)[:max_rank]
    gap = int(np.argmax(ratios)) + 1
    reason = (
        f"the largest gap between singular values, a factor of {ratios.max():.3g}, follows number "
        f"{gap}; a guess, since no second half of the data gives the noise"
    )
    return RankChoice(gap, inputs, outputs, float("nan"), True, reason)

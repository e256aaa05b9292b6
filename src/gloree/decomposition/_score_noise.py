r"""Errors of components where the tensor is a score moment: its noise is not isotropic.

The noise of the mean of :math:`y \otimes He_p(s)` (s white) has the covariance of one such row over
the number of rows. It would be isotropic if y did not depend on s. But y is made of the components:
what T says of it is

.. math:: y = \frac{1}{p!} \sum_m W_m He_p(a_m \cdot s) + \eta,

and where :math:`a_m \cdot s` is large, so are y and all scores along :math:`a_m`. For p = 2, one
component and no :math:`\eta`, entries :math:`(a, v)` have the variance
:math:`E[He_2(z)^2 z^2] / 4 = 10 / 4` in place of :math:`E[He_2(z)^2] / 4 = 2 / 4`. The residual,
most of whose entries are far from the components, does not show this. :math:`\eta` is taken for
what the same components make of inputs that s shows in part, as in a chain:
:math:`y = \sum_m W_m He_p(w_m) / (p!\, \rho^p)` with w and z of correlation :math:`\rho`, chosen
for the variance of y. (Of outputs that are mostly noise, :math:`\rho` is small, and y all but
independent of s, as it should be; in between, errors come out somewhat large.) Both kinds of noise
are carried through the linearised fit,

.. math:: d\theta = (J^T J)^+ J^T dT, \qquad J^T \operatorname{vec}(y \otimes He_p(s)) =
    \Big( p \sum_a W_{ia} y_a He_p(s)(\cdot, a_i, .., a_i),\; y_a He_p(a_i \cdot s) \Big),

:math:`He_p(s)(v, a, .., a) = He_{p-1}(z)\, v \cdot s - (p - 1) He_{p-2}(z)\, v \cdot a`, by drawing
s, and the ratio of both standard errors, at the same mean square of the residual, is that by which
the isotropic ones are multiplied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._tensor import FloatArray, NoiseMetric

if TYPE_CHECKING:
    from ._result import Decomposition

# Loadings, in standard deviations of the outputs, beyond which K or scales belong to other data.
LARGEST = 1e100

# A standard error is then right to some hundredths; the ratio moves by less.
DRAWS = 4000


def with_score_noise(found: Decomposition, metric: NoiseMetric) -> Decomposition:
    """Errors of a decomposition of a score moment of order 2 or 3, in place of isotropic ones.

    The metric has to hold the covariance of the scores and the standard deviations of the outputs:
    without these the part of y that T explains is not known. O(DRAWS size^2 + size^3) time for
    size = rank (d + n_outputs) unknowns.
    """
    known = metric.inverse is not None and metric.factor is not None and metric.scales is not None
    usable = np.isfinite(found.component_errors).all() and found.degrees_of_freedom > 0
    if not known or not usable or found.order not in (2, 3):
        return found
    assert metric.inverse is not None and metric.factor is not None and metric.scales is not None
    rows = found.components @ metric.inverse.T
    lengths = np.linalg.norm(rows, axis=1)
    A = rows / lengths[:, None]
    with np.errstate(over="ignore"):
        W = np.ldexp(found.loadings / metric.scales, metric.exponent)  # K and scales as given
        W *= lengths[:, None] ** found.order
    if not np.abs(W).max() < LARGEST:
        return found
    ratios = _ratios(A, W, found.order, found.degrees_of_freedom, metric.factor, metric.scales)
    if ratios is None:
        return found
    return replace(
        found,
        component_errors=found.component_errors * ratios[0],
        loading_errors=found.loading_errors * ratios[1],
    )


def _ratios(
    A: FloatArray, W: FloatArray, p: int, freedom: int, factor: FloatArray, scales: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Standard errors under the noise of scores over those under isotropic noise."""
    (k, d), q = A.shape, W.shape[1]
    hessian, gauge = normal_matrix(A, W, p)
    try:
        inverse = np.linalg.inv(hessian + gauge)
    except np.linalg.LinAlgError:
        return None
    total, spread = _simulated(A, W, p)
    variance = (total - float(np.sum(inverse * spread))) / freedom
    if variance <= 0.0:
        return None
    both = (inverse @ spread @ inverse, variance * inverse @ hessian @ inverse)
    mapped = A @ factor.T
    lengths = np.linalg.norm(mapped, axis=1)
    units = mapped / lengths[:, None]
    squares = np.zeros((2, 2, k))
    for i in range(k):
        own, loads = slice(i * d, (i + 1) * d), slice(k * d + i * q, k * d + (i + 1) * q)
        along = units[i] @ factor
        turn = factor - np.outer(units[i], along)
        grow = np.zeros((q, k * (d + q)))
        grow[:, loads] = np.diag(scales)
        grow[:, own] = p * np.outer(scales * W[i], along) / lengths[i]
        for j, covariance in enumerate(both):
            squares[j, 0, i] = np.sum((turn @ covariance[own, own]) * turn)
            squares[j, 1, i] = np.sum((grow @ covariance) * grow)
    if not (squares > 0.0).all():
        return None
    components, loadings = np.sqrt(squares[0] / squares[1])
    return components, loadings


def normal_matrix(A: FloatArray, W: FloatArray, p: int) -> tuple[FloatArray, FloatArray]:
    """J^T J of (A, W), unit after unit and A first, and what fixes the lengths of rows of A."""
    (k, d), q = A.shape, W.shape[1]
    g, coupling = A @ A.T, W @ W.T
    size = k * d
    hessian, gauge = np.zeros((size + k * q,) * 2), np.zeros((size + k * q,) * 2)
    blocks = np.einsum("ij,uv->iujv", p * coupling * g ** (p - 1), np.eye(d))
    blocks += np.einsum("ij,ju,iv->iujv", p * (p - 1) * coupling * g ** (p - 2), A, A)
    hessian[:size, :size] = blocks.reshape(size, size)
    mixed = np.einsum("ia,ju,ij->iuja", p * W, A, g ** (p - 1))
    hessian[:size, size:] = mixed.reshape(size, k * q)
    hessian[size:, :size] = hessian[:size, size:].T
    hessian[size:, size:] = np.kron(g**p, np.eye(q))
    for i in range(k):
        own = slice(i * d, (i + 1) * d)
        gauge[own, own] = p * coupling[i, i] * np.outer(A[i], A[i])
    return hessian, gauge


def _simulated(A: FloatArray, W: FloatArray, p: int) -> tuple[float, FloatArray]:
    """Mean square of y (x) He_p(s) about T, and the covariance of J^T of it, of one row."""
    d = A.shape[1]
    rng = np.random.default_rng(0)
    s = rng.standard_normal((DRAWS, d))
    z = s @ A.T
    hermite = [np.ones_like(z), z, z**2 - 1, z**3 - 3 * z]
    factorial = (1, 1, 2, 6)[p]
    explained = np.einsum("ia,ij,ja->a", W, (A @ A.T) ** p, W) / factorial
    rho = min(float(explained.mean()), 1.0) ** (0.5 / p)
    w = rho * z + np.sqrt(1.0 - rho**2) * (rng.standard_normal((DRAWS, d)) @ A.T)
    y = (w**2 - 1 if p == 2 else w**3 - 3 * w) @ W / (rho**p * factorial)
    pulled = (y @ W.T)[:, :, None] * (
        hermite[p - 1][:, :, None] * s[:, None, :] - (p - 1) * hermite[p - 2][:, :, None] * A
    )
    loads = y[:, None, :] * hermite[p][:, :, None]
    rows = np.concatenate((p * pulled.reshape(DRAWS, -1), loads.reshape(DRAWS, -1)), axis=1)
    rows -= rows.mean(axis=0)
    r2 = (s**2).sum(axis=1)
    # |He_p(s)|^2
    sizes = r2**2 - 2 * r2 + d if p == 2 else r2**3 - 6 * r2**2 + 3 * (d + 2) * r2
    total = float(np.mean((y**2).sum(axis=1) * sizes)) - factorial * float(explained.sum())
    return total, rows.T @ rows / DRAWS

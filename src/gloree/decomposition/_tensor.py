"""The tensor to be decomposed: its checks, its entries, and the metric of its noise."""

from __future__ import annotations

import itertools
import math
import numbers
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from gloree._frames import refuse_masked
from gloree._monomials import n_monomials
from gloree._parameters import check_flag, check_integer

FloatArray = NDArray[np.float64]
# Below the exponent of every number: what a tensor of zeros has.
NO_EXPONENT = -1100

# Moments are symmetric up to rounding, or nearly so when passes average different samples. A tenth
# of the norm is neither: the modes are in the wrong order, or this is some other tensor.
ASYMMETRY_LIMIT = 0.1


def check_rank(rank: ArrayLike) -> int:
    """Return `rank` as an int of at least 1."""
    if np.ndim(rank):
        raise TypeError(
            f"`rank` must be an integer, got an array of shape {np.shape(rank)}: the arguments are "
            f"(T, rank)."
        )
    if isinstance(rank, bool) or not isinstance(rank, numbers.Integral):
        raise TypeError(f"`rank` must be an integer, got {rank!r} of type {type(rank).__name__}.")
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}.")
    return int(rank)


def unit_scale(values: FloatArray) -> tuple[FloatArray, int]:
    """Return values / 2^e with a largest entry in [1/2, 1), and e; no digit changes.

    Squares of entries then neither overflow nor vanish.
    """
    largest = float(np.abs(values).max())
    exponent = math.frexp(largest)[1] if largest > 0 else NO_EXPONENT
    return np.ldexp(values, -exponent), exponent


def check_tensor(T: ArrayLike, *, output_mode: bool, name: str = "T") -> tuple[FloatArray, int]:
    """Return the symmetric part of T / 2^e as float64 of shape (n_outputs, d, .., d), and e."""
    check_flag("output_mode", output_mode)
    if np.iscomplexobj(T):
        raise ValueError(f"`{name}` must be real, got a complex array; pass `{name}.real`.")
    refuse_masked(T, name)
    tensor = np.asarray(T, dtype=np.float64)
    layout = "(n_outputs, d, d[, d ..])" if output_mode else "(d, d[, d ..])"
    if tensor.ndim < 2 + output_mode:
        hint = (
            " Pass `output_mode=False` if there is no output mode." if output_mode else ""
        ) + " A matrix of first-order moments fixes a span only, not its components."
        raise ValueError(
            f"`{name}` must have shape {layout}, two symmetric modes at least; got shape "
            f"{tensor.shape}.{hint}"
        )
    if not output_mode:
        tensor = tensor[None]
    if tensor.size == 0 or len(set(tensor.shape[1:])) != 1:
        raise ValueError(
            f"`{name}` must have shape {layout} with equal, non-empty symmetric modes; got shape "
            f"{np.shape(T)}. The output mode comes first."
        )
    if not np.isfinite(tensor).all():
        n_bad = int(np.count_nonzero(~np.isfinite(tensor)))
        raise ValueError(
            f"`{name}` contains NaN or infinity in {n_bad} of {tensor.size} entries; a diverged "
            "simulation or missing data are the usual cause. Remove those sequences first."
        )
    tensor, exponent = unit_scale(tensor)
    return _symmetric_part(tensor, name), exponent


def check_not_zero(tensor: FloatArray, name: str = "T") -> None:
    """Raise if there is nothing to decompose."""
    if not tensor.any():
        raise ValueError(
            f"`{name}` is zero everywhere: it has no components. A constant output, or a moment of "
            "higher order than the degree of the activation, is the usual cause."
        )


def _symmetric_part(tensor: FloatArray, name: str) -> FloatArray:
    """Average a (n_outputs, d, .., d) tensor over permutations of its symmetric modes."""
    order = tensor.ndim - 1
    exchanged = [tensor.swapaxes(i, i + 1) for i in range(1, order)]
    if all(np.array_equal(tensor, other) for other in exchanged):
        return np.ascontiguousarray(tensor)
    average = np.zeros_like(tensor, order="C")
    for axes in itertools.permutations(range(1, order + 1)):
        average += tensor.transpose(0, *axes)
    average /= math.factorial(order)
    size = float(np.linalg.norm(tensor))
    asymmetry = float(np.linalg.norm(tensor - average)) / size
    if asymmetry > ASYMMETRY_LIMIT:
        raise ValueError(
            f"`{name}` must be symmetric in its {order} input modes, but its antisymmetric part "
            f"has {asymmetry:.2g} of its norm (limit {ASYMMETRY_LIMIT}); check the order of the "
            "modes: outputs first, then inputs."
        )
    return average


def multiply_modes(tensor: FloatArray, matrix: FloatArray) -> FloatArray:
    """Multiply every mode of (n_slices, d, .., d) but the first by `matrix` (m, d)."""
    for _ in range(tensor.ndim - 1):
        # the last mode is replaced and moved to position 1: after p rounds all are in place again
        tensor = np.moveaxis(tensor @ matrix.T, -1, 1)
    return np.ascontiguousarray(tensor)


def degrees_of_freedom(n_outputs: int, n_inputs: int, rank: int, order: int = 2) -> int:
    r"""Count the independent entries of a tensor less the free parameters of its components.

    .. math:: \mathrm{dof} = n \binom{d + p - 1}{p} - k (d + n - 1)

    with `n_outputs` n (1 without an output mode), `n_inputs` d, `rank` k and p symmetric modes. It
    must be clearly positive for the components to be recoverable under noise, and may be negative.

    Examples
    --------
    >>> from gloree.decomposition import degrees_of_freedom
    >>> degrees_of_freedom(2, 10, 10)
    0
    """
    sizes = {"n_outputs": n_outputs, "n_inputs": n_inputs, "order": order}
    n, d, p = (check_integer(name, size, 1) for name, size in sizes.items())
    k = check_integer("rank", rank, 0)
    return n * n_monomials(d, p) - k * (d + n - 1)


@dataclass(frozen=True)
class NoiseMetric:
    """Coordinates in which the noise of a moment tensor is roughly isotropic.

    T~ is T with L^-1 applied to every symmetric mode, L L^T = K the covariance of the scores, and
    each output divided by its scale. The component a~ of T~ is the component L a~ of T. With output
    scales of 25 : 1 and a K of condition 100 this made the error of the components four times
    smaller. `NoiseMetric()` changes nothing. K and the scales are kept near one: 2^exponent T~ is
    the tensor in the metric as it was given.
    """

    factor: FloatArray | None = None  # L
    inverse: FloatArray | None = None  # L^-1
    scales: FloatArray | None = None
    exponent: int = 0

    @classmethod
    def of(
        cls, tensor: FloatArray, score_covariance: ArrayLike | None, output_scale: ArrayLike | None
    ) -> NoiseMetric:
        """Check the covariance and the scales that a caller passed for this tensor."""
        n_outputs, n_inputs = tensor.shape[:2]
        factor = inverse = scales = None
        exponent = 0
        if score_covariance is not None:
            factor, half = _check_covariance(score_covariance, n_inputs)
            inverse = solve_triangular(factor, np.eye(n_inputs), lower=True)
            exponent -= half * (tensor.ndim - 1)
        if output_scale is not None:
            scales, shift = unit_scale(_check_scales(output_scale, n_outputs))
            exponent -= shift
        return cls(factor, inverse, scales, exponent)

    def whiten(self, tensor: FloatArray) -> FloatArray:
        """Map T to T~; O(p n_outputs d^(p+1)) time."""
        if self.scales is not None:
            tensor = tensor / self.scales.reshape(-1, *[1] * (tensor.ndim - 1))
        if self.inverse is not None:
            tensor = multiply_modes(tensor, self.inverse)
        return tensor

    def whiten_rows(self, components: FloatArray) -> FloatArray:
        """Map rows a to L^-1 a."""
        return components if self.inverse is None else components @ self.inverse.T

    def restore(
        self, components: FloatArray, loadings: FloatArray, order: int
    ) -> tuple[FloatArray, FloatArray]:
        """Map (A~, W~) back to (A, W), with the lengths |L a~| moved from A into W."""
        if self.factor is not None:
            components = components @ self.factor.T
            lengths = np.linalg.norm(components, axis=1)
            components = components / lengths[:, None]
            loadings = loadings * (lengths**order)[:, None]
        if self.scales is not None:
            loadings = loadings * self.scales
        return components, loadings


def _check_covariance(score_covariance: ArrayLike, n_inputs: int) -> tuple[FloatArray, int]:
    """Return the Cholesky factor of the covariance of the scores, as L / 2^e and e."""
    refuse_masked(score_covariance, "score_covariance")
    covariance = np.asarray(score_covariance, dtype=np.float64)
    if covariance.shape != (n_inputs, n_inputs):
        raise ValueError(
            f"`score_covariance` must have shape ({n_inputs}, {n_inputs}) like the symmetric modes "
            f"of `T`, got {covariance.shape}."
        )
    finite = bool(np.isfinite(covariance).all())
    half = (unit_scale(covariance)[1] + 1) // 2 if finite else 0
    scaled = np.ldexp(covariance, -2 * half)
    units = np.sqrt(np.abs(np.diag(scaled)))
    if not finite or (np.abs(scaled - scaled.T) > 1e-6 * np.outer(units, units)).any():
        raise ValueError("`score_covariance` must be finite and symmetric.")
    try:
        return np.asarray(np.linalg.cholesky((scaled + scaled.T) / 2), dtype=np.float64), half
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(covariance)[0])
        raise ValueError(
            "`score_covariance` must be positive definite, but its smallest eigenvalue is "
            f"{smallest:.3g}; drop collinear inputs or add a small multiple of the identity."
        ) from None


def _check_scales(output_scale: ArrayLike, n_outputs: int) -> FloatArray:
    refuse_masked(output_scale, "output_scale")
    scales = np.asarray(output_scale, dtype=np.float64)
    if scales.shape != (n_outputs,):
        raise ValueError(
            f"`output_scale` must have shape ({n_outputs},), one per output, got {scales.shape}."
        )
    if not np.isfinite(scales).all() or not (scales > 0).all():
        raise ValueError(
            "`output_scale` must be positive and finite, got a smallest value of "
            f"{scales.min():.3g}; a constant output carries no information, drop it."
        )
    return scales

r"""Polynomials with lower terms, by way of the monomial of the same degree.

The first moment sees only the leading term c_l z^l. A network with f(z) = c_l z^l + .. is first
fitted with c_l (z + b)^l, a bias for each unit and a direct linear path, then rewritten.

Degree 2 (completing the square, with m = c_1 / (2 c_2), e = c_0 - c_1^2 / (4 c_2)):
f(z) = c_2 (z + m)^2 + e, so h = h_s + e and U, b, c shift. Exact but for h_0 = 0.

Degree 3, with f(s u + beta) against c_3 (u + b)^3 + e_i u, u the drive of the surrogate: the
quadratic terms give beta = b s - c_2 / (3 c_3), the linear ones
s^2 = (c_1 - c_2^2 / (3 c_3)) / e_i, where e_i is unit i's share of the direct path,
D^T = sum_i e_i A2_i a_i^T; without biases, beta = 0 gives s = c_2 / (3 c_3 b). These are starts
for Gauss-Newton, not solutions: the one of least squared error is taken.
"""

from __future__ import annotations

import numpy as np

from gloree.activations import Polynomial
from gloree.models import Network
from gloree.sequences import Array


def leading_monomial(activation: Polynomial) -> Polynomial:
    """Monomial c_l z^l of the same degree and leading coefficient."""
    if activation.is_monomial:
        return activation
    return Polynomial((0.0,) * activation.degree + (activation.leading,))


def with_lower_terms(
    model: Network, activation: Polynomial, *, bias: bool, direct: bool, offset: bool = False
) -> list[Network]:
    """Starts for Gauss-Newton with the activation asked for, of degree 2 or 3, from a surrogate.

    The model has the monomial of the same degree, biases and a direct path. There is one start for
    each way to find the scales of the units.
    """
    if activation.is_monomial:
        return [model]
    if activation.degree == 2:
        starts = [_quadratic(model, activation, bias=bias)]
    else:
        scales = _cubic_scales(model, activation, bias=bias)
        starts = [_cubic(model, activation, scale) for scale in scales]
    free: dict[str, Array | None] = {} if direct else {"direct_weights": None}
    if not bias:
        free["hidden_bias"] = np.zeros(model.n_hidden)
        if not offset:
            free["output_bias"] = np.zeros(model.n_outputs)
    return [start.replace(**free) for start in starts]


def _quadratic(model: Network, activation: Polynomial, *, bias: bool) -> Network:
    c0, c1, c2 = activation.coefficients
    middle, offset = c1 / (2 * c2), c0 - c1**2 / (4 * c2)
    scale = np.ones(model.n_hidden)
    if not bias:
        # without a bias the middle of the parabola fixes the scale: s b = m
        b = model.hidden_bias
        known = np.abs(b) > 1e-3 * np.linalg.norm(model.input_weights, axis=1)
        scale = np.where(known, middle / np.where(known, b, 1.0), 1.0)
    U = scale[:, None] * model.recurrent_weights / (scale**2)[None, :]
    A2 = model.output_weights / (scale**2)[:, None]
    return model.replace(
        input_weights=scale[:, None] * model.input_weights,
        recurrent_weights=U,
        hidden_bias=scale * model.hidden_bias - middle - U.sum(axis=1) * offset,
        output_weights=A2,
        output_bias=model.output_bias - offset * A2.sum(axis=0),
        activation=activation,
    )


def _cubic_scales(model: Network, activation: Polynomial, *, bias: bool) -> list[Array]:
    """Ways to find the scales: from the direct path, from the biases (zero in f), none."""
    _, c1, c2, c3 = activation.coefficients
    linear = c1 - c2**2 / (3 * c3)
    scales = []
    if abs(linear) > 1e-12 and model.direct_weights is not None:
        share = _shares(model, model.direct_weights)
        squared = linear / np.where(share == 0, np.inf, share)
        known = squared[squared > 0]
        usual = float(np.median(known)) if known.size else 1.0
        scales.append(np.sqrt(np.where(squared > 0, squared, usual)))
    b = model.hidden_bias
    known = np.abs(b) > 1e-3 * np.linalg.norm(model.input_weights, axis=1)
    if not bias and abs(c2) > 1e-12 and known.any():
        scale = c2 / (3 * c3) / np.where(known, b, 1.0)
        scales.append(np.where(known, scale, np.median(scale[known])))
    return [*scales, np.ones(model.n_hidden)]


def _cubic(model: Network, activation: Polynomial, scale: Array) -> Network:
    _, c1, c2, c3 = activation.coefficients
    linear = c1 - c2**2 / (3 * c3)
    direct = model.direct_weights
    if direct is not None:
        # the units bring their linear part themselves now
        own = (linear / scale**2)[:, None] * model.output_weights
        direct = direct - model.input_weights.T @ own
    beta = model.hidden_bias * scale - c2 / (3 * c3)
    A2 = model.output_weights / (scale**3)[:, None]
    at_rest = A2.T @ activation(beta) - model.output_weights.T @ (c3 * model.hidden_bias**3)
    return model.replace(
        input_weights=scale[:, None] * model.input_weights,
        recurrent_weights=scale[:, None] * model.recurrent_weights / (scale**3)[None, :],
        hidden_bias=beta,
        output_weights=A2,
        output_bias=model.output_bias - at_rest,
        direct_weights=direct,
        activation=activation,
    )


def _shares(model: Network, direct: Array) -> Array:
    """Least-squares e in D^T = sum_i e_i A2_i a_i^T."""
    columns = np.einsum("id,ia->dai", model.input_weights, model.output_weights)
    matrix = columns.reshape(-1, model.n_hidden)
    return np.asarray(np.linalg.lstsq(matrix, direct.ravel(), rcond=None)[0])

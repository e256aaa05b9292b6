r"""Frequency responses with bands, and an estimate from the data alone to compare them with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._brief import Brief
from gloree._parameters import check_integer
from gloree.diagnostics import check_level
from gloree.models import IORNN
from gloree.refinement import Layout
from gloree.sequences import Array, Sequences
from gloree.systems._channels import Channels
from gloree.systems._state_space import require_linear, unit_slopes
from gloree.systems._uncertainty import Uncertainty

Complex = NDArray[np.complex128]

N_FREQUENCIES = 200  # of a grid that nobody chose
TOGETHER = 1.0 - 1e-6  # share of an input that has to move apart from the others
LOWEST = 1e-3  # of this grid, in cycles per sample


@dataclass(frozen=True)
class FrequencyResponse(Brief):
    """G(e^{2 pi i nu}) at some frequencies, and its errors.

    Attributes
    ----------
    frequencies : ndarray of shape (n,)
        In `channels.frequency_unit`.
    response : ndarray of complex of shape (n, n_outputs, n_inputs)
    covariance : ndarray of shape (n, n_outputs, n_inputs, 2, 2) or None
        Of real and imaginary part; infinite where the data do not determine the response.
    quantile : float
        Standard errors to either side of a band.
    level : float
        Of the bands, each frequency for itself.
    channels : Channels
    """

    frequencies: Array
    response: Complex
    covariance: Array | None = field(repr=False)
    quantile: float
    level: float
    channels: Channels

    @property
    def decibels(self) -> Array:
        """20 log10 |G|."""
        return np.asarray(20 * np.log10(np.maximum(np.abs(self.response), 1e-300)))

    @property
    def degrees(self) -> Array:
        """Phase in degrees, unwrapped along frequencies."""
        return np.asarray(np.rad2deg(np.unwrap(np.angle(self.response), axis=0)))

    def errors(self, along: Complex) -> Array:
        """Standard errors of the component of G along complex numbers of modulus one."""
        if self.covariance is None:
            return np.full(self.response.shape, np.nan)
        parts = np.stack((along.real, along.imag), axis=-1)
        known = np.isfinite(self.covariance[..., 0, 0])
        S = np.where(known[..., None, None], self.covariance, 0.0)
        spread = np.sqrt(np.einsum("...i,...ij,...j->...", parts, S, parts))
        return np.where(known, spread, np.inf)

    def magnitude_band(self) -> tuple[Array, Array]:
        """Lower and upper end of a band of |G|, each (n, n_outputs, n_inputs).

        Normal errors of log |G|: sd(|G|) / |G|, where |G| is several times its error; a band that
        would reach zero is that of |G| itself, cut off at zero.
        """
        size = np.maximum(np.abs(self.response), 1e-300)
        spread = self.quantile * self.errors(self.response / size)
        relative = spread / size
        small = relative > 0.5
        with np.errstate(over="ignore"):
            low = np.where(small, np.maximum(size - spread, 0.0), size * np.exp(-relative))
            high = np.where(small, size + spread, size * np.exp(np.minimum(relative, 50.0)))
        return low, high

    def phase_band(self) -> tuple[Array, Array]:
        """Lower and upper end of a band of the phase in degrees, each (n, n_outputs, n_inputs).

        By Fieller's theorem [1]_: the phases under which the component of G across them is zero
        within its error. All of them, 180 to either side, where G itself may be zero, whose sign
        is not known then.

        References
        ----------
        .. [1] E. C. Fieller, "Some problems in interval estimation", Journal of the Royal
           Statistical Society B 16 (1954) 175-185.
        """
        from scipy import stats  # slow to import

        size = np.maximum(np.abs(self.response), 1e-300)
        along = self.response / size
        S = np.full((*size.shape, 2, 2), np.nan) if self.covariance is None else self.covariance
        undetermined = np.isinf(S[..., 0, 0])
        S = np.where(undetermined[..., None, None], np.eye(2), S)
        turned = np.stack((along, 1j * along), axis=-1)
        axes = np.stack((turned.real, turned.imag), axis=-2) / size[..., None, None]
        S = self.quantile**2 * np.einsum("...ia,...ij,...jb->...ab", axes, S, axes)
        # with t = tan of the angle from the estimate: (1 - S_00) t^2 + 2 S_01 t - S_11 <= 0
        a, b, c = 1.0 - S[..., 0, 0], S[..., 0, 1], S[..., 1, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(b * b + a * c)
            ends = np.sort(np.stack(((-b - root) / a, (-b + root) / a)), axis=0)
            variance = S[..., 0, 0] - np.where(c > 0.0, b * b / c, 0.0)
        low, high = np.rad2deg(np.arctan(ends))
        # with a below zero the angles are not those between the ends, but those beyond them
        low, high = (
            np.where(a > 0.0, low, np.where(ends[0] > 0.0, high - 180.0, high)),
            np.where(a > 0.0, high, np.where(ends[0] > 0.0, low, low + 180.0)),
        )
        # a region of both parts together holds zero
        joint = -2.0 * np.log(1.0 - self.level) / stats.norm.ppf(0.5 + self.level / 2) ** 2
        unknown = (joint * variance >= 1.0) | (np.isnan(low) & ~np.isnan(a)) | undetermined
        low, high = np.where(unknown, -180.0, low), np.where(unknown, 180.0, high)
        return self.degrees + low, self.degrees + high


def default_frequencies(channels: Channels, lowest: float = LOWEST) -> Array:
    """Logarithmic grid up to half the sampling rate."""
    return np.geomspace(lowest, 0.5, N_FREQUENCIES) / channels.step


def transfer(model: IORNN, z: Complex) -> Complex:
    r"""Transfer matrix of a linear network at complex z, (n, n_outputs, n_inputs).

    .. math::
        G(z) = A_2^T (I - U z^{-1})^{-1} B(z) + D(z), \qquad B(z) = \sum_l B_l z^{-l} .
    """
    return _parts(model, z)[0]


def _parts(model: IORNN, z: Complex) -> tuple[Complex, Complex, Complex, Complex]:
    """G, A2^T R F (n, p, k), R F B (n, k, m), and z^-lag (n, lags)."""
    f = unit_slopes(model)
    shifts = 1.0 / z[:, None] ** np.arange(model.lags)
    columns = model.input_weights.reshape(-1, model.lags, model.n_inputs)
    B = np.einsum("nl,klm->nkm", shifts, columns)
    n = model.n_hidden
    R = np.linalg.inv(np.eye(n) - (f[:, None] * model.recurrent_weights) / z[:, None, None])
    left = np.einsum("ka,nkj->naj", model.output_weights, R) * f
    right = R @ (f[:, None] * B)
    G = left @ B
    if model.direct_weights is not None:
        D = model.direct_weights.reshape(model.lags, model.n_inputs, -1)
        G = G + np.einsum("nl,lma->nam", shifts, D)
    return G, left, right, shifts


def transfer_gradient(model: IORNN, layout: Layout, z: Complex) -> tuple[Complex, Complex]:
    r"""Transfer matrix, and its derivatives in all weights, (n, n_outputs, n_inputs, n_weights).

    With L = A2^T R and K = R B: dG = L dB + z^-1 L dU K + dA2^T K + dD.
    """
    G, left, right, shifts = _parts(model, z)
    n, p, m = G.shape
    lags, k = model.lags, model.n_hidden
    found = np.zeros((n, p, m, layout.size), dtype=np.complex128)
    places = layout.indices
    for j in range(m):
        columns = np.arange(lags) * m + j
        at = places["input_weights"][:, columns]
        found[:, :, j, at] = left[:, :, :, None] * shifts[:, None, None, :]
        if layout.direct:
            for a in range(p):
                found[:, a, j, places["direct_weights"][columns, a]] = shifts
        for a in range(p):
            found[:, a, j, places["output_weights"][:, a]] = right[:, :, j]
        through = left[:, :, :, None] * (right[:, None, None, :, j] / z[:, None, None, None])
        found[:, :, j, places["recurrent_weights"].ravel()] = through.reshape(n, p, k * k)
    return G, found


def frequency_response(
    model: IORNN,
    frequencies: ArrayLike | None = None,
    *,
    uncertainty: Uncertainty | None = None,
    channels: Channels | None = None,
    level: float = 0.95,
) -> FrequencyResponse:
    """Frequency response of a linear network, with bands where its uncertainty is known.

    Parameters
    ----------
    model : IORNN
        With linear units.
    frequencies : array of shape (n,), optional
        In hertz with `channels.dt`, else in cycles per sample; 200 up to half the sampling rate by
        default.
    uncertainty : Uncertainty, optional
        Of this model; without it there are no bands.
    channels : Channels, optional
    level : float, default 0.95
        Of the bands, each frequency for itself.

    Returns
    -------
    FrequencyResponse

    Raises
    ------
    ValueError
        If the network is not linear, the uncertainty is that of another one, or a frequency is
        negative or beyond half the sampling rate.
    """
    require_linear(model)
    check_level(level)
    channels = channels or Channels.numbered(model.n_inputs, model.n_outputs)
    chosen = default_frequencies(channels) if frequencies is None else frequencies
    turns = np.atleast_1d(np.asarray(chosen, dtype=np.float64)) * channels.step
    if turns.ndim != 1 or not np.all((turns >= 0) & (turns <= 0.5 * (1 + 1e-9))):
        raise ValueError(
            f"`frequencies` must be numbers from 0 to half the sampling rate, "
            f"{0.5 / channels.step:g} {channels.frequency_unit}"
        )
    z = np.exp(2j * np.pi * turns)
    if uncertainty is None:
        G = transfer(model, z)
        return FrequencyResponse(turns / channels.step, G, None, np.nan, level, channels)
    require_same_model(model, uncertainty)
    G, gradient = transfer_gradient(model, uncertainty.layout, z)
    spread = gradient @ uncertainty.root
    parts = np.stack((spread.real, spread.imag), axis=-2)
    covariance = parts @ parts.swapaxes(-1, -2)
    size = np.sqrt(np.einsum("...ii->...", covariance))
    covariance[uncertainty.is_open(size, gradient @ uncertainty.loose)] = np.inf
    quantile = uncertainty.quantile(level)
    return FrequencyResponse(turns / channels.step, G, covariance, quantile, level, channels)


def require_same_model(model: IORNN, uncertainty: Uncertainty) -> None:
    """Raise a ValueError if an uncertainty belongs to another network."""
    if uncertainty.model != model:
        raise ValueError("`uncertainty` is that of another network: give that of this one")


@dataclass(frozen=True)
class SpectralResponse(Brief):
    """A frequency response estimated from records alone, by averaged cross spectra.

    Attributes
    ----------
    frequencies : ndarray of shape (n,)
    response : ndarray of complex of shape (n, n_outputs, n_inputs)
    errors : ndarray of shape (n, n_outputs, n_inputs)
        Standard error of |G|, from the coherence and the number of segments; infinite for inputs
        that move together.
    coherence : ndarray of shape (n, n_outputs)
        Share of each output's power that is linear in the inputs.
    n_segments : float
        Independent segments behind each average.
    """

    frequencies: Array
    response: Complex
    errors: Array = field(repr=False)
    coherence: Array = field(repr=False)
    n_segments: float


def spectral_response(
    records: Sequences, *, channels: Channels | None = None, segment: int | None = None
) -> SpectralResponse:
    r"""Frequency response from the data alone: Welch's averaged cross spectra, with Hann windows.

    .. math::
        \hat G(\nu) = \hat S_{yu}(\nu) \hat S_{uu}(\nu)^{-1}, \qquad
        \mathrm{var}\, |\hat G_{ab}| \approx
            \tfrac12 \frac{S_{vv,a}}{n} \bigl(\hat S_{uu}^{-1}\bigr)_{bb}

    with S_vv what is not linear in the inputs and n the number of independent segments. (With one
    segment the same without averaging would be the empirical transfer function estimate.)

    Parameters
    ----------
    records : Sequences
        Missing outputs are filled linearly from their neighbours.
    channels : Channels, optional
    segment : int, optional
        Rows of a segment; by default the power of two that gives about 8 segments side by side.

    Returns
    -------
    SpectralResponse

    Raises
    ------
    ValueError
        If no record is as long as a segment, or there are too few segments for the inputs.
    """
    from scipy import signal  # slow to import

    assert records.Y is not None
    channels = channels or Channels.numbered(records.n_inputs, records.n_outputs)
    m, p = records.n_inputs, records.n_outputs
    longest = int(records.lengths.max())
    if segment is None:
        segment = int(2 ** np.floor(np.log2(max(records.n_rows / (6.0 + 2 * m), 16))))
        segment = min(segment, 2 ** int(np.floor(np.log2(max(longest, 1)))))
    segment = check_integer("segment", segment, 1)
    if not 8 <= segment <= longest:
        raise ValueError(
            f"`segment` is {segment}, expected from 8 to the rows of the longest record, {longest}"
        )
    total = np.zeros((segment // 2 + 1, m + p, m + p), dtype=np.complex128)
    n = 0.0
    mean = np.concatenate((records.X.mean(axis=0), np.nanmean(records.Y, axis=0)))
    for begin, end in zip(records.starts[:-1], records.starts[1:], strict=True):
        if end - begin < segment:
            continue
        rows = np.column_stack((records.X[begin:end], _filled(records.Y[begin:end]))) - mean
        frequencies, S = signal.csd(
            rows.T[:, None], rows.T[None], nperseg=segment, detrend=False, scaling="density"
        )
        count = (end - begin - segment) // (segment - segment // 2) + 1
        total += count * np.moveaxis(S, -1, 0)
        n += count
    total /= n
    # in units of each channel's own power: ranks of spectra mean nothing in those of the records
    size = np.sqrt(np.einsum("ncc->c", total).real / len(total))
    size = np.where(size > 0.0, size, 1.0)
    total /= np.outer(size, size)
    # csd is conj(F x) F y: entry (i, j) is S_ji in the convention E[Y U^*]
    Suu = total[:, :m, :m].swapaxes(1, 2)
    Syu, Syy = total[:, :m, m:].swapaxes(1, 2), total[:, m:, m:].swapaxes(1, 2)
    independent = n * 18.0 / 25.0 if n > 1 else 1.0  # half overlaps of Hann windows, Welch (1967)
    if independent <= m:
        raise ValueError(
            f"`segment`={segment} leaves {n:.0f} segments of {m} inputs: give shorter ones"
        )
    inverse = np.linalg.pinv(Suu, rcond=1e-10, hermitian=True)
    G = Syu @ inverse
    power = np.maximum(np.einsum("naa->na", Syy).real, 1e-300)
    linear = np.einsum("nam,nam->na", G, Syu.conj()).real
    left = np.maximum(power - linear, 0.0) * independent / (independent - m)
    excited = np.maximum(np.einsum("nbb->nb", inverse).real, 0.0)
    errors = np.sqrt(0.5 * left[:, :, None] * excited[:, None, :] / independent)
    # inputs that move together share a response in any proportion
    errors[np.einsum("nbb->nb", inverse @ Suu).real[:, None] + 0 * errors < TOGETHER] = np.inf
    coherence = np.clip(linear / power, 0.0, 1.0)
    unit = size[m:, None] / size[:m]
    seen = np.asarray(frequencies[1:] / channels.step, dtype=np.float64)
    return SpectralResponse(
        seen, np.asarray(G[1:] * unit), errors[1:] * unit, coherence[1:], independent
    )


def _filled(Y: Array) -> Array:
    """Outputs with gaps filled linearly."""
    Y, steps = np.array(Y, dtype=np.float64), np.arange(len(Y))
    for column in Y.T:
        seen = np.isfinite(column)
        if not seen.all() and seen.any():
            column[~seen] = np.interp(steps[~seen], steps[seen], column[seen])
    return Y

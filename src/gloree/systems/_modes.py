r"""Poles, zeros, gains and time constants of a linear network, with standard errors.

All by the delta method. A simple eigenvalue of a matrix M that depends on the weights moves by
d lambda = w^H dM v / (w^H v), with its left and right eigenvectors w and v; zeros are generalised
eigenvalues of the system pencil [[A - z I, B], [C, D]] and move by the same formula.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gloree._brief import Brief
from gloree.models import IORNN
from gloree.sequences import Array
from gloree.systems._channels import Channels
from gloree.systems._frequency import require_same_model, transfer, transfer_gradient
from gloree.systems._state_space import dead_times, matrices, require_linear, unit_slopes
from gloree.systems._uncertainty import Uncertainty

Complex = NDArray[np.complex128]

REAL = 1e-9  # relative imaginary part below which an eigenvalue counts as real
BALANCING = 10  # turns of scaling the columns and rows of a pencil
FAR = 1e6  # modulus beyond which a zero is one at infinity


@dataclass(frozen=True)
class Roots(Brief):
    """Poles or zeros: real ones, and of each conjugate pair the one in the upper half plane.

    Attributes
    ----------
    values : ndarray of complex of shape (n,)
    covariance : ndarray of shape (n, 2, 2)
        Of real and imaginary parts; NaN where no uncertainty was given, infinite where the data do
        not determine the root.
    quantities : dict of str to (ndarray of shape (n,), ndarray of shape (n,))
        Values and standard errors: "modulus"; of poles also "frequency" (natural, in radians per
        unit of time), "damping" (ratio) and "time_constant", -dt / log |pole|.
    """

    values: Complex
    covariance: Array = field(repr=False)
    quantities: dict[str, tuple[Array, Array]]

    @property
    def n(self) -> int:
        """Roots listed."""
        return int(self.values.shape[0])

    def errors(self) -> Array:
        """Standard errors of real and imaginary parts, (n, 2)."""
        return np.asarray(np.sqrt(np.einsum("nii->ni", self.covariance)))


@dataclass(frozen=True)
class LinearCharacteristics(Brief):
    """Poles, zeros, gains and dead times of a linear model; printing it gives a table.

    Attributes
    ----------
    poles, zeros : Roots
        Transmission zeros; there are none unless there are as many inputs as outputs.
    gains, gain_errors : ndarray of shape (n_outputs, n_inputs)
        Static gains, infinite for an integrator; errors are infinite where the data do not
        determine a gain, as those of inputs that move together.
    dead_times : ndarray of int of shape (n_inputs,)
        Samples before an input is first seen.
    channels : Channels
    """

    poles: Roots
    zeros: Roots
    gains: Array
    gain_errors: Array
    dead_times: NDArray[np.int64]
    channels: Channels

    def rows(self) -> list[tuple[str, ...]]:
        """Lines of the table: what, value, standard error, and what it means in time."""
        lines: list[tuple[str, ...]] = []
        for name, roots in (("pole", self.poles), ("zero", self.zeros)):
            each = roots.errors()
            for i, value in enumerate(roots.values):
                error = each[i, 0] if value.imag == 0 else float(np.hypot(*each[i]))
                lines.append((name, _number(value), _error(error), self._meaning(roots, i)))
        for a, b in np.ndindex(self.gains.shape):
            path = self.channels.path(a, b)
            value, error = float(self.gains[a, b]), float(self.gain_errors[a, b])
            lines.append((f"gain {path}", _number(value), _error(error), ""))
        for name, steps in zip(self.channels.input_names, self.dead_times, strict=True):
            if steps > 0:
                span = f"{steps * self.channels.step:g} {self.channels.time_unit}"
                lines.append((f"dead time {name}", f"{steps} samples", "", span))
        return lines

    def _meaning(self, roots: Roots, i: int) -> str:
        if "time_constant" not in roots.quantities:
            return ""
        texts = []
        unit = self.channels.time_unit
        for name, label, end in (
            ("time_constant", "time constant", f" {unit}"),
            ("damping", "damping", ""),
            ("frequency", "natural frequency", f" rad/{'s' if unit == 's' else 'sample'}"),
        ):
            values, errors = roots.quantities[name]
            if name != "time_constant" and roots.values[i].imag == 0:
                continue
            if np.isfinite(values[i]):
                texts.append(f"{label} {_number(values[i])}{_error(errors[i], ' ± ')}{end}")
        return ", ".join(texts)

    def __str__(self) -> str:
        rows = [("", "value", "std. error", ""), *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(
            f"{r[0]:<{widths[0]}}  {r[1]:>{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip()
            for r in rows
        )


def _number(value: complex) -> str:
    value = complex(value)
    if value.imag == 0:
        return f"{value.real:.4g}"
    return f"{value.real:.4g} ± {abs(value.imag):.4g}i"


def _error(value: float, before: str = "") -> str:
    if np.isinf(value):
        return f"{before}inf"
    return f"{before}{value:.2g}" if np.isfinite(value) else ""


def characteristics(
    model: IORNN, *, uncertainty: Uncertainty | None = None, channels: Channels | None = None
) -> LinearCharacteristics:
    """Poles, zeros, static gains and dead times of a linear network.

    Parameters
    ----------
    model : IORNN
        With linear units.
    uncertainty : Uncertainty, optional
        Of this model; without it standard errors are NaN.
    channels : Channels, optional
        `dt` makes seconds of samples.

    Returns
    -------
    LinearCharacteristics

    Raises
    ------
    ValueError
        If the network is not linear, or the uncertainty is that of another one.

    Notes
    -----
    Standard errors are those of the delta method, which takes responses as linear in the weights
    over the range of their errors. Those of nearly equal poles are infinite in the limit, and say
    little: responses of such a model are much better known than its poles.
    """
    require_linear(model)
    if uncertainty is not None:
        require_same_model(model, uncertainty)
    channels = channels or Channels.numbered(model.n_inputs, model.n_outputs)
    step = channels.step
    f = unit_slopes(model)[:, None]
    poles = _roots(f * model.recurrent_weights, None, *_pole_changes(model, uncertainty))
    zeros = Roots(np.zeros(0, dtype=np.complex128), np.zeros((0, 2, 2)), {})
    if model.n_inputs == model.n_outputs:
        pencil = _pencil(model, *_windows(model))
        mass = np.diag((np.arange(len(pencil)) < len(pencil) - model.n_outputs) * 1.0)
        rows, columns = _balance(pencil, model.n_inputs)
        scales, changes = np.outer(rows, columns), _pencil_changes(model, uncertainty)
        zeros = _roots(pencil * scales, mass, *(change * scales for change in changes))
    gains, gain_errors = _gains(model, uncertainty)
    return LinearCharacteristics(
        _in_time(poles, step), zeros, gains, gain_errors, dead_times(model), channels
    )


def _windows(model: IORNN) -> tuple[NDArray[np.int64], int]:
    """Columns of windows that begin after the dead time of each input, and their lags.

    A dead time has zeros at infinity only. Its shift states would add others at zero, where inputs
    have several dead times, and so many at infinity cost finite ones their digits.
    """
    m, lags = model.n_inputs, model.lags
    used = np.any(model.input_weights != 0.0, axis=0)
    if model.direct_weights is not None:
        used |= np.any(model.direct_weights != 0.0, axis=1)
    seen, first = used.reshape(lags, m), np.maximum(dead_times(model), 0)
    last = np.where(seen.any(axis=0), lags - 1 - seen[::-1].argmax(axis=0), 0)
    kept = int((last - first).max(initial=0)) + 1
    # what lies beyond the window is zero, as the columns are that come around in its place
    shifted = (first + np.arange(kept)[:, None]) % lags
    return (shifted * m + np.arange(m)).ravel(), kept


def _pencil(model: IORNN, columns: NDArray[np.int64], lags: int) -> Array:
    """The matrix [[A, B], [C, D]] of the state-space model with these columns of windows."""
    D = model.direct_weights
    short = model.replace(
        input_weights=model.input_weights[:, columns],
        direct_weights=None if D is None else D[columns],
        lags=lags,
    )
    A, B, C, D = matrices(short)
    return np.block([[A, B], [C, D]])


def _balance(pencil: Array, m: int) -> tuple[Array, Array]:
    """Factors of the rows and the columns of the pencil: of m outputs and m inputs, else ones.

    Zeros do not depend on the units of inputs and outputs, but their rounding errors do.
    """
    rows, columns = np.ones(len(pencil)), np.ones(len(pencil))
    size = np.abs(pencil)
    for _ in range(BALANCING):
        largest = (size * rows[:, None]).max(axis=0)[-m:]
        columns[-m:] = 1.0 / np.where(largest > 0.0, largest, 1.0)
        largest = (size * columns).max(axis=1)[-m:]
        rows[-m:] = 1.0 / np.where(largest > 0.0, largest, 1.0)
    return rows, columns


def _pole_changes(model: IORNN, uncertainty: Uncertainty | None) -> tuple[Array, ...]:
    """Changes of U along the columns of the root, (rank, n, n), and along what is not seen."""
    if uncertainty is None:
        return ()
    places, f = uncertainty.layout.indices["recurrent_weights"], unit_slopes(model)
    both = uncertainty.root, uncertainty.loose
    return tuple(np.moveaxis(f[:, None, None] * columns[places], -1, 0) for columns in both)


def _pencil_changes(model: IORNN, uncertainty: Uncertainty | None) -> tuple[Array, ...]:
    """The same of the pencil, which is of degree two in the weights: differences are exact."""
    if uncertainty is None:
        return ()
    layout, windows, found = uncertainty.layout, _windows(model), []
    for columns in (uncertainty.root, uncertainty.loose):
        changes = np.zeros((columns.shape[1], *_pencil(model, *windows).shape))
        for change, column in zip(changes, columns.T, strict=True):
            for sign in (1.0, -1.0):
                moved = layout.move(model, sign * column)
                assert isinstance(moved, IORNN)
                change += sign / 2.0 * _pencil(moved, *windows)
        found.append(changes)
    return tuple(found)


def _roots(
    M: Array, mass: Array | None, changes: Array | None = None, loose: Array | None = None
) -> Roots:
    """Eigenvalues in the upper half plane, with covariances from changes of the matrix.

    Of those that move more along `loose` changes they are infinite.
    """
    values, left, right = linalg.eig(M, mass, left=True, right=True)
    finite = np.isfinite(values) & (np.abs(np.where(np.isfinite(values), values, 0.0)) < FAR)
    size = np.maximum(np.abs(values), 1.0)
    real = np.abs(values.imag) <= REAL * size
    kept = np.flatnonzero(finite & (real | (values.imag > 0)))
    kept = kept[np.lexsort((-values[kept].imag, -np.abs(values[kept])))]
    found = np.where(real, values.real, values)[kept].astype(np.complex128)
    covariance = np.full((kept.size, 2, 2), np.nan)
    if changes is not None and loose is not None:
        for place, i in enumerate(kept):
            w, v = left[:, i].conj(), right[:, i]
            norm = w @ (v if mass is None else mass @ v)
            with np.errstate(divide="ignore", invalid="ignore"):
                moves, away = ((each @ v) @ w / norm for each in (changes, loose))
            parts = np.stack((moves.real, moves.imag * (not real[i])))
            covariance[place] = parts @ parts.T
            if np.linalg.norm(away) > np.linalg.norm(moves):
                covariance[place] = np.inf
    modulus = np.abs(found)
    toward = np.stack((found.real, found.imag), axis=1) / np.maximum(modulus, 1e-300)[:, None]
    return Roots(found, covariance, {"modulus": (modulus, _spread(covariance, toward))})


def _spread(covariance: Array, gradient: Array) -> Array:
    known = ~np.isinf(covariance[:, 0, 0])
    S = np.where(known[:, None, None], covariance, 0.0)
    return np.where(known, np.sqrt(np.einsum("ni,nij,nj->n", gradient, S, gradient)), np.inf)


def _in_time(poles: Roots, dt: float) -> Roots:
    """Add natural frequency, damping and time constant of s = log(pole) / dt."""
    values = poles.values
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.log(values) / dt
        slope = 1.0 / (values * dt)  # ds / d pole
        constant = -1.0 / s.real
        size = np.abs(s)
        damping = -s.real / size
        # gradients in s: d|s| = Re(conj(s) ds) / |s|, and d(-Re s / |s|)
        directions = {
            "time_constant": constant**2 + 0j,
            "frequency": s / size,
            "damping": -1.0 / size + s.real * s / size**3,
        }
        found = dict(poles.quantities)
        for name, value in (
            ("time_constant", constant), ("frequency", size), ("damping", damping)
        ):  # fmt: skip
            # Re(conj(g) slope d pole) is linear in the parts of d pole
            g = np.conj(directions[name]) * slope
            gradient = np.stack((g.real, -g.imag), axis=1)
            found[name] = (value, _spread(poles.covariance, gradient))
    return Roots(values, poles.covariance, found)


def _gains(model: IORNN, uncertainty: Uncertainty | None) -> tuple[Array, Array]:
    n = model.n_hidden
    matrix = np.eye(n) - unit_slopes(model)[:, None] * model.recurrent_weights
    shape = (model.n_outputs, model.n_inputs)
    if n and np.linalg.cond(matrix) > 1e12:
        return np.full(shape, np.inf), np.full(shape, np.nan)
    one = np.ones(1, dtype=np.complex128)
    if uncertainty is None:
        return transfer(model, one)[0].real, np.full(shape, np.nan)
    G, gradient = transfer_gradient(model, uncertainty.layout, one)
    return G[0].real, uncertainty.errors(gradient[0].real)

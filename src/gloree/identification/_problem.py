"""What is to be identified: records with means of zero and standard deviations of one, settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree._mapped import loaded
from gloree.activations import Activation, Polynomial, tanh
from gloree.diagnostics import Finding, GloreeWarning, check_size
from gloree.engine import Engine, Selection
from gloree.identification._screening import Detrend, Screened, check_largest
from gloree.identification._split import LARGEST_MODULUS, RecordSplit, hold_out, split_records
from gloree.identification._starts import Starts
from gloree.models import IORNN, ExplosionError
from gloree.refinement import square_sums
from gloree.sequences import Array, Sequences

TOGETHER = 1e-10
"""Share of the inputs' variance below which a combination of them does not move."""

FREE_POLYNOMIAL = Polynomial((0.0, 1.0, 1.0 / 2.0, 1.0 / 6.0))
"""Start of a unit with free coefficients: exp z - 1 to third order, whose even and odd powers let a
single unit turn into either an even or an odd function."""


@dataclass(frozen=True)
class IdentificationSettings:
    """Settings of an identification, already checked.

    Numbers of linear states, nonlinear units, and directions that these units see are left to the
    data where they are None. `unit` is the activation of the nonlinear units; `free_coefficients`
    says whether the coefficients of polynomial units are fitted. With `auto`, units of `unit` and
    polynomials with free coefficients compete.
    """

    n_linear: int | None = None
    n_nonlinear: int | None = None
    unit: Activation = tanh
    free_coefficients: bool = False
    auto: bool = False
    n_directions: int | None = None
    detrend: Detrend = None
    max_seconds: float = 60.0
    verbose: int = 0

    @property
    def kinds(self) -> tuple[Activation, ...]:
        """Kinds of units that compete."""
        return (self.unit, FREE_POLYNOMIAL) if self.auto else (self.unit,)


@dataclass(frozen=True)
class IdentificationProblem(Brief):
    """Everything that an identification depends on.

    `records` have inputs and outputs with means of zero and standard deviations of one; those of
    the original records are `input_mean`, `input_size`, `output_mean` and `output_size`,
    (n_channels,). Rows that are `counted`, (n_rows,), have outputs to be fitted; `held_out` are
    those on which models are compared. `findings` are warnings about the records.
    """

    records: Sequences
    input_mean: Array
    input_size: Array
    output_mean: Array
    output_size: Array
    settings: IdentificationSettings
    engine: Engine
    counted: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    findings: tuple[Finding, ...] = ()
    n_missing: int = 0
    n_spikes: int = 0

    @classmethod
    def of(
        cls,
        data: Sequences | Screened,
        settings: IdentificationSettings,
        engine: Engine,
        findings: tuple[Finding, ...] = (),
    ) -> IdentificationProblem:
        """Normalise records in their original units; a constant channel raises a ValueError.

        The records are copied: scaling them as they are read would make each of some hundred passes
        up to a tenth slower (three inputs and outputs, four units).
        """
        screened = data if isinstance(data, Screened) else Screened.unseen(data)
        data, counted = screened.data, screened.counted
        u, y = _as_floats(data)
        known = y[counted]
        remedies = "a constant input excites nothing, leave it out", "there is nothing to fit"
        for name, values, remedy in zip("uy", (u, known), remedies, strict=True):
            check_largest(name, values)
            spread = values.std(axis=0)
            constant = np.flatnonzero(spread <= 1e-13 * np.abs(values).max(axis=0))
            if constant.size:
                channels = ", ".join(map(str, constant[:10]))
                raise ValueError(f"`{name}` is constant in column(s) {channels}: {remedy}")
            check_size(name, np.square(spread), small=False)
        scales = u.mean(axis=0), u.std(axis=0), known.mean(axis=0), known.std(axis=0)
        u, y = (u - scales[0]) / scales[1], (y - scales[2]) / scales[3]
        records = Sequences(u, y, data.lengths, data.form)
        held_out = hold_out(records, counted)
        noted = (*findings, *screened.findings, *_moving_together(u))
        numbers = screened.n_missing, int(screened.spikes.size)
        return cls(records, *scales, settings, engine, counted, held_out, noted, *numbers)

    def split(
        self, warm_up: int, modulus: float = LARGEST_MODULUS, *, quick: bool = False
    ) -> RecordSplit:
        """Cut the records into segments; see `split_records`."""
        rows = self.counted, self.held_out
        return split_records(self.records, warm_up, modulus, *rows, quick=quick)

    def unscaled(self, model: IORNN) -> IORNN:
        """Return the same network in the units of the original records."""
        size, mean = (np.tile(part, model.lags) for part in (self.input_size, self.input_mean))
        A1 = model.input_weights / size
        assert model.direct_weights is not None
        direct = model.direct_weights / size[:, None] * self.output_size
        bias = model.output_bias * self.output_size + self.output_mean
        return model.replace(
            input_weights=A1,
            hidden_bias=model.hidden_bias - A1 @ mean,
            output_weights=model.output_weights * self.output_size,
            output_bias=bias - mean @ direct,
            direct_weights=direct,
        )

    def error(self, model: IORNN, rows: Selection) -> float:
        """Root mean square simulation error over outputs; infinite where the network explodes.

        Without columns for starts (see `Starts`) every record starts in equilibrium.
        """
        if model.n_inputs < rows.data.n_inputs:
            model = Starts.of(self.records).extended(model)
        try:
            sums = self.engine.run(partial(square_sums, model=model), rows)
        except ExplosionError:
            return math.inf
        return float(np.sqrt(sums.squares.sum() / sums.n_rows / self.records.n_outputs))


def _moving_together(u: Array) -> tuple[Finding, ...]:
    """Warn of inputs, of variance one, of which one is a combination of the others."""
    values, vectors = np.linalg.eigh(u.T @ u / u.shape[0])
    dependent = vectors[:, values <= TOGETHER * values.max(initial=0.0)]
    if not dependent.size:
        return ()
    columns = np.flatnonzero(np.linalg.norm(dependent, axis=1) > 1e-3)
    text = (
        f"the inputs in columns {', '.join(map(str, columns[:10]))} move together: one is a "
        f"combination of the others, and the records do not tell which of them the outputs follow"
    )
    remedy = "leave one out, or record data in which each moves by itself"
    return (Finding(GloreeWarning, text, remedy),)


def longest_record(data: Sequences, n_rows: int) -> tuple[Array, Array]:
    """Inputs and outputs in the first rows of the longest record."""
    longest = int(np.argmax(data.lengths))
    begin, end = data.starts[longest : longest + 2]
    return _as_floats(data, slice(int(begin), int(min(end, begin + n_rows))))


def n_free_weights(n: int, q: int, d: int, p: int) -> int:
    """Weights of n linear states and q units that a change of the states' coordinates leaves.

    Of n^2 + n (d + p) + q (2 n + q + d + p + 1) + d p + p weights n^2 are coordinates.
    """
    return n * (d + p) + q * (2 * n + q + d + p + 1) + d * p + p


def percent(error: float) -> str:
    """An error as text."""
    return f"{100 * error:.3g} %"


def _as_floats(data: Sequences, rows: slice = slice(None)) -> tuple[Array, Array]:
    assert data.Y is not None
    u, y = (np.asarray(loaded(values[rows]), np.float64) for values in (data.X, data.Y))
    return u, y

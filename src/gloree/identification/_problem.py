"""What is to be identified: normalised records, settings and engine, resolved once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree.activations import Activation, Polynomial, tanh
from gloree.diagnostics import Finding
from gloree.engine import Engine, Selection
from gloree.identification._scaling import Scaling
from gloree.models import IORNN, ExplosionError
from gloree.refinement import square_sums
from gloree.sequences import Array, Sequences

FREE_POLYNOMIAL = Polynomial((0.0, 1.0, 1.0 / 2.0, 1.0 / 6.0))
"""Start of a unit with free coefficients, exp z - 1 to third order: with even and odd powers, a
single unit can begin to follow either kind of curve."""


@dataclass(frozen=True)
class IdentificationSettings:
    """What is asked for, checked.

    Attributes
    ----------
    n_linear, n_nonlinear, n_directions : int or None
        Linear states, nonlinear units and directions that these see; None chooses.
    unit : Activation
        Of the nonlinear units.
    free_coefficients : bool
        Whether the coefficients of polynomial units are fitted.
    max_seconds : float
    verbose : int
    """

    n_linear: int | None = None
    n_nonlinear: int | None = None
    unit: Activation = tanh
    free_coefficients: bool = False
    n_directions: int | None = None
    max_seconds: float = 60.0
    verbose: int = 0


@dataclass(frozen=True)
class IdentificationProblem:
    """One identification.

    Attributes
    ----------
    records : Sequences
        Inputs and outputs with means of zero and standard deviations of one.
    scaling : Scaling
        The way back to records as they were given.
    settings : IdentificationSettings
    engine : Engine
    findings : tuple of Finding
        What was noticed about the records beforehand.
    """

    records: Sequences
    scaling: Scaling
    settings: IdentificationSettings
    engine: Engine
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls,
        data: Sequences,
        settings: IdentificationSettings,
        engine: Engine,
        findings: tuple[Finding, ...] = (),
    ) -> IdentificationProblem:
        """Normalise records as they were given.

        Raises
        ------
        ValueError
            If an input or output is constant.
        """
        scaling = Scaling.of(data)
        return cls(scaling.apply(data), scaling, settings, engine, findings)

    def error(self, model: IORNN, rows: Selection) -> float:
        """Root mean square simulation error, over outputs; infinite where the network explodes."""
        try:
            sums = self.engine.run(partial(square_sums, model=model), rows)
        except ExplosionError:
            return math.inf
        return float(np.sqrt(sums.squares.sum() / sums.n_rows / self.records.n_outputs))

    def longest_record(self, n_rows: int) -> tuple[Array, Array]:
        """First rows of the longest record: inputs and outputs."""
        records = self.records
        longest = int(np.argmax(records.lengths))
        begin = int(records.starts[longest])
        rows = slice(begin, min(int(records.starts[longest + 1]), begin + n_rows))
        assert records.Y is not None
        return records.X[rows], records.Y[rows]


def percent(error: float) -> str:
    """Error in words."""
    return f"{100 * error:.3g} %"

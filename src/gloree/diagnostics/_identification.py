"""The report of a system identification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gloree._html import MOST_ROWS, html_list, html_table
from gloree.diagnostics._findings import Finding
from gloree.diagnostics._report import Report, Stage
from gloree.sequences import Array

if TYPE_CHECKING:
    from gloree.refinement import RefinementStatus
    from gloree.systems import ResidualTests


@dataclass(frozen=True)
class OrderTrial:
    """One order of the linear model, and its least Hankel singular value.

    `error` is the geometric mean of root mean square simulation errors on blocks left out, in units
    of the outputs' size, `n_moved` the number of poles that are held at the edge of stability.
    """

    order: int
    singular_value: float
    error: float
    n_moved: int


@dataclass(frozen=True)
class IdentificationReport(Report):
    """What a system identification did and how well; printing it gives a table.

    All errors are root mean squares of the simulation (free-run) error on the last fifth of the
    data, in units of the standard deviation of the outputs, unless it is said otherwise.

    Attributes
    ----------
    sizes : dict of str to int
    stages : tuple of Stage
    ridge : float
        Of the impulse response, relative; 0 for plain least squares.
    input_condition : float
        Condition number of the windows of inputs behind it.
    orders : tuple of OrderTrial
    poles : ndarray of complex
        Of the linear states of the network that was kept.
    explained : tuple of float
        Shares of the residual's second and third moments that the directions explain.
    n_directions : int
        Directions that nonlinearities were taken to see.
    linear_error, moments_error, refined_error, training_error : float
        Of the linear model, of moments alone, of the refined network on held-out and on training
        data.
    nonlinear : bool
        Whether the nonlinear network was kept.
    history : tuple of (float, float, float)
        Seconds, error on the training data in use, and held-out error after each step.
    refinement_status : RefinementStatus or None
    refinement_steps : int
    output_size : ndarray of shape (n_outputs,)
        Standard deviation of the outputs.
    delays : tuple of int
        Dead time of each input, in samples.
    notes : tuple of str
    findings : tuple of Finding
        What to be careful about.
    residuals : ResidualTests or None
        Whether the residuals of the free run on the training data are white, and whether they
        depend on the inputs; None where they could not be tested.
    """

    sizes: dict[str, int]
    stages: tuple[Stage, ...]
    ridge: float
    input_condition: float
    orders: tuple[OrderTrial, ...]
    poles: NDArray[np.complex128]
    explained: tuple[float, float]
    n_directions: int
    linear_error: float
    moments_error: float
    refined_error: float
    training_error: float
    nonlinear: bool
    history: tuple[tuple[float, float, float], ...]
    refinement_status: RefinementStatus | None
    refinement_steps: int
    output_size: Array
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    residuals: ResidualTests | None = None
    delays: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = ["gloree system identification"]
        lines.append("  " + ", ".join(f"{k} {v:,}" for k, v in self.sizes.items()))
        lines += ["", f"  {'stage':<20}{'seconds':>9}  outcome"]
        lines += [f"  {s.name:<20}{s.seconds:>9.3f}  {s.detail}" for s in self.stages]
        lines.append(f"  {'total':<20}{self.seconds:>9.3f}")
        lines += ["", f"  {'order':>7}{'singular value':>16}{'cross-validated %':>18}"]
        for trial in self.orders:
            note = (
                f"  ({_poles(trial.n_moved)} held at the edge of stability)"
                if trial.n_moved
                else ""
            )
            lines.append(
                f"  {trial.order:>7}{trial.singular_value:>16.3g}{100 * trial.error:>18.4g}{note}"
            )
        lines += ["", "  held-out simulation error, % of the outputs' standard deviation"]
        for name, value in (
            ("linear model", self.linear_error),
            ("moments alone", self.moments_error),
            ("refined", self.refined_error),
            ("refined, on training data", self.training_error),
        ):
            if np.isfinite(value):
                lines.append(f"  {name:<28}{100 * value:>10.4g}")
        radius = float(np.abs(self.poles).max(initial=0.0))
        lines += ["", f"  largest modulus of {_poles(self.poles.size)}: {radius:.6f}"]
        if any(self.delays):
            lines.append(f"  dead times of the inputs: {', '.join(map(str, self.delays))} samples")
        ridge = f"ridge {self.ridge:g}" if self.ridge else "no ridge"
        lines.append(f"  inputs: condition number of windows {self.input_condition:.2g}, {ridge}")
        if self.residuals is not None:
            lines += ["", f"  {'residuals of the training data':<32}{'p-value':>8}"]
            lines += [f"  {a:<32}{b:>8}  {c}".rstrip() for a, b, c in self._tests()]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  warning: {message}" for message in self.warnings]
        return "\n".join(lines)

    def _tests(self) -> list[tuple[str, str, str]]:
        """Lines of the tests of the residuals: those of many paths that reject, first."""
        assert self.residuals is not None
        return sorted(self.residuals.rows(), key=lambda row: not row[2])[:MOST_ROWS]

    def _repr_html_(self) -> str:
        """Short form for notebooks: errors, stages, orders, and what to be careful about."""
        errors = [
            (name, f"{100 * value:.4g}")
            for name, value in (
                ("linear model", self.linear_error),
                ("moments alone", self.moments_error),
                ("refined", self.refined_error),
                ("refined, on training data", self.training_error),
            )
            if np.isfinite(value)
        ]
        stages = [(s.name, f"{s.seconds:.2f}", s.detail) for s in self.stages]
        orders = [(t.order, f"{100 * t.error:.4g}") for t in self.orders]
        sizes = ", ".join(f"{name} {value:,}" for name, value in self.sizes.items())
        kept = "nonlinear network" if self.nonlinear else "linear model"
        parts = [
            f"<p><b>gloree system identification</b>: {sizes}; {kept} kept</p>",
            html_list(self.notes, "Notes"),
            html_list(self.warnings, "Warnings"),
            html_table(("held-out simulation error", "% of the outputs' size"), errors),
            html_table(("stage", "seconds", "outcome"), stages),
            html_table(("order", "cross-validated error %"), orders) if orders else "",
            html_table(("residuals", "p-value", ""), self._tests()) if self.residuals else "",
        ]
        return "<div>" + "".join(parts) + "</div>"


def _poles(number: int) -> str:
    return f"{number} pole" if number == 1 else f"{number} poles"

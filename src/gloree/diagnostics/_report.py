"""The report of a fit: what it did, how well, and what to be careful about."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from gloree._brief import Brief
from gloree._html import html_list, html_page, html_table
from gloree.decomposition import Decomposition
from gloree.diagnostics._checks import check_level
from gloree.diagnostics._findings import Finding
from gloree.diagnostics._specification import SpecificationTest
from gloree.sequences import Array

if TYPE_CHECKING:
    from gloree.recurrence import Directions
    from gloree.refinement import RefinementStatus
    from gloree.score_functions import ScoreCheck


@dataclass(frozen=True)
class Stage:
    """One stage of a fit, with its outcome in words and figures."""

    name: str
    seconds: float
    detail: str


class CertificateStatus(Enum):
    """How sure it is that a fit ended at the least-squares optimum."""

    CERTIFIED = "features of the past explain none of the residuals beyond chance"
    AGREED = "different starts end alike"
    UNCERTAIN = "no other start confirms it"


@dataclass(frozen=True)
class Certificate:
    """Whether a fit with any activation ended at the optimum of the right class of networks.

    Attributes
    ----------
    status : CertificateStatus
    share : float
        Estimated share of the squared error that features of the past still explain, chance
        left out: the loss that could go. NaN where steps are too few for a test.
    score : float
        The same in standard deviations of chance.
    starts : tuple of str
        Starts that were tried, in their order; the fit comes from `best`.
    best : str
    visible : float
        Share that the test would have seen, at two and a half standard deviations; infinite where
        nothing was tested.

    Notes
    -----
    A test, not a proof. It looks at polynomials of x_t and the states h_{t-1}, at the inputs of six
    steps before (and at their size), and at the residuals of the last one: what acts from longer
    ago, or in another way (products of many inputs), it does not see, nor in small data an optimum
    a little above the best one. Starts agree on a wrong class of networks, too (`share` tells). Of
    labels the residuals are indicators less probabilities, and the squared error is that of these;
    maxima of their likelihood that differ by a part in 10,000 are not told apart, of which there
    are many with a unit too many (a `PrecisionWarning` names it).
    """

    status: CertificateStatus
    share: float
    score: float
    starts: tuple[str, ...] = ()
    best: str = ""
    visible: float = math.inf

    def __str__(self) -> str:
        left = f"left {100 * max(self.share, 0.0):.2g} % of the squared error"
        if math.isnan(self.share):
            left = "not tested, with so few steps"
        elif self.share < self.visible < math.inf:
            seen = f"{100 * self.visible:.2g} % of the squared error or more"
            left = f"nothing left that the test can see, {seen}"
        tried = f"; starts tried: {', '.join(self.starts)}" if len(self.starts) > 1 else ""
        return f"{self.status.name} ({self.status.value}; {left}{tried})"


@dataclass(frozen=True)
class OutputWeighting(Brief):
    """How the outputs of a fit were weighed: in which metric their residuals were squared.

    Attributes
    ----------
    kind : str
        "residuals" (by the inverse covariance of the residuals), "equal" or "given".
    metric : ndarray of shape (n_outputs, n_outputs)
        G of the sum of r^T G r that was minimised, for outputs in their own units.
    gain : float or None
        Estimated variance of the input weights under equal weights, over that with these; None
        where it was not computed.
    bounded : tuple of int
        Outputs whose residuals are rounding, or follow from those of others: no finite weight would
        be large enough, and theirs are bounded.
    """

    kind: str
    metric: Array
    gain: float | None = None
    bounded: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = {
            "residuals": "by the inverse covariance of their residuals",
            "equal": "equal",
            "given": "as given",
        }[self.kind]
        if self.gain is not None and self.kind == "residuals":
            text += f"; equal weights: {self.gain:.3g} times the variance of the input weights"
        elif self.gain is not None:
            text += f"; {1.0 / self.gain:.3g} times the variance of the input weights by residuals"
        if self.bounded:
            listed = ", ".join(map(str, self.bounded))
            text += f"; bounded (residuals are rounding, or those of others) of output(s) {listed}"
        return text


class Report(Brief):
    """What the reports have in common."""

    stages: tuple[Stage, ...]
    findings: tuple[Finding, ...]

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def warnings(self) -> list[str]:
        """The findings as text."""
        return [str(finding) for finding in self.findings]


@dataclass(frozen=True)
class FitReport(Report):
    """What a fit did, how well, and what to be careful about; printing it gives a table.

    Attributes
    ----------
    sizes : dict of str to int
        Data and network sizes.
    moment : str
        First moment used: "union", "xreg" or "score".
    recurrence : str
        Estimator of U used: "instrument", "least-squares", "cross", "score" or "none".
    stages : tuple of Stage
    score_check : ScoreCheck or None
        Stein's identity on the inputs.
    decomposition : Decomposition or None
    directions : Directions or None
        Of the units of a bidirectional network, in the order of the model (for a classifier, of
        its start).
    rank_reason : str or None
        Why there are so many hidden units, where their number was chosen.
    history : tuple of (str, float)
        Mean squared residual of each kept step of the moment path, on the rows that it used (a
        subsample when a refinement follows); several outputs that are weighed count in units of
        their standard deviations.
    moments_rmse, refined_rmse : ndarray of shape (n_outputs,) or None
        Root mean square residual with moments alone, and after refinement.
    output_std : ndarray of shape (n_outputs,)
    refinement_status : RefinementStatus or None
    refinement_steps : int
    standard_errors : dict of str to ndarray
        Of the weights of the model, in their shapes, clustered by sequence, or by blocks of few
        sequences. Empty without a refinement, and from 1,500 weights on, where their covariance is
        not formed.
    degrees_of_freedom : dict of str to ndarray
        Of the t distribution that (estimate - truth) / standard error has, about; alike. With few
        sequences these are few, and two standard errors are too narrow: see `intervals`.
    covariance : ndarray of shape (n, n) or None
        Of the weights in the order of `standard_errors`: one array after another, each row by row.
    inverse_information : ndarray of shape (n, n) or None
        The part of it that curvature alone gives, H^+ in units of the noise: the covariance for
        independent noise as the fit weighs it. It is what `partial_fit` weighs old rows by.
    weights : dict of str to ndarray
        The weights that these belong to.
    n_undetermined : int
        Combinations of weights that the data do not determine (dependent columns of the inputs),
        beside the scales of units: standard errors hold them fixed.
    predicted_errors : dict of str to float
        Relative error of each weight matrix that the standard errors imply.
    specification : dict of str to SpecificationTest
        Whether the data contradict the class of networks: "activation" (other powers of the
        pre-activations), "lag" (inputs of one step further back) and, where the outputs have no
        free offset, "offset". Empty without a refinement by least squares that has settled, from
        1,500 weights on, and where the residual is no noise.
    conditions : dict of str to float
        Condition numbers: inputs, components, overlap.
    accuracies : dict of str to float
        Of a labelling network: share of correct steps, by what it was measured on.
    certificate : Certificate or None
        For activations that are no polynomials of degree 2 or 3, and inputs of few values: whether
        the fit ended at the optimum. None for the others, and for a classifier.
    output_weighting : OutputWeighting or None
        How several outputs were weighed; None for a single one, labels, and moments alone.
    residual_covariance : ndarray of shape (n_outputs, n_outputs) or None
        Of the residuals of a step, for the degrees of freedom that the weights leave; None without
        a refinement.
    findings : tuple of Finding
        What to be careful about.
    plan : str
        Cost and memory, as planned from the shapes.
    """

    sizes: dict[str, int]
    moment: str = ""
    recurrence: str = ""
    stages: tuple[Stage, ...] = ()
    score_check: ScoreCheck | None = None
    decomposition: Decomposition | None = None
    directions: Directions | None = None
    rank_reason: str | None = None
    history: tuple[tuple[str, float], ...] = ()
    moments_rmse: Array | None = None
    refined_rmse: Array | None = None
    output_std: Array | None = None
    refinement_status: RefinementStatus | None = None
    refinement_steps: int = 0
    standard_errors: dict[str, Array] = field(default_factory=dict)
    degrees_of_freedom: dict[str, Array] = field(default_factory=dict)
    covariance: Array | None = None
    inverse_information: Array | None = None
    weights: dict[str, Array] = field(default_factory=dict)
    n_undetermined: int = 0
    predicted_errors: dict[str, float] = field(default_factory=dict)
    specification: dict[str, SpecificationTest] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    accuracies: dict[str, float] = field(default_factory=dict)
    certificate: Certificate | None = None
    output_weighting: OutputWeighting | None = None
    residual_covariance: Array | None = None
    findings: tuple[Finding, ...] = ()
    plan: str = ""

    def intervals(self, level: float = 0.95) -> dict[str, tuple[Array, Array]]:
        """Confidence intervals of all weights, by t quantiles.

        Parameters
        ----------
        level : float, default 0.95
            Probability with which each interval, by itself, holds the true weight.

        Returns
        -------
        dict of str to (low, high)
            Arrays in the shapes of the weights; empty without standard errors.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.

        Examples
        --------
        >>> from gloree import SpectralRNNRegressor, datasets
        >>> X, Y, truth, _ = datasets.make_rnn(1, 1000, 4, 2, 3, random_state=0)
        >>> est = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
        >>> low, high = est.report_.intervals(0.9)["output_weights"]
        >>> bool((low < est.model_.output_weights).all())
        True
        """
        check_level(level)
        from scipy import stats  # slow to import

        found = {}
        for name, errors in self.standard_errors.items():
            quantile = stats.t.ppf((1 + level) / 2, self.degrees_of_freedom[name])
            found[name] = (
                self.weights[name] - quantile * errors,
                self.weights[name] + quantile * errors,
            )
        return found

    def __str__(self) -> str:
        lines = ["gloree fit", "  " + ", ".join(f"{k} {v:,}" for k, v in self.sizes.items())]
        lines.append(f"  first moment: {self.moment}; recurrence: {self.recurrence}")
        if self.rank_reason:
            lines.append(f"  n_hidden chosen: {self.rank_reason}")
        width = max([16, *(len(s.name) for s in self.stages)])
        lines += ["", f"  {'stage':<{width}}{'seconds':>9}  outcome"]
        lines += [f"  {s.name:<{width}}{s.seconds:>9.3f}  {s.detail}" for s in self.stages]
        lines.append(f"  {'total':<{width}}{self.seconds:>9.3f}")
        if self.moments_rmse is not None and self.output_std is not None:
            lines += ["", f"  {'residual (RMS)':<24}{'worst output':>14}{'all outputs':>14}"]
            rows = [("outputs themselves", self.output_std), ("moments alone", self.moments_rmse)]
            if self.refined_rmse is not None:
                rows.append(("refined", self.refined_rmse))
            for name, values in rows:
                mean = float(np.sqrt(np.mean(values**2)))
                lines.append(f"  {name:<24}{values.max():>14.5g}{mean:>14.5g}")
        if self.accuracies:
            lines += ["", "  accuracy"]
            lines += [f"  {name:<44}{value:>9.4f}" for name, value in self.accuracies.items()]
        if self.predicted_errors:
            lines += ["", f"  {'weights':<24}{'predicted relative error':>28}"]
            for name, error in self.predicted_errors.items():
                note = "  (not distinguishable from zero)" if error > 0.5 else ""
                lines.append(f"  {name:<24}{error:>28.2g}{note}")
        if self.conditions:
            text = ", ".join(f"{name} {value:.3g}" for name, value in self.conditions.items())
            lines += ["", f"  conditions: {text}"]
        lines += [f"  specification, {name}: {test}" for name, test in self.specification.items()]
        if self.certificate is not None:
            lines.append(f"  optimum: {self.certificate}")
        if self.output_weighting is not None:
            lines.append(f"  weights of the outputs: {self.output_weighting}")
        if self.score_check is not None:
            check = self.score_check
            lines.append(
                f"  score of the inputs: Stein defect {check.defect:.2f} "
                f"(standard error {check.defect_error:.2f}), rho {check.radius:.2f}"
            )
        lines += [f"  warning: {message}" for message in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Short form for notebooks: what to be careful about, errors, and stages."""
        sizes = ", ".join(f"{name} {value:,}" for name, value in self.sizes.items())
        errors = [
            (name, f"{error:.2g}", "not distinguishable from zero" if error > 0.5 else "")
            for name, error in self.predicted_errors.items()
        ]
        residuals = [
            (name, f"{float(np.sqrt(np.mean(values**2))):.5g}")
            for name, values in (
                ("outputs themselves", self.output_std),
                ("moments alone", self.moments_rmse),
                ("refined", self.refined_rmse),
            )
            if values is not None
        ]
        stages = [(s.name, f"{s.seconds:.2f}", s.detail) for s in self.stages]
        tests = [(name, str(test)) for name, test in self.specification.items()]
        if self.certificate is not None:
            tests.append(("optimum", str(self.certificate)))
        shares = [(name, f"{value:.4f}") for name, value in self.accuracies.items()]
        return html_page(
            "gloree fit",
            f"{sizes}; first moment {self.moment}, recurrence {self.recurrence}",
            html_list(self.warnings, "Warnings"),
            html_table(("weights", "predicted relative error", ""), errors) if errors else "",
            html_table(("residual (RMS)", "all outputs"), residuals) if residuals else "",
            html_table(("accuracy", "share"), shares) if shares else "",
            html_table(("is the model right?", "test"), tests) if tests else "",
            html_table(("stage", "seconds", "outcome"), stages),
        )

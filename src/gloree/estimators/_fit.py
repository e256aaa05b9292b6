"""The stages of a fit, in order. Each reads what the stages before it left and reports itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from gloree._sums import Sums
from gloree.activations import Polynomial
from gloree.chains import GaussianVAR, LagMoments, NonStationaryChainError, lag_moments
from gloree.decomposition import Decomposition, choose_rank, decompose
from gloree.diagnostics import (
    CONDITION_LIMIT,
    AcceptanceWarning,
    ConditionWarning,
    ConvergenceWarning,
    FitReport,
    OutlierWarning,
    RotationWarning,
    ScoreWarning,
    Stage,
    check_covariance,
    check_identifiable,
    check_samples,
    recoverable_degree,
)
from gloree.engine import Engine, Source, halves
from gloree.estimators._surrogate import from_surrogate, surrogate_of
from gloree.models import IORNN, ExplosionError, canonical_units
from gloree.moments import (
    CrossMoment,
    Frame,
    RegressionFeatures,
    RegressionSolver,
    Whitening,
    cross_moment_sums,
    plan,
    range_basis,
    range_sums,
    regression_sums,
    score_frame,
)
from gloree.recurrence import Contraction, check_score_method, top_degree
from gloree.refinement import (
    Layout,
    Refinement,
    RefinementStatus,
    Rounds,
    RoundSettings,
    RoundSums,
    first_model,
    gauss_newton,
    gradient_sums,
    standard_errors,
)
from gloree.score_functions import ScoreCheck, stein_statistic
from gloree.score_functions import Whitening as ScoreWhitening
from gloree.sequences import Array, Batch, IntArray, Sequences
from gloree.states import residual_rows

SEGMENT = 250
"""Rows of a piece of a long sequence."""

WASHOUT = 50
"""Rows of context that warm up the state of a piece."""

START_ROWS_PER_PARAMETER = 50
"""Rows of the subsample on which rounds run when a refinement follows, for each weight."""

ROUND_GAIN = 1e-4
"""Rounds end when one lowers the squared error by less than this fraction."""

START_GAIN = 0.05
"""The same where a refinement follows."""

WASHOUT_TOLERANCE = 1e-6
"""Pieces are long enough if their squared error equals that of the whole record to this."""

WINDOW_RTOL = 1e-4
"""Lag windows are whitened along directions of at least this relative variance. Neighbouring
samples of a band-limited input are nearly collinear; along weaker directions the units would fit
noise, and windows that reach before the start of a record would be far outside their range."""

WINDOW_RIDGE = 1e-6
"""Relative ridge of the regressions on lag windows."""

DEFECT_LIMIT = 0.3
"""Stein defect from which the Gaussian score is not used for the recurrence."""

RADIUS_LIMIT = 0.75
"""Rho from which it is not: residual rounds with a score converge only below 1."""

OUTLIER_FACTOR = 1e4
"""Outputs beyond this many times their median size count as exploded."""


@dataclass(frozen=True)
class Settings:
    """Parameters of the estimator, checked and resolved."""

    n_hidden: int | None
    activation: Polynomial
    chain: GaussianVAR | None
    moment: str
    direct: bool
    bias: bool
    recurrence: str | None
    lags: int
    max_rounds: int
    refine: str | None
    batch_size: int | None
    memory_limit: int | None
    engine: Engine
    rng: np.random.Generator
    verbose: int


@dataclass(frozen=True)
class OutputSums(Sums):
    """First pass over the data: sums of outputs, and the size of each sequence's largest one."""

    centre: Array = field(metadata={"setting": True})
    n_rows: float
    total: Array
    squares: Array
    peaks: Array = field(metadata={"concatenate": True})


@dataclass(frozen=True)
class InputSums(Sums):
    """Mean and covariance of the (lag-window) inputs about a provisional centre."""

    n_rows: float
    centre: Array = field(metadata={"setting": True})
    total: Array
    products: Array


def output_sums(batch: Batch, centre: Array) -> OutputSums:
    """Map of the pass over the outputs, about a provisional centre."""
    Y = batch.targets - centre
    counted = Y[batch.counted]
    peaks = np.sqrt(np.maximum.reduceat(np.einsum("na,na->n", Y, Y), batch.starts))
    return OutputSums(
        centre,
        float(batch.n_counted),
        counted.sum(axis=0),
        np.einsum("na,na->a", counted, counted),
        peaks,
    )


def input_sums(batch: Batch, centre: Array) -> InputSums:
    """Map of the pass over the inputs."""
    values = batch.X[batch.counted] - centre
    return InputSums(float(batch.n_counted), centre, values.sum(axis=0), values.T @ values)


@dataclass
class Fit:
    """One fit: the data, the settings, and what the stages have found so far."""

    data: Sequences
    settings: Settings
    report: FitReport = field(init=False)
    source: Source = field(init=False)
    chain: GaussianVAR | None = field(init=False, default=None)
    fitted_chain: GaussianVAR | None = field(init=False, default=None)
    _full_whitening: Whitening | None = field(init=False, default=None)
    _bar: Any = field(init=False, default=None)

    def run(self) -> IORNN:
        """Run all stages and return the network in canonical form."""
        self.report = FitReport(
            {
                "sequences": self.data.n_sequences,
                "steps": self.data.n_rows,
                "inputs": self.data.n_inputs,
                "outputs": self.data.n_outputs,
            }
        )
        with tqdm(total=5, desc="fit", disable=self.settings.verbose < 1, leave=False) as bar:
            self._bar = bar
            self._read_outputs()
            whitening = self._read_inputs()
            model, rounds = self._first_moment(whitening)
            model = self._recurrence_and_rounds(model, rounds)
            return self._refine(model)

    @contextmanager
    def _stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; the list takes its outcome."""
        detail: list[str] = []
        begin = time.perf_counter()
        if self._bar is not None:
            self._bar.set_description(name)
        yield detail
        self.report.stages.append(Stage(name, time.perf_counter() - begin, "; ".join(detail)))
        if self._bar is not None:
            self._bar.update(1)

    @property
    def n_inputs(self) -> int:
        """Inputs of the network, lags included."""
        return self.data.n_inputs * self.settings.lags

    # ------------------------------------------------------------------ data

    def _read_outputs(self) -> None:
        settings = self.settings
        with self._stage("data") as detail:
            self._cut()
            engine = settings.engine
            assert self.data.Y is not None
            centre = np.median(np.asarray(self.data.Y[:1000], dtype=float), axis=0)
            function = partial(output_sums, centre=centre)
            sums = engine.run(function, self.source, label="outputs")
            median = float(np.median(sums.peaks))
            if median > 0 and float(sums.peaks.max()) > OUTLIER_FACTOR * median:
                self._leave_out(sums.peaks, median)
                sums = engine.run(function, self.source, label="outputs")
            if sums.n_rows < 1:
                raise ValueError(
                    f"no sequence has {settings.lags} steps, the length of one window: lower `lags`"
                )
            offset = sums.total / sums.n_rows
            variance = np.maximum(sums.squares / sums.n_rows - offset**2, 0.0)
            self.n_rows = int(sums.n_rows)
            self.output_mean = centre + offset
            rounding = 1e-14 * np.abs(self.output_mean)
            if not np.any(np.sqrt(variance) > rounding):
                raise ValueError("`Y` is constant: there is nothing to fit")
            self._check_samples(settings.n_hidden or 1)
            self.report.output_std = np.sqrt(variance)
            detail.append(f"{self.n_rows:,} steps count")

    def _cut(self) -> None:
        """Decide how the data are cut into batches."""
        settings = self.settings
        longest = int(self.data.lengths.max())
        past = 1 if settings.chain is None else settings.chain.context[0]
        washout = WASHOUT if settings.recurrence is not None else 0
        self._planned = plan(
            self.data.n_rows,
            self.n_inputs,
            self.data.n_outputs,
            n_hidden=settings.n_hidden or 10,
            degree=settings.activation.degree,
            moment=settings.moment,
            score=settings.lags == 1,
            n_workers=settings.engine.n_workers,
            batch_size=settings.batch_size,
            memory_limit=settings.memory_limit,
        )
        self.report.plan = str(self._planned)
        self.source = Source(
            self.data,
            batch_size=self._planned.batch_size,
            segment=SEGMENT if longest > 2 * SEGMENT else None,
            before=max(washout, past + 1) + settings.lags - 1,
            after=past,
            lags=settings.lags,
        )

    def _leave_out(self, peaks: Array, median: float) -> None:
        """Leave out sequences whose outputs are beyond any scale, with a warning."""
        table = np.concatenate(self.source.tables())
        bad = np.unique(table[peaks > OUTLIER_FACTOR * median, 0])
        if bad.size == self.data.n_sequences or bad.size > 0.05 * self.data.n_sequences:
            raise ValueError(
                f"outputs of {bad.size} of {self.data.n_sequences} sequences exceed "
                f"{OUTLIER_FACTOR:.0e} times their median size {median:.3g} (the largest: "
                f"{peaks.max():.3g}, first in sequence {bad[0]}): the system that made them "
                f"explodes, or their scale is broken. Leave such sequences or stretches out"
            )
        kept = np.setdiff1d(np.arange(self.data.n_sequences), bad)
        self.data = self.data.select(kept)
        count = "1 sequence was" if bad.size == 1 else f"{bad.size} sequences were"
        self.report.warn(
            OutlierWarning,
            f"{count} left out of the fit: their outputs exceed "
            f"{OUTLIER_FACTOR:.0e} times the median size {median:.3g} (sequences "
            f"{', '.join(map(str, bad[:10]))}{', ..' if bad.size > 10 else ''})",
        )
        self._cut()

    def _read_inputs(self) -> Whitening:
        settings = self.settings
        with self._stage("inputs") as detail:
            if settings.lags > 1:
                centre = np.tile(
                    np.asarray(self.data.X[:1000], dtype=float).mean(axis=0), settings.lags
                )
                sums = settings.engine.run(partial(input_sums, centre=centre), self.source)
                offset = sums.total / sums.n_rows
                mean = centre + offset
                covariance = sums.products / sums.n_rows - np.outer(offset, offset)
                check_covariance(covariance[: self.data.n_inputs, : self.data.n_inputs])
                condition = check_covariance(covariance, allow_singular=True)
                mean = self._centre_inputs(mean, covariance)
                whitening = Whitening.from_covariance(mean, covariance, rtol=WINDOW_RTOL)
                detail.append(f"windows of {settings.lags} steps")
            else:
                order = 1 if settings.chain is None else settings.chain.order
                moments = settings.engine.run(
                    partial(lag_moments, order=order), self.source, label="input law"
                )
                summary = moments.finalize()
                condition = check_covariance(summary.covariance, summary.mean)
                mean = self._centre_inputs(summary.mean, summary.covariance)
                whitening = Whitening.from_covariance(mean, summary.covariance)
                self.fitted_chain = settings.chain
                if self.fitted_chain is None and bool((self.data.lengths > 1).any()):
                    self.fitted_chain = self._fit_chain(moments)
                if self.fitted_chain is not None:
                    detail.append(f"Gaussian VAR({self.fitted_chain.order})")
                    self.chain = self._centred_chain(self.fitted_chain)
                    self._check_score(mean, summary.covariance)
            self.report.conditions["inputs"] = condition
            if condition > CONDITION_LIMIT and settings.lags == 1:
                self.report.warn(
                    ConditionWarning,
                    f"the inputs are nearly collinear (condition number {condition:.1e}): errors "
                    f"along their weak directions are large; see the standard errors",
                )
        return whitening

    def _centre_inputs(self, mean: Array, covariance: Array) -> Array:
        """Subtract a material mean from the inputs; return what is left of it.

        With free biases the network on x - m is the network on x with b and c shifted, and states
        of z^l with a large mean would drown their own variation.
        """
        material = np.any(np.abs(mean) > 0.25 * np.sqrt(np.diag(covariance)))
        if not (material and self.settings.bias):
            return mean
        self.source = replace(self.source, centre=mean)
        return np.zeros_like(mean)

    def _fit_chain(self, moments: LagMoments) -> GaussianVAR | None:
        """Fit the Gaussian chain; None, with a warning, where there is no stationary one."""
        chain = GaussianVAR.from_moments(moments, require_stationary=False)
        if chain.is_stationary:
            return chain
        message = (
            f"the inputs wander or grow: their fitted chain has spectral radius "
            f"{chain.spectral_radius:.6g} and no stationary law"
        )
        settings = self.settings
        if settings.moment == "score" or settings.recurrence in ("cross", "score"):
            raise NonStationaryChainError(
                f"{message}, so there is no score. Difference or detrend the inputs, or use "
                f"moment='regression' and recurrence='instrument', which then do without one"
            )
        self.report.warn(
            ScoreWarning,
            f"{message}: the fit does without a score (`xreg` features and least squares for "
            f"U). Difference or detrend the inputs if they are not meant to wander",
        )
        return None

    def _centred_chain(self, chain: GaussianVAR) -> GaussianVAR:
        """Return the law of the inputs as the passes see them."""
        if self.source.centre is None:
            return chain
        return GaussianVAR(
            chain.coefficients,
            chain.innovation_covariance,
            chain.mean - self.source.centre,
            initial_covariance=chain.initial_covariance,
        )

    def _check_score(self, mean: Array, covariance: Array) -> None:
        """Check Stein's identity on a subsample: is the Gaussian score right for these inputs."""
        assert self.chain is not None
        whitening = ScoreWhitening.from_moments(mean, covariance, max_inputs=8)
        tables = self.source.subset(20_000)
        function = partial(stein_statistic, chain=self.chain, whitening=whitening, block=SEGMENT)
        sums = self.settings.engine.run(function, self.source, label="score", tables=tables)
        if np.count_nonzero(sums.counts) < 2:
            return
        check: ScoreCheck = sums.finalize(self.chain)
        self.report.score_check = check
        self.report.conditions["Stein defect"] = check.defect

    @property
    def score_is_wrong(self) -> bool:
        """Whether the Stein defect, or rho, rules the Gaussian score out."""
        check = self.report.score_check
        return check is not None and (
            check.defect > DEFECT_LIMIT or check.radius > RADIUS_LIMIT
        )

    # ---------------------------------------------------------- first moment

    def _first_moment(self, whitening: Whitening) -> tuple[IORNN, Rounds]:
        settings, report = self.settings, self.report
        degree, _ = recoverable_degree(settings.activation)
        planned = self._planned
        if planned.moment == "score" and self.chain is None:
            raise ValueError(
                "`moment='score'` needs an input law, and none can be fitted to single steps or "
                "lag windows: use moment='regression'"
            )
        if planned.moment == "score" and self.score_is_wrong:
            assert report.score_check is not None
            report.warn(
                ScoreWarning,
                f"moment='score': the Gaussian score fails Stein's identity on these inputs "
                f"(defect {report.score_check.defect:.2f}, rho {report.score_check.radius:.2f}; "
                f"limits {DEFECT_LIMIT} and {RADIUS_LIMIT}), so the score moment is biased and its rounds need not converge; use moment='regression'",
            )
        with self._stage("first moment") as detail:
            report.moment = planned.moment
            if planned.n_directions < whitening.n_directions:
                self._full_whitening = whitening
                whitening = self._find_range(whitening, planned.n_directions)
                detail.append(f"{whitening.n_directions} directions found")
            tables = self.source.subset(planned.first_rows)
            frame, solver, tensor, scale = self._moment(whitening, degree, tables)
            n_hidden = settings.n_hidden
            if n_hidden is None:
                n_hidden = self._choose_rank(whitening, frame, degree, tables)
            self._check_sizes(n_hidden, degree)
            found = decompose(tensor, n_hidden, output_scale=scale, random_state=settings.rng)
            self._judge(found)
            detail.append(f"decomposition {found.status.name.lower()}")
        layout = Layout(
            self.n_inputs,
            n_hidden,
            self.data.n_outputs,
            recurrent=settings.recurrence is not None,
            bias=settings.bias or not settings.activation.is_monomial,
            direct=settings.direct or (degree == 3 and not settings.activation.is_monomial),
        )
        model = first_model(
            found, frame, surrogate_of(settings.activation), self.output_mean, layout
        )
        rounds = Rounds(
            RoundSettings(
                layout,
                self._unit_method(model),
                frame,
                solver,
                self.chain,
                ridge=1e-10 if settings.lags == 1 else WINDOW_RIDGE,
            ),
            settings.engine,
            self.source,
        )
        return model, rounds

    def _moment(
        self, whitening: Whitening, degree: int, tables: list[IntArray]
    ) -> tuple[Frame, RegressionSolver | None, Array, Array]:
        """First moment in its frame, the solver for the rounds, and the output scale."""
        engine, source = self.settings.engine, self.source
        std = self.report.output_std
        assert std is not None
        floor = 1e-8 * float(std.max())
        if self._planned.moment == "score":
            assert self.chain is not None
            frame = score_frame(self.chain.precision_blocks(0)[0])
            moment = self._score_sums(frame, degree, tables)
            return frame, None, moment.finalize(), np.maximum(std, floor)
        chain = self.chain if self._planned.moment == "union" else None
        features = RegressionFeatures(whitening, degree, chain)
        if chain is not None and self._interior_rows() < 4 * features.size:
            features, self.report.moment = RegressionFeatures(whitening, degree), "xreg"
        sums = engine.run(
            partial(regression_sums, features=features, targets=self._centred_outputs),
            source,
            label="first moment",
            tables=tables,
        )
        solver = RegressionSolver.from_sums(features, sums)
        tensor = solver.tensor(sums)
        scale = np.maximum(np.sqrt(solver.residual_variance(sums)), floor)
        if features.chain is not None:
            plain = RegressionFeatures(whitening, degree)
            gram = engine.run(
                partial(regression_sums, features=plain), source, label="Gram", tables=tables
            )
            solver = RegressionSolver.from_sums(plain, gram)
        return Frame.of_whitening(whitening), solver, tensor, scale

    def _centred_outputs(self, batch: Batch) -> Array:
        centred: Array = batch.targets - self.output_mean
        return centred

    def _interior_rows(self) -> int:
        assert self.chain is not None
        before, after = self.chain.context
        return int(np.maximum(self.data.lengths - before - after, 0).sum())

    def _score_sums(self, frame: Frame, degree: int, tables: list[IntArray]) -> CrossMoment:
        assert self.chain is not None
        function: Callable[[Batch], CrossMoment] = partial(
            cross_moment_sums, chain=self.chain, order=degree, projection=frame.from_inputs
        )
        return self.settings.engine.run(function, self.source, label="score moment", tables=tables)

    def _find_range(self, whitening: Whitening, size: int, model: IORNN | None = None) -> Whitening:
        """Project the whitened inputs on the span of the units, found from second moments.

        With a model, the moments are those of its residuals plus its own: a second, much more
        accurate look once first weights are known.
        """
        engine, source, rng = self.settings.engine, self.source, self.settings.rng
        cubic = self.settings.activation.degree == 3
        n_weights = 8 if cubic else min(self.data.n_outputs, 4)
        std = self.report.output_std
        assert std is not None
        weights = rng.standard_normal((self.data.n_outputs, n_weights))
        # for degree 3 the moment of order three, contracted with random directions
        directions = rng.standard_normal((whitening.n_directions, n_weights)) if cubic else None
        weights /= np.maximum(std, 1e-12 * std.max())[:, None]
        linear = self._linear_fit(whitening) if model is None else None

        def vectors(batch: Batch) -> Array:
            return whitening(batch.X)

        def targets(batch: Batch) -> Array:
            if linear is None:
                assert model is not None
                return residual_rows(model, batch) @ weights
            inputs = whitening(batch.X)
            combined: Array = (self._centred_outputs(batch) - inputs @ linear) @ weights
            return combined if directions is None else combined * (inputs @ directions)

        probes = rng.standard_normal((whitening.n_directions, size))
        for _ in range(2):
            sums = engine.run(
                partial(range_sums, vectors=vectors, targets=targets, probes=probes),
                source,
                label="range",
            )
            columns = sums.finalize(probes)
            if model is not None:
                columns = columns + _model_columns(model, whitening, weights, probes)
            basis = range_basis(columns, size)
            probes = basis
        return whitening.restrict(basis)

    def _linear_fit(self, whitening: Whitening) -> Array:
        """Least squares of y on the whitened inputs, shape (n_directions, n_outputs)."""

        def cross(batch: Batch) -> OutputSums:
            rows = batch.counted
            product = whitening(batch.X[rows]).T @ self._centred_outputs(batch)[rows]
            nothing = np.zeros(0)
            return OutputSums(nothing, float(batch.n_counted), product, nothing, nothing)

        sums = self.settings.engine.run(cross, self.source, label="linear")
        slopes: Array = sums.total / sums.n_rows
        return slopes

    def _choose_rank(
        self, whitening: Whitening, frame: Frame, degree: int, tables: list[IntArray]
    ) -> int:
        """Number of units from the moments of two halves of the data."""
        engine, source = self.settings.engine, self.source
        whole = self.source.tables() if len(tables) == 1 else tables
        tensors, scales = [], []
        chain = self.chain if self.report.moment == "union" else None
        try:
            split = halves(whole)
        except ValueError as error:
            raise ValueError(
                "`n_hidden=None` compares two halves of the data, and these are a single short "
                "sequence: set `n_hidden`"
            ) from error
        for half in split:
            if self._planned.moment == "score":
                tensors.append(self._score_sums(frame, degree, half).finalize())
                continue
            features = RegressionFeatures(whitening, degree, chain)
            sums = engine.run(
                partial(regression_sums, features=features, targets=self._centred_outputs),
                source,
                label="halves",
                tables=half,
            )
            solver = RegressionSolver.from_sums(features, sums)
            tensors.append(solver.tensor(sums))
            scales.append(np.sqrt(solver.residual_variance(sums)))
        scale = np.mean(scales, axis=0) if scales else self.report.output_std
        assert scale is not None
        choice = choose_rank(
            tensors[0],
            tensors[1],
            output_scale=np.maximum(scale, 1e-8 * scale.max()),
            random_state=self.settings.rng,
        )
        self.report.rank_reason = str(choice)
        return choice.rank

    def _check_sizes(self, n_hidden: int, degree: int) -> None:
        settings = self.settings
        self._check_samples(n_hidden)
        determined = check_identifiable(
            self.n_inputs,
            n_hidden,
            self.data.n_outputs,
            degree,
            recurrent=settings.recurrence is not None,
        )
        self.report.sizes["hidden"] = n_hidden
        self.report.sizes["weights"] = self._layout(n_hidden).size
        if not determined:
            self.report.warn(
                RotationWarning,
                "one output and a quadratic activation: the hidden units are determined only up "
                "to a rotation (the eigenvectors of the quadratic form are returned); predictions "
                "do not depend on it",
            )

    def _layout(self, n_hidden: int) -> Layout:
        """Free weights of the network asked for."""
        settings = self.settings
        return Layout(
            self.n_inputs,
            n_hidden,
            self.data.n_outputs,
            recurrent=settings.recurrence is not None,
            bias=settings.bias,
            direct=settings.direct,
        )

    def _check_samples(self, n_hidden: int) -> None:
        unknowns = self._layout(n_hidden).size
        check_samples(self.n_rows, self.data.n_outputs, unknowns, self.n_inputs)

    def _judge(self, found: Decomposition) -> None:
        self.report.decomposition = found
        self.report.conditions["components"] = found.condition
        if self.data.n_outputs == 1 and found.order == 2:
            return
        if not found.accepted:
            self.report.warn(
                AcceptanceWarning,
                f"the first moment's decomposition does not meet its accept rule (status "
                f"{found.status.name}, predicted errors {found.component_error:.2g} and "
                f"{found.loading_error:.2g}, largest |cos| {found.max_cosine:.2f}, largest "
                f"|W|/|T| {found.max_loading:.2g}): the units may be wrong; use more data, more "
                f"outputs or fewer units",
            )

    def _unit_method(self, model: IORNN) -> Any:
        """Estimator of U and b, the wrong-score and window cases taken into account."""
        settings, report = self.settings, self.report
        method: str = settings.recurrence or "none"
        if method == "score":
            check_score_method(model)
        if self.chain is None or method == "none":
            if method in ("cross", "score"):
                raise ValueError(
                    f"recurrence={method!r} needs an input law, and lag windows have none: use "
                    f"'instrument', which falls back on least squares"
                )
            method = "least-squares"
        elif self.score_is_wrong:
            if method == "instrument":
                method = "least-squares"
            elif method in ("cross", "score"):
                assert report.score_check is not None
                report.warn(
                    ScoreWarning,
                    f"recurrence={method!r} relies on the Gaussian score, which fails Stein's "
                    f"identity on these inputs (defect {report.score_check.defect:.2f}): use "
                    f"'instrument', which switches to least squares",
                )
        report.recurrence = "none" if settings.recurrence is None else method
        return method

    # ------------------------------------------------- second moment, rounds

    def _recurrence_and_rounds(self, model: IORNN, rounds: Rounds) -> IORNN:
        settings, report = self.settings, self.report
        with self._stage("recurrence") as detail:
            if rounds.settings.method in ("instrument", "cross", "score"):
                assert self.chain is not None
                contraction = Contraction.of(model, self.chain.precision_blocks(0))
                report.conditions["overlap"] = contraction.condition
            if settings.refine is not None:
                # one efficient step follows, so a consistent start from a subsample will do
                wanted = START_ROWS_PER_PARAMETER * rounds.settings.layout.size
                rounds.tables = self.source.subset(max(20_000, wanted))
            model, sums = rounds.start(model)
            if self._full_whitening is not None and self._units_are_determined(model):
                model, sums = self._look_again(model, rounds)
            detail.append(f"RMS residual {_rms(sums):.5g}")
        with self._stage("rounds") as detail:
            kept = 0
            enough = ROUND_GAIN if settings.refine is None else START_GAIN
            for _ in range(settings.max_rounds):
                before = float(sums.squares.sum())
                updated, after = rounds.round(model, sums)
                if updated is model:
                    break
                model, sums, kept = updated, after, kept + 1
                if float(sums.squares.sum()) > (1 - enough) * before:
                    break
            model = model.canonical()
            report.history = [(name, value) for name, value in rounds.history]
            report.moments_rmse = np.sqrt(sums.squares / sums.n_rows)
            detail.append(f"{kept} kept, RMS residual {_rms(sums):.5g}")
        return model

    def _units_are_determined(self, model: IORNN) -> bool:
        return top_degree(model)[0] == 2 and self.data.n_outputs > 1

    def _look_again(self, model: IORNN, rounds: Rounds) -> tuple[IORNN, RoundSums]:
        """Find the span of the units once more, from residual moments, for the rounds to use."""
        assert self._full_whitening is not None
        found = self._find_range(self._full_whitening, self._planned.n_directions, model)
        features = RegressionFeatures(found, top_degree(model)[0])
        gram = self.settings.engine.run(
            partial(regression_sums, features=features),
            self.source,
            label="Gram",
            tables=self.source.subset(self._planned.first_rows),
        )
        rounds.settings = replace(
            rounds.settings,
            frame=Frame.of_whitening(found),
            solver=RegressionSolver.from_sums(features, gram),
        )
        return model, rounds.evaluate(model, tensor=True)

    # ------------------------------------------------------------ refinement

    def _refine(self, model: IORNN) -> IORNN:
        settings, report = self.settings, self.report
        asked = settings.activation
        layout = self._layout(model.n_hidden)
        converted = not asked.is_monomial
        if converted:
            model = self._best_start(
                from_surrogate(model, asked, bias=settings.bias, direct=settings.direct), layout
            )
        elif settings.refine is None:
            return self._finish(model)
        full = settings.refine == "full" or (converted and asked.degree == 3)
        if asked.degree == 2 and converted and settings.bias:
            report.warn(
                RotationWarning,
                f"activation {asked.name} with free biases: the scale of each unit is not "
                f"identified (it is z^2 with a bias), so weights are one of many equivalent sets; "
                f"predictions do not depend on it. Fix the scale with fit_bias=False, or use "
                f"'quadratic'",
            )
        name = "Gauss-Newton" if full else "one step"
        with self._stage(name) as detail:
            result = gauss_newton(model, layout, settings.engine, self.source, to_convergence=full)
            if not converted:
                report.moments_rmse = np.sqrt(result.start_squares / result.n_rows)
            while not self._washed_out(result):
                result = gauss_newton(
                    result.model, layout, settings.engine, self.source, to_convergence=full
                )
            report.refinement_status, report.refinement_steps = result.status, result.n_steps
            report.refined_rmse = np.sqrt(result.squares / result.n_rows)
            detail.append(f"{result.n_steps} steps, {result.status.value}")
            if result.status is RefinementStatus.STEP_LIMIT:
                report.warn(
                    ConvergenceWarning,
                    f"Gauss-Newton stopped at its limit of {result.n_steps} steps before the "
                    f"error settled: try other n_hidden, or refine='full'",
                )
            units = canonical_units(
                result.model.input_weights, result.model.output_weights, result.model.activation
            )
            canonical = self._finish(result.model.canonical())
            errors = standard_errors(result, layout, settings.engine, self.source)
            if self.source.centre is not None:
                errors = errors.shifted(layout, self.source.centre)
            errors = errors.canonical(units)
            report.standard_errors = errors.weights
            report.predicted_errors = errors.relative(canonical)
        return canonical

    def _best_start(self, starts: list[IORNN], layout: Layout) -> IORNN:
        """Return the start of least squared error on a subsample."""
        tables = self.source.subset(20_000)
        errors = []
        for start in starts:
            try:
                sums = self.settings.engine.run(
                    partial(gradient_sums, model=start, layout=layout), self.source, tables=tables
                )
                errors.append(float(sums.squares.sum()))
            except ExplosionError:
                errors.append(np.inf)
        return starts[int(np.argmin(errors))]

    def _washed_out(self, result: Refinement) -> bool:
        """Whether pieces of long sequences forget their start; if not, make them longer."""
        source, settings = self.source, self.settings
        if source.segment is None or settings.recurrence is None:
            return True
        model = self._finish(result.model)
        exact = np.zeros(self.data.n_outputs)
        first = settings.lags - 1
        for begin, end in pairwise(self.data.starts):
            predicted = model.predict(self.data.X[begin:end])[first:]
            residual = self.data.Y[begin + first : end] - predicted  # type: ignore[index]
            exact += np.einsum("na,na->a", residual, residual)
        off = abs(float(exact.sum()) - float(result.squares.sum())) / float(exact.sum())
        if off < WASHOUT_TOLERANCE:
            return True
        if source.before > 16 * WASHOUT:
            self.report.warn(
                ConvergenceWarning,
                f"the network remembers for longer than the {source.before} steps that warm up "
                f"each piece of a long sequence: the squared error of the pieces is off by "
                f"{off:.1e} of itself",
            )
            return True
        self.source = replace(source, segment=4 * source.segment, before=4 * source.before)
        return False

    def _finish(self, model: IORNN) -> IORNN:
        """Return the network on the inputs as they were given: not centred, before windows."""
        centre, lags = self.source.centre, self.settings.lags
        if centre is not None:
            direct = model.direct_weights
            model = model.replace(
                hidden_bias=model.hidden_bias - model.input_weights @ centre,
                output_bias=model.output_bias - (0.0 if direct is None else centre @ direct),
            )
        return model.replace(lags=lags) if lags > 1 else model


def _model_columns(model: IORNN, whitening: Whitening, weights: Array, probes: Array) -> Array:
    """What a quadratic model adds to `RangeSums.finalize`: (w.A2_i) 2 c a~_i (a~_i Omega)."""
    components = Frame.of_whitening(whitening).components(model)
    leading = 2.0 * top_degree(model)[1] * model.output_weights @ weights
    seen = components @ probes
    return np.concatenate([components.T @ (column[:, None] * seen) for column in leading.T], axis=1)


def _rms(sums: RoundSums) -> float:
    return float(np.sqrt(sums.squares.sum() / sums.n_rows / sums.squares.shape[0]))

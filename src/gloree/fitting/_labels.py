"""What a labelling fit adds: whitened indicators as outputs, a readout, the cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._arrays import is_tensor, like, namespace, to_host, zeros
from gloree._brief import Brief
from gloree._sums import Sums, required
from gloree.diagnostics import ConvergenceWarning, Finding, OutlierWarning, check_size
from gloree.engine import Selection, Source, Subset
from gloree.fitting._given_units import in_given_units, on_given_inputs
from gloree.fitting._inputs import InputSummary
from gloree.fitting._outputs import cut_data, plan_moment
from gloree.fitting._problem import Encoding, FitProblem
from gloree.fitting._recurrence import Known, MomentFit, units_of
from gloree.fitting._refine import RefinedFit
from gloree.models import ExplosionError, Network
from gloree.recurrence import Directions
from gloree.refinement import (
    CrossEntropy,
    RefinementStatus,
    Solution,
    logistic_readout,
    split_held_out,
)
from gloree.sequences import Array, Batch, IntArray

LINEAR_RIDGE = 1e-4
"""Ridge of the linear path that is fitted before any moment, relative to the input variances."""

SHRINKS = (1.0, 0.5, 0.25, 0.125, 0.0)
"""Factors of U that are tried where the network of the moments explodes on some of the data."""

CLASS_FLOOR = 0.02
"""Least eigenvalue of the class covariance that is whitened in full, relative to the largest:
a class of a few steps would otherwise outweigh all others."""

STRETCHES = 10
"""Pieces of a record that is all there is, the last of which is held out."""


@dataclass(frozen=True)
class LabelSums(Sums):
    """Sums behind the least-squares fit of the indicators on the inputs."""

    n_rows: float
    inputs: Array
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)
    counts: Array


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused by its size
def label_sums(batch: Batch, n_classes: int) -> LabelSums:
    """Map of the pass over inputs and labels."""
    rows = batch.counted
    X = batch.X[rows]
    Y = indicators(_whole(batch.targets[rows, 0]), n_classes)
    sums = (X.sum(axis=0), X.T @ X, X.T @ Y, Y.sum(axis=0))
    return LabelSums(float(X.shape[0]), *map(to_host, sums))


def indicators(codes: IntArray, n_classes: int) -> Array:
    """Rows of zeros with a one in the place of the label, shape (n_rows, n_classes)."""
    if is_tensor(codes):
        matches = codes[:, None] == like(codes, np.arange(n_classes))
        places: Array = zeros(codes, matches.shape) + matches
        return places
    rows = np.zeros((codes.shape[0], n_classes))
    rows[np.arange(codes.shape[0]), codes] = 1.0
    return rows


def _whole(numbers: Array) -> IntArray:
    """Whole numbers as integers."""
    xp = namespace(numbers)
    return xp.asarray(numbers, dtype=xp.int64)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LabelCoding(Brief):
    """From labels to their places among `classes`, the distinct labels in increasing order."""

    classes: IntArray
    n_outputs: int = 1

    def __call__(self, labels: Array) -> Array:
        """Places, of the shape of the labels."""
        return np.searchsorted(self.classes, labels.astype(np.int64)).astype(np.float64)


@dataclass(frozen=True)
class ClassWhitening:
    """Indicators of the labels, centred and with uncorrelated linear residuals of equal size.

    Outputs are (e - frequencies) times `matrix`, of shape (n_classes, n_outputs) with n_outputs at
    most n_classes - 1; `inverse` leads back. `counts` are the steps with each label, and `coding`
    makes numbers of the labels that the data hold.
    """

    frequencies: Array
    matrix: Array
    inverse: Array
    counts: Array
    coding: Encoding | None = None

    @classmethod
    def of(cls, sums: LabelSums, *, direct: bool, coding: Encoding | None = None) -> ClassWhitening:
        """Whiten the residual of a linear path, or the indicators themselves without one."""
        n = sums.n_rows
        frequencies = sums.counts / n
        covariance = np.diag(frequencies) - np.outer(frequencies, frequencies)
        if direct:
            mean = sums.inputs / n
            gram = sums.gram / n - np.outer(mean, mean)
            cross = sums.cross / n - np.outer(mean, frequencies)
            # in units of the inputs' standard deviations
            variances = np.diag(gram)
            scale = 1.0 / np.sqrt(np.where(variances > 0, variances, 1.0))
            gram, cross = gram * np.outer(scale, scale), cross * scale[:, None]
            gram[np.diag_indices_from(gram)] *= 1.0 + LINEAR_RIDGE
            covariance = covariance - cross.T @ np.linalg.lstsq(gram, cross, rcond=1e-12)[0]
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        # the ones vector has no variance; neither has a class that the inputs predict exactly
        kept = values > 1e-10 * values[-1]
        size = np.sqrt(np.maximum(values[kept], CLASS_FLOOR * values[-1]))
        vectors = vectors[:, kept]
        return cls(frequencies, vectors / size, (vectors * size).T, sums.counts, coding)

    @property
    def n_outputs(self) -> int:
        """Columns of the outputs."""
        return int(self.matrix.shape[1])

    @property
    def detail(self) -> str:
        """Outcome in words."""
        rarest = int(self.counts.min())
        return f"{self.counts.shape[0]} labels, the rarest on {rarest} step(s)"

    def __call__(self, labels: Array) -> Array:
        """Whitened indicators, shape (n_rows, n_outputs), of label numbers, shape (n_rows, 1)."""
        table = self.matrix - self.frequencies @ self.matrix
        codes = labels if self.coding is None else self.coding(labels)
        rows: Array = like(labels, table)[_whole(codes[:, 0])]
        return rows

    def to_classes(self, model: Network) -> Network:
        """Network whose outputs are estimates of the probabilities of the labels."""
        direct = model.direct_weights
        return model.replace(
            output_weights=model.output_weights @ self.inverse,
            output_bias=model.output_bias @ self.inverse + self.frequencies,
            direct_weights=None if direct is None else direct @ self.inverse,
        )


def whiten_classes(problem: FitProblem, n_classes: int) -> ClassWhitening:
    """Find the class whitening in one pass over inputs and labels."""
    source = cut_data(problem, plan_moment(problem, n_classes - 1))
    if problem.settings.solver is not None:
        # an error now rather than after the moments
        hold_out(source)
    sums = problem.engine.run(partial(label_sums, n_classes=n_classes), source, label="labels")
    check_size("X", np.diagonal(sums.gram) / sums.n_rows)
    found = ClassWhitening.of(sums, direct=problem.settings.direct, coding=problem.encode)
    if found.n_outputs == 0:
        raise ValueError(
            "`labels` are all the same on the steps that count (the first `lags` - 1 of a sequence "
            "do not), or the inputs alone predict all of them: nothing is left for hidden units"
        )
    return found


@dataclass(frozen=True)
class Readout:
    """A labelling network whose units come from moments; outputs are logits or probabilities.

    `source` holds all of the data, inputs centred (if biases are free) and of unit variance,
    `training` and `held_out` what a refinement is fitted to and judged by. `accuracy` is the share
    of correct steps in `source`, `directions` are in the order of the model.
    """

    model: Network
    source: Source
    training: Selection
    held_out: Selection | None
    accuracy: float
    name: str
    directions: Directions | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.name}, training accuracy {self.accuracy:.4f}"

    @property
    def accuracies(self) -> dict[str, float]:
        """By what they were measured on."""
        return {"moments and readout, training": self.accuracy}


def fit_readout(
    problem: FitProblem,
    inputs: InputSummary,
    moments: MomentFit,
    whitening: ClassWhitening,
    readout: str,
) -> Readout:
    """Outputs of a network whose units are known: for the labels, on standardised inputs."""
    source, model = standardised(inputs, moments.model)
    directions = _reordered(moments.directions, model)
    model = model.canonical()
    source = replace(source, encode=whitening.coding)
    training: Selection = source
    held_out: Selection | None = None
    if problem.settings.solver is not None:
        training, held_out = hold_out(source)
    n_classes = whitening.counts.shape[0]
    for shrink in SHRINKS:
        calmer = model.replace(recurrent_weights=shrink * model.recurrent_weights)
        try:
            if readout == "least-squares":
                found = whitening.to_classes(calmer)
            else:
                found = logistic_readout(calmer, problem.engine, training, n_classes)
            share = accuracy(problem, source, found)
        except ExplosionError:
            if not shrink:
                raise
            continue
        break
    findings: tuple[Finding, ...] = ()
    if shrink < 1.0:
        text = (
            f"the network of the moments explodes on some sequences: its recurrent weights were "
            f"multiplied by {shrink:g}"
        )
        remedy = "look for inputs of extreme size, or lower `n_hidden`"
        findings = (Finding(OutlierWarning, text, remedy),)
    return Readout(found, source, training, held_out, share, readout, directions, findings)


def known_readout(problem: FitProblem, inputs: InputSummary, known: Known) -> Readout:
    """The network of an earlier fit as it is, on standardised inputs."""
    source, model = standardised(inputs, known.model)
    source, model = replace(source, encode=problem.encode), model.canonical()
    training, held_out = hold_out(source)
    share = accuracy(problem, source, model)
    return Readout(model, source, training, held_out, share, "weights so far", known.directions)


def standardised(inputs: InputSummary, model: Network) -> tuple[Source, Network]:
    """Data with inputs of unit variance, and the network on these.

    The logistic readout, L-BFGS and what stops it depend on the units of the inputs otherwise.
    """
    source, n_inputs = inputs.source, inputs.source.data.n_inputs
    unit = 1.0 / np.where(inputs.spread > 0, inputs.spread, 1.0)[:n_inputs]
    columns = np.tile(unit, inputs.spread.shape[0] // n_inputs)
    scale = unit if source.scale is None else unit * source.scale
    centre = None if source.centre is None else source.centre * columns
    direct = model.direct_weights
    changed = model.replace(
        input_weights=model.input_weights / columns,
        direct_weights=None if direct is None else direct / columns[:, None],
    )
    return replace(source, scale=scale, centre=centre), changed


def on_inputs_as_given(
    problem: FitProblem, readout: Readout, model: Network
) -> tuple[Network, Directions | None]:
    """Undo `standardised`, and what eased the moments; in canonical form."""
    model = in_given_units(readout.source, model)
    directions = _reordered(readout.directions, model)
    return on_given_inputs(problem, readout.source, model).canonical(), directions


def _reordered(directions: Directions | None, model: Network) -> Directions | None:
    """Directions in the order of the canonical form of their model."""
    return None if directions is None else directions.reordered(units_of(model).order)


def hold_out(source: Source) -> tuple[Subset, Subset]:
    """Training and held-out segments; a single one is cut into stretches first."""
    if source.n_visited == 1:
        source = replace(source, segment=-(-source.data.longest // STRETCHES))
    return split_held_out(source)


def accuracy(problem: FitProblem, source: Source, model: Network) -> float:
    """Share of the steps of the data whose label has the largest output."""
    function = partial(CrossEntropy().sums, model=model)
    return problem.engine.run(function, source, label="accuracy").share_correct


def keep_readout(problem: FitProblem, readout: Readout) -> RefinedFit:
    """Network of the moments and the readout."""
    model, directions = on_inputs_as_given(problem, readout, readout.model)
    return RefinedFit(model, directions, accuracies=readout.accuracies, findings=readout.findings)


def refine_labels(problem: FitProblem, readout: Readout, show: Callable[[str], None]) -> RefinedFit:
    """Minimise the cross-entropy on nine tenths of the data, stopping by the last one."""
    solver, model = problem.settings.solver, readout.model
    assert solver is not None

    def progress(step: int, loss: float, share: float) -> None:
        show(f"step {step}, held-out accuracy {share:.4f}")

    layout, loss = problem.layout_of(model), problem.settings.loss
    given = (loss, model, layout, problem.engine, readout.training)
    found = solver.minimise(*given, held_out=readout.held_out, progress=progress)
    result = required(found, Solution, f"`minimise` of {solver!r:.100}")
    findings = readout.findings
    if result.status is RefinementStatus.STEP_LIMIT:
        finding = Finding(
            ConvergenceWarning,
            f"the refinement of the labels was still gaining on held-out data after "
            f"{result.n_steps} steps: gloree.refinement.LBFGS can go on from `model_`",
        )
        findings = (*findings, finding)
    accuracies = {
        **readout.accuracies,
        "refined, held out": result.best_share,
        "refined, training": accuracy(problem, readout.source, result.model),
    }
    refined, directions = on_inputs_as_given(problem, readout, result.model)
    return RefinedFit(
        *(refined, directions, result.status, result.n_steps),
        accuracies=accuracies,
        findings=findings,
        detail=result.outcome,
    )

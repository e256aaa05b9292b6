r"""Few steps for many weights: the readout that parts of the data choose which it has not seen.

A readout of p features for C classes has p (C - 1) weights, and on n steps it loses some
p (C - 1) / (2 n) nats a step to their noise, which is nothing for large n. Where steps are few,
five contiguous parts of the sequences are each labelled by readouts that were fitted to the other
four: logistic ones with several ridges, on states and inputs and on inputs alone, and least squares
of the indicators on the inputs. That linear model is kept unless another one labels more steps
correctly by two standard errors of the difference, sequences being the units of sampling.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from gloree._arrays import beside, kept_precision, take_rows, to_host
from gloree._sums import required
from gloree.diagnostics import Finding, LinearModelWarning
from gloree.engine import Engine, Selection, Source, Subset
from gloree.fitting._given_units import scale_of_columns
from gloree.fitting._labels import Readout, accuracy
from gloree.fitting._problem import FitProblem
from gloree.fitting._refine import RefinedFit
from gloree.models import Network
from gloree.refinement import (
    INVERSE_RIDGE,
    Layout,
    Loss,
    Progress,
    RefinementStatus,
    Solution,
    Solver,
)
from gloree.sequences import Array, Batch, IntArray
from gloree.states import predict_rows, run_states

ENOUGH = 10
"""Steps for each weight of a readout from which none is chosen: the usual one is taken."""

FOLDS = 5
"""Parts of the data, one after the other: neighbouring sequences are often alike."""

INVERSE_RIDGES = (INVERSE_RIDGE, 0.1, 0.03, 0.01)
"""Inverse strengths of the ridge, for features of unit variance (scikit-learn's `C`)."""

LEAST_SQUARES_RIDGE = 0.01
"""Ridge of the least squares, relative to the variance of each feature."""

PLAIN_RIDGE = 1.0
"""Ridge of the least squares on the inputs as they are: what ridge regression has by default."""

CLEAR = 2.0
"""Standard errors by which a readout has to be better than a simpler one."""

SHARPEST = 100.0
"""Factor from an estimate of probabilities to logits, at most."""


@dataclass(frozen=True)
class Linear:
    """Affine function of the features, one column for each class."""

    weights: Array
    bias: Array

    def __call__(self, features: Array) -> Array:
        """Logits, (n_rows, n_classes)."""
        return np.asarray(features @ self.weights + self.bias)


@dataclass(frozen=True)
class Rows:
    """States and inputs of all counted steps, labels, and the sequence (segment) of each.

    `features` have mean 0 and variance 1, the first `n_states` of them are states; `mean` and
    `scale` undo that. `given` are standard deviations in the units of the data.
    """

    features: NDArray[np.floating[Any]]
    labels: IntArray
    segment: IntArray
    n_states: int
    n_classes: int
    mean: Array
    scale: Array
    given: Array

    @property
    def n_weights(self) -> int:
        """Weights of a readout of all features."""
        return int(self.features.shape[1] + 1) * (self.n_classes - 1)

    def correct(self, logits: Array) -> Array:
        """Correct steps of each segment."""
        right = (logits.argmax(axis=1) == self.labels).astype(float)
        return np.asarray(np.bincount(self.segment, weights=right), dtype=np.float64)

    @classmethod
    def of(cls, problem: FitProblem, selection: Selection, model: Network, n_classes: int) -> Rows:
        """Collect the features of a network whose units are known."""
        direct = model.direct_weights is not None

        whole = selection.as_subset()
        kept_as = kept_precision(whole.n_counted * (model.n_hidden + direct * model.n_columns))

        def features(batch: Batch) -> tuple[NDArray[np.floating[Any]], IntArray, IntArray]:
            states = run_states(model, batch).h
            rows = beside((states, batch.X)) if direct else states
            labels = to_host(batch.targets[batch.counted, 0]).astype(np.int64)
            kept = to_host(rows[batch.counted]).astype(kept_as)
            return kept, labels, segments_of(batch)

        parts = problem.engine.collect(features, selection)
        X = np.concatenate([part[0] for part in parts])
        labels = np.concatenate([part[1] for part in parts])
        before = np.cumsum([0, *(int(part[2].max()) + 1 for part in parts[:-1])])
        segment = np.concatenate([n + part[2] for n, part in zip(before, parts, strict=True)])
        mean, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
        scale[scale <= 1e-6 * np.abs(mean)] = 1.0
        X, given = ((X - mean) / scale).astype(kept_as), scale.copy()
        source = selection.source if isinstance(selection, Subset) else selection
        if direct and isinstance(source, Source) and source.scale is not None:
            given[model.n_hidden :] /= scale_of_columns(source)
        return cls(X, labels, segment, model.n_hidden, n_classes, mean, scale, given)


def segments_of(batch: Batch) -> IntArray:
    """Segment of each counted row of a batch."""
    segment = np.repeat(np.arange(batch.lengths.shape[0]), batch.lengths)
    return np.unique(segment[batch.counted_rows], return_inverse=True)[1]


@dataclass(frozen=True)
class Candidate:
    """A way to fit a readout: on all features or inputs alone; None stands for least squares.

    The ridge weighs all features alike, brought to variance 1, or as they are: then those of
    little variance have to say the most to be heard.
    """

    states: bool
    inverse_ridge: float | None
    alike: bool = True

    def fit(self, rows: Rows, inside: NDArray[np.bool_]) -> Linear:
        """Fit to some rows; in logits, or estimates of probabilities by least squares."""
        first = 0 if self.states else rows.n_states
        X, labels = rows.features[inside, first:], rows.labels[inside]
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, Ridge  # slow to import

        weights = np.zeros((rows.features.shape[1], rows.n_classes))
        if self.inverse_ridge is None:
            scale = np.ones(X.shape[1]) if self.alike else rows.given[first:]
            ridge = Ridge(alpha=LEAST_SQUARES_RIDGE * len(X) if self.alike else PLAIN_RIDGE)
            ridge.fit(X * scale, np.eye(rows.n_classes)[labels])
            weights[first:] = ridge.coef_.T * scale[:, None]
            return Linear(weights, ridge.intercept_)
        if (labels == labels[0]).all():
            return Linear(weights, np.where(np.arange(rows.n_classes) == labels[0], 0.0, -20.0))
        regression = LogisticRegression(C=self.inverse_ridge, max_iter=100, tol=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=ConvergenceWarning)
            regression.fit(X, labels)
        found, bias = regression.coef_.astype(float), regression.intercept_.astype(float)
        if found.shape[0] == 1:
            found, bias = np.vstack((-found, found)) / 2, np.concatenate((-bias, bias)) / 2
        # a class that is missing is never the largest
        offsets = np.full(rows.n_classes, bias.min() - 20.0)
        weights[first:, regression.classes_], offsets[regression.classes_] = found.T, bias
        return Linear(weights, offsets)

    def __str__(self) -> str:
        where = "states and inputs" if self.states else "inputs alone"
        if self.inverse_ridge is None:
            return f"least squares on {where}"
        return f"logistic on {where}, ridge {1.0 / self.inverse_ridge:.3g}"


USUAL = Candidate(True, INVERSE_RIDGE)
LEAST_SQUARES = (Candidate(False, None, alike=False), Candidate(False, None))


@dataclass(frozen=True)
class Choice:
    """A readout, which parts of the data have chosen that had not seen it where steps are few.

    `readout` is fitted to the training part, `whole` to all of the data, and None where the usual
    readout stays; `shares` are the shares of correct steps of what was tried, on parts held out.
    """

    readout: Readout
    whole: Network | None = None
    shares: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return self.readout.detail

    def judging(self, problem: FitProblem) -> FitProblem:
        """Problem whose refinement has to be clearly better than this readout."""
        settings = problem.settings
        if settings.solver is None or self.whole is None:
            return problem
        judged = Judged(settings.solver, self.whole)
        return replace(problem, settings=replace(settings, solver=judged))

    def noted(self, refined: RefinedFit) -> RefinedFit:
        """Fit with what was tried, and with the findings if the readout was kept."""
        findings = self.findings if refined.n_steps == 0 else ()
        return replace(
            refined,
            accuracies={**self.shares, **refined.accuracies},
            findings=(*refined.findings, *findings),
        )


def steps_are_few(problem: FitProblem, readout: Readout, n_classes: int) -> bool:
    """Whether the noise of a readout's weights matters, and there are sequences to judge it by."""
    direct = readout.model.direct_weights is not None
    width = readout.model.n_hidden + (readout.model.n_columns if direct else 0)
    few = problem.data.n_rows < ENOUGH * (width + 1) * (n_classes - 1)
    return readout.name == "logistic" and few and readout.source.n_visited >= 2 * FOLDS


def choose_readout(problem: FitProblem, readout: Readout, n_classes: int) -> Choice:
    """Choose the readout of few steps."""
    rows = Rows.of(problem, readout.source, readout.model, n_classes)
    direct = readout.model.direct_weights is not None
    tried = [Candidate(True, c) for c in INVERSE_RIDGES]
    tried += [Candidate(False, c) for c in INVERSE_RIDGES] if direct else []
    tried += LEAST_SQUARES if direct else ()
    fold = rows.segment * FOLDS // (int(rows.segment.max()) + 1)
    logits = {each: _unseen(each, rows, fold) for each in tried}
    correct = {each: rows.correct(values) for each, values in logits.items()}
    plain, alike = LEAST_SQUARES
    simplest = plain if direct else USUAL
    if direct and clearly_more(correct[alike], correct[plain]):
        simplest = alike
    chosen = _chosen(correct, simplest)
    shares = {
        f"{name}, parts held out in turn": float(correct[each].sum()) / len(rows.labels)
        for name, each in (("linear model", simplest), ("readout", chosen))
        if direct or each != simplest
    }
    if chosen == USUAL:
        return Choice(readout, shares=shares)
    sharpness = 1.0
    if chosen.inverse_ridge is None:
        sharpness = _sharpness(logits[chosen], rows.labels)

    def fitted(to: Rows) -> Network:
        found = chosen.fit(to, np.ones(len(to.labels), dtype=bool))
        return _network(readout.model, to, found, sharpness)

    whole = start = fitted(rows)
    if problem.settings.solver is not None:
        start = fitted(Rows.of(problem, readout.training, readout.model, n_classes))
    share = accuracy(problem, readout.source, whole)
    readout = replace(readout, model=start, accuracy=share, name=str(chosen))
    findings = () if chosen.states else (_linear_finding(rows, correct, chosen),)
    return Choice(readout, whole, shares, findings)


def _unseen(candidate: Candidate, rows: Rows, fold: IntArray) -> Array:
    """Outputs for each part by the fit to the others."""
    outputs = np.empty((len(rows.labels), rows.n_classes))
    for left_out in (fold == number for number in range(FOLDS)):
        outputs[left_out] = candidate.fit(rows, ~left_out)(rows.features[left_out])
    return outputs


def _chosen(correct: dict[Candidate, Array], simplest: Candidate) -> Candidate:
    """The simplest, unless others are clearly better; then the usual one, unless it is worse."""
    best = max(correct, key=lambda each: correct[each].sum())
    if not clearly_more(correct[best], correct[simplest]):
        return simplest
    usual = clearly_more(correct[USUAL], correct[simplest])
    return USUAL if usual and not clearly_more(correct[best], correct[USUAL]) else best


def clearly_more(ours: Array, theirs: Array) -> bool:
    """Whether sums over sequences are larger by `CLEAR` standard errors of their difference."""
    difference = ours - theirs
    n = difference.shape[0]
    error = np.sqrt(n / max(n - 1, 1) * np.sum((difference - difference.mean()) ** 2))
    return bool(difference.sum() > max(CLEAR * error, 0.0))


def _sharpness(outputs: Array, labels: IntArray) -> float:
    """Factor that makes logits of estimates of probabilities: the one of least cross-entropy."""

    def loss(factor: float) -> float:
        scaled = factor * outputs
        own = scaled[np.arange(len(labels)), labels]
        return float(np.mean(logsumexp(scaled, axis=1) - own))

    return float(minimize_scalar(loss, bounds=(0.1, SHARPEST), method="bounded").x)


def _network(model: Network, rows: Rows, found: Linear, sharpness: float) -> Network:
    """Network with a readout that was fitted to scaled features."""
    weights = sharpness * found.weights / rows.scale[:, None]
    bias = sharpness * found.bias - rows.mean @ weights
    direct = None if model.direct_weights is None else weights[rows.n_states :]
    if not weights[: rows.n_states].any():
        # units without a part in the outputs must not explode on new data
        model = model.replace(recurrent_weights=None)
    return model.replace(
        output_weights=weights[: rows.n_states], output_bias=bias, direct_weights=direct
    )


def _linear_finding(rows: Rows, correct: dict[Candidate, Array], chosen: Candidate) -> Finding:
    n = len(rows.labels)
    with_units = max(correct[each].sum() for each in correct if each.states) / n
    return Finding(
        LinearModelWarning,
        f"{n:,} steps are few for the {rows.n_weights:,} weights of a readout, and on sequences "
        f"that were held out none that uses the hidden units is clearly better than a linear model "
        f"of the inputs ({with_units:.4f} of the steps against {correct[chosen].sum() / n:.4f}): "
        f"that model is kept, and the units have no part in it",
        "give more sequences, or fewer inputs",
    )


@dataclass(frozen=True)
class Judged:
    """A solver whose solution is kept if it is clearly better on held-out sequences.

    Otherwise the solution is `whole`, the readout that was fitted to all of the data.
    """

    solver: Solver
    whole: Network

    @property
    def name(self) -> str:
        """Name of the solver."""
        return self.solver.name

    def minimise(
        self,
        loss: Loss,
        model: Network,
        layout: Layout,
        engine: Engine,
        data: Selection,
        *,
        held_out: Selection | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Minimise, and judge."""
        given = (loss, model, layout, engine, data)
        found = self.solver.minimise(*given, held_out=held_out, progress=progress)
        found = required(found, Solution, f"`minimise` of {self.solver!r:.100}")
        assert held_out is not None
        after, before = (_correct(engine, held_out, each) for each in (found.model, model))
        if clearly_more(after, before):
            return found
        history = found.history[:1]
        return replace(
            found, model=self.whole, status=RefinementStatus.NO_DECREASE, history=history
        )


def _correct(engine: Engine, selection: Selection, model: Network) -> Array:
    """Correct steps of each segment."""

    def correct(batch: Batch) -> Array:
        outputs = take_rows(predict_rows(model, batch, run_states(model, batch)), batch.counted)
        labels = to_host(batch.targets[batch.counted, 0]).astype(np.int64)
        right = (to_host(outputs).argmax(axis=1) == labels).astype(float)
        return np.asarray(np.bincount(segments_of(batch), weights=right), dtype=np.float64)

    return np.concatenate(engine.collect(correct, selection))

"""From labels to a labelling network: whitened indicators, moments, readout, refinement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from tqdm.auto import tqdm

from gloree._arrays import like, namespace, to_host
from gloree._sums import Sums
from gloree.diagnostics import ConvergenceWarning, FitReport
from gloree.engine import Selection
from gloree.estimators._data import cut_source, read_inputs, read_outputs
from gloree.estimators._first_moment import first_moment
from gloree.estimators._labels import Coding, indicators
from gloree.estimators._refine import on_given_inputs
from gloree.estimators._rounds import recurrence_and_rounds
from gloree.estimators._state import Settings, State
from gloree.models import Network
from gloree.refinement import (
    LBFGS,
    CrossEntropy,
    RefinementStatus,
    logistic_readout,
    split_held_out,
)
from gloree.sequences import Array, Batch, Data, IntArray

Readout = Literal["logistic", "least-squares"]

LINEAR_RIDGE = 1e-4
"""Ridge of the linear path that is fitted before any moment, relative to the input variances."""

CLASS_FLOOR = 0.02
"""Least eigenvalue of the class covariance that is whitened in full, relative to the largest:
a class of a few steps would otherwise outweigh all others."""


@dataclass(frozen=True)
class LinearSums(Sums):
    """Sums behind the least-squares fit of the indicators on the inputs."""

    n_rows: float
    inputs: Array
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)
    counts: Array


def linear_sums(batch: Batch, n_classes: int) -> LinearSums:
    """Map of the pass over inputs and labels."""
    rows = batch.counted
    X = batch.X[rows]
    Y = indicators(_whole(batch.targets[rows, 0]), n_classes)
    sums = (X.sum(axis=0), X.T @ X, X.T @ Y, Y.sum(axis=0))
    return LinearSums(float(X.shape[0]), *map(to_host, sums))


def _whole(numbers: Array) -> IntArray:
    """Whole numbers as integers."""
    xp = namespace(numbers)
    return xp.asarray(numbers, dtype=xp.int64)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ClassWhitening:
    """Indicators of the labels, centred and with uncorrelated linear residuals of equal size.

    Attributes
    ----------
    frequencies : ndarray of shape (n_classes,)
    matrix : ndarray of shape (n_classes, n_outputs)
        Outputs are (e - frequencies) times this; n_outputs is n_classes - 1 at most.
    inverse : ndarray of shape (n_outputs, n_classes)
        Back from outputs to indicators.
    coding : Coding or None
        What makes label numbers of the labels that the data hold.
    """

    frequencies: Array
    matrix: Array
    inverse: Array
    coding: Coding | None = None

    @classmethod
    def of(cls, sums: LinearSums, *, direct: bool, coding: Coding | None = None) -> ClassWhitening:
        """Whiten the residual of a linear path, or the indicators themselves without one."""
        n = sums.n_rows
        frequencies = sums.counts / n
        covariance = np.diag(frequencies) - np.outer(frequencies, frequencies)
        if direct:
            mean = sums.inputs / n
            gram = sums.gram / n - np.outer(mean, mean)
            cross = sums.cross / n - np.outer(mean, frequencies)
            gram[np.diag_indices_from(gram)] *= 1.0 + LINEAR_RIDGE
            covariance = covariance - cross.T @ np.linalg.lstsq(gram, cross, rcond=1e-12)[0]
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        # the ones vector has no variance; neither has a class that the inputs predict exactly
        kept = values > 1e-10 * values[-1]
        size = np.sqrt(np.maximum(values[kept], CLASS_FLOOR * values[-1]))
        return cls(frequencies, vectors[:, kept] / size, (vectors[:, kept] * size).T, coding)

    @property
    def n_outputs(self) -> int:
        """Columns of the outputs."""
        return int(self.matrix.shape[1])

    def __call__(self, labels: Array) -> Array:
        """Whitened indicators, shape (n_rows, n_outputs), of label numbers, shape (n_rows, 1)."""
        table = self.matrix - self.frequencies @ self.matrix
        codes = labels if self.coding is None else self.coding(labels)
        rows: Array = like(labels, table)[_whole(codes[:, 0])]
        return rows


def run_labelling(
    data: Data, coding: Coding | None, n_classes: int, settings: Settings, readout: Readout
) -> tuple[Network, State]:
    """Run all stages.

    Returns
    -------
    model : IORNN or BRNN
        In canonical form; its outputs are logits (readout "logistic") or estimated probabilities.
    state : State
    """
    report = FitReport(
        {
            "sequences": data.n_sequences,
            "steps": data.n_rows,
            "inputs": data.n_inputs,
            "labels": n_classes,
        }
    )
    state = State(data, settings, report)
    state.encode = coding
    with (
        settings.engine.small_matrices(),
        tqdm(total=7, desc="fit", disable=settings.verbose < 1, leave=False) as bar,
    ):
        state.bar = bar
        whitening = whiten_classes(state, n_classes, coding)
        state.encode = whitening
        read_outputs(state)
        inputs = read_inputs(state)
        model, rounds = first_moment(state, inputs)
        model = recurrence_and_rounds(state, model, rounds)
        model = on_given_inputs(state, model)
        report.output_std = report.moments_rmse = None
        state.encode = coding
        state.source = replace(state.source, encode=coding, centre=None)
        training: Selection = state.source
        held_out: Selection | None = None
        if settings.refine == "full":
            training, held_out = split_held_out(training)
        model = fit_readout(state, model, whitening, n_classes, readout, training)
        if held_out is not None:
            model = refine_labels(state, model, training, held_out)
    return model.canonical(), state


def whiten_classes(state: State, n_classes: int, coding: Coding | None) -> ClassWhitening:
    """Find the class whitening in one pass over inputs and labels."""
    with state.stage("labels") as detail:
        state.plan_outputs = n_classes - 1
        cut_source(state)
        if state.settings.refine == "full":
            # too few segments are an error now rather than after the moments
            split_held_out(state.source)
        sums = state.settings.engine.run(
            partial(linear_sums, n_classes=n_classes), state.source, label="labels"
        )
        detail.append(f"{n_classes} labels, the rarest on {int(sums.counts.min())} step(s)")
        return ClassWhitening.of(sums, direct=state.settings.direct, coding=coding)


def fit_readout(
    state: State,
    model: Network,
    whitening: ClassWhitening,
    n_classes: int,
    readout: Readout,
    training: Selection,
) -> Network:
    """Outputs of a network whose units are known."""
    report = state.report
    with state.stage("readout") as detail:
        if readout == "least-squares":
            direct = model.direct_weights
            model = model.replace(
                output_weights=model.output_weights @ whitening.inverse,
                output_bias=model.output_bias @ whitening.inverse + whitening.frequencies,
                direct_weights=None if direct is None else direct @ whitening.inverse,
            )
        else:
            model = logistic_readout(model, state.settings.engine, training, n_classes)
        share = accuracy(state, model)
        report.accuracies["moments and readout, training"] = share
        detail.append(f"{readout}, training accuracy {share:.4f}")
    return model


def accuracy(state: State, model: Network) -> float:
    """Share of the training steps whose label has the largest output."""
    sums = state.settings.engine.run(
        partial(CrossEntropy().sums, model=model), state.source, label="accuracy"
    )
    return sums.share_correct


def refine_labels(
    state: State, model: Network, training: Selection, held_out: Selection
) -> Network:
    """Minimise the cross-entropy on nine tenths of the data, stopping by the last one."""
    settings, report = state.settings, state.report
    layout = replace(state.layout_of(model), n_outputs=model.n_outputs)
    with state.stage("cross-entropy") as detail:

        def progress(step: int, loss: float, share: float) -> None:
            if state.bar is not None:
                state.bar.set_description(f"step {step}, held-out accuracy {share:.4f}")

        result = LBFGS().minimise(
            CrossEntropy(),
            model,
            layout,
            settings.engine,
            training,
            held_out=held_out,
            progress=progress,
        )
        report.refinement_status, report.refinement_steps = result.status, result.n_steps
        report.accuracies["refined, held out"] = result.best_share
        report.accuracies["refined, training"] = accuracy(state, result.model)
        detail.append(f"{result.n_steps} steps, {result.status.value}")
        if result.status is RefinementStatus.STEP_LIMIT:
            report.warn(
                ConvergenceWarning,
                f"the refinement of the labels was still gaining on held-out data after "
                f"{result.n_steps} steps: gloree.refinement.LBFGS can go on from `model_`",
            )
    return result.model

"""Going on with an earlier fit: `warm_start`, and `partial_fit` with new rows alone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import like
from gloree._parameters import check_flag
from gloree.chains import GaussianVAR
from gloree.diagnostics import FitReport, LabelWarning, emit, warn_caller
from gloree.estimators._base import SpectralRNN
from gloree.estimators._interface import second_argument
from gloree.estimators._labels import (
    Labels,
    distinct,
    flatten_labels,
    label_numbers,
    labels_of_steps,
    numbers_of,
    of_type,
)
from gloree.fitting import (
    FitProblem,
    KeptRows,
    LabelCoding,
    check_start,
    continue_with,
    continued_report,
    keep_rows,
    kept_of_report,
)
from gloree.models import ClassOutput, Network
from gloree.sequences import Sequences
from gloree.sources import as_data

FREE = ("engine", "verbose", "batch_size", "memory_limit", "random_state", "warm_start")
"""Parameters that may change between two calls of `partial_fit`."""

RARE = 0.5
"""Steps with a label that was not among the first rows, of as many as these are."""


def _alike(before: object, now: object) -> bool:
    """Whether two values of a parameter, arrays among them, are the same."""
    if before is now:
        return True
    return np.array_equal(np.asarray(before, dtype=object), np.asarray(now, dtype=object))


class GoingOn(SpectralRNN):
    """Warm starts, and what two calls of `partial_fit` have in common."""

    warm_start: bool
    _kept_rows: KeptRows | None = None
    _first_parameters: dict[str, object] | None = None

    def _start(
        self, problem: FitProblem, n_outputs: int, checkpoint: str | Path | None
    ) -> tuple[FitProblem, Network | None]:
        """The problem of a fit, and the network it starts from; None for one that starts anew."""
        check_flag("warm_start", self.warm_start)
        self._kept_rows, self._first_parameters = None, None
        if not self.warm_start:
            return problem, None
        self._check_refined("`warm_start`=True", problem)
        if not hasattr(self, "model_"):
            return problem, None
        if checkpoint is not None:
            raise ValueError(
                "`checkpoint` is for fits that start anew, and `warm_start`=True goes on from "
                "`model_`: give one of them"
            )
        return check_start(problem, self.model_, n_outputs), self.model_

    def _check_refined(self, what: str, problem: FitProblem) -> None:
        settings = problem.settings
        if settings.activation.degree == 1:
            raise ValueError(
                f"{what} goes on from weights, and activation='linear' is realised from the "
                f"impulse response of all data: fit it to old and new rows together"
            )
        if settings.solver is None:
            raise ValueError(
                f"{what} goes on with the refinement, and `refine`=None leaves it out: moments of "
                f"a recurrence belong to the units they were taken at, and cannot be gone on with"
            )

    def _check_partial(self, problem: FitProblem) -> None:
        """Refuse what `partial_fit` cannot go on with."""
        self._check_refined("`partial_fit`", problem)
        if not isinstance(self.loss, str):
            raise ValueError(
                f"`partial_fit` keeps normal equations of the loss that goes with the outputs, "
                f"and `loss` is {self.loss!r:.80}: use `warm_start`=True with all rows"
            )

    def _law_order(self) -> int:
        return self.chain_.order if isinstance(self.chain_, GaussianVAR) else 1

    def _keep(self, problem: FitProblem, *, labels: bool) -> None:
        """Keep the sums of the rows of the fit that has just ended."""
        problem = check_start(problem, self.model_, self.model_.n_outputs)
        order = self._law_order()
        self._kept_rows = keep_rows(problem, self.model_, labels=labels, order=order)
        self._first_parameters = self.get_params(deep=False)

    def _check_parameters(self) -> None:
        """Refuse parameters that are others than those of the first call."""
        for name, before in (self._first_parameters or {}).items():
            now = getattr(self, name)
            if name not in FREE and not _alike(before, now):
                raise ValueError(
                    f"`{name}` is {now!r:.60} and was {before!r:.60} in the first call of "
                    f"`partial_fit`, which goes on with what that one chose: set it back, or fit "
                    f"a clone"
                )

    def _continue(self, problem: FitProblem, n_outputs: int) -> None:
        """Take in new rows; nothing changes if that fails."""
        self._check_parameters()
        begin, report = time.perf_counter(), self.report_
        assert isinstance(report, FitReport)
        problem = check_start(problem, self.model_, n_outputs, "`partial_fit`")
        kept = self._kept_rows
        if kept is None:
            labels = hasattr(self, "classes_")
            kept = kept_of_report(problem, self.model_, report, labels=labels)
        found = continue_with(problem, kept)
        report = continued_report(problem, report, found, time.perf_counter() - begin)
        self.model_, self.report_, self._kept_rows = found.model, report, found.kept
        law = found.kept.law
        if isinstance(self.chain, str) and isinstance(self.chain_, GaussianVAR) and law is not None:
            self.chain_ = GaussianVAR.from_moments(law, require_stationary=False)
        emit(found.findings)

    def _check_inputs(self, n_inputs: int) -> None:
        if n_inputs != self.n_features_in_:
            raise ValueError(
                f"X has {n_inputs} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )


class RegressorGoingOn(GoingOn):
    """`partial_fit` of `SpectralRNNRegressor`."""

    def partial_fit(
        self,
        X: object,
        Y: object = None,
        *,
        lengths: ArrayLike | None = None,
        y: object = None,
    ) -> RegressorGoingOn:
        """Go on with new rows, without the old ones; the first call is a `fit`.

        Old rows stand in for themselves by their normal equations: their squared error is a
        parabola about the weights they led to. New rows are fitted with it by Gauss-Newton.

        Parameters
        ----------
        X : array or list
            New inputs, in every form that `fit` takes: whole sequences, as a state is not carried
            over from the old ones.
        Y : array or list alike
        lengths : sequence of int, optional
        y : array or list
            Another name of `Y`.

        Returns
        -------
        SpectralRNNRegressor
            Itself.

        Raises
        ------
        ValueError
            If the new rows have other inputs or outputs, parameters have changed, or the fit is
            one that cannot be gone on with (`refine=None`, another loss, a linear activation,
            more than 1,500 weights).
        TooFewSamplesError
            If the rows of the first call are too few for a fit.

        Notes
        -----
        Exact, but for rounding, are the law of the inputs (`chain_`) and what the outputs owe to
        weights that they are linear in. Of second order is the rest: the change of derivatives
        between the weights of old and new rows is left out. `report_.conditions` says how far the
        weights moved, in standard errors, and by how much what was left out may have led them
        astray; a `ConvergenceWarning` where that matters, a `SpecificationWarning` where old and
        new rows contradict each other, a `ScoreWarning` where the law of the inputs has changed.
        Outputs are weighed by the inverse covariance of the residuals of the first call.

        After `fit` (rather than `partial_fit`) the old rows are known by the information and the
        covariance of the weights in the report alone. `fit` forgets them, unless `warm_start` is
        set.

        Time O(n_rows (n_hidden^2 + n_outputs size) size) for each of a few steps, and O(size^2)
        numbers of memory between calls, for `size` weights.

        Examples
        --------
        >>> from gloree import SpectralRNNRegressor, datasets
        >>> X, Y, truth, _ = datasets.make_rnn(400, 10, 4, 2, 2, random_state=0)
        >>> est = SpectralRNNRegressor(2, random_state=0)
        >>> for part in (slice(0, 200), slice(200, 400)):
        ...     est = est.partial_fit(X[part], Y[part])
        >>> est.report_.sizes["steps"], bool(est.score(X, Y) > 0.9)
        (4000, True)
        """
        Y = second_argument("Y", Y, "y", y)
        data = as_data(X, Y, lengths=lengths)
        if not data.n_outputs:
            raise ValueError("`Y` is missing: partial_fit needs outputs")
        if hasattr(self, "model_"):
            self._check_columns(data)
            self._check_inputs(data.n_inputs)
        problem = self._problem(data)
        self._check_partial(problem)
        if not hasattr(self, "model_"):
            self.fit(X, Y, lengths=lengths)
            self._keep(problem, labels=False)
        else:
            problem.engine.scan(data)
            self._continue(problem, data.n_outputs)
        return self


class ClassifierGoingOn(GoingOn):
    """`partial_fit` of `SpectralRNNClassifier`."""

    classes_: Labels
    readout: str
    _fitted_readout: str

    @property
    def _has_logits(self) -> bool:
        """Whether outputs are logits: by the readout of the fit, whatever `readout` is now."""
        return getattr(self, "_fitted_readout", self.readout) == "logistic"

    def _class_output(self) -> ClassOutput:
        return ClassOutput(self.classes_, "logits" if self._has_logits else "estimates")

    def partial_fit(
        self,
        X: object,
        y: object = None,
        *,
        classes: object = None,
        labels: object = None,
        lengths: ArrayLike | None = None,
    ) -> ClassifierGoingOn:
        """Go on with new rows, without the old ones; the first call is a `fit`.

        Old rows stand in for themselves by the curvature of their cross-entropy at the weights
        they led to, which are taken to be their best ones.

        Parameters
        ----------
        X : array or list
            New inputs, in every form that `fit` takes: whole sequences, as a state is not carried
            over from the old ones.
        y : sequence, or sequence of sequences
        classes : sequence
            All labels that will ever come; needed in the first call, and only there. Those that do
            not occur among the first rows begin as rare ones.
        labels : sequence, or sequence of sequences
            Another name of `y`.
        lengths : sequence of int, optional

        Returns
        -------
        SpectralRNNClassifier
            Itself.

        Raises
        ------
        ValueError
            If `classes` are missing in the first call or differ later, a label is not among them,
            or the fit is one that cannot be gone on with.

        Notes
        -----
        The law of the inputs (`chain_`) is exact, everything else of second order. What is said of
        `SpectralRNNRegressor.partial_fit` holds here, too; new rows have no part held out, as the
        old ones keep weights from following noise. After `fit` alone there is nothing to go on
        from: call `partial_fit` from the first rows on.
        """
        labels, first = second_argument("y", y, "labels", labels), not hasattr(self, "model_")
        data = as_data(X, lengths=lengths)
        if not first:
            self._check_columns(data)
            self._check_inputs(data.n_inputs)
        problem = self._problem(data)
        self._check_partial(problem)
        known = self._classes_of(classes, first=first)
        problem = _coded(problem, labels, X, lengths, known)
        if first:
            self.fit(X, labels, lengths=lengths)
            self._widen(known)
            self._keep(problem, labels=True)
        else:
            self._continue(problem, known.shape[0])
        return self

    def _start_of_labels(
        self, problem: FitProblem, classes: Labels, checkpoint: str | Path | None
    ) -> tuple[FitProblem, Network | None]:
        """The problem of a fit, and the network it starts from, whose labels are those there."""
        same = not hasattr(self, "model_") or classes.tolist() == self.classes_.tolist()
        if self.warm_start and not same:
            raise ValueError(
                f"`warm_start`=True goes on from `model_`, whose labels are "
                f"{self.classes_.tolist()!r:.80}, and these data have {classes.tolist()!r:.80}"
            )
        return self._start(problem, classes.shape[0], checkpoint)

    def _classes_of(self, classes: object, *, first: bool) -> Labels:
        """All labels that there will be."""
        if classes is None:
            if first:
                raise ValueError(
                    "`classes` must be passed on the first call to partial_fit: all labels that "
                    "will ever come"
                )
            return self.classes_
        listed = list(classes) if not isinstance(classes, (str, bytes)) else []  # type: ignore[call-overload]
        given = of_type(distinct(2 * listed), classes)
        if len(given) < 2:
            raise ValueError(f"`classes` is {classes!r:.80}, expected two labels or more")
        if not first and given.tolist() != self.classes_.tolist():
            raise ValueError(
                f"`classes` is {given.tolist()!r:.80}, and was {self.classes_.tolist()!r:.80} in "
                f"the first call to partial_fit: leave it out, or give the same"
            )
        return given

    def _widen(self, classes: Labels) -> None:
        """Make room for labels that do not occur yet, as rare ones."""
        place = numbers_of(list(self.classes_), classes)
        model, n = self.model_, classes.shape[0]
        absent = [str(each) for i, each in enumerate(classes) if i not in place]
        if absent:
            warn_caller(
                f"labels {', '.join(absent[:5])} do not occur in the rows of the first call: their "
                f"weights will come from later rows alone",
                LabelWarning,
            )
            lowest = model.output_bias.max() + np.log(RARE / self._n_rows())
            bias = np.full(n, lowest)
            bias[place] = model.output_bias
            output = np.zeros((model.n_hidden, n))
            output[:, place] = model.output_weights
            direct = None
            if model.direct_weights is not None:
                direct = np.zeros((model.direct_weights.shape[0], n))
                direct[:, place] = model.direct_weights
            self.model_ = model.replace(
                output_weights=output, output_bias=bias, direct_weights=direct
            )
        self.classes_ = classes

    def _n_rows(self) -> int:
        assert isinstance(self.report_, FitReport)
        return self.report_.sizes["steps"]


def _coded(
    problem: FitProblem, labels: object, X: object, lengths: ArrayLike | None, classes: Labels
) -> FitProblem:
    """The problem with the places of the labels among the classes as outputs."""
    data = problem.data
    if isinstance(data, Sequences) and data.Y is None:
        flat = flatten_labels(labels_of_steps(labels, X, lengths), data)
        numbers = numbers_of(flat, classes)
        unknown = {str(flat[i]) for i in np.flatnonzero(numbers < 0)}
        problem = replace(problem, data=replace(data, Y=like(data.X, numbers[:, None])))
    elif labels is not None:
        raise ValueError("`labels` were given beside data that hold labels: leave them out")
    else:
        problem.engine.scan(data)
        seen = label_numbers(data, problem.engine)
        unknown = {str(label) for label in seen if label not in classes}
        problem = problem.with_outputs(LabelCoding(classes.astype(np.int64)))
    if unknown:
        raise ValueError(
            f"labels {', '.join(sorted(unknown)[:5])} are not among the `classes` of the first "
            f"call to partial_fit: give all labels that will ever come there"
        )
    return problem

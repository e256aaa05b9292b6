"""Parameters of the estimators, checked in one place, and objects put in place of names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from gloree._parameters import check_flag, check_integer, optional_integer
from gloree._random import RandomState, as_generator
from gloree.activations import Activation, get_activation
from gloree.chains import InputLaw, as_law, require
from gloree.diagnostics import (
    FitReport,
    IdentificationReport,
    check_activation,
    recoverable_degree,
)
from gloree.engine import get_engine
from gloree.estimators._interface import Estimator
from gloree.estimators._resume import open_checkpoint
from gloree.estimators._scoring import refuse_scorers_of_rows
from gloree.fitting import EQUAL, FitProblem, FitSettings
from gloree.models import (
    ClassOutput,
    Explosions,
    Network,
    Precision,
    RowFunction,
    export_onnx,
    predict_data,
    start_at,
)
from gloree.moments import FIRST_MOMENTS, FirstMomentEstimator
from gloree.recurrence import RECURRENCES, RecurrenceEstimator
from gloree.refinement import LOSSES, Loss, Solver
from gloree.sequences import Array, Data, Sequences
from gloree.sources import as_data

MOMENTS_BY_SIZE = ("auto", "regression")
"""First moments that are chosen by the sizes of the data."""

SYMMETRIC = 1e-10
"""Asymmetry and least eigenvalue of a metric of the outputs, scaled to a diagonal of ones."""

Strategy = TypeVar("Strategy")


class SpectralRNN(Estimator):
    """What `SpectralRNNRegressor` and `SpectralRNNClassifier` have in common."""

    model_: Network
    chain_: InputLaw | None
    report_: FitReport | IdentificationReport

    n_hidden: int | tuple[int, int] | None
    bidirectional: bool
    activation: str | Activation
    chain: object
    moment: str | FirstMomentEstimator
    direct: bool
    fit_bias: bool
    recurrence: str | RecurrenceEstimator | None
    lags: int
    max_rounds: int
    refine: str | Solver | None
    loss: str | Loss
    batch_size: int | None
    memory_limit: int | None
    random_state: RandomState

    _solvers: Mapping[str, Solver]
    _fits_linear = False

    def _predictions(
        self,
        X: object,
        lengths: ArrayLike | None,
        convert: Callable[[Array], NDArray[np.generic]],
        state: object,
        return_state: bool,
        rows_of: RowFunction | None = None,
    ) -> Any:
        """What `convert` makes of the outputs of the network, in the form of `X` (and states)."""
        check_is_fitted(self, "model_")
        data = as_data(X, lengths=lengths, keep_tensors=False)
        self._check_columns(data)
        if isinstance(data, Sequences):
            refuse_scorers_of_rows(data.form, flat_outputs=getattr(self, "_flat_outputs", False))
        return predict_data(
            self.model_,
            data,
            Explosions(),
            engine=self.engine,
            verbose=self.verbose,
            convert=convert,
            start=start_at(self.model_, data, state, engine=self.engine, verbose=self.verbose),
            return_state=return_state,
            rows_of=rows_of,
        )

    def export_onnx(self, path: str | Path, *, dtype: Precision = "float64") -> Path:
        """Write `model_` as an ONNX file that runs records of any length (extra ``onnx``).

        Parameters
        ----------
        path : str or Path
        dtype : {"float64", "float32"}, default "float64"

        Returns
        -------
        Path

        Notes
        -----
        See `gloree.models.export_onnx` for its inputs and outputs. Outputs are always two
        dimensions; those of a classifier are "labels" and "probabilities".
        """
        check_is_fitted(self, "model_")
        return export_onnx(self.model_, path, dtype=dtype, labels=self._class_output())

    def _class_output(self) -> ClassOutput | None:
        """What outputs say of labels; None for outputs that are measured."""
        return None

    def _problem(self, data: Data) -> FitProblem:
        """Check the parameters and resolve names; which engine None means depends on the data."""
        engine = get_engine(self.engine, verbose=self.verbose, data=data)
        return FitProblem(data, self._settings(data), engine, as_generator(self.random_state))

    def _settings(self, data: Data) -> FitSettings:
        activation = get_activation(self.activation)
        if activation.degree != 1 or not self._fits_linear:
            check_activation(activation)
        for name in ("bidirectional", "direct", "fit_bias"):
            check_flag(name, getattr(self, name))
        n_hidden, n_forward = self._sizes()
        moment: FirstMomentEstimator | str = self._moment()
        recurrence = None
        if self.recurrence is not None:
            recurrence = strategy("recurrence", self.recurrence, RECURRENCES, ("sums", "update"))
        solver = None
        if self.refine is not None:
            solver = strategy("refine", self.refine, self._solvers, ("minimise",))
        loss: Loss = strategy("loss", self.loss, LOSSES, ("rows", "sums"))
        if activation.degree not in (1, 2, 3):
            check_unused(activation, moment, recurrence)
        return FitSettings(
            n_hidden=n_hidden,
            n_forward=n_forward,
            bidirectional=bool(self.bidirectional),
            activation=activation,
            law=self._given_law(data, activation, moment, recurrence),
            moment=moment,
            direct=bool(self.direct),
            bias=bool(self.fit_bias),
            recurrence=recurrence,
            lags=check_integer("lags", self.lags, 1),
            max_rounds=check_integer("max_rounds", self.max_rounds, 0),
            solver=solver,
            loss=loss,
            batch_size=optional_integer("batch_size", self.batch_size, 1),
            memory_limit=optional_integer("memory_limit", self.memory_limit, 1),
            verbose=check_integer("verbose", self.verbose, 0),
            output_weights=self._output_weights(data.n_outputs, loss),
        )

    def _output_weights(self, n_outputs: int, loss: Loss) -> str | Array:
        """How outputs are weighed; labels are not."""
        return EQUAL

    def _sizes(self) -> tuple[int | None, int | None]:
        """Hidden units in all, and forward ones where a pair fixes them."""
        if not isinstance(self.n_hidden, (tuple, list)):
            return optional_integer("n_hidden", self.n_hidden, 1), None
        if not self.bidirectional or len(self.n_hidden) != 2:
            raise ValueError(
                f"`n_hidden` is {self.n_hidden!r}, expected an integer, or a pair (forward, "
                f"backward) with bidirectional=True"
            )
        forward, backward = (check_integer("n_hidden", size, 0) for size in self.n_hidden)
        if forward + backward == 0:
            raise ValueError("`n_hidden` is (0, 0), expected at least one unit")
        return forward + backward, forward

    def _moment(self) -> FirstMomentEstimator | str:
        if isinstance(self.moment, str) and self.moment in MOMENTS_BY_SIZE:
            return self.moment
        needed = ("n_features", "bind")
        return strategy("moment", self.moment, FIRST_MOMENTS, needed, MOMENTS_BY_SIZE)

    def _given_law(
        self,
        data: Data,
        activation: Activation,
        moment: FirstMomentEstimator | str,
        recurrence: RecurrenceEstimator | None,
    ) -> InputLaw | None:
        """The law given as `chain`, if it declares what each of the other parameters asks of it."""
        if isinstance(self.chain, str):
            check_choice("chain", self.chain, ("gaussian-var",), "an input law")
            return None
        lengths = np.concatenate(list(data.part_lengths))
        given = as_law(self.chain, n_inputs=data.n_inputs, lengths=lengths)
        law: InputLaw = require(given, purpose="`chain`")
        if activation.degree == 1:
            return None  # linear networks are fitted without a law
        if activation.degree not in (2, 3):
            return law  # not used, and reported as `chain_`
        degree, _ = recoverable_degree(activation)
        asked = []
        if isinstance(moment, str):
            # a regression moment takes scores of interior steps only; "auto" may take the other;
            # laws that are not Hermite give way to a regression on the inputs alone
            order = degree if law.capabilities.hermite else 1
            asked.append((f"moment={moment!r}", order, moment == "auto", False))
        elif moment.uses_scores:
            hermite = getattr(moment, "hermite", True)
            asked.append((f"moment={moment.name!r}", degree, True, hermite))
        if recurrence is not None and recurrence.uses_scores:
            order = recurrence.score_order(degree)
            hermite = getattr(recurrence, "hermite", True)
            asked.append((f"recurrence={recurrence.name!r}", order, True, hermite))
        for purpose, order, edges, hermite in asked:
            law = require(
                law, order=order, hermite=hermite, tensors=True, edges=edges, purpose=purpose
            )
        return law

    def _on(self, problem: FitProblem, checkpoint: str | Path | None) -> FitProblem:
        """The problem once the engine has scanned its data, with a checkpoint."""
        problem.engine.scan(problem.data)
        self._check_law(problem)
        if checkpoint is None:
            return problem
        log = open_checkpoint(checkpoint, self, problem.data, {"rng": problem.rng})
        return replace(
            problem, engine=replace(problem.engine, checkpoint=log), rng=log.start["rng"]
        )

    def _check_law(self, problem: FitProblem) -> None:
        """Check a given input law against the inputs."""
        if isinstance(self.chain, str):
            return
        if problem.settings.lags > 1:
            raise ValueError(
                "`chain` was given with `lags` > 1: overlapping windows have no joint density, so "
                "their fit uses no input law. Leave `chain` out"
            )
        law = problem.settings.law
        if law is not None and law.n_inputs != problem.data.n_inputs:
            raise ValueError(f"`chain` has {law.n_inputs} inputs, `X` has {problem.data.n_inputs}")


def check_unused(
    activation: Activation,
    moment: FirstMomentEstimator | str,
    recurrence: RecurrenceEstimator | None,
) -> None:
    """Raise where something was asked for that a fit with this activation does not use."""
    if not isinstance(moment, str):
        raise ValueError(
            f"`moment`={moment.name!r} is of one order, and activation {activation.name!r} is "
            f"fitted from derivatives of several: leave `moment` at 'auto'"
        )
    if recurrence is not None and recurrence != RECURRENCES["instrument"]:
        raise ValueError(
            f"`recurrence`={recurrence.name!r} is for polynomials of degree 2 and 3; with "
            f"activation {activation.name!r} all weights are found together: leave it at its "
            f"default, or give None for a network without recurrence"
        )


def output_metric(given: ArrayLike, n_outputs: int) -> Array:
    """Weights or metric of the outputs, finite and positive (definite); else a ValueError."""
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`output_weights` is {given!r:.100}: expected an array of numbers, a weight of each "
            f"output, or a metric"
        ) from error
    if found.shape not in ((n_outputs,), (n_outputs, n_outputs)):
        raise ValueError(
            f"`output_weights` has shape {found.shape}: expected a weight of each output, "
            f"({n_outputs},), or a metric, ({n_outputs}, {n_outputs})"
        )
    diagonal = found if found.ndim == 1 else np.diag(found)
    positive = bool(np.isfinite(found).all() and (diagonal > 0).all())
    if positive and found.ndim == 2:
        sizes = np.sqrt(diagonal)
        scaled = found / np.outer(sizes, sizes)
        alike = np.allclose(scaled, scaled.T, atol=SYMMETRIC)
        positive = alike and float(np.linalg.eigvalsh(scaled)[0]) > SYMMETRIC
        found = (found + found.T) / 2
    if not positive:
        raise ValueError(
            "`output_weights` must be finite and positive, or a symmetric, positive definite "
            "metric: leave out of `Y` what is to count nothing"
        )
    return found


def check_choice(
    name: str, value: object, choices: tuple[str | None, ...], or_else: str = ""
) -> None:
    """Raise, naming the closest choice, unless the value is one of the choices."""
    if value in choices:
        return
    words = [choice for choice in choices if choice is not None]
    close = difflib.get_close_matches(str(value)[:50], words, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    expected = ", ".join(map(repr, choices)) + (f", or {or_else}" if or_else else "")
    raise ValueError(f"`{name}` must be one of {expected}, got {value!r}{hint}")


def strategy(
    name: str,
    value: object,
    table: Mapping[str, Strategy],
    methods: tuple[str, ...],
    others: tuple[str, ...] = (),
) -> Strategy:
    """Strategy by its name, or an object that has its methods; else a ValueError or TypeError."""
    if isinstance(value, str) or value is None or isinstance(value, (bool, int, float)):
        check_choice(name, value, (*others, *table), f"an object with {_listed(methods)}")
        return table[str(value)]
    stubs = (FirstMomentEstimator, RecurrenceEstimator, Solver)
    lacking = [
        each
        for each in methods
        if not callable(getattr(value, each, None))
        or any(getattr(type(value), each) is getattr(stub, each, None) for stub in stubs)
    ]
    if isinstance(value, type) or lacking:
        what = f"the class {value.__name__}" if isinstance(value, type) else f"{value!r}"
        raise TypeError(
            f"`{name}` is {what}: expected one of {', '.join(map(repr, (*others, *table)))}, or an "
            f"object with {_listed(methods)}"
            + (f"; it lacks {_listed(lacking)}" if lacking else ": give an instance of it")
        )
    return value  # type: ignore[return-value]


def _listed(methods: Sequence[str]) -> str:
    return " and ".join(f"`{each}`" for each in methods)

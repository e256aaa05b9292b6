"""Parameters of the estimators, checked in one place."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from gloree.activations import Activation, Polynomial, get_activation
from gloree.chains import HermiteLaw, require
from gloree.diagnostics import FitReport, IdentificationReport, recoverable_degree
from gloree.engine import get_engine
from gloree.estimators._resume import open_checkpoint
from gloree.estimators._state import Settings
from gloree.models import Network
from gloree.recurrence import score_order
from gloree.sequences import Data

_MOMENTS = ("auto", "regression", "score")
_RECURRENCES = ("instrument", "cross", "score")


class SpectralRNN(BaseEstimator):  # type: ignore[misc]
    """What `SpectralRNNRegressor` and `SpectralRNNClassifier` have in common."""

    model_: Network
    chain_: HermiteLaw | None
    report_: FitReport | IdentificationReport

    n_hidden: int | tuple[int, int] | None
    bidirectional: bool
    activation: str | Activation
    chain: str | HermiteLaw
    moment: str
    direct: bool
    fit_bias: bool
    recurrence: str | None
    lags: int
    max_rounds: int
    refine: str | None
    batch_size: int | None
    memory_limit: int | None
    random_state: Any
    engine: Any
    verbose: int

    _refinements: tuple[str, ...]
    _fits_linear = False

    def _sizes(self) -> tuple[int | None, int | None]:
        """Hidden units in all, and forward ones where a pair fixes them."""
        if not isinstance(self.n_hidden, (tuple, list)):
            if self.n_hidden is not None:
                check_integer("n_hidden", self.n_hidden, 1)
            return self.n_hidden, None
        if not self.bidirectional or len(self.n_hidden) != 2:
            raise ValueError(
                f"`n_hidden` is {self.n_hidden!r}, expected an integer, or a pair (forward, "
                f"backward) with bidirectional=True"
            )
        for size in self.n_hidden:
            check_integer("n_hidden", size, 0)
        if sum(self.n_hidden) == 0:
            raise ValueError("`n_hidden` is (0, 0), expected at least one unit")
        return int(sum(self.n_hidden)), int(self.n_hidden[0])

    def _settings(self, data: Data) -> Settings:
        """Check the parameters and resolve names; which engine None means depends on the data."""
        activation = get_activation(self.activation)
        if activation.degree != 1 or not self._fits_linear:
            recoverable_degree(activation)
        assert isinstance(activation, Polynomial)
        check_integer("verbose", self.verbose, 0)
        for name in ("bidirectional", "direct", "fit_bias"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}")
        n_hidden, n_forward = self._sizes()
        check_integer("lags", self.lags, 1)
        check_integer("max_rounds", self.max_rounds, 0)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, 1)
        if self.memory_limit is not None:
            check_integer("memory_limit", self.memory_limit, 1)
        check_choice("moment", self.moment, _MOMENTS)
        check_choice("recurrence", self.recurrence, (*_RECURRENCES, None))
        check_choice("refine", self.refine, (*self._refinements, None))
        return Settings(
            n_hidden=n_hidden,
            n_forward=n_forward,
            bidirectional=self.bidirectional,
            activation=activation,
            chain=self._given_law(activation),
            moment=self.moment,
            direct=self.direct,
            bias=self.fit_bias,
            recurrence=self.recurrence,
            lags=self.lags,
            max_rounds=self.max_rounds,
            refine=self.refine,
            batch_size=self.batch_size,
            memory_limit=self.memory_limit,
            engine=get_engine(self.engine, verbose=self.verbose, data=data),
            rng=_generator(self.random_state),
            verbose=self.verbose,
        )

    def _given_law(self, activation: Polynomial) -> HermiteLaw | None:
        """The law given as `chain`, if it declares what each of the other parameters asks of it."""
        if isinstance(self.chain, str):
            if self.chain == "gaussian-var":
                return None
            close = difflib.get_close_matches(self.chain[:50], ["gaussian-var"], n=1)
            hint = "; did you mean 'gaussian-var'?" if close else ""
            raise ValueError(
                f"`chain` must be 'gaussian-var' or an input law, got {self.chain!r}{hint}"
            )
        if activation.degree == 1:
            # Linear networks are fitted without a law.
            require(self.chain, purpose="`chain`")
            return None
        degree, _ = recoverable_degree(activation)
        # A regression moment takes scores of interior steps only; "auto" may choose the other.
        asked = [(f"moment={self.moment!r}", degree, self.moment != "regression")]
        if self.recurrence is not None:
            order = score_order(self.recurrence, degree)
            asked.append((f"recurrence={self.recurrence!r}", order, True))
        for purpose, order, edges in asked:
            law = require(self.chain, order=order, hermite=True, edges=edges, purpose=purpose)
        return law

    def _on(self, data: Data, settings: Settings, checkpoint: str | Path | None) -> Settings:
        """Settings for these data, at which the engine has taken its first look."""
        settings.engine.look(data)
        self._check_inputs(data, settings)
        if checkpoint is None:
            return settings
        log = open_checkpoint(checkpoint, self, data, {"rng": settings.rng})
        engine = replace(settings.engine, checkpoint=log)
        return replace(settings, engine=engine, rng=log.start["rng"])

    def _check_inputs(self, data: Data, settings: Settings) -> None:
        """Check a given input law against the inputs."""
        if isinstance(self.chain, str):
            return
        if settings.lags > 1:
            raise ValueError(
                "`chain` was given with `lags` > 1: overlapping windows have no joint density, so "
                "their fit uses no input law. Leave `chain` out"
            )
        if self.chain.n_inputs != data.n_inputs:
            raise ValueError(f"`chain` has {self.chain.n_inputs} inputs, `X` has {data.n_inputs}")


def _generator(random_state: Any) -> np.random.Generator:
    whole = isinstance(random_state, (int, np.integer)) and random_state >= 0
    if random_state is None or whole or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    raise TypeError(
        f"`random_state` must be None, an integer of at least 0 or a numpy.random.Generator, got "
        f"{random_state!r}"
    )


def check_integer(name: str, value: Any, least: int) -> None:
    """Raise unless the value is a whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise, naming the closest choice, unless the value is one of the choices."""
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), [c for c in choices if c is not None], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"`{name}` must be one of {choices}, got {value!r}{hint}")

"""Fits drawn at random, valid and invalid, and what one of them may end in.

A fit ends *well* in a model whose weights and predictions are finite numbers, or in an error of the
library's own: a ValueError or TypeError that names an argument in backticks, or one of its classes
of errors. Everything else is a fault: an error of NumPy or SciPy, a warning of theirs, a number
that is not finite, more seconds than a fit of this size can take.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
import warnings
from contextlib import contextmanager

import numpy as np

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier
from gloree.chains import LawError, NonStationaryChainError
from gloree.diagnostics import GloreeWarning, IdentifiabilityError, TooFewSamplesError
from gloree.models import ExplosionError
from gloree.moments import MemoryLimitError
from gloree.sources import SourceError

OWN_ERRORS = (
    *(IdentifiabilityError, TooFewSamplesError, SourceError, MemoryLimitError),
    *(LawError, NonStationaryChainError),
)
SECONDS = 30
"""Of one small fit on a busy machine, at most."""


class TooLongError(BaseException):
    """A fit that does not end."""


@contextmanager
def at_most(seconds):
    """Interrupt what takes longer."""

    def stop(signum, frame):
        raise TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pick(rng, *choices, usual=0.6):
    """The first choice mostly, else one of the others."""
    if rng.random() < usual:
        return choices[0]
    return choices[1 + rng.integers(len(choices) - 1)]


def lengths_of(rng, tame):
    """Steps of each sequence."""
    kind = rng.integers(8) if not tame else rng.integers(3, 8)
    if kind == 0:
        return [int(rng.integers(1, 4))]
    if kind == 1:
        return [int(rng.integers(100, 3000))]
    if kind == 2:
        return [1] * int(rng.integers(1, 400))
    if kind == 3:
        return [int(n) for n in rng.integers(1, 30, size=rng.integers(1, 80))]
    return [int(rng.integers(2, 25))] * int(rng.integers(150 if tame else 2, 200))


def spoilt(rng, values, name, tame):
    """Values with a fault, or of another scale or type; and what was done."""
    kinds = (
        *("none", "constant", "duplicate", "nan", "inf", "huge", "huge", "vast", "tiny", "minute"),
        *("integers", "float32", "one", "zeros", "scales", "offset", "binary", "few values"),
        *("float16", "huge32", "step", "dependent"),
    )
    kind = pick(rng, *kinds, usual=0.45 + tame)
    values = values.copy()
    place, column = rng.integers(values.shape[0]), rng.integers(values.shape[1])
    if kind == "constant":
        values[:, column] = rng.choice([0.0, 1.0, 1e12])
    elif kind == "duplicate":
        values[:, column] = values[:, 0]
    elif kind in ("nan", "inf"):
        values[place, column] = float(kind)
    elif kind == "huge":
        values *= 10.0 ** rng.integers(10, 160)
    elif kind == "vast":
        values *= 10.0 ** rng.integers(160, 307)
    elif kind == "tiny":
        values *= 10.0 ** -rng.integers(10, 160)
    elif kind == "minute":
        values *= 10.0 ** -rng.integers(160, 320)
    elif kind == "integers":
        values = np.round(values * rng.choice([1, 100])).astype(rng.choice([np.int8, np.int64]))
    elif kind == "float32":
        values = values.astype(np.float32)
    elif kind == "float16":
        values = values.astype(np.float16)
    elif kind == "huge32":
        values = (values * 1e36).clip(-3e38, 3e38).astype(np.float32)
    elif kind == "one":
        values[place, column] = 10.0 ** rng.integers(3, 300)
    elif kind == "zeros":
        values[:] = 0.0
    elif kind == "scales":
        values *= 10.0 ** rng.integers(-12, 12, size=values.shape[1])
    elif kind == "offset":
        values += 10.0 ** rng.integers(0, 20)
    elif kind == "binary":
        values = np.sign(values)
    elif kind == "few values":
        values = np.round(values)
    elif kind == "step":
        values[place:] += 100.0
    elif kind == "dependent" and values.shape[1] > 2:
        values[:, 0] = values[:, 1:].sum(axis=1)
    return values, f"{name} {kind}"


def outputs_of(rng, X, n_outputs):
    """Outputs of a quadratic or linear system, or noise."""
    Z = np.clip(np.nan_to_num(np.asarray(X, dtype=np.float64)), -1e3, 1e3)
    kind = rng.integers(4)
    if kind == 0:
        return rng.standard_normal((Z.shape[0], n_outputs))
    signal = Z @ rng.standard_normal((Z.shape[1], 2))
    signal[1:] += 0.3 * signal[:-1]
    signal = signal ** (2 if kind == 1 else 3 if kind == 2 else 1)
    noise = rng.choice([0.0, 0.1]) * rng.standard_normal((Z.shape[0], n_outputs))
    return signal @ rng.standard_normal((2, n_outputs)) + noise


def in_a_form(rng, rows, lengths):
    """Flat rows as one array, a list, or a 3-D array; and the lengths to be given."""
    n, steps = len(lengths), lengths[0]
    if len(set(lengths)) == 1 and rng.random() < 0.6:
        return lambda values: values.reshape(n, steps, -1), None
    if rng.random() < 0.5:
        return lambda values: values, lengths
    ends = np.cumsum(lengths)[:-1]
    return lambda values: np.split(values, ends), None


def draw(seed):
    """An estimator, its data, and a text that says what they are."""
    rng = np.random.default_rng(seed)
    # half of the fits have ordinary data and parameters but for one or two
    tame = 0.35 * rng.integers(2)
    kind = ("regressor", "classifier", "identifier")[rng.choice(3, p=[0.5, 0.3, 0.2])]
    n_inputs = int(rng.choice([1, 2, 3, 4, 6, 12, 50], p=[0.1, 0.25, 0.25, 0.2, 0.1, 0.07, 0.03]))
    n_outputs = int(rng.choice([1, 2, 3, 5], p=[0.1, 0.3, 0.3, 0.3]))
    lengths = lengths_of(rng, tame)
    if kind == "identifier":
        n_inputs, n_outputs = min(n_inputs, 2), min(n_outputs, 2)
        lengths = [400] if rng.random() < 0.5 else lengths
    n_rows = sum(lengths)
    X, first = spoilt(rng, rng.standard_normal((n_rows, n_inputs)), "X", tame)
    Y = outputs_of(rng, X, n_outputs)
    form, sizes = in_a_form(rng, X, lengths)
    text = f"seed {seed}: {kind}, {len(lengths)} sequences, {n_rows} rows, {first}"
    engine = pick(rng, "serial", None, usual=0.8)
    if kind == "identifier":
        Y, second = spoilt(rng, Y, "Y", tame)
        options = {
            "n_linear": pick(rng, None, 1, 2, 5, 100, 10**6),
            "n_nonlinear": pick(rng, 0, None, 1, 2, 50, usual=0.4),
            "unit": pick(rng, "tanh", "quadratic", "cubic", "polynomial", "softplus"),
            "n_directions": pick(rng, None, 1, 2, 3, usual=0.8),
            "max_seconds": pick(rng, 0.2, 1e-9, usual=0.9),
            "engine": engine,
        }
        return SystemIdentifier(**options), form(X), form(Y), sizes, f"{text}, {second}, {options}"
    options = {
        "n_hidden": pick(rng, 2, 1, 3, None, 7, 40, 10**4, 10**9, (1, 1), (0, 2), usual=0.5 + tame),
        "bidirectional": bool(rng.random() < 0.2),
        "activation": pick(rng, "quadratic", "cubic", "linear", usual=0.6),
        "moment": pick(rng, "auto", "regression", "score", "xreg", "union", usual=0.6 + tame),
        "direct": bool(rng.random() < 0.3),
        "fit_bias": bool(rng.random() < 0.8),
        "recurrence": pick(
            rng, "instrument", None, "least-squares", "cross", "score", usual=0.5 + tame
        ),
        "lags": pick(rng, 1, 2, 3, 30, 1000, 10**9, usual=0.6 + tame),
        "max_rounds": pick(rng, 5, 0, 1, usual=0.8 + tame),
        "batch_size": pick(rng, None, 1, 7, 10**12, usual=0.8 + tame),
        "memory_limit": pick(rng, None, 1, 10**8, 10**15, usual=0.9 + tame),
        "engine": engine,
        "random_state": 0,
    }
    if options["batch_size"] == 1 and n_rows > 300:
        options["batch_size"] = 50
    if kind == "regressor":
        Y, second = spoilt(rng, Y, "Y", tame)
        options["refine"] = pick(rng, "one-step", "full", None)
        made = SpectralRNNRegressor(**options)
    else:
        labels, second = Y.argmax(axis=1), "labels"
        if n_outputs == 1 or rng.random() < 0.2:
            labels = rng.integers(pick(rng, 2, 1, 3, 30), size=n_rows)
        Y = labels if rng.random() < 0.7 else np.array([f"c{i}" for i in range(40)])[labels]
        options["refine"] = pick(rng, "full", None)
        options["readout"] = pick(rng, "logistic", "least-squares", usual=0.8 + tame)
        made = SpectralRNNClassifier(**options)
        if sizes is None and len(lengths) and not isinstance(form(X), list):
            return made, form(X), Y.reshape(len(lengths), -1), sizes, f"{text}, {options}"
        if sizes is None:
            return made, form(X), np.split(Y, np.cumsum(lengths)[:-1]), sizes, f"{text}, {options}"
    Y = Y if kind == "classifier" else form(Y)
    return made, form(X), Y, sizes, f"{text}, {second}, {options}"


def fault(seed):
    """What is wrong with the end of a fit (None if nothing is), and how it ended."""
    est, X, Y, lengths, text = draw(seed)
    begin, predictions = time.perf_counter(), []
    try:
        with at_most(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", GloreeWarning)
            est.fit(X, Y, lengths=lengths)
            with contextlib.suppress(ExplosionError):  # says where; some inputs may be left out
                predictions = est.predict(X, lengths=lengths)
    except OWN_ERRORS as error:
        return None, type(error).__name__
    except (ValueError, TypeError) as error:
        if type(error) in (ValueError, TypeError) and re.search(r"`[a-zA-Z_]", str(error)):
            return None, type(error).__name__
        return f"{text}\n    {type(error).__name__}: {error}", "fault"
    except TooLongError:
        return f"{text}\n    more than {SECONDS} seconds", "fault"
    except Exception as error:
        return f"{text}\n    {type(error).__name__}: {error}", "fault"
    if not all(np.isfinite(a).all() for a in est.model_.arrays().values() if a is not None):
        return f"{text}\n    weights are not finite", "fault"
    each = predictions if isinstance(predictions, list) else [predictions]
    for some in map(np.asarray, each):
        if some.dtype.kind == "f" and not np.isfinite(some).all():
            return f"{text}\n    predictions are not finite", "fault"
    return None, f"model, {time.perf_counter() - begin:.0f} s"

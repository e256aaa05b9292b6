"""The reference set: small fits that cover every path, and how one of them is run.

Data are simulated here, by elementwise arithmetic alone and without the library: they are the same
to the last bit on every machine and for every version of the code, as a checksum confirms.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from gloree import (
    Engine,
    GaussianVAR,
    SpectralRNNClassifier,
    SpectralRNNRegressor,
    SystemIdentifier,
    sources,
)
from gloree.activations import Polynomial
from gloree.engine import DaskEngine

Problem = Callable[[], tuple[Any, Any]]

N_PARTS = 4
"""Parts of data that are given in parts."""

ENOUGH_SECONDS = 1e6
"""Time given to an identification, so that its work and not the clock decides."""


# --------------------------------------------------------------------------------- simulated data


def times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Matrix product in one fixed order of operations, which no BLAS decides."""
    total = np.zeros((*rows.shape[:-1], matrix.shape[1]))
    for j in range(matrix.shape[0]):
        total += rows[..., j, None] * matrix[j]
    return total


def polynomial(coefficients: tuple[float, ...], z: np.ndarray) -> np.ndarray:
    """Value of a polynomial, by Horner's rule."""
    value = np.full_like(z, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * z + coefficient
    return value


def draw_inputs(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    law: str = "gaussian",
    memory: float = 0.35,
    burn_in: int = 20,
) -> np.ndarray:
    """First-order autoregression whose inputs depend on themselves and their neighbours."""
    n_sequences, n_steps, n_inputs = shape
    own, neighbour = rng.uniform(-memory, memory, (2, n_inputs))
    total = (n_steps + burn_in, n_sequences, n_inputs)
    noise = rng.standard_normal(total)
    if law == "exponential":
        noise = rng.standard_exponential(total) - 1.0
    if law == "wandering":
        own, neighbour, burn_in = np.ones(n_inputs), np.zeros(n_inputs), 0
        noise = 0.1 * noise
    noise = noise + 0.3 * np.roll(noise, 1, axis=2)
    X = np.zeros(total)
    X[0] = noise[0]
    for t in range(1, total[0]):
        X[t] = own * X[t - 1] + neighbour * np.roll(X[t - 1], 1, axis=1) + noise[t]
    return np.ascontiguousarray(X[burn_in : burn_in + n_steps].transpose(1, 0, 2))


@dataclass(frozen=True)
class Truth:
    """A network to simulate outputs with."""

    A1: np.ndarray
    U: np.ndarray
    A2: np.ndarray
    b: np.ndarray
    D: np.ndarray
    f: tuple[float, ...]
    n_backward: int
    lags: int


def draw_truth(
    rng: np.random.Generator,
    sizes: tuple[int, int, int],
    f: tuple[float, ...],
    recurrence: float,
    direct: float,
    n_backward: int,
    lags: int,
) -> Truth:
    """Draw a random network; units never depend on units of the other direction."""
    n_inputs, n_hidden, n_outputs = sizes
    U = recurrence * rng.standard_normal((n_hidden, n_hidden)) / np.sqrt(n_hidden)
    n_forward = n_hidden - n_backward
    U[:n_forward, n_forward:] = 0.0
    U[n_forward:, :n_forward] = 0.0
    return Truth(
        rng.standard_normal((n_hidden, lags * n_inputs)) / np.sqrt(lags * n_inputs),
        U,
        rng.standard_normal((n_hidden, n_outputs)) / np.sqrt(n_hidden),
        0.3 * rng.standard_normal(n_hidden),
        direct * rng.standard_normal((n_inputs, n_outputs)),
        f,
        n_backward,
        lags,
    )


def run_chain(truth: Truth, X: np.ndarray, units: slice) -> np.ndarray:
    """States of some units, which read the present input and those before it."""
    n_sequences, n_steps, n_inputs = X.shape
    h = np.zeros((n_sequences, n_steps, truth.A1[units].shape[0]))
    state = np.zeros((n_sequences, h.shape[2]))
    for t in range(n_steps):
        z = times(state, truth.U[units, units].T) + truth.b[units]
        for lag in range(min(truth.lags, t + 1)):
            columns = slice(lag * n_inputs, (lag + 1) * n_inputs)
            z = z + times(X[:, t - lag], truth.A1[units, columns].T)
        state = h[:, t] = polynomial(truth.f, z)
    return h


def run_truth(truth: Truth, X: np.ndarray) -> np.ndarray:
    """Outputs without noise."""
    n_forward = truth.A1.shape[0] - truth.n_backward
    ahead, back = slice(0, n_forward), slice(n_forward, None)
    Y = times(X, truth.D) + times(run_chain(truth, X, ahead), truth.A2[ahead])
    if truth.n_backward:
        Y = Y + times(run_chain(truth, X[:, ::-1], back)[:, ::-1], truth.A2[back])
    return Y


@cache
def simulated(
    seed: int,
    n_sequences: int,
    n_steps: int,
    sizes: tuple[int, int, int],
    *,
    f: tuple[float, ...] = (0.0, 0.0, 1.0),
    recurrence: float = 0.1,
    direct: float = 0.0,
    noise: float = 0.1,
    n_backward: int = 0,
    lags: int = 1,
    law: str = "gaussian",
    mean: float = 0.0,
    large: int = 0,
    foreign: int = 0,
    exploded: int = 0,
    small_column: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and outputs of a random network.

    Of the sequences, `large` have four times the inputs, `foreign` outputs that another system
    made, and `exploded` outputs beyond any scale.
    """
    rng = np.random.default_rng(seed)
    X = draw_inputs(rng, (n_sequences, n_steps, sizes[0]), law)
    X[10 : 10 + large] *= 4.0
    truth = draw_truth(rng, sizes, f, recurrence, direct, n_backward, lags)
    Y = run_truth(truth, X)
    Y += noise * rng.standard_normal(Y.shape)
    Y[20 : 20 + foreign] = 200.0 * rng.standard_normal(Y[20 : 20 + foreign].shape)
    Y[30 : 30 + exploded] *= 1e7
    X += mean * np.arange(1, sizes[0] + 1)
    if small_column:
        X[..., 0] *= 0.02
    return X, Y


@cache
def labelled(
    seed: int, n_classes: int, n_hidden: int = 2, n_sequences: int = 300, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and the number of the largest output at every step."""
    sizes = (4, n_hidden, n_classes)
    X, Y = simulated(seed, n_sequences, 10, sizes, recurrence=0.15, **options)
    return X, Y.argmax(axis=2)


def named_labels() -> tuple[np.ndarray, np.ndarray]:
    """Labels that are words."""
    X, numbers = labelled(61, 3)
    return X, np.array(["low", "middle", "high"])[numbers]


@cache
def ragged() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sequences of 1 to 12 steps, each beginning where a longer one begins."""
    X, Y = simulated(1, 400, 12, (5, 3, 4))
    lengths = 1 + np.arange(400) % 12
    return tuple([v[i, :n].copy() for i, n in enumerate(lengths)] for v in (X, Y))  # type: ignore[return-value]


@cache
def slow_memory() -> tuple[np.ndarray, np.ndarray]:
    """One record of a quadratic unit whose recurrence has a slope near one."""
    rng = np.random.default_rng(27)
    X = draw_inputs(rng, (1, 4000, 2))
    nothing = np.zeros((2, 2))
    A1, A2 = np.array([[0.06, 0.042]]), np.array([[1.0, -0.5]])
    square = (0.0, 0.0, 1.0)
    truth = Truth(A1, np.array([[0.24]]), A2, np.ones(1), nothing, square, 0, 1)
    return X, run_truth(truth, X) + 0.001 * rng.standard_normal((1, 4000, 2))


@cache
def records(
    n_records: int, n_samples: int, *, curved: bool = True, channels: int = 1
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Records of a filter, a saturation and another filter (or of filters alone), from rest."""
    rng = np.random.default_rng(71)
    u = rng.standard_normal((n_samples, n_records, channels))
    inner, y = np.zeros_like(u), np.zeros_like(u)
    rest = np.zeros_like(u[0])
    for t in range(n_samples):
        last, earlier = (inner[t - i] if t >= i else rest for i in (1, 2))
        inner[t] = u[t] + 0.3 * (u[t - 1] if t else rest) + 1.1 * last - 0.5 * earlier
        seen = inner[t] / np.sqrt(1.0 + inner[t] ** 2 / 4.0) if curved else inner[t]
        y[t] = seen + 0.7 * (y[t - 1] if t else rest)
    y += 0.02 * rng.standard_normal(y.shape)
    if channels > 1:
        y[..., 0] += y[..., 1]
    return [u[:, i].copy() for i in range(n_records)], [y[:, i].copy() for i in range(n_records)]


def one_record(n_samples: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """A single record, without a list around it."""
    (u,), (y,) = records(1, n_samples, **options)
    return u[:, 0], y[:, 0]


def single(values: Problem) -> tuple[Any, Any]:
    """Data in single precision."""
    X, Y = values()
    return X.astype(np.float32), Y.astype(np.float32)


def checksum(values: Any) -> int:
    """CRC-32 of arrays or lists of them."""
    code = 0
    for part in values if isinstance(values, (list, tuple)) else [values]:
        code = zlib.crc32(np.ascontiguousarray(part).tobytes(), code)
    return code


# --------------------------------------------------------------------------------- where data are


class Again:
    """Object that gives the same batches each time it is iterated over."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        yield from self.items


def parts_of(X: np.ndarray, Y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The data in parts."""
    return list(zip(np.array_split(X, N_PARTS), np.array_split(Y, N_PARTS), strict=True))


def as_arrays(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As they are."""
    return (X, Y), {}


def as_lists(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A list of sequences."""
    return (list(X), list(Y)), {}


def as_flat(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One sequence after another, with their lengths."""
    flat = (X.reshape(-1, X.shape[2]), Y.reshape(-1, Y.shape[2]))
    return flat, {"lengths": np.full(X.shape[0], X.shape[1])}


def as_memory_map(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Files of arrays."""
    for name, values in (("X", X), ("Y", Y)):
        np.save(folder / f"{name}.npy", values)
    return (sources.memory_map(folder / "X.npy", folder / "Y.npy"),), {}


def as_shards(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A directory of files."""
    shards = folder / "shards"
    shards.mkdir()
    for i, (x, y) in enumerate(parts_of(X, Y)):
        np.savez(shards / f"{i}.npz", X=x, Y=y)
    return (shards,), {}


def as_iterable(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An object that iterates over batches."""
    return (Again(parts_of(X, Y)),), {}


def as_bag(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A Dask bag of pairs of sequences."""
    from dask import bag

    return (bag.from_sequence(list(zip(X, Y, strict=True)), npartitions=N_PARTS),), {}


def as_tensors(X: Any, Y: Any, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """PyTorch tensors."""
    import torch

    return (torch.from_numpy(X), torch.from_numpy(Y)), {}


# --------------------------------------------------------------------------------- the engine's log


class Interrupted(Exception):
    """A fit that was stopped between two passes."""


def logged_engine(
    name: str, labels: list[str], *, client: Any = None, stop_after: int | None = None
) -> Engine:
    """Engine that writes down the label of each pass, and may stop the fit after so many."""
    base = DaskEngine if name == "dask" else Engine

    class Logged(base):  # type: ignore[misc, valid-type]
        def run(self, function: Any, source: Any, **options: Any) -> Any:
            if stop_after is not None and len(labels) >= stop_after:
                raise Interrupted
            labels.append(options.get("label", "pass"))
            return super().run(function, source, **options)

    if name == "dask":
        return Logged("dask", client=client)
    return Logged(name, n_workers=2 if name == "threads" else 1)


# --------------------------------------------------------------------------------- fits


@dataclass(frozen=True)
class Fit:
    """One fit of the set.

    Attributes
    ----------
    name : str
    estimator : type
    problem : callable
        Gives inputs and outputs.
    options : dict
        Parameters of the estimator.
    source : callable
        Puts the data where the fit is to read them.
    engine : {"serial", "threads", "dask", "default"}
    stop_after : int or None
        Passes after which the fit is interrupted, to be resumed from its checkpoint.
    equal_to : str or None
        Fit whose model has to be the same to the last bit.
    quick : bool
        Whether the test that runs with every change includes it.
    """

    name: str
    estimator: type
    problem: Problem
    options: dict[str, Any] = field(default_factory=dict)
    source: Callable[[Any, Any, Path], tuple[tuple[Any, ...], dict[str, Any]]] = as_arrays
    engine: str = "serial"
    stop_after: int | None = None
    equal_to: str | None = None
    quick: bool = True

    @property
    def ends_by_held_out(self) -> bool:
        """Whether held-out data say at which step the fit ends, or which of its trials is kept."""
        labels = self.estimator is SpectralRNNClassifier
        return self.estimator is SystemIdentifier or (labels and "readout" not in self.options)

    @property
    def is_linear(self) -> bool:
        """Whether its output weights are C U^{-1}, of a U that is nearly singular where poles are.

        Their rounding is that of predictions times the condition of U.
        """
        return self.options.get("activation") == "linear"

    @property
    def missing(self) -> str | None:
        """Package that this fit needs and that is not installed."""
        needed = {as_tensors: "torch", as_bag: "dask"}.get(self.source)
        needed = "distributed" if self.engine == "dask" else needed
        return needed if needed and importlib.util.find_spec(needed) is None else None


@dataclass
class Outcome:
    """What a fit gave."""

    estimator: Any
    labels: list[str]
    warnings: list[str]
    seconds: float
    processor: float
    X: Any
    Y: Any


@contextmanager
def dask_client(engine: str) -> Iterator[Any]:
    """Client of a cluster in this process, for fits that need one."""
    if engine != "dask":
        yield None
        return
    import distributed

    with ExitStack() as stack:
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=False,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
        )
        yield stack.enter_context(distributed.Client(cluster, set_as_default=False))


ABOUT_LIBRARIES = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning)
"""Warnings about installed packages, not about a fit."""


def run_fit(fit: Fit, *, around: Callable[[], Any] | None = None) -> Outcome:
    """Run one fit; `around` gives a context for the call of `fit` alone."""
    X, Y = fit.problem()
    labels: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client = stack.enter_context(dask_client(fit.engine))
        stack.enter_context(threadpool_limits(1))
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        arguments, keywords = fit.source(X, Y, folder)

        def estimator(stop_after: int | None = None) -> Any:
            options = dict(fit.options)
            if fit.engine != "default":
                options["engine"] = logged_engine(
                    fit.engine, labels, client=client, stop_after=stop_after
                )
            return fit.estimator(**options)

        if fit.stop_after is not None:
            keywords["checkpoint"] = folder / "checkpoint"
            try:
                estimator(fit.stop_after).fit(*arguments, **keywords)
            except Interrupted:
                pass
            else:
                raise RuntimeError(f"{fit.name}: it ended before it was to be interrupted")
            labels.clear()
            caught.clear()
        model = estimator()
        with around() if around else ExitStack():
            begin, begun = time.perf_counter(), time.process_time()
            model.fit(*arguments, **keywords)
            seconds, processor = time.perf_counter() - begin, time.process_time() - begun
        emitted = sorted(
            each.category.__name__
            for each in caught
            if not issubclass(each.category, ABOUT_LIBRARIES)
        )
    return Outcome(model, labels, emitted, seconds, processor, X, Y)


def _regressor(name: str, problem: Problem, n_hidden: Any, **options: Any) -> Fit:
    about = {
        key: options.pop(key)
        for key in ("source", "engine", "stop_after", "equal_to", "quick")
        if key in options
    }
    options = {"n_hidden": n_hidden, "batch_size": 1000, "random_state": 0, **options}
    return Fit(name, SpectralRNNRegressor, problem, options, **about)


def _classifier(name: str, problem: Problem, n_hidden: Any, **options: Any) -> Fit:
    fit = _regressor(name, problem, n_hidden, **options)
    return Fit(**{**vars(fit), "estimator": SpectralRNNClassifier})


def _identifier(name: str, problem: Problem, **options: Any) -> Fit:
    about = {
        key: options.pop(key)
        for key in ("quick", "engine", "stop_after", "equal_to")
        if key in options
    }
    options = {"max_seconds": ENOUGH_SECONDS, **options}
    return Fit(name, SystemIdentifier, problem, options, **about)


QUADRATIC = partial(simulated, 1, 400, 10, (5, 3, 4))
TWO_WAY = partial(simulated, 2, 600, 10, (5, 4, 4), n_backward=2, recurrence=0.2)
SKEWED = partial(simulated, 3, 400, 10, (4, 2, 3), law="exponential")
CUBIC = (0.0, 0.0, 0.0, 1.0)
PARABOLA = (0.3, 0.6, 1.0)
CUBIC_WITH_LOWER_TERMS = (0.1, 0.5, 0.4, 0.5)


def given_chain() -> GaussianVAR:
    """The true law of the inputs of `QUADRATIC`."""
    own, neighbour = np.random.default_rng(1).uniform(-0.35, 0.35, (2, 5))
    shift = np.roll(np.eye(5), 1, axis=0)
    mixing = np.eye(5) + 0.3 * shift
    return GaussianVAR(np.diag(own) + neighbour[:, None] * shift, mixing @ mixing.T)


def _all() -> list[Fit]:
    regressor, classifier, identifier = _regressor, _classifier, _identifier
    lower_two = partial(simulated, 4, 500, 10, (4, 2, 3), f=PARABOLA, recurrence=0.08)
    lower_three = partial(
        simulated, 5, 800, 10, (4, 2, 3), f=CUBIC_WITH_LOWER_TERMS, recurrence=0.05
    )
    direct = partial(simulated, 6, 400, 10, (4, 2, 3), direct=0.5)
    windows = partial(simulated, 7, 500, 10, (3, 2, 3), lags=2)
    two_way_windows = partial(simulated, 8, 800, 10, (3, 4, 4), lags=2, n_backward=2)
    long_record = partial(simulated, 9, 1, 5000, (4, 2, 3))
    linear = partial(simulated, 10, 1, 1500, (2, 3, 2), f=(0.0, 1.0), recurrence=0.6, direct=0.3)
    return [
        # forward networks, one path each
        regressor("quadratic", QUADRATIC, 3),
        regressor("quadratic, default engine", QUADRATIC, 3, engine="default"),
        regressor("one batch", QUADRATIC, 3, batch_size=None),
        regressor("no rounds", QUADRATIC, 3, max_rounds=0),
        regressor("not refined", QUADRATIC, 3, refine=None),
        regressor("refined to convergence", QUADRATIC, 3, refine="full"),
        regressor("no biases", QUADRATIC, 3, fit_bias=False),
        regressor("given law", QUADRATIC, 3, chain=given_chain()),
        regressor("ragged sequences", ragged, 3),
        regressor(
            "cubic",
            partial(simulated, 11, 800, 10, (4, 2, 3), f=CUBIC, recurrence=0.01),
            2,
            activation="cubic",
        ),
        regressor(
            "cubic, one output",
            partial(simulated, 12, 800, 10, (3, 2, 1), f=CUBIC, recurrence=0.01),
            2,
            activation="cubic",
        ),
        regressor("parabola", lower_two, 2, activation=Polynomial(PARABOLA)),
        regressor(
            "parabola, no biases", lower_two, 2, activation=Polynomial(PARABOLA), fit_bias=False
        ),
        regressor(
            "parabola, not refined", lower_two, 2, activation=Polynomial(PARABOLA), refine=None
        ),
        regressor(
            "cubic with lower terms", lower_three, 2, activation=Polynomial(CUBIC_WITH_LOWER_TERMS)
        ),
        regressor(
            "cubic with lower terms, no biases",
            lower_three,
            2,
            fit_bias=False,
            activation=Polynomial(CUBIC_WITH_LOWER_TERMS),
        ),
        regressor("direct path", direct, 2, direct=True),
        regressor("direct path, no recurrence", direct, 2, direct=True, recurrence=None),
        regressor(
            "rotation",
            partial(simulated, 13, 300, 10, (4, 2, 1), recurrence=0.0),
            2,
            recurrence=None,
        ),
        regressor(
            "no recurrence",
            partial(simulated, 14, 300, 10, (4, 2, 3), recurrence=0.0),
            2,
            recurrence=None,
        ),
        regressor("single steps", partial(simulated, 14, 3000, 1, (4, 2, 3)), 2, recurrence=None),
        regressor("lags", windows, 2, lags=2),
        regressor(
            "lags, direct path, no recurrence", windows, 2, lags=2, direct=True, recurrence=None
        ),
        regressor("fewer outputs than units", partial(simulated, 15, 800, 10, (5, 4, 2)), 4),
        regressor("more units than inputs", partial(simulated, 16, 800, 10, (3, 4, 5)), 4),
        regressor("range finder", partial(simulated, 17, 500, 10, (50, 2, 3)), 2),
        regressor(
            "range finder, not refined", partial(simulated, 17, 500, 10, (50, 2, 3)), 2, refine=None
        ),
        regressor("wide", partial(simulated, 18, 400, 20, (210, 2, 3)), 2, batch_size=2000),
        regressor(
            "wide, more weights than a matrix is formed for",
            partial(simulated, 43, 500, 20, (210, 8, 6)),
            8,
            batch_size=2000,
            quick=False,
        ),
        regressor("score moment", QUADRATIC, 3, moment="score"),
        regressor("regression moment", QUADRATIC, 3, moment="regression"),
        regressor(
            "moment without score features",
            partial(simulated, 19, 30, 10, (8, 2, 4)),
            2,
            moment="regression",
        ),
        regressor("cross recurrence", QUADRATIC, 3, recurrence="cross"),
        regressor("score recurrence", QUADRATIC, 3, recurrence="score"),
        regressor(
            "score throughout, not refined",
            QUADRATIC,
            3,
            moment="score",
            recurrence="cross",
            refine=None,
        ),
        regressor("inputs that are not Gaussian", SKEWED, 2),
        regressor(
            "score asked for where it is wrong", SKEWED, 2, moment="score", recurrence="cross"
        ),
        regressor(
            "wandering inputs", partial(simulated, 20, 400, 20, (4, 2, 3), law="wandering"), 2
        ),
        regressor("inputs with a mean", partial(simulated, 21, 400, 10, (4, 2, 3), mean=1.0), 2),
        regressor(
            "inputs with a mean, direct path",
            partial(simulated, 21, 400, 10, (4, 2, 3), mean=1.0, direct=0.4),
            2,
            direct=True,
        ),
        regressor(
            "unequal scales", partial(simulated, 34, 400, 10, (4, 2, 3), small_column=True), 2
        ),
        regressor(
            "noisy", partial(simulated, 23, 1200, 10, (4, 3, 3), noise=20.0), 3, batch_size=None
        ),
        regressor("number of units", QUADRATIC, None),
        regressor("number of units, score moment", QUADRATIC, None, moment="score"),
        regressor("number of units, long record", long_record, None),
        # segments
        regressor("large segments", partial(simulated, 24, 300, 10, (4, 2, 3), large=3), 2),
        regressor("segments of noise", partial(simulated, 25, 300, 10, (4, 2, 3), foreign=3), 2),
        regressor("exploded sequence", partial(simulated, 26, 300, 10, (4, 2, 3), exploded=1), 2),
        regressor("long record", long_record, 2),
        regressor(
            "long record, two workers", long_record, 2, engine="threads", equal_to="long record"
        ),
        regressor("long memory", slow_memory, 1, quick=False),
        # both directions
        regressor("two-way", TWO_WAY, 4, bidirectional=True),
        regressor("two-way, given sizes", TWO_WAY, (2, 2), bidirectional=True),
        regressor("two-way, not refined", TWO_WAY, 4, bidirectional=True, refine=None),
        regressor("two-way, cross recurrence", TWO_WAY, 4, bidirectional=True, recurrence="cross"),
        regressor("two-way, number of units", TWO_WAY, None, bidirectional=True),
        regressor(
            "two-way, lags",
            partial(two_way_windows, recurrence=0.15),
            4,
            bidirectional=True,
            lags=2,
        ),
        regressor(
            "two-way, lags, no recurrence",
            partial(two_way_windows, recurrence=0.0),
            4,
            bidirectional=True,
            lags=2,
            recurrence=None,
        ),
        regressor(
            "two-way, direct path, long record",
            partial(simulated, 29, 1, 4000, (4, 4, 4), n_backward=2, direct=0.3, recurrence=0.12),
            4,
            bidirectional=True,
            direct=True,
        ),
        # linear networks
        regressor("linear", linear, 3, activation="linear"),
        regressor("linear, not refined", linear, 3, activation="linear", refine=None),
        # where data are, and where passes run
        regressor("two workers", QUADRATIC, 3, engine="threads", equal_to="quadratic"),
        regressor("Dask", QUADRATIC, 3, engine="dask", equal_to="quadratic"),
        regressor("list", QUADRATIC, 3, source=as_lists, equal_to="quadratic"),
        regressor("flat arrays", QUADRATIC, 3, source=as_flat, equal_to="quadratic"),
        regressor("memory map", QUADRATIC, 3, source=as_memory_map, equal_to="quadratic"),
        regressor("shards", QUADRATIC, 3, source=as_shards),
        regressor(
            "shards, two workers",
            QUADRATIC,
            3,
            source=as_shards,
            engine="threads",
            equal_to="shards",
        ),
        regressor("shards, Dask", QUADRATIC, 3, source=as_shards, engine="dask", equal_to="shards"),
        regressor("iterable", QUADRATIC, 3, source=as_iterable, equal_to="shards"),
        regressor("Dask bag", QUADRATIC, 3, source=as_bag, engine="dask", equal_to="shards"),
        regressor("single precision", partial(single, QUADRATIC), 3),
        regressor("tensors", QUADRATIC, 3, source=as_tensors),
        regressor("interrupted", QUADRATIC, 3, stop_after=6, equal_to="quadratic"),
        regressor(
            "interrupted, shards", QUADRATIC, 3, source=as_shards, stop_after=4, equal_to="shards"
        ),
        # labels
        classifier("labels", named_labels, 2),
        classifier("labels, not refined", named_labels, 2, refine=None),
        classifier("labels, least squares", named_labels, 2, refine=None, readout="least-squares"),
        classifier("labels, no direct path", named_labels, 2, direct=False),
        classifier(
            "labels, two-way, lags",
            partial(labelled, 64, 5, 2, 800, n_backward=1, lags=2),
            (1, 1),
            bidirectional=True,
            lags=2,
        ),
        classifier(
            "labels, two-way",
            partial(labelled, 66, 5, 2, 800, n_backward=1),
            2,
            bidirectional=True,
            quick=False,
        ),
        classifier("labels, number of units", partial(labelled, 63, 4), None, refine=None),
        classifier("labels in shards", partial(labelled, 61, 3), 2, source=as_shards),
        classifier(
            "labels in shards, Dask",
            partial(labelled, 61, 3),
            2,
            source=as_shards,
            engine="dask",
            equal_to="labels in shards",
            quick=False,
        ),
        classifier("labels, interrupted", named_labels, 2, stop_after=8, equal_to="labels"),
        # systems
        identifier("system", partial(records, 12, 120), n_linear=2, n_nonlinear=2, quick=False),
        identifier(
            "system, two workers",
            partial(records, 12, 120),
            n_linear=2,
            n_nonlinear=2,
            engine="threads",
            equal_to="system",
            quick=False,
        ),
        identifier(
            "system, interrupted",
            partial(records, 12, 120),
            n_linear=2,
            n_nonlinear=2,
            stop_after=20,
            equal_to="system",
            quick=False,
        ),
        identifier(
            "system, linear", partial(records, 12, 120, curved=False), n_linear=3, n_nonlinear=0
        ),
        identifier("system, order chosen", partial(records, 12, 120), n_nonlinear=1, quick=False),
        identifier("system, sizes chosen", partial(records, 6, 120), n_linear=2, quick=False),
        identifier(
            "system, polynomial units",
            partial(records, 12, 120),
            n_linear=2,
            n_nonlinear=1,
            unit="polynomial",
        ),
        identifier(
            "system, two directions",
            partial(records, 12, 120, channels=2),
            n_linear=6,
            n_nonlinear=2,
            n_directions=2,
            quick=False,
        ),
        identifier(
            "system, one record", partial(one_record, 600), n_linear=3, n_nonlinear=1, quick=False
        ),
    ]


FITS: dict[str, Fit] = {fit.name: fit for fit in _all()}

"""Confidence intervals of weights, and how often they hold the true ones.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --quick

Each repetition draws a true network (3 inputs, 2 units, 3 outputs) and data. Gauss-Newton finds the
least-squares weights, from the truth (so that no search can fail), and `standard_errors` their
intervals, for sequences cut as a fit cuts them. Noise has a standard deviation of 0.1 and is

* iid: normal and independent;
* unequal: of a variance that grows with the inputs' size;
* correlated: over outputs, 0.7 between each pair;
* in time: an autoregression of 0.7 from step to step;
* common: half of its variance is an offset of each sequence;
* t3: of a t distribution with three degrees of freedom.

Coverage is the share of intervals of 95 % that hold the true weight, over all weights; its standard
error is that of the mean over repetitions (intervals of one repetition depend on each other).
Width is the median of that of the intervals, over the one that would hold 95 % of normal errors
with the median that was seen: the price of not knowing the noise.

The second table has fits by the default estimator, which knows the number of units only, and
`FitReport.intervals`.

Acceptance: coverage of 93 to 97 % in every row.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from _common import Column, Output, option_parser
from scipy import stats
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import GloreeWarning, PrecisionWarning
from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.refinement import GaussNewton, Layout, SquaredError, standard_errors
from gloree.sequences import as_sequences

LEVEL = 0.95
LOWEST, HIGHEST = 0.93, 0.97
NOISE = 0.1
SERIAL = Engine("serial")
SEGMENT, WASHOUT = 250, 51


class Row(NamedTuple):
    """Network, sequences, steps, noise, and repetitions as a share of those asked for."""

    network: str
    n_sequences: int
    n_steps: int
    noise: str
    share: float = 1.0


ROWS = (
    Row("RNN", 1, 200, "iid"),
    Row("RNN", 1, 500, "iid"),
    Row("RNN", 1, 1000, "iid"),
    Row("RNN", 2, 500, "iid"),
    Row("RNN", 4, 250, "iid"),
    Row("RNN", 10, 300, "iid", 0.5),
    Row("RNN", 40, 25, "iid"),
    Row("RNN", 100, 40, "iid"),
    Row("RNN", 1000, 20, "iid", 0.5),
    Row("RNN", 20_000, 10, "iid", 0.25),
    Row("RNN", 1, 500, "unequal"),
    Row("RNN", 100, 40, "unequal"),
    Row("RNN", 1, 500, "correlated"),
    Row("RNN", 100, 40, "correlated"),
    Row("biases", 1, 200, "in time"),
    Row("biases", 1, 1000, "in time", 0.5),
    Row("biases", 100, 40, "in time"),
    Row("biases", 2, 500, "common"),
    Row("biases", 4, 1000, "common", 0.5),
    Row("biases", 10, 300, "common", 0.5),
    Row("biases", 100, 40, "common"),
    Row("RNN", 1, 500, "t3"),
    Row("RNN", 100, 40, "t3"),
    Row("biases", 1, 500, "iid"),
    Row("BRNN", 1, 500, "iid"),
    Row("BRNN", 4, 250, "in time"),
    Row("BRNN", 100, 40, "unequal"),
    Row("cubic", 1, 500, "iid"),
    Row("cubic", 4, 250, "correlated"),
    Row("cubic", 100, 40, "t3"),
    Row("direct path", 1, 500, "in time"),
    Row("direct path", 10, 100, "unequal"),
    Row("direct path", 100, 40, "iid"),
)

ESTIMATED = (
    Row("RNN", 1, 1000, "iid", 0.5),
    Row("RNN", 4, 500, "iid", 0.5),
    Row("RNN", 200, 20, "unequal", 0.5),
)


def make_truth(name: str, rng: np.random.Generator) -> tuple[Any, Network, Layout]:
    """Law of the inputs, true network, and its free weights."""
    d, k, q = 3, 2, 3
    chain = datasets.make_chain(d, random_state=rng)
    if name == "BRNN":
        truth: Network = datasets.random_brnn(d, 1, 1, q, random_state=rng)
        return chain, truth, Layout(d, k, q, bias=False, n_backward=1)
    options: dict[str, Any] = {}
    if name == "cubic":
        options = {"activation": "cubic", "recurrence_norm": 0.02}
    truth = datasets.random_rnn(d, k, q, random_state=rng, **options)
    bias, direct = name in ("biases", "direct path"), name == "direct path"
    if bias:
        b, c = 0.3 * rng.standard_normal(k), rng.standard_normal(q)
        truth = truth.replace(hidden_bias=b, output_bias=c)
    if direct:
        truth = truth.replace(direct_weights=0.5 * rng.standard_normal((d, q)))
    return chain, truth, Layout(d, k, q, bias=bias, direct=direct)


def make_noise(kind: str, X: np.ndarray, q: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit variance, (n_sequences, n_steps, q)."""
    n, t = X.shape[:2]
    noise = rng.standard_normal((n, t, q))
    if kind == "unequal":
        noise *= np.sqrt(0.2 + 0.8 * np.mean(X**2, axis=2, keepdims=True))
    elif kind == "correlated":
        noise = noise @ np.linalg.cholesky(0.3 * np.eye(q) + 0.7).T
    elif kind == "in time":
        for step in range(1, t):
            noise[:, step] = 0.7 * noise[:, step - 1] + np.sqrt(1 - 0.49) * noise[:, step]
    elif kind == "common":
        noise = np.sqrt(0.5) * (noise + rng.standard_normal((n, 1, q)))
    elif kind == "t3":
        noise = rng.standard_t(3, (n, t, q)) / np.sqrt(3)
    return noise


def draw(row: Row, seed: int) -> tuple[np.ndarray, np.ndarray, Network, Layout]:
    """Inputs, outputs, true network and its free weights."""
    rng = np.random.default_rng((seed, row.n_sequences, row.n_steps))
    chain, truth, layout = make_truth(row.network, rng)
    X = chain.sample(row.n_sequences, row.n_steps, random_state=rng)
    Y = truth.predict(X) + NOISE * make_noise(row.noise, X, layout.n_outputs, rng)
    return X, Y, truth, layout


class Outcome(NamedTuple):
    """Of each weight: error, half width of the interval, degrees of freedom; whether a warning."""

    errors: np.ndarray
    widths: np.ndarray
    degrees: np.ndarray
    warned: bool


def least_squares(row: Row, seed: int) -> Outcome:
    """Gauss-Newton from the truth, in the gauge of unit rows."""
    X, Y, truth, layout = draw(row, seed)
    data = as_sequences(X, Y)
    long = data.longest > 2 * SEGMENT
    after = WASHOUT if row.network == "BRNN" else 0
    source = Source(data, segment=SEGMENT if long else None, before=WASHOUT, after=after)
    solver = GaussNewton(to_convergence=True, max_steps=4)
    end = solver.minimise(SquaredError(), truth, layout, SERIAL, source)
    if truth.activation.is_monomial:
        model, degree = end.model, truth.activation.degree
        norms = np.linalg.norm(model.input_weights, axis=1)
        U = model.recurrent_weights * norms**degree / norms[:, None]
        end = replace(
            end,
            model=model.replace(
                input_weights=model.input_weights / norms[:, None],
                recurrent_weights=U,
                hidden_bias=model.hidden_bias / norms,
                output_weights=model.output_weights * norms[:, None] ** degree,
            ),
        )
    found = standard_errors(end, layout, SERIAL, source)
    right, errors, widths, degrees = layout.weights(truth), [], [], []
    for name, values in layout.weights(end.model).items():
        count = found.degrees_of_freedom[name]
        errors.append((values - right[name]).ravel())
        widths.append((stats.t.ppf((1 + LEVEL) / 2, count) * found.weights[name]).ravel())
        degrees.append(count.ravel())
    warned = bool(found.findings)
    return Outcome(*(np.concatenate(each) for each in (errors, widths, degrees)), warned)


def estimated(row: Row, seed: int) -> Outcome:
    """The default estimator, its units in the order and with the signs of the truth."""
    X, Y, truth, _ = draw(row, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GloreeWarning)
        fit = SpectralRNNRegressor(truth.n_hidden, random_state=seed).fit(X, Y)
    aligned, report = metrics.align(fit.model_, truth), fit.report_
    errors, widths, degrees = [], [], []
    intervals = report.intervals(LEVEL)
    for name, (low, high) in intervals.items():
        place: Any = aligned.order if name != "output_bias" else slice(None)
        place = np.ix_(place, place) if name == "recurrent_weights" else place
        errors.append((getattr(aligned.model, name) - getattr(aligned.truth, name)).ravel())
        widths.append(((high - low) / 2)[place].ravel())
        degrees.append(report.degrees_of_freedom[name][place].ravel())
    warned = any(issubclass(each.category, PrecisionWarning) for each in caught)
    return Outcome(*(np.concatenate(each) for each in (errors, widths, degrees)), warned)


def measure(row: Row, n: int, function: Any) -> dict[str, Any]:
    """One row of a table, from n repetitions."""
    outcomes = [function(row, seed) for seed in range(n)]
    errors = np.array([each.errors for each in outcomes])
    widths = np.array([each.widths for each in outcomes])
    held = np.abs(errors) < widths
    each = held.mean(axis=1)
    normal = np.median(np.abs(errors), axis=0) / stats.norm.ppf(0.75)
    fair = stats.norm.ppf((1 + LEVEL) / 2) * normal
    return {
        "row": f"{row.network}, {row.n_sequences:,} x {row.n_steps:,}, {row.noise}",
        "repetitions": n,
        "weights": errors.shape[1],
        "coverage": 100 * float(held.mean()),
        "error": 100 * float(each.std(ddof=1) / np.sqrt(n)),
        "least": 100 * float(held.mean(axis=0).min()),
        "degrees": float(np.median([each.degrees for each in outcomes])),
        "width": float(np.median(np.median(widths, axis=0) / fair)),
        "warned": 100 * float(np.mean([each.warned for each in outcomes])),
    }


def show(out: Output, key: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table, and its figures."""
    out.table(
        key,
        title,
        [
            Column("network, sequences x steps, noise", "{row}"),
            Column("repetitions", "{repetitions}"),
            Column("coverage", "{coverage:.1f}", "%"),
            Column("standard error", "{error:.1f}", "%"),
            Column("least of a weight", "{least:.0f}", "%"),
            Column("degrees of freedom", "{degrees:.0f}"),
            Column("width", "{width:.2f}"),
            Column("warned", "{warned:.0f}", "%"),
        ],
        rows,
    )
    values = [row["coverage"] for row in rows]
    inside = sum(100 * LOWEST <= value <= 100 * HIGHEST for value in values)
    out.figure(f"{key}_rows", len(rows), "{value}", "rows of the table")
    out.figure(f"{key}_met", inside, "{value}", "rows with a coverage of 93 to 97 %")
    out.figure(f"{key}_lowest", min(values), "{value:.1f}", "lowest coverage of a row")
    out.figure(f"{key}_highest", max(values), "{value:.1f}", "highest coverage of a row")


def main() -> None:
    arguments = option_parser(__doc__, seeds=200).parse_args()
    out = Output(arguments)
    n = arguments.seeds or (3 if arguments.quick else 200)
    for key, title, chosen, function in (
        ("optimum", "Least squares from the truth", ROWS, least_squares),
        ("default", "Fits of the default estimator", ESTIMATED, estimated),
    ):
        each = chosen[:: 8 if arguments.quick else 1]
        rows = [measure(row, max(2, int(row.share * n)), function) for row in tqdm(each, desc=key)]
        show(out, key, title, rows)
    out.close()


if __name__ == "__main__":
    main()

"""Outputs in unlike units and with correlated noise: errors of fits over the efficient bound.

    python benchmarks/output_weights.py
    python benchmarks/output_weights.py --quick

Each repetition draws a network (4 inputs, 3 units, 3 outputs) and data. Outputs are brought to
sizes of 1 : 10 : 100 (or all alike), with normal noise that is white in time, of a tenth of the
size of each output, or of 1 : 1/10 : 1/100 of that, and of correlation 0.8 between outputs, or
none. Fits weigh the outputs equally, by their residuals (the default), or by the inverse of the
true covariance of the noise.

The error is the root mean square, over repetitions, of that of the input weights (which belong to
all outputs), and of all weights, each in units of its bound. The bound is that of Cramer and Rao:
the inverse of the information, sum J^T S^-1 J at the truth, for rows a_i of unit length. The
estimate that is linear in the noise and attains it, H^+ J^T e, takes the chance of these
repetitions out of the figures (as a control variate).

Acceptance: at most 1.05 in each row by residuals.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from _common import Column, Output, option_parser
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import GloreeWarning
from gloree.engine import Engine, Source
from gloree.refinement import Layout, gradient_sums, hessian_sums, inverse_root
from gloree.sequences import as_sequences

TARGET = 1.05
FAR = 1e4
INPUTS, UNITS, OUTPUTS = 4, 3, 3
SERIAL = Engine("serial")
SIZES = np.array([1.0, 10.0, 100.0])
WAYS = ("equal", "residuals", "true")


class Row(NamedTuple):
    """Sizes of outputs, noise relative to them, correlation, kind of network, sequences, steps."""

    name: str
    sizes: np.ndarray
    noise: np.ndarray
    correlation: float
    kind: str = "RNN"
    n_sequences: int = 200
    n_steps: int = 10


ALIKE = np.ones(OUTPUTS)
ROWS = (
    Row("alike, no correlation", ALIKE, ALIKE, 0.0),
    Row("alike, correlation 0.8", ALIKE, ALIKE, 0.8),
    Row("1 : 10 : 100, no correlation", SIZES, ALIKE, 0.0),
    Row("1 : 10 : 100, correlation 0.8", SIZES, ALIKE, 0.8),
    Row("1 : 10 : 100, noise less in proportion", SIZES, 1.0 / SIZES, 0.8),
    Row("1 : 10 : 100, one record", SIZES, ALIKE, 0.8, "RNN", 1, 2000),
    Row("1 : 10 : 100, 300 steps", SIZES, ALIKE, 0.8, "RNN", 1, 300),
    Row("1 : 10 : 100, two directions", SIZES, ALIKE, 0.8, "BRNN", 400, 10),
    Row("1 : 10 : 100, tanh", SIZES, ALIKE, 0.8, "tanh", 200, 20),
)


class Problem(NamedTuple):
    """Data, true network, its free weights, and the covariance of the noise."""

    X: np.ndarray
    Y: np.ndarray
    truth: Any
    layout: Layout
    covariance: np.ndarray
    options: dict[str, Any]


def draw(row: Row, seed: int) -> Problem:
    """Draw a network, inputs and outputs."""
    rng = np.random.default_rng((seed, row.n_sequences, row.n_steps))
    chain = datasets.make_chain(INPUTS, random_state=rng)
    options: dict[str, Any] = {"n_hidden": UNITS}
    n_backward = None
    if row.kind == "BRNN":
        truth: Any = datasets.random_brnn(INPUTS, 2, 1, OUTPUTS, random_state=rng)
        n_backward, options = 1, {"n_hidden": (2, 1), "bidirectional": True}
    else:
        given = {"activation": "tanh", "recurrence_norm": 0.5} if row.kind == "tanh" else {}
        truth = datasets.random_rnn(INPUTS, UNITS, OUTPUTS, random_state=rng, **given)
        options |= {"activation": truth.activation}
    X = chain.sample(row.n_sequences, row.n_steps, random_state=rng)
    sizes = row.sizes / truth.predict(X).std(axis=(0, 1))
    truth = truth.replace(output_weights=truth.output_weights * sizes)
    root = (1.0 - row.correlation) * np.eye(OUTPUTS) + row.correlation
    spread = 0.1 * row.sizes * row.noise
    covariance = root * np.outer(spread, spread)
    noise = rng.standard_normal((*X.shape[:2], OUTPUTS)) @ np.linalg.cholesky(covariance).T
    layout = Layout(INPUTS, UNITS, OUTPUTS, n_backward=n_backward)
    return Problem(X, truth.predict(X) + noise, truth, layout, covariance, options)


def metric_of(covariance: np.ndarray) -> np.ndarray:
    """Inverse of a covariance of outputs in unlike units."""
    sizes = np.sqrt(np.diag(covariance))
    units = np.outer(sizes, sizes)
    inverse = np.linalg.inv(covariance / units) / units
    return np.asarray((inverse + inverse.T) / 2)


class Bound(NamedTuple):
    """Least variances of all weights, for outputs mixed so that their noise is white, and errors.

    `errors` are those of the estimate that is linear in the noise and attains the bound: H^+ J^T e.
    """

    mixing: np.ndarray
    variances: np.ndarray
    errors: np.ndarray

    def vector(self, model: Any, layout: Layout) -> np.ndarray:
        """Weights of a network of outputs as they are, for those that are mixed."""
        return layout.vector(mixed(model, self.mixing))


def mixed(model: Any, matrix: np.ndarray) -> Any:
    """Network of outputs times a matrix."""
    changed = {"output_weights": model.output_weights @ matrix}
    return model.replace(**changed, output_bias=model.output_bias @ matrix)


def bound(problem: Problem) -> Bound:
    """The bound of Cramer and Rao."""
    mixing = np.linalg.cholesky(metric_of(problem.covariance))
    truth, layout = mixed(problem.truth, mixing), problem.layout
    source = Source(as_sequences(problem.X, problem.Y @ mixing))
    information = SERIAL.run(partial(hessian_sums, model=truth, layout=layout), source).hessian
    score = SERIAL.run(partial(gradient_sums, model=truth, layout=layout), source).gradient
    root = inverse_root(information, layout.scale_constraints(truth))
    return Bound(mixing, np.sum(root**2, axis=1), root @ (root.T @ score))


def errors_of(problem: Problem, least: Bound, way: str) -> np.ndarray:
    """Errors of all weights of a fit."""
    weights: Any = metric_of(problem.covariance) if way == "true" else way
    fit = SpectralRNNRegressor(random_state=0, engine="serial", output_weights=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GloreeWarning)
        fit.set_params(**problem.options).fit(problem.X, problem.Y)
    aligned = metrics.align(fit.model_, problem.truth)
    found, true = (least.vector(m, problem.layout) for m in (aligned.model, aligned.truth))
    return np.asarray(found - true)


def measure(row: Row, n: int) -> dict[str, Any]:
    """Errors of each way over the bound."""
    own: dict[str, list[float]] = {way: [] for way in (*WAYS, "linear")}
    each: dict[str, list[float]] = {way: [] for way in (*WAYS, "linear")}
    far = 0
    for seed in range(n):
        problem = draw(row, seed)
        problem = problem._replace(truth=problem.truth.canonical())
        least, layout = bound(problem), problem.layout
        names = [f"{part.prefix}input_weights" for part in layout.directions]
        chosen = np.concatenate([layout.indices[name].ravel() for name in names])
        squares = {way: errors_of(problem, least, way) ** 2 for way in WAYS}
        squares["linear"] = least.errors**2
        variances = least.variances
        # another optimum is no error of this kind, and is counted
        if np.mean(squares["true"] / variances) > FAR:
            far += 1
            continue
        for way, values in squares.items():
            own[way].append(float(values[chosen].sum() / variances[chosen].sum()))
            each[way].append(float(np.mean(values / variances)))
    return {
        "row": row.name,
        "repetitions": len(own["linear"]),
        "far": far,
        **{way: ratio(own[way], own["linear"])[0] for way in WAYS},
        **{f"all_{way}": ratio(each[way], each["linear"])[0] for way in WAYS},
        "error": ratio(own["residuals"], own["linear"])[1],
    }


def ratio(squares: list[float], linear: list[float]) -> tuple[float, float]:
    """Root mean square over the bound, and its standard error.

    The squares of the linear estimate, whose mean is known to be one, are its control variate.
    """
    excess = np.array(squares) - np.array(linear)
    value = float(np.sqrt(max(1.0 + excess.mean(), 0.0)))
    return value, float(excess.std(ddof=1) / np.sqrt(excess.size) / 2 / max(value, 1e-9))


def main() -> None:
    arguments = option_parser(__doc__, seeds=100).parse_args()
    out = Output(arguments)
    n = arguments.seeds or (3 if arguments.quick else 100)
    chosen = ROWS[:: 4 if arguments.quick else 1]
    rows = [measure(row, n) for row in tqdm(chosen, desc="rows")]
    out.table(
        "bound",
        "Root mean square error over the bound of Cramer and Rao",
        [
            Column("sizes of outputs, noise", "{row}"),
            Column("repetitions", "{repetitions}"),
            Column("input weights: equal", "{equal:.2f}"),
            Column("by residuals", "{residuals:.3f}"),
            Column("standard error", "{error:.3f}"),
            Column("by the true covariance", "{true:.3f}"),
            Column("all weights: equal", "{all_equal:.2f}"),
            Column("by residuals", "{all_residuals:.3f}"),
        ],
        rows,
    )
    worst = max(row["residuals"] for row in rows)
    out.figure("worst", worst, "{value:.3f}", "largest error of input weights over the bound")
    met = sum(row["residuals"] <= TARGET for row in rows)
    out.figure("met", met, "{value}", f"rows with at most {TARGET}")
    out.figure("rows", len(rows), "{value}", "rows of the table")
    out.figure("far", sum(row["far"] for row in rows), "{value}", "fits that ended elsewhere")
    out.close()


if __name__ == "__main__":
    main()

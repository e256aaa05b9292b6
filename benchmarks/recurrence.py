"""First estimates of the recurrent weights by four estimators, from the same A1 and A2.

    python benchmarks/recurrence.py            # 10^5 steps, ten seeds
    python benchmarks/recurrence.py --quick

Data of `datasets.make_rnn`, 10,000 sequences of 10 steps, |U| = 0.1, noise 0.1. Every estimator
starts at U = 0 and b = 0 and makes one sweep over all data: *plain* takes the moments of the
centred outputs, as the paper does; *first* those of the residuals at U = 0, as a fit does; *second*
is another sweep from there. A1 and A2 are (a) the true ones, (b) those of the regression moment,
(c) those of the score moment, the paper's. The score estimator does not determine the sign of a
row of U: here each row gets the sign that is nearer to the truth, which flatters it.

Answers by what factor the median error of U of "instrument" is below those of "cross" and "score",
and of linearised least squares, which needs no score.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from _common import Column, Output, mean_squared_error, median, option_parser, source_of
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.engine import Engine, Source
from gloree.models import IORNN
from gloree.recurrence import (
    Contraction,
    cross_sums,
    cross_update,
    instrument_sums,
    instrument_update,
    linearised_sums,
    linearised_update,
    score_sums,
    score_update,
    top_degree,
)
from gloree.sequences import Batch
from gloree.states import residual_rows, run_states

CELLS = [(10, 10, 10), (10, 5, 5)]
SWEEPS = ("plain", "first", "second")
ESTIMATORS = ("instrument", "least squares", "cross", "score")
WEIGHTS_FROM = {
    "true": None,
    "regression moment": {"moment": "regression"},
    "score moment": {"moment": "score"},
}


def sweep(name: str, model: IORNN, chain: object, source: Source, mean: np.ndarray | None) -> IORNN:
    """One sweep of an estimator over all data: of residuals, or of outputs less their mean."""
    engine = Engine()
    degree, leading = top_degree(model)
    if name == "least squares":
        sums = engine.run(partial(linearised_sums, model=model), source)
        return linearised_update(sums, model).apply(model)
    function = partial(
        moments,
        name=name,
        model=model,
        chain=chain,
        contraction=Contraction.of(model, chain.precision_blocks(0)),
        mean=mean,
    )
    sums = engine.run(function, source)
    if name == "score":
        # the paper's estimator gives U itself, not a change of it
        return model.replace(recurrent_weights=score_update(sums, leading))
    U, b = model.recurrent_weights, model.hidden_bias
    if name == "cross":
        return model.replace(recurrent_weights=U + cross_update(sums, degree, leading))
    change, bias = instrument_update(sums)
    return model.replace(recurrent_weights=U + change, hidden_bias=b + bias)


def moments(
    batch: Batch,
    name: str,
    model: IORNN,
    chain: object,
    contraction: Contraction,
    mean: np.ndarray | None,
) -> object:
    """Pass function: the moments of one estimator."""
    states = run_states(model, batch)
    signal = residual_rows(model, batch, states) if mean is None else batch.targets - mean
    if name == "score":
        return score_sums(batch, model, chain, signal)
    if name == "cross":
        return cross_sums(batch, model, chain, contraction, states, signal)
    sums = instrument_sums(batch, model, chain, contraction, states, signal)
    if mean is None:
        return sums
    # outputs stand for z, residuals for z - z^: take off what the model has already
    g = np.column_stack((states.previous, np.ones(batch.n_rows)))[batch.counted]
    return replace(sums, cross=sums.cross - states.z[batch.counted].T @ g)


def recurrence_error(name: str, model: IORNN, truth: IORNN) -> float:
    """Relative error of U, row signs in favour of the score estimator."""
    if name != "score":
        return metrics.weight_errors(model, truth)["recurrent_weights"]
    aligned = metrics.align(model, truth)
    U, target = aligned.model.recurrent_weights, aligned.truth.recurrent_weights
    plus = np.sum((U - target) ** 2, axis=1)
    minus = np.sum((U + target) ** 2, axis=1)
    return float(np.sqrt(np.minimum(plus, minus).sum()) / np.linalg.norm(target))


def run_seed(sizes: tuple, n_sequences: int, seed: int) -> list[dict]:
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, 10, *sizes, recurrence_norm=0.1, noise=0.1, random_state=seed
    )
    source = source_of(X, Y)
    rows = []
    for origin, options in WEIGHTS_FROM.items():
        settings = options or {"moment": "regression"}
        fit = SpectralRNNRegressor(
            n_hidden=sizes[1], refine=None, max_rounds=0, random_state=seed, **settings
        ).fit(X, Y)
        weights = truth if options is None else fit.model_
        start = weights.replace(
            recurrent_weights=np.zeros((sizes[1], sizes[1])), hidden_bias=np.zeros(sizes[1])
        )
        offset = (Y - start.predict(X)).mean(axis=(0, 1))
        start = start.replace(output_bias=start.output_bias + offset)
        row = {"sizes": sizes, "seed": seed, "from": origin}
        row |= {label: {} for label in SWEEPS}
        row["start"] = {
            key: value
            for key, value in metrics.weight_errors(start, truth).items()
            if key in ("input_weights", "output_weights")
        }
        for name in ESTIMATORS:
            if name != "least squares":
                model = sweep(name, start, fit.chain_, source, Y.mean(axis=(0, 1)))
                row["plain"][name] = recurrence_error(name, model, truth)
            model = sweep(name, start, fit.chain_, source, None)
            row["first"][name] = recurrence_error(name, model, truth)
            if name != "score" and np.isfinite(mean_squared_error(model, X, Y)):
                model = sweep(name, model, fit.chain_, source, None)
                row["second"][name] = recurrence_error(name, model, truth)
        rows.append(row)
    return rows


def main() -> None:
    parser = option_parser(__doc__, seeds=10)
    arguments = parser.parse_args()
    n_seeds = arguments.seeds or (2 if arguments.quick else 10)
    n_sequences = 2_000 if arguments.quick else 10_000
    out = Output(arguments)
    table: list[dict] = []
    bar = tqdm(total=len(CELLS) * n_seeds, desc="recurrence")
    for sizes in CELLS:
        cell_rows = []
        for seed in range(n_seeds):
            bar.set_postfix_str(f"{sizes}, seed {seed}")
            cell_rows += run_seed(sizes, n_sequences, seed)
            bar.update()
        for origin in WEIGHTS_FROM:
            chosen = [row for row in cell_rows if row["from"] == origin]
            for label in SWEEPS:
                errors = {
                    name: median([row[label].get(name, np.inf) for row in chosen])
                    for name in ESTIMATORS
                }
                line: dict = {"name": f"({','.join(map(str, sizes))}) {origin}, {label}"}
                line |= {"origin": origin, "sweep": label}
                for name, error in errors.items():
                    if (label, name) in (("second", "score"), ("plain", "least squares")):
                        error = None
                    line[name] = error
                    line[f"{name} ratio"] = None if error is None else error / errors["instrument"]
                table.append(line)
    bar.close()
    columns = [Column("A1 and A2", "{name}"), Column("instrument", "{instrument:3s}")]
    for name in ESTIMATORS[1:]:
        columns.append(Column(name, f"{{{name}:3s}}"))
        columns.append(Column("ratio", f"{{{name} ratio:3s}}"))
    out.table(
        "errors",
        f"Median relative error of U over {n_seeds} seeds, {n_sequences * 10:,} steps, and its "
        "ratio to that of the instrument (inf: the recurrence exploded)",
        columns,
        table,
    )
    out.figure("seeds", n_seeds, "{value}", "seeds")
    for name in ("cross", "score"):
        found = [row[f"{name} ratio"] for row in table if row["sweep"] == "first"]
        out.figure(f"{name}_least", min(found), "{value:2s}", f"{name} over instrument, least")
        out.figure(f"{name}_most", max(found), "{value:2s}", f"{name} over instrument, most")
    out.close()


if __name__ == "__main__":
    main()

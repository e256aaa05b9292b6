"""Where fits end: explosions, binary inputs, twin units, finite responses, labels by moments alone.

    python benchmarks/limits.py
    python benchmarks/limits.py --quick

* Explosions: of networks drawn by `datasets.make_rnn`, 2,000 sequences of 20 steps, how many
  explode at which norm of the recurrence (a fifth of it for cubic units, as `make_rnn` takes it);
  two units in each direction for bidirectional ones.
* Binary inputs: five inputs of +1 and -1, whose squares are constant; a fit *fails* where its mean
  squared error is more than 0.1 % above the least-squares optimum's.
* Twin units: 3 + 3 units, one forward and one backward one with equal input weights, which are one
  component of the first moment; the fit's error over the optimum's, with as many units as the
  network has, and with one more.
* Finite responses: y_t = 0.5 u_{t-1} + 0.2 u_{t-2} by a linear part of two states.
* Labels: the largest of six outputs of a bidirectional network; share of new labels that are right.

No acceptance: the figures say where limits are.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from _common import Column, Output, mean_squared_error, option_parser, oracle
from tqdm import tqdm

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier, datasets
from gloree.models import ExplosionError

NORMS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
KINDS: dict[str, dict[str, Any]] = {
    "quadratic": {},
    "cubic": {"degree": 3},
    "quadratic, 2 + 2": {"bidirectional": True},
}
FAILED = 1e-3
DATA_SETS = 4


def key(norm: float) -> str:
    """Name of a norm's values in a row: format strings take dots for attributes."""
    return f"r{100 * norm:.0f}"


def explosions(out: Output, n_seeds: int) -> None:
    """Networks that explode, of each kind and norm."""
    rows = []
    for name, options in tqdm(KINDS.items(), desc="explosions"):
        row: dict[str, Any] = {"network": name}
        for norm in NORMS:
            row[key(norm)] = 0
            for seed in range(n_seeds):
                try:
                    datasets.make_rnn(
                        2000, 20, 6, 4, 4, recurrence_norm=norm, random_state=seed, **options
                    )
                except ExplosionError:
                    row[key(norm)] += 1
        rows.append(row)
    out.table(
        "explosions",
        f"Networks that explode within 2,000 sequences of 20 steps, of {n_seeds}",
        [Column("network", "{network}"), *(Column(f"{n:g}", f"{{{key(n)}}}") for n in NORMS)],
        rows,
    )


def excess(X: np.ndarray, Y: np.ndarray, truth: Any, **options: Any) -> float:
    """Mean squared error of a fit over the optimum's, less one."""
    best = oracle(X, Y, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = SpectralRNNRegressor(random_state=0, **options).fit(X, Y)
    return mean_squared_error(fit.model_, X, Y) / best.loss - 1


def binary_inputs(out: Output) -> None:
    """Fits to inputs of +1 and -1."""
    found = []
    for seed in tqdm(range(DATA_SETS), desc="binary inputs"):
        rng = np.random.default_rng(seed)
        X = rng.choice((-1.0, 1.0), size=(2000, 20, 5))
        truth = datasets.random_rnn(5, 3, 3, recurrence_norm=0.1, random_state=rng)
        Y = truth.simulate(X, noise=0.1, random_state=rng)
        found.append(excess(X, Y, truth, n_hidden=3))
    out.figure("binary_sets", DATA_SETS, "{value}", "data sets of binary inputs")
    failed = sum(each > FAILED for each in found)
    out.figure("binary_failed", failed, "{value}", "fits to them above the optimum")


def twins(out: Output) -> None:
    """A forward and a backward unit with equal input weights."""
    rows = []
    for seed in tqdm(range(DATA_SETS), desc="twins"):
        rng = np.random.default_rng(seed)
        chain = datasets.make_chain(10, random_state=rng)
        truth = datasets.random_brnn(10, 3, 3, 6, recurrence_norm=0.15, random_state=rng)
        backward = truth.backward_input_weights.copy()
        backward[0] = truth.forward_input_weights[0]
        truth = truth.replace(backward_input_weights=backward)
        X = chain.sample(2000, 20, random_state=rng)
        Y = truth.simulate(X, noise=0.1, random_state=rng)
        rows.append(
            {
                "data set": seed,
                "same": 1 + excess(X, Y, truth, n_hidden=6, bidirectional=True),
                "more": 1 + excess(X, Y, truth, n_hidden=7, bidirectional=True),
            }
        )
    out.table(
        "twins",
        "Twin units: mean squared error over the optimum's",
        [
            Column("data set", "{data set}"),
            Column("six units", "{same:.3f}"),
            Column("seven units", "{more:.3f}"),
        ],
        rows,
    )
    out.figure("twin_sets", len(rows), "{value}", "data sets with twins")
    same, more = (sum(row[key] > 1 + FAILED for row in rows) for key in ("same", "more"))
    out.figure("twin_failed", same, "{value}", "fits to them above the optimum")
    out.figure("twin_more_failed", more, "{value}", "the same with a unit more")
    out.figure("twin_worst", max(row["same"] for row in rows), "{value:.2f}", "worst error over it")


def finite_response(out: Output) -> None:
    """A linear part of two states for poles that are repeated exactly."""
    rows = []
    for n_rows in (300, 3000):
        for noise in (0.0, 0.01):
            rng = np.random.default_rng(0)
            u = rng.standard_normal(2 * n_rows)
            clean = np.zeros_like(u)
            clean[1:] += 0.5 * u[:-1]
            clean[2:] += 0.2 * u[:-2]
            y = clean + noise * clean.std() * rng.standard_normal(u.size)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                est = SystemIdentifier(n_linear=2, n_nonlinear=0, max_seconds=5)
                est.fit(u[:n_rows], y[:n_rows])
            score = float(est.score(u[n_rows:], clean[n_rows:], skip=50))
            name = f"{n_rows}, {noise:g}"
            rows.append({"name": name, "rows": n_rows, "noise": noise, "score": score})
    out.table(
        "finite",
        "R squared of the free run on new inputs",
        [
            Column("samples", "{rows:,}"),
            Column("noise", "{noise:g}"),
            Column("R squared", "{score:.5f}"),
        ],
        rows,
    )


def labels(out: Output) -> None:
    """The classifier's stages beside the true network and a single direction."""
    X, Y, truth, _ = datasets.make_rnn(
        2000, 10, 12, 6, 6, bidirectional=True, noise=0.1, random_state=0
    )
    names = np.array(["a", "b", "c", "d", "e", "f"])
    tags = names[Y.argmax(axis=2)]
    rows = []
    for name, options in (
        ("moments alone", {"bidirectional": True, "refine": None}),
        ("refined", {"bidirectional": True}),
        ("refined, one direction", {}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = SpectralRNNClassifier(6, random_state=0, **options).fit(X[:1800], tags[:1800])
        rows.append({"fit": name, "share": 100 * float(fit.score(X[1800:], tags[1800:]))})
    best = names[truth.predict(X[1800:]).argmax(axis=2)]
    rows.append({"fit": "true network", "share": 100 * float(np.mean(best == tags[1800:]))})
    out.table(
        "labels",
        "Share of new labels that are right",
        [Column("", "{fit}"), Column("right", "{share:.1f}", "%")],
        rows,
    )


def main() -> None:
    arguments = option_parser(__doc__, seeds=20).parse_args()
    out = Output(arguments)
    explosions(out, arguments.seeds or (2 if arguments.quick else 20))
    labels(out)
    finite_response(out)
    if not arguments.quick:
        binary_inputs(out)
        twins(out)
    out.close()


if __name__ == "__main__":
    main()

"""New rows without the old ones: `partial_fit` in parts beside a fit to everything.

    python benchmarks/going_on.py
    python benchmarks/going_on.py --quick

* Errors: mean squared distance of predictions to those of the true network, on new inputs, over
  that of one fit to all of the data (sums over data sets): of `partial_fit` to a first quarter, and
  then to the rest in 4 and in 16 calls, and of a fit to the first quarter alone.
* Small first calls: the same of 16 calls on equal parts.
* Labels: cross-entropy on new data above that of the true probabilities, likewise.
* Warnings of `partial_fit` about its parabola and about contradictions, where nothing changes, and
  where the outputs of the last part have another gain (1.1 times), or its inputs another scale.

Acceptance: squared errors after a quarter and 4 or 16 calls within 5 % of those of one fit, at most
1 % of calls warn where nothing changes, and all changes are noticed.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from _common import Column, Output, option_parser
from tqdm import tqdm

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets
from gloree.diagnostics import ConvergenceWarning, ScoreWarning, SpecificationWarning
from gloree.refinement import softmax

PARTS = (4, 16)
N_SEQUENCES, N_STEPS = 1600, 15
FIRST = N_SEQUENCES // 4
EQUAL = [slice(100 * i, 100 * i + 100) for i in range(16)]
KINDS: dict[str, dict[str, Any]] = {
    "quadratic": {},
    "quadratic, direct path": {"direct": True},
    "two directions": {"bidirectional": True},
    "cubic": {"activation": "cubic"},
    "tanh": {"activation": "tanh"},
    "ReLU": {"activation": "relu"},
}
CLOSE, MOST_FALSE = 1.05, 0.01


def simulated(seed: int, options: dict[str, Any]) -> Any:
    """Inputs, outputs, new inputs and the true network of one data set."""
    activation = options.get("activation", "quadratic")
    kind = {"degree": 3 if activation == "cubic" else 2}
    if options.get("bidirectional"):
        kind["bidirectional"] = True
    X, _, truth, law = datasets.make_rnn(
        N_SEQUENCES, N_STEPS, 5, 4, 4, noise=0.0, random_state=seed, **kind
    )
    rng = np.random.default_rng([seed, 7])
    if activation in ("tanh", "relu"):
        truth = truth.replace(activation=options["activation"])
        truth = truth.replace(hidden_bias=0.3 * rng.standard_normal(4))
    if options.get("direct"):
        truth = truth.replace(direct_weights=0.3 * rng.standard_normal((5, 4)))
    Y = truth.predict(X)
    Y = Y + 0.3 * Y.std() * rng.standard_normal(Y.shape)
    new = law.sample(500, N_STEPS, random_state=rng)
    return X, Y, new, truth


def after_a_quarter(n_parts: int) -> list[slice]:
    """The first quarter of the sequences, and the rest in so many parts."""
    edges = np.linspace(FIRST, N_SEQUENCES, n_parts + 1).astype(int)
    return [slice(a, b) for a, b in pairwise([0, *edges])]


def in_parts(
    estimator: Any, X: np.ndarray, Y: np.ndarray, parts: list[slice], **first: Any
) -> list[set]:
    """Call `partial_fit` on parts; the kinds of warnings of all calls but the first."""
    noted = []
    for number, part in enumerate(parts):
        x, y = X[part], Y[part]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.partial_fit(x, y, **({} if number else first))
        noted.append({each.category for each in caught})
    return noted[1:]


def fitted(estimator: Any, X: np.ndarray, Y: np.ndarray) -> Any:
    """An estimator fitted without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(X, Y)


def regressions(out: Output, n_seeds: int) -> None:
    """Errors of networks of all kinds, and warnings without a cause."""
    rows, calls, false = [], 0, 0
    alarms = {ConvergenceWarning, SpecificationWarning, ScoreWarning}
    for name, options in tqdm(KINDS.items(), desc="regressions"):
        total = dict.fromkeys(("whole", "first", "equal", *PARTS), 0.0)
        for seed in range(n_seeds):
            X, Y, new, truth = simulated(seed, options)
            expected = truth.predict(new)

            def error(est: Any, new: np.ndarray = new, expected: np.ndarray = expected) -> float:
                return float(np.mean((est.predict(new) - expected) ** 2))

            def begun(options: dict[str, Any] = options) -> SpectralRNNRegressor:
                return SpectralRNNRegressor(4, random_state=0, engine="serial", **options)

            total["whole"] += error(fitted(begun(), X, Y))
            total["first"] += error(fitted(begun(), X[:FIRST], Y[:FIRST]))
            for key in (*PARTS, "equal"):
                est = begun()
                noted = in_parts(est, X, Y, EQUAL if key == "equal" else after_a_quarter(key))
                calls, false = calls + len(noted), false + sum(bool(n & alarms) for n in noted)
                total[key] += error(est)
        ratios = {f"r{key}": value / total["whole"] for key, value in total.items()}
        rows.append({"kind": name, **ratios})
    out.table(
        "regressions",
        f"Squared errors over those of one fit to everything, {n_seeds} data sets of "
        f"{N_SEQUENCES:,} sequences of {N_STEPS} steps",
        [
            Column("network", "{kind}"),
            Column("first quarter alone", "{rfirst:.1f}"),
            *(Column(f"and {n} calls", f"{{r{n}:.3f}}") for n in PARTS),
            Column("16 equal parts", "{requal:.3f}"),
        ],
        rows,
    )
    worst = max(row[f"r{n}"] for row in rows for n in PARTS)
    out.figure("worst", worst, "{value:.3f}", "Largest ratio of squared errors")
    small = max(row["requal"] for row in rows)
    out.figure("worst_equal", small, "{value:.2f}", "Largest ratio after 16 equal parts")
    out.figure("calls", calls, "{value}", "Calls where nothing changes")
    out.figure("false", false, "{value}", "Of these, calls that warn")
    out.target("errors_met", worst <= CLOSE, "Parts are as good as the whole")
    out.target("false_met", false <= MOST_FALSE * calls, "No warnings without a cause")


def labels(out: Output, n_seeds: int) -> None:
    """Cross-entropy of labels above the least possible one."""
    total = dict.fromkeys(("whole", "first", *PARTS), 0.0)
    for seed in tqdm(range(n_seeds), desc="labels"):
        X, _, new, truth = simulated(seed, {})
        rng = np.random.default_rng([seed, 8])

        def drawn(inputs: np.ndarray, truth: Any = truth, rng: Any = rng) -> Any:
            p = softmax(2.0 * truth.predict(inputs).reshape(-1, 4))[0]
            number = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1)
            return np.minimum(number, 3).reshape(inputs.shape[:2]), p

        y, _ = drawn(X)
        _, p = drawn(new)

        def error(clf: Any, new: np.ndarray = new, p: np.ndarray = p) -> float:
            # expected over the labels: the divergence of the probabilities
            q = clf.predict_proba(new).reshape(-1, 4)
            return float(np.mean(np.sum(p * np.log(np.maximum(p, 1e-300) / q), axis=1)))

        def begun() -> SpectralRNNClassifier:
            return SpectralRNNClassifier(4, random_state=0, engine="serial")

        total["whole"] += error(fitted(begun(), X, y))
        total["first"] += error(fitted(begun(), X[:FIRST], y[:FIRST]))
        for n_parts in PARTS:
            clf = begun()
            in_parts(clf, X, y, after_a_quarter(n_parts), classes=range(4))
            total[n_parts] += error(clf)
    for key in ("first", *PARTS):
        ratio = total[key] / total["whole"]
        out.figure(f"labels_{key}", ratio, "{value:.2f}", f"Divergence of labels, {key}")


def changes(out: Output, n_seeds: int) -> None:
    """Changes that have to be noticed."""
    noticed = {"gain": 0, "inputs": 0}
    for seed in tqdm(range(n_seeds), desc="changes"):
        X, Y, _, truth = simulated(seed, {})
        half = N_SEQUENCES // 2
        rng = np.random.default_rng([seed, 9])
        scaled = 1.5 * X[half:]
        noise = 0.3 * Y.std() * rng.standard_normal(Y[half:].shape)
        for name, new, outputs, kind in (
            ("gain", X[half:], 1.1 * Y[half:], SpecificationWarning),
            ("inputs", scaled, truth.predict(scaled) + noise, ScoreWarning),
        ):
            est = SpectralRNNRegressor(4, random_state=0, engine="serial")
            both = np.concatenate((X[:half], new)), np.concatenate((Y[:half], outputs))
            noticed[name] += kind in in_parts(est, *both, [slice(0, half), slice(half, None)])[0]
    for name, count in noticed.items():
        out.figure(f"noticed_{name}", count, "{value}", f"Changes of the {name} noticed")
    out.figure("changed", n_seeds, "{value}", "Data sets with a change")
    out.target("changes_met", min(noticed.values()) == n_seeds, "Changes are noticed")


def main() -> None:
    arguments = option_parser(__doc__, seeds=6).parse_args()
    out = Output(arguments)
    n_seeds = arguments.seeds or (1 if arguments.quick else 6)
    regressions(out, n_seeds)
    labels(out, n_seeds)
    changes(out, n_seeds)
    out.close()


if __name__ == "__main__":
    main()

"""Tests of the class of networks: p-values where it is right, and what they see where it is not.

    python benchmarks/specification.py
    python benchmarks/specification.py --quick

* Calibration: networks of the class that is fitted, with noise of several kinds; the share of fits
  whose p-value for another activation, and for one more lag, is below 5 %, and the share that warn.
* Power: the same networks with another activation, or with a lag that the fit does not see; the
  median p-value, the share of fits that warn, and by how much of the noise variance the fit's mean
  is off.
* Cost: the test's part of the time of a fit.

Five inputs, three units, three outputs, 500 sequences of 10 steps, if nothing else is said.

No acceptance: the tests under `tests/fitting` hold the shares to their standard errors.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from _common import Column, Output, option_parser
from tqdm import tqdm

import gloree.fitting._pipeline as refinement_stage
from gloree import SpectralRNNRegressor, datasets
from gloree.diagnostics import FitReport, SpecificationWarning

NOISE = 0.1
LEVEL = 0.05
BOTH = ("activation", "lag")
SEEDS_APART = 100_000
Case = dict[str, Any]

NULLS: dict[str, Case] = {
    "200 sequences": {"sizes": (200, 10, 5, 3, 3)},
    "500 sequences": {},
    "2,000 sequences": {"sizes": (2000, 10, 5, 3, 3)},
    "one record of 3,000 steps": {"sizes": (1, 3000, 5, 3, 3)},
    "noise grows with the inputs": {"noise": "inputs"},
    "noise common to a sequence": {"noise": "common"},
    "noise with three degrees of freedom": {"noise": "t3"},
    "bidirectional": {
        "system": {"bidirectional": True}, "sizes": (500, 10, 5, 4, 4),
        "fit": {"bidirectional": True},
    },
    "cubic": {"system": {"degree": 3}, "fit": {"activation": "cubic"}},
    "with biases": {"biases": True},
    "with a direct path": {"direct": True, "fit": {"direct": True}},
    "with two lags": {"lags": True, "fit": {"lags": 2}},
}  # fmt: skip

WRONG: dict[str, Case] = {
    "ReLU": {"f": lambda z: np.maximum(z, 0.0)},
    "absolute value": {"f": np.abs},
    "softplus": {"f": lambda z: np.logaddexp(0.0, z)},
    "tanh": {"f": np.tanh},
    "quadratic, one more lag": {"f": np.square, "lags": True},
    "quadratic": {"f": np.square},
}


def outputs(X: np.ndarray, truth: Any, before: np.ndarray | None, f: Any) -> np.ndarray:
    """Outputs of a network with any activation, which may see one more step of the inputs."""
    h, Y = np.zeros((len(X), truth.n_hidden)), np.empty((*X.shape[:2], truth.n_outputs))
    for t in range(X.shape[1]):
        z = X[:, t] @ truth.input_weights.T + h @ truth.recurrent_weights.T + truth.hidden_bias
        if before is not None and t > 0:
            z = z + X[:, t - 1] @ before.T
        h = f(z)
        Y[:, t] = h @ truth.output_weights + truth.output_bias
    return Y


def noise_of(kind: str | None, X: np.ndarray, shape: tuple[int, ...], rng: Any) -> np.ndarray:
    """Noise of standard deviation one or so."""
    noise = rng.standard_t(3, shape) / np.sqrt(3) if kind == "t3" else rng.standard_normal(shape)
    if kind == "inputs":
        noise *= 0.3 + np.abs(X[..., :1])
    if kind == "common":
        noise = (noise + rng.standard_normal((shape[0], 1, shape[2]))) / np.sqrt(2)
    return np.asarray(noise)


def fitted(case: Case, seed: int, scale: float = NOISE) -> tuple[FitReport, float]:
    """Report of a fit, and its squared error about the mean of the outputs, over the noise's."""
    rng = np.random.default_rng([seed, 5])
    sizes = case.get("sizes", (500, 10, 5, 3, 3))
    X, _, truth, _ = datasets.make_rnn(
        *sizes, noise=0.0, random_state=seed, **case.get("system", {})
    )
    if case.get("biases") or "f" in case:
        truth = truth.replace(hidden_bias=0.3 * rng.standard_normal(truth.n_hidden))
    if case.get("direct"):
        truth = truth.replace(direct_weights=0.5 * rng.standard_normal((sizes[2], sizes[4])))
    if case.get("lags") or "f" in case:
        before = 0.3 * rng.standard_normal((sizes[3], sizes[2])) if case.get("lags") else None
        mean = outputs(X, truth, before, case.get("f", np.square))
    else:
        mean = truth.predict(X)
    Y = mean + scale * noise_of(case.get("noise"), X, mean.shape, rng)
    est = SpectralRNNRegressor(sizes[3], random_state=0, engine="serial", **case.get("fit", {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(X, Y)
    error = float(np.mean((est.predict(X) - mean) ** 2)) / scale**2
    assert isinstance(est.report_, FitReport)
    return est.report_, error


def warned(report: FitReport) -> bool:
    """Whether the fit says that its class of networks is wrong."""
    return any(finding.category is SpecificationWarning for finding in report.findings)


def calibration(out: Output, n_seeds: int) -> None:
    """Shares of rejections where the class is right."""
    rows = []
    for i, (name, case) in enumerate(tqdm(NULLS.items(), desc="calibration")):
        # seeds of their own: the same noise would decide about all kinds together
        reports = [fitted(case, SEEDS_APART * i + seed)[0] for seed in range(n_seeds)]
        tested = [report for report in reports if report.specification]
        row: dict[str, Any] = {"data": name, "tested": len(tested)}
        for each in BOTH:
            below = [report.specification[each].p_value < LEVEL for report in tested]
            row[each] = 100 * float(np.mean(below))
        row["warned"] = 100 * float(np.mean([warned(report) for report in tested]))
        rows.append(row)
    out.table(
        "null",
        f"Right class of networks: fits of {n_seeds} with a p-value below 5 %, in %",
        [
            Column("data", "{data}"),
            Column("tested", "{tested}"),
            Column("activation", "{activation:.1f}"),
            Column("lag", "{lag:.1f}"),
            Column("warn", "{warned:.1f}"),
        ],
        rows,
    )
    for each in (*BOTH, "warned"):
        mean = float(np.mean([row[each] for row in rows]))
        out.figure(f"mean_{each}", mean, "{value:.1f}", f"mean of {each} over all data, in %")
    out.figure("fits", n_seeds, "{value}", "fits to each kind of data")


def power(out: Output, n_seeds: int) -> None:
    """What is seen where it is wrong."""
    rows = []
    for name, case in tqdm(WRONG.items(), desc="power"):
        found = [fitted(case, seed) for seed in range(n_seeds)]
        row: dict[str, Any] = {"truth": name}
        for each in BOTH:
            values = [r.specification[each].p_value for r, _ in found if r.specification]
            row[each] = float(np.median(values)) if values else float("nan")
        row["warned"] = sum(warned(report) for report, _ in found)
        row["any"] = sum(bool(report.findings) for report, _ in found)
        row["error"] = 100 * float(np.median([error for _, error in found]))
        rows.append(row)
    out.table(
        "power",
        f"Fitted as quadratic, {n_seeds} data sets each",
        [
            Column("truth", "{truth}"),
            Column("median p: activation", "{activation:.0e}"),
            Column("lag", "{lag:.0e}"),
            Column("warn of it", "{warned}"),
            Column("warn of anything", "{any}"),
            Column("error, % of noise", "{error:.1f}"),
        ],
        rows,
    )


def cost(out: Output) -> None:
    """Time of the test over that of the rest of a fit."""
    rows = []
    spent = [0.0]
    test = refinement_stage.check_specification

    def timed(*arguments: Any) -> Any:
        begin = time.perf_counter()
        result = test(*arguments)
        spent[0] += time.perf_counter() - begin
        return result

    refinement_stage.check_specification = timed
    try:
        for sizes in ((500, 10, 5, 3, 3), (2000, 10, 20, 10, 10), (20_000, 10, 20, 10, 10)):
            shares = []
            X, Y, truth, _ = datasets.make_rnn(*sizes, random_state=0)
            for _ in range(3):
                spent[0], begin = 0.0, time.perf_counter()
                SpectralRNNRegressor(truth.n_hidden, random_state=0, engine="serial").fit(X, Y)
                shares.append(100 * spent[0] / (time.perf_counter() - begin - spent[0]))
            rows.append(
                {"steps": sizes[0] * sizes[1], "sizes": str(sizes[2:]), "share": min(shares)}
            )
    finally:
        refinement_stage.check_specification = test
    out.table(
        "cost",
        "Time of the test, in % of the rest of the fit",
        [
            Column("steps", "{steps:,}"),
            Column("inputs, units, outputs", "{sizes}"),
            Column("share", "{share:.0f}"),
        ],
        rows,
    )


def main() -> None:
    """Run all parts."""
    arguments = option_parser(__doc__, seeds=200).parse_args()
    out = Output(arguments)
    n_seeds = arguments.seeds or (2 if arguments.quick else 200)
    calibration(out, n_seeds)
    power(out, min(n_seeds, 10))
    cost(out)
    out.close()


if __name__ == "__main__":
    main()

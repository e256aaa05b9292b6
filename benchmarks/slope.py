"""Errors against the number of steps: slopes of moments alone, of the default, of the optimum.

    python benchmarks/slope.py            # 10^4 to 10^6 steps, ten seeds
    python benchmarks/slope.py --quick

Networks (10,5,5) with |U| = 0.1 and noise 0.1, sequences of 10 steps. For each seed one large
data set is drawn and its first N steps are used, so all N share the same true network. The slope
is that of the logarithm of the geometric mean error over seeds against log N, with its standard
error over seeds. Also counted: fits whose first decomposition meets its accept rule.

Acceptance: slopes of A1, U and A2 within -0.5 +- 0.1, for moments alone and for the default.
"""

from __future__ import annotations

import numpy as np
from _common import WEIGHTS, Column, Output, main_errors, option_parser, oracle, timed_fit
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets

STEPS = [10_000, 30_000, 100_000, 300_000, 1_000_000]
QUICK_STEPS = [3_000, 10_000, 30_000]
SIZES = (10, 5, 5)
PATHS = ("moments", "default", "optimum")


def run_seed(steps: list[int], seed: int, bar: tqdm) -> list[dict]:
    X, Y, truth, _ = datasets.make_rnn(
        max(steps) // 10, 10, *SIZES, recurrence_norm=0.1, noise=0.1, random_state=seed
    )
    rows = []
    for n in steps:
        bar.set_postfix_str(f"seed {seed}, {n:,} steps")
        part, outputs = X[: n // 10], Y[: n // 10]
        row = {"seed": seed, "n": n, "errors": {}, "seconds": {}}
        for name, refine in (("moments", None), ("default", "one-step")):
            fit = SpectralRNNRegressor(n_hidden=SIZES[1], refine=refine, random_state=seed)
            row["seconds"][name], row["warnings"] = timed_fit(fit, part, outputs)
            row["errors"][name] = main_errors(fit.model_, truth)
            row["accepted"] = bool(fit.report_.decomposition.accepted)
        best = oracle(part, outputs, truth)
        row["errors"]["optimum"], row["seconds"]["optimum"] = best.errors, best.seconds
        rows.append(row)
        bar.update()
    return rows


def slopes(steps: list[int], errors: np.ndarray) -> tuple[float, float]:
    """Slope of log error against log N: mean over seeds and its standard error."""
    each = np.polyfit(np.log(steps), np.log(errors).T, 1)[0]
    spread = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
    return float(each.mean()), float(spread)


def main() -> None:
    parser = option_parser(__doc__, seeds=10)
    arguments = parser.parse_args()
    n_seeds = arguments.seeds or (3 if arguments.quick else 10)
    steps = QUICK_STEPS if arguments.quick else STEPS
    out = Output(arguments)
    with tqdm(total=n_seeds * len(steps), desc="slope") as bar:
        rows = [run_seed(steps, seed, bar) for seed in range(n_seeds)]
    table: list[dict] = []
    for path in PATHS:
        for key in WEIGHTS:
            errors = np.array([[row["errors"][path][key] for row in each] for each in rows])
            slope, spread = slopes(steps, errors)
            mean = np.exp(np.log(errors).mean(axis=0))
            row = {
                "name": f"{path}, {key}",
                **{f"n{n}": e for n, e in zip(steps, mean, strict=True)},
            }
            table.append(row | {"slope": slope, "standard_error": spread})
    for path in PATHS:
        seconds = np.median([[row["seconds"][path] for row in each] for each in rows], axis=0)
        row = {
            "name": f"{path}, seconds",
            **{f"n{n}": s for n, s in zip(steps, seconds, strict=True)},
        }
        table.append(row | {"slope": None, "standard_error": None})
    accepted = np.sum([[row["accepted"] for row in each] for each in rows], axis=0)
    out.table(
        "errors",
        "Geometric mean of relative errors against the number of steps",
        [
            Column("fit, weight", "{name}"),
            *(Column(f"{n:,}", f"{{n{n}:3s}}") for n in steps),
            Column("slope", "{slope:.3f}"),
            Column("standard error", "{standard_error:.3f}"),
        ],
        table,
    )
    out.table(
        "accepted",
        f"First decompositions that meet the accept rule, of {n_seeds}",
        [Column("steps", "{steps:,}"), Column("accepted", "{accepted}")],
        [{"steps": n, "accepted": a} for n, a in zip(steps, accepted, strict=True)],
    )
    out.figure("seeds", n_seeds, "{value}", "seeds")
    for path in PATHS[:2]:
        found = [row["slope"] for row in table if row["name"].startswith(path) and row["slope"]]
        out.figure(f"{path}_lowest", min(found), "{value:.3f}", f"{path}: lowest slope")
        out.figure(f"{path}_highest", max(found), "{value:.3f}", f"{path}: highest slope")
        out.target(f"{path}_met", all(abs(s + 0.5) <= 0.1 for s in found), f"{path}: -0.5 +- 0.1")
    out.close()


if __name__ == "__main__":
    main()

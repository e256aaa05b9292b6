"""How close the weights come to the least-squares optimum, with and without the final step.

    python benchmarks/recovery.py            # four cells, seeds 0-19
    python benchmarks/recovery.py --quick

For each seed of four data sets of `datasets.make_rnn` (noise 0.1) the relative errors of A1, U and
A2, modulo the symmetries, are compared with those of the optimum: least squares by Gauss-Newton to
convergence, started at the truth. Two fits are measured: the default, and moments alone
(`refine=None`).

Acceptance: in every cell each of the three errors of the default fit is at most 1.10 times the
optimum's in 20 of 20 seeds; moments alone are within 3 times in the median. Seeds that
miss 1.10 are listed.
"""

from __future__ import annotations

import numpy as np
from _common import (
    WEIGHTS,
    Output,
    main_errors,
    mean_squared_error,
    median,
    number,
    option_parser,
    oracle,
    timed_fit,
)
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets

CELLS = [
    # n_sequences, n_steps, (n_inputs, n_hidden, n_outputs), |U|
    (20_000, 10, (20, 10, 10), 0.1),
    (20_000, 10, (10, 10, 4), 0.1),
    (20_000, 10, (20, 5, 5), 0.2),
    (1, 200_000, (20, 10, 10), 0.1),
]
QUICK_CELLS = [
    (4_000, 10, (20, 10, 10), 0.1),
    (4_000, 10, (10, 10, 4), 0.1),
    (4_000, 10, (20, 5, 5), 0.2),
    (1, 20_000, (20, 10, 10), 0.1),
]
LIMIT = 1.10


def cell_name(cell: tuple) -> str:
    n_sequences, n_steps, sizes, norm = cell
    return f"({','.join(map(str, sizes))}) |U| {norm:g}, {n_sequences:,} x {n_steps:,}"


def run_seed(cell: tuple, seed: int) -> dict:
    n_sequences, n_steps, sizes, norm = cell
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, n_steps, *sizes, recurrence_norm=norm, noise=0.1, random_state=seed
    )
    best = oracle(X, Y, truth)
    row = {
        "seed": seed,
        "optimum": {
            "errors": best.errors,
            "loss": best.loss,
            "status": best.status,
            "steps": best.n_steps,
            "seconds": best.seconds,
        },
    }
    for name, refine in (("default", "one-step"), ("moments", None)):
        fit = SpectralRNNRegressor(n_hidden=sizes[1], refine=refine, random_state=seed)
        seconds, warned = timed_fit(fit, X, Y)
        errors = main_errors(fit.model_, truth)
        report = fit.report_
        row[name] = {
            "errors": errors,
            "ratios": {key: errors[key] / best.errors[key] for key in WEIGHTS},
            "excess_loss": mean_squared_error(fit.model_, X, Y) / best.loss - 1,
            "seconds": seconds,
            "stages": {stage.name: stage.seconds for stage in report.stages},
            "steps": report.refinement_steps,
            "decomposition": report.decomposition.status.name,
            "warnings": warned,
        }
    return row


def main() -> None:
    parser = option_parser(__doc__, seeds=20)
    arguments = parser.parse_args()
    n_seeds = arguments.seeds or (3 if arguments.quick else 20)
    cells = QUICK_CELLS if arguments.quick else CELLS
    out = Output(arguments)
    results, summary, times, missed = {}, [], [], []
    bar = tqdm(total=len(cells) * n_seeds, desc="recovery")
    for cell in cells:
        name = cell_name(cell)
        rows = results[name] = []
        for seed in range(n_seeds):
            bar.set_postfix_str(f"{name}, seed {seed}")
            rows.append(run_seed(cell, seed))
            bar.update()
        for path in ("default", "moments"):
            line = [name, path]
            ratios = {key: [row[path]["ratios"][key] for row in rows] for key in WEIGHTS}
            worst = np.max([ratios[key] for key in WEIGHTS], axis=0)
            line.append(f"{np.count_nonzero(worst <= LIMIT)}/{n_seeds}")
            for key in WEIGHTS:
                line.append(f"{median(ratios[key]):.3f} ({max(ratios[key]):.3g})")
            excess = [row[path]["excess_loss"] for row in rows]
            line += [f"{median(excess):.1e} ({max(excess):.1e})"]
            summary.append(line)
            if path == "default":
                missed += [(name, rows[i]) for i in np.flatnonzero(worst > LIMIT)]
        optimum_errors = [
            number(median([row["optimum"]["errors"][key] for row in rows]), 2) for key in WEIGHTS
        ]
        times.append(
            [name, *optimum_errors]
            + [
                number(median([row[path]["seconds"] for row in rows]))
                for path in ("default", "moments", "optimum")
            ]
            + [
                number(max(row["default"]["seconds"] for row in rows)),
                number(median([row["default"]["steps"] for row in rows]), 2),
                str(sum(row["optimum"]["status"] != "CONVERGED" for row in rows)),
            ]
        )
    bar.close()
    out.table(
        f"Errors over those of the optimum: seeds with all three at most {LIMIT:.2f}, median "
        "(worst)",
        ["cell", "fit", "seeds", *WEIGHTS, "excess loss"],
        summary,
    )
    out.table(
        "Optimum: median relative errors. Times: median seconds",
        ["cell", *WEIGHTS, "default", "moments", "optimum", "default max", "steps", "unconverged"],
        times,
    )
    out.table(
        f"Seeds of the default fit above {LIMIT:.2f}",
        ["cell", "seed", *(f"{key} ratio" for key in WEIGHTS), "excess loss", "steps", "notes"],
        [
            [
                name,
                str(row["seed"]),
                *(f"{row['default']['ratios'][key]:.3g}" for key in WEIGHTS),
                f"{row['default']['excess_loss']:.1e}",
                str(row["default"]["steps"]),
                ", ".join([row["default"]["decomposition"], *row["default"]["warnings"]]),
            ]
            for name, row in missed
        ]
        or [["none", *[""] * 7]],
    )
    out.close(results)


if __name__ == "__main__":
    main()

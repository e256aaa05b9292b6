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
    Column,
    Output,
    main_errors,
    mean_squared_error,
    median,
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


def summary(name: str, path: str, rows: list[dict]) -> dict:
    """One row: of each weight the median and the largest ratio to the optimum's error."""
    ratios = {key: [row[path]["ratios"][key] for row in rows] for key in WEIGHTS}
    excess = [row[path]["excess_loss"] for row in rows]
    worst = np.max(list(ratios.values()), axis=0)
    line = {
        "name": f"{name}, {path}",
        "cell": name,
        "fit": path,
        "within": int(np.count_nonzero(worst <= LIMIT)),
        "seeds": len(rows),
    }
    for key, values in ratios.items():
        line |= {f"{key}_median": median(values), f"{key}_worst": max(values)}
    return line | {"excess_median": median(excess), "excess_worst": max(excess)}


def times(name: str, rows: list[dict]) -> dict:
    """One row: errors of the optimum, seconds of everything."""
    line: dict = {"name": name}
    line |= {key: median([row["optimum"]["errors"][key] for row in rows]) for key in WEIGHTS}
    for path in ("default", "moments", "optimum"):
        line[path] = median([row[path]["seconds"] for row in rows])
    return line | {
        "default_worst": max(row["default"]["seconds"] for row in rows),
        "steps": median([row["default"]["steps"] for row in rows]),
        "unconverged": sum(row["optimum"]["status"] != "CONVERGED" for row in rows),
    }


def main() -> None:
    parser = option_parser(__doc__, seeds=20)
    arguments = parser.parse_args()
    n_seeds = arguments.seeds or (3 if arguments.quick else 20)
    cells = QUICK_CELLS if arguments.quick else CELLS
    out = Output(arguments)
    results: dict[str, list[dict]] = {}
    bar = tqdm(total=len(cells) * n_seeds, desc="recovery")
    for cell in cells:
        name = cell_name(cell)
        rows = results[name] = []
        for seed in range(n_seeds):
            bar.set_postfix_str(f"{name}, seed {seed}")
            rows.append(run_seed(cell, seed))
            bar.update()
    bar.close()
    lines = [
        summary(name, path, rows)
        for name, rows in results.items()
        for path in ("default", "moments")
    ]
    out.table(
        "ratios",
        f"Errors over those of the optimum: seeds with all three at most {LIMIT:.2f}, median "
        "(worst)",
        [
            Column("cell", "{cell}"),
            Column("fit", "{fit}"),
            Column("seeds", "{within}/{seeds}"),
            *(Column(key, f"{{{key}_median:.3f}} ({{{key}_worst:.3g}})") for key in WEIGHTS),
            Column("excess loss", "{excess_median:.1e} ({excess_worst:.1e})"),
        ],
        lines,
    )
    out.table(
        "times",
        "Optimum: median relative errors. Times: median seconds",
        [
            Column("cell", "{name}"),
            *(Column(key, f"{{{key}:2s}}") for key in WEIGHTS),
            *(Column(path, f"{{{path}:3s}}", "s") for path in ("default", "moments", "optimum")),
            Column("default, longest", "{default_worst:3s}", "s"),
            Column("steps", "{steps:2s}"),
            Column("unconverged", "{unconverged}"),
        ],
        [times(name, rows) for name, rows in results.items()],
    )
    missed = [
        {
            "name": f"{name}, seed {row['seed']}",
            **{key: row["default"]["ratios"][key] for key in WEIGHTS},
            "excess": row["default"]["excess_loss"],
            "notes": ", ".join([row["default"]["decomposition"], *row["default"]["warnings"]]),
        }
        for name, rows in results.items()
        for row in rows
        if max(row["default"]["ratios"].values()) > LIMIT
    ]
    out.table(
        "missed",
        f"Seeds of the default fit above {LIMIT:.2f}",
        [
            Column("cell, seed", "{name}"),
            *(Column(key, f"{{{key}:.3g}}") for key in WEIGHTS),
            Column("excess loss", "{excess:.1e}"),
            Column("notes", "{notes}"),
        ],
        missed,
    )
    chosen = {
        path: [line for line in lines if line["fit"] == path] for path in ("default", "moments")
    }
    within = sum(line["within"] for line in chosen["default"])
    total = sum(line["seeds"] for line in chosen["default"])
    worst = max(line[f"{key}_worst"] for line in chosen["default"] for key in WEIGHTS)
    moments = max(line[f"{key}_median"] for line in chosen["moments"] for key in WEIGHTS)
    out.figure("seeds", n_seeds, "{value}", "seeds of a cell")
    out.figure("within", within, "{value}", f"default fits within {LIMIT:.2f} of the optimum")
    out.figure("fits", total, "{value}", "default fits")
    out.figure("worst", worst, "{value:.3f}", "largest ratio of an error, default fits")
    out.figure("moments", moments, "{value:.2f}", "largest median ratio of an error, moments alone")
    out.target("default_met", within == total, "all default fits at the optimum")
    out.target("moments_met", moments <= 3, "moments alone within 3 times in the median")
    out.close()


if __name__ == "__main__":
    main()

"""Bidirectional networks: directions found, and weights against the least-squares optimum.

    python benchmarks/bidirectional.py            # eight cells, seeds 0-19
    python benchmarks/bidirectional.py --quick

Each cell has 12 inputs and 8 units, 4 forward and 4 backward but for the last ones (all forward,
5 + 3), a Gaussian VAR(1) as input, and |U| = |V|. A fit is told only the number of units in all.
The optimum is least squares by Gauss-Newton to convergence, started at the truth.

Acceptance: in the first two cells, 20 of 20 seeds have all directions right and each of the errors
of A1, B1, U, V and A2 at most 1.10 times the optimum's.
"""

from __future__ import annotations

import numpy as np
from _common import (
    BOTH_WAYS,
    Column,
    Output,
    main_errors,
    median,
    option_parser,
    oracle,
    timed_fit,
)
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets
from gloree.models import BRNN

N_INPUTS = 12
LIMIT = 1.10
CELLS = [
    # n_sequences, n_steps, (n_forward, n_backward), n_outputs, |U|, noise
    (20_000, 10, (4, 4), 12, 0.15, 0.1),
    (20_000, 10, (4, 4), 6, 0.15, 0.1),
    (20_000, 10, (4, 4), 4, 0.15, 0.1),
    (2_000, 100, (4, 4), 6, 0.15, 0.1),
    (1, 200_000, (4, 4), 6, 0.15, 0.1),
    (20_000, 10, (4, 4), 4, 0.05, 1.0),
    (20_000, 10, (5, 3), 6, 0.15, 0.1),
    (20_000, 10, (8, 0), 6, 0.15, 0.1),
]


def simulate(cell: tuple, seed: int) -> tuple[np.ndarray, np.ndarray, BRNN]:
    """Inputs, outputs and the network behind them."""
    n_sequences, n_steps, (n_forward, n_backward), n_outputs, norm, noise = cell
    rng = np.random.default_rng(seed)
    chain = datasets.make_chain(N_INPUTS, random_state=rng)
    truth = datasets.random_brnn(
        N_INPUTS, n_forward, n_backward, n_outputs, recurrence_norm=norm, random_state=rng
    )
    X = chain.sample(n_sequences, n_steps, random_state=rng)
    return X, truth.simulate(X, noise=noise, random_state=rng), truth


def run_seed(cell: tuple, seed: int) -> dict:
    X, Y, truth = simulate(cell, seed)
    fit = SpectralRNNRegressor(n_hidden=truth.n_hidden, bidirectional=True, random_state=seed)
    seconds, warned = timed_fit(fit, X, Y)
    found, best = fit.model_, oracle(X, Y, truth)
    directions = fit.report_.directions
    row = {
        "seed": seed,
        "seconds": seconds,
        "optimum_seconds": best.seconds,
        "split": [found.n_forward, found.n_backward],
        "margin": float(directions.margin.min()),
        "undetermined": int(directions.undetermined.sum()),
        "warnings": warned,
        "optimum": best.errors,
        "errors": None,
    }
    if found.n_forward == truth.n_forward:
        row["errors"] = main_errors(found, truth)
        names = [name for name in BOTH_WAYS if best.errors[name] > 0]
        row["ratios"] = {name: row["errors"][name] / best.errors[name] for name in names}
    return row


def good(row: dict) -> bool:
    return row["errors"] is not None and max(row["ratios"].values()) <= LIMIT


def main() -> None:
    arguments = option_parser(__doc__, seeds=20).parse_args()
    n_seeds = arguments.seeds or (2 if arguments.quick else 20)
    cells = CELLS[:2] + CELLS[-1:] if arguments.quick else CELLS
    out = Output(arguments)
    ratios: list[dict] = []
    errors: list[dict] = []
    bar = tqdm(total=len(cells) * n_seeds, desc="bidirectional")
    for cell in cells:
        n_sequences, n_steps, (n_forward, n_backward), n_outputs, norm, noise = cell
        name = (
            f"{n_forward} + {n_backward}, {n_outputs} outputs, |U| {norm:g}, noise {noise:g}, "
            f"{n_sequences:,} x {n_steps:,}"
        )
        rows = []
        for seed in range(n_seeds):
            bar.set_postfix_str(f"{name}, seed {seed}")
            rows.append(run_seed(cell, seed))
            bar.update()
        right = [row for row in rows if row["errors"] is not None]
        line: dict = {"cell": name, "good": sum(map(good, rows)), "right": len(right)}
        line |= {"seeds": n_seeds, "margin": min(row["margin"] for row in rows)}
        for key in BOTH_WAYS:
            values = [row["ratios"][key] for row in right if key in row["ratios"]]
            line[f"{key}_median"] = median(values)
            line[f"{key}_worst"] = max(values, default=None)
        ratios.append(line | {"seconds": median([row["seconds"] for row in rows])})
        found = {key: median([row["errors"][key] for row in right]) for key in BOTH_WAYS}
        errors.append({"cell": name, **found})
    bar.close()
    out.table(
        "ratios",
        f"Seeds with every error at most {LIMIT:.2f} of the optimum's, and with all directions "
        "right; least margin; ratios of errors, median (worst); seconds of a fit, median",
        [
            Column("cell", "{cell}"),
            Column("seeds", "{good}/{seeds}"),
            Column("directions", "{right}/{seeds}"),
            Column("margin", "{margin:3s}"),
            *(Column(key, f"{{{key}_median:.3f}} ({{{key}_worst:.3g}})") for key in BOTH_WAYS),
            Column("fit", "{seconds:3s}", "s"),
        ],
        ratios,
    )
    columns = [Column("cell", "{cell}"), *(Column(key, f"{{{key}:2s}}") for key in BOTH_WAYS)]
    out.table("errors", "Relative errors, median", columns, errors)
    first = ratios[:2]
    out.figure("seeds", n_seeds, "{value}", "seeds of a cell")
    out.figure("fits", n_seeds * len(ratios), "{value}", "fits")
    out.figure("right", sum(row["right"] for row in ratios), "{value}", "fits with all directions")
    out.figure("good", sum(row["good"] for row in ratios), "{value}", f"fits within {LIMIT:.2f}")
    out.figure("least_margin", min(row["margin"] for row in ratios), "{value:3s}", "least margin")
    out.target("met", all(row["good"] == n_seeds for row in first), "the first two cells")
    out.close()


if __name__ == "__main__":
    main()

"""Peak memory of a default fit, as a multiple of the size of its data.

    python benchmarks/memory.py
    python benchmarks/memory.py --quick

Every figure comes from a fresh process that reads X and Y from files, after a small fit that has
loaded all libraries. *allocated* is the peak that `tracemalloc` sees (NumPy reports its arrays to
it); *resident* is the growth of the peak resident set (`resource.getrusage`), which also holds the
work areas of BLAS and what the allocator keeps. Both count X and Y themselves, and are divided by
the size of X and Y.

Acceptance: at most 2 in all cells.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
from _common import Column, Output, option_parser
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets

CELLS = [
    # n_sequences, n_steps, (n_inputs, n_hidden, n_outputs), |U|
    (20_000, 10, (20, 10, 10), 0.1),
    (20_000, 10, (10, 10, 4), 0.1),
    (20_000, 10, (20, 5, 5), 0.2),
    (1, 200_000, (20, 10, 10), 0.1),
    (100_000, 10, (10, 5, 5), 0.1),
    (100_000, 10, (50, 10, 10), 0.1),
]
N_QUICK = 3
LIMIT = 2.0


def write_data(index: int, seed: int, folder: Path) -> None:
    """Simulate a cell's data and save them, in a process of its own."""
    n_sequences, n_steps, sizes, norm = CELLS[index]
    X, Y, _, _ = datasets.make_rnn(
        n_sequences, n_steps, *sizes, recurrence_norm=norm, noise=0.1, random_state=seed
    )
    np.save(folder / "X.npy", X)
    np.save(folder / "Y.npy", Y)


def measure(index: int, seed: int, folder: Path, kind: str) -> None:
    """Fit once and print the peak in bytes."""
    n_hidden = CELLS[index][2][1]
    X, Y, _, _ = datasets.make_rnn(400, 10, 5, 3, 3, random_state=0)
    SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    if kind == "allocated":
        tracemalloc.start()
    before = peak_resident()
    X, Y = np.load(folder / "X.npy"), np.load(folder / "Y.npy")
    SpectralRNNRegressor(n_hidden, random_state=seed).fit(X, Y)
    peak = tracemalloc.get_traced_memory()[1] if kind == "allocated" else peak_resident() - before
    print(json.dumps({"peak": peak, "data": X.nbytes + Y.nbytes, "base": before}))


def peak_resident() -> int:
    """Peak resident set of this process, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def child(*words: object) -> str:
    """Run a task of this script in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--task", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--task", nargs="+", metavar="WORD", help="what a fresh process is to do")
    arguments = parser.parse_args()
    if arguments.task:
        name, index, seed, folder, *rest = arguments.task
        task = {"write": write_data, "measure": measure}[name]
        task(int(index), int(seed), Path(folder), *rest)
        return
    n_seeds = arguments.seeds or 1
    n_cells = N_QUICK if arguments.quick else len(CELLS)
    out = Output(arguments)
    table = []
    bar = tqdm(total=n_cells * n_seeds, desc="memory")
    for index in range(n_cells):
        n_sequences, n_steps, sizes, norm = CELLS[index]
        name = f"({','.join(map(str, sizes))}) |U| {norm:g}, {n_sequences:,} x {n_steps:,}"
        found: dict[str, list[float]] = {"allocated": [], "resident": []}
        size = 0
        for seed in range(n_seeds):
            with tempfile.TemporaryDirectory() as folder:
                child("write", index, seed, folder)
                for kind, ratios in found.items():
                    result = json.loads(child("measure", index, seed, folder, kind))
                    size = result["data"]
                    ratios.append(result["peak"] / size)
            bar.update()
        worst = {kind: max(ratios) for kind, ratios in found.items()}
        table.append(
            {
                "cell": name,
                "data": size / 2**20,
                **worst,
                **{f"{kind}_more": (ratio - 1) * size / 2**20 for kind, ratio in worst.items()},
            }
        )
    bar.close()
    out.table(
        "peaks",
        "Peak memory over the size of X and Y (themselves included), and beside them",
        [
            Column("cell", "{cell}"),
            Column("data", "{data:.1f}", "MiB"),
            Column("allocated", "{allocated:.2f}"),
            Column("resident", "{resident:.2f}"),
            Column("allocated beside", "{allocated_more:.1f}", "MiB"),
            Column("resident beside", "{resident_more:.1f}", "MiB"),
        ],
        table,
    )
    worst_of_all = max(max(row["allocated"], row["resident"]) for row in table)
    out.figure("worst", worst_of_all, "{value:.2f}", "largest peak over the size of the data")
    out.target("met", worst_of_all < LIMIT, f"below {LIMIT:g} in all cells")
    out.close()


if __name__ == "__main__":
    main()

"""Growth of time and memory with the steps, the inputs and the units of a default fit.

    python benchmarks/growth.py                 # up to 10^8 steps, 1,000 inputs, 50 units
    python benchmarks/growth.py --most 1e7
    python benchmarks/growth.py --quick

Every fit runs in a fresh process, after a small one that loads all libraries; memory is the growth
of its peak resident set (`resource.getrusage`).

* Steps: 10 inputs, 5 units, 4 outputs, sequences of 50 steps, streamed by `sources.batches` in
  single precision, 100,000 steps at a time. The stream repeats a million different steps: what it
  holds in memory is counted, and the fit cannot know. The exponent of time is the slope of log
  time against log steps over the last two decades.
* Inputs: up to 100,000 steps in memory (10 units, 12 outputs); 1,000 inputs also with a million
  steps, in 20 shards of single precision on disk, 4 GB in all.
* Units: 200,000 steps, as many inputs as units and four more, as many outputs as units. (The J^T J
  of the 7,800 weights of 50 units is multiplied with, not formed.)

Acceptance: 10^8 steps below 500 MB, and no more than 10^7 need; exponent 1.00 +- 0.03; 1,000 inputs
and a million steps within 60 s and 3 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import Column, Output, main_errors, option_parser
from tqdm import tqdm

from gloree import IORNN, SpectralRNNRegressor, datasets, sources

POOL = 20_011
"""Sequences of the stream before it repeats itself: a prime, so that samples do not."""

PART = 100_000
STEPS = 50
STREAMED = (10, 5, 4)
COUNTS = (10**4, 10**5, 10**6, 10**7, 10**8)
INPUTS = (5, 10, 20, 50, 100, 200, 500, 1000)
WIDE_UNITS, WIDE_OUTPUTS = 10, 12
WIDE_ROWS = 100_000
UNITS = (2, 5, 10, 20, 50)
UNIT_ROWS = 200_000


class Stream:
    """About a million steps over and over, a part at a time."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        count = min(POOL, n_rows // STEPS)
        X, Y, self.truth, _ = datasets.make_rnn(count, STEPS, *STREAMED, random_state=0)
        self.X, self.Y = X.astype(np.float32), Y.astype(np.float32)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size = PART // STEPS
        for start in range(0, self.n_rows // STEPS, size):
            place = np.arange(start, min(start + size, self.n_rows // STEPS)) % self.X.shape[0]
            yield self.X[place], self.Y[place]


def write_shards(folder: Path, n_inputs: int, n_rows: int, n_shards: int) -> IORNN:
    """Independent inputs and their outputs, in single precision."""
    rng = np.random.default_rng(0)
    A1 = rng.standard_normal((WIDE_UNITS, n_inputs))
    U = rng.standard_normal((WIDE_UNITS, WIDE_UNITS))
    truth = IORNN(
        A1 / np.linalg.norm(A1, axis=1, keepdims=True),
        0.1 * U / np.linalg.norm(U, 2),
        rng.standard_normal((WIDE_UNITS, WIDE_OUTPUTS)) / np.sqrt(WIDE_UNITS),
    )
    for index in range(n_shards):
        X = rng.standard_normal((n_rows // n_shards // STEPS, STEPS, n_inputs), dtype=np.float32)
        Y = truth.predict(X)
        Y += 0.1 * Y.std() * rng.standard_normal(Y.shape)
        np.save(folder / f"{index:03d}.X.npy", X)
        np.save(folder / f"{index:03d}.Y.npy", Y.astype(np.float32))
    return truth


def child(cell: dict[str, Any]) -> dict[str, Any]:
    """One fit, in this process."""
    X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 3, random_state=0)
    SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    data: tuple[Any, ...]
    if cell["kind"] == "steps":
        stream = Stream(cell["rows"])
        data, truth, n_hidden = (sources.batches(stream),), stream.truth, STREAMED[1]
    elif cell["kind"] == "shards":
        folder = Path(cell["folder"])
        truth, n_hidden = IORNN.load(folder / "truth"), WIDE_UNITS
        data = (sources.shards(folder / "data"),)
    else:
        X, Y, truth, _ = datasets.make_rnn(
            cell["rows"] // STEPS, STEPS, *cell["sizes"], random_state=0
        )
        data, n_hidden = (X, Y), cell["sizes"][1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    est = SpectralRNNRegressor(n_hidden, random_state=0).fit(*data)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "megabytes": after / 1024,
        "grown": (after - before) / 1024,
        "errors": main_errors(est.model_, truth),
    }


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """One fit, in a fresh process."""
    command = [sys.executable, __file__, "--cell", json.dumps(cell)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"{cell}: {found.stderr[-2000:]}")
    return {**cell, **json.loads(found.stdout.splitlines()[-1])}


TIME = Column("time", "{seconds:3s}", "s")
REST = (
    Column("peak", "{megabytes:.0f}", "MB"),
    *(Column(name, f"{{{name}:.1e}}") for name in ("A1", "U", "A2")),
)


def flat(cell: dict[str, Any]) -> dict[str, Any]:
    """What columns of all tables show of a fit."""
    return {key: cell[key] for key in ("seconds", "megabytes")} | cell["errors"]


def slope(cells: list[dict[str, Any]], name: str, value: str) -> float:
    """Least-squares slope of log value against log name."""
    x, y = (np.log([each[key] for each in cells]) for key in (name, value))
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--most", type=float, default=1e8, help="steps of the largest stream")
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(child(json.loads(arguments.cell))))
        return
    out = Output(arguments)
    most = 10**5 if arguments.quick else int(arguments.most)
    steps = [
        run({"kind": "steps", "rows": rows})
        for rows in tqdm([n for n in COUNTS if n <= most], desc="steps")
    ]
    largest = [each for each in steps if each["rows"] * 100 >= most]
    exponent = slope(largest, "rows", "seconds")
    out.table(
        "steps",
        f"Steps, streamed ({STREAMED[0]} inputs, {STREAMED[1]} units)",
        [Column("steps", "{rows:,}"), TIME, Column("rate", "{rate:,.0f}", "steps/s"), *REST],
        [
            {"rows": each["rows"], "rate": each["rows"] / each["seconds"], **flat(each)}
            for each in steps
        ],
    )
    rows = 10_000 if arguments.quick else WIDE_ROWS
    inputs = [
        run(
            {
                "kind": "inputs",
                "rows": rows,
                "inputs": d,
                "sizes": [d, min(WIDE_UNITS, d), WIDE_OUTPUTS],
            }
        )
        for d in tqdm(INPUTS[:3] if arguments.quick else INPUTS, desc="inputs")
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        wide_rows = 10_000 if arguments.quick else 10**6
        truth = write_shards(folder / "data", 300 if arguments.quick else 1000, wide_rows, 20)
        truth.save(folder / "truth")
        wide = run(
            {
                "kind": "shards",
                "rows": wide_rows,
                "inputs": truth.n_inputs,
                "folder": str(folder),
            }
        )
    out.table(
        "inputs",
        f"Inputs ({WIDE_UNITS} units, {WIDE_OUTPUTS} outputs)",
        [Column("inputs", "{inputs:,}"), Column("steps", "{rows:,}"), TIME, *REST],
        [
            {
                "name": f"{each['inputs']}, {each['rows']}",
                "inputs": each["inputs"],
                "rows": each["rows"],
                **flat(each),
            }
            for each in (*inputs, wide)
        ],
    )
    rows = 10_000 if arguments.quick else UNIT_ROWS
    units = [
        run({"kind": "units", "rows": rows, "units": k, "sizes": [k + 4, k, k]})
        for k in tqdm(UNITS[:2] if arguments.quick else UNITS, desc="units")
    ]
    out.table(
        "units",
        f"Units ({rows:,} steps, four inputs more than units, as many outputs)",
        [Column("units", "{units}"), TIME, *REST],
        [{"units": each["units"], **flat(each)} for each in units],
    )
    grown = slope(units, "units", "seconds")
    out.figure("most", most, "{value:,}", "steps of the longest stream")
    out.figure("exponent", exponent, "{value:.2f}", "exponent of time in steps")
    out.figure("units_exponent", grown, "{value:.2f}", "exponent of time in units")
    for name, each in (("longest", steps[-1]), ("wide", wide)):
        out.figure(f"{name}_seconds", each["seconds"], "{value:2s}", f"{name}: seconds")
        out.figure(f"{name}_memory", each["megabytes"], "{value:.0f}", f"{name}: peak MB")
    out.target("exponent_met", abs(exponent - 1) <= 0.03, "exponent of 1.00 +- 0.03")
    out.target("stream_met", steps[-1]["megabytes"] < 500, "longest stream below 500 MB")
    met = wide["seconds"] <= 60 and wide["megabytes"] <= 3000
    out.target("wide_met", met, "1,000 inputs and a million steps within 60 s and 3 GB")
    out.close()


if __name__ == "__main__":
    main()

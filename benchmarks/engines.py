"""Engines: serial, threads, and Dask with one worker and with two; efficiency and equality.

    python benchmarks/engines.py                # 10^7 steps
    python benchmarks/engines.py --steps 1e6
    python benchmarks/engines.py --parts 16
    python benchmarks/engines.py --quick

The data are partitions that Dask workers make (a seed each) and keep; the other engines read the
same arrays from memory. Workers are processes of one thread on this machine (`LocalCluster`), so
two of them can at most halve the time. Timed are whole default fits after the first look at the
data (the median of three), and its two largest kinds of pass: regression moments and the gradient.
The weights must be those of the serial engine to the last bit. Then a worker is killed in the
middle of a fit.

What two workers can reach on this machine at all is measured too: the same two passes by two
processes that share nothing, each on half of the data, next to one such process alone.

Acceptance: two workers at least 1.7 times as fast as one at 10^7 steps; a killed worker changes
nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from typing import Any

import numpy as np
from _common import Column, Output, median, option_parser

from gloree import IORNN, SpectralRNNRegressor, datasets, sources
from gloree.engine import Engine, Source, get_engine
from gloree.moments import RegressionFeatures, Whitening, regression_sums
from gloree.refinement import Layout, gradient_sums
from gloree.sequences import Data

SIZES = (10, 5, 4)
STEPS = 50
PARTS = 8
FITS = 3
PASSES = ("moments", "gradient", "fit")


def part(seed: int, n_sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one partition: the same network, inputs of its own."""
    truth = network()
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_sequences, STEPS, SIZES[0]))
    Y = truth.predict(X)
    return X, Y + 0.1 * rng.standard_normal(Y.shape)


def network() -> IORNN:
    return datasets.make_rnn(1, 2, *SIZES, random_state=0)[2]


class Parts:
    """The same partitions, one after another, in this process."""

    def __init__(self, n_parts: int, n_sequences: int) -> None:
        self.parts = [part(seed, n_sequences) for seed in range(n_parts)]

    def __iter__(self) -> Any:
        return iter(self.parts)


def timed(data: Data, engine: Engine) -> dict[str, Any]:
    """Seconds of the passes, of a fit, and its model."""
    engine.scan(data)
    found: dict[str, Any] = dict(passes(data, engine))
    seconds = []
    for _ in range(FITS):
        begin = time.perf_counter()
        est = SpectralRNNRegressor(SIZES[1], random_state=0, engine=engine).fit(data)
        seconds.append(time.perf_counter() - begin)
    found["fit"] = median(seconds)
    found["model"] = est.model_
    return found


def passes(data: Data, engine: Engine) -> dict[str, float]:
    """Seconds of the two largest kinds of pass."""
    source = Source(data, batch_size=2**15)
    d = SIZES[0]
    features = RegressionFeatures(Whitening.from_covariance(np.zeros(d), np.eye(d)), 2)
    found = {}
    for name, function in (
        ("moments", partial(regression_sums, features=features)),
        ("gradient", partial(gradient_sums, model=network(), layout=Layout(*SIZES), n_largest=100)),
    ):
        begin = time.perf_counter()
        engine.run(function, source)
        found[name] = time.perf_counter() - begin
    return found


def alone(n_parts: int, n_sequences: int, barrier: Any, results: Any) -> None:
    """The passes of one of the processes that share nothing."""
    data = sources.batches(Parts(n_parts, n_sequences // 2))
    engine = get_engine("serial")
    engine.scan(data)
    barrier.wait()
    results.put(passes(data, engine))


def ceiling(n_parts: int, n_sequences: int) -> dict[str, float]:
    """Work in a time of two processes that share nothing, over that of one."""
    context = multiprocessing.get_context("spawn")
    seconds = []
    for count in (1, 2):
        barrier, results = context.Barrier(count), context.Queue()
        children = [
            context.Process(target=alone, args=(n_parts, n_sequences, barrier, results))
            for _ in range(count)
        ]
        for child in children:
            child.start()
        found = [results.get() for _ in children]
        for child in children:
            child.join()
        seconds.append({key: max(each[key] for each in found) for key in found[0]})
    return {key: 2 * seconds[0][key] / seconds[1][key] for key in seconds[0]}


def kill_one(client: Any, after: float) -> threading.Timer:
    """Kill a worker process after some seconds."""
    pids = client.run(os.getpid)
    timer = threading.Timer(after, os.kill, (next(iter(pids.values())), signal.SIGKILL))
    timer.start()
    return timer


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--steps", type=float, default=1e7)
    parser.add_argument("--parts", type=int, default=PARTS, help="partitions of the data")
    arguments = parser.parse_args()
    import dask
    from dask.distributed import Client, LocalCluster

    out = Output(arguments, dask=dask.__version__)
    n_steps = 200_000 if arguments.quick else int(arguments.steps)
    n_parts = arguments.parts
    n_sequences = n_steps // STEPS // n_parts
    results: dict[str, dict[str, Any]] = {}
    local = sources.batches(Parts(n_parts, n_sequences))
    for name in ("serial", "threads"):
        results[name] = timed(local, get_engine(name))
    del local
    make = dask.delayed(part)
    same_when_killed = None
    for n_workers in (1, 2):
        with (
            LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=None,
                memory_limit=0,
            ) as cluster,
            Client(cluster) as client,
        ):
            data = sources.partitions([make(seed, n_sequences) for seed in range(n_parts)])
            name = f"Dask, {n_workers} worker{'s' if n_workers > 1 else ''}"
            results[name] = timed(data, get_engine(client))
            if n_workers == 2:
                timer = kill_one(client, 0.4 * results[name]["fit"])
                begin = time.perf_counter()
                est = SpectralRNNRegressor(SIZES[1], random_state=0, engine=client).fit(data)
                seconds = time.perf_counter() - begin
                timer.join()
                same_when_killed = bool(est.model_ == results["serial"]["model"])
                killed = {"seconds": seconds, "same": same_when_killed}
    serial = results["serial"]
    rows = [
        {
            "engine": name,
            **{key: each[key] for key in ("moments", "gradient", "fit")},
            "times": serial["fit"] / each["fit"],
            "same": bool(each["model"] == serial["model"]),
        }
        for name, each in results.items()
    ]
    out.table(
        "engines",
        f"Engines at {n_steps:,} steps: seconds, and times faster than serial",
        [
            Column("engine", "{engine}"),
            *(Column(key, f"{{{key}:3s}}", "s") for key in ("moments", "gradient", "fit")),
            Column("times", "{times:.2f}"),
            Column("same weights", "{same:yes/NO}"),
        ],
        rows,
    )
    most = ceiling(n_parts, n_sequences)
    one, two = results["Dask, 1 worker"], results["Dask, 2 workers"]
    out.table(
        "two",
        "Work in a time of two workers over that of one",
        [Column("", "{what}"), *(Column(key, f"{{{key}:.2f}}") for key in PASSES)],
        [
            {"what": "processes that share nothing", **most, "fit": None},
            {"what": "Dask workers", **{key: one[key] / two[key] for key in PASSES}},
        ],
    )
    out.figure("steps", n_steps, "{value:,}", "steps")
    out.figure("parts", n_parts, "{value}", "partitions")
    out.figure("two_workers", one["fit"] / two["fit"], "{value:.2f}", "two workers over one, a fit")
    out.figure("killed", killed["seconds"], "{value:.1f}", "seconds of a fit with a worker killed")
    out.target("same_met", all(row["same"] for row in rows), "the same weights by all engines")
    out.target("killed_met", same_when_killed, "the same weights with a worker killed")
    out.target("two_met", one["fit"] / two["fit"] >= 1.7, "two workers 1.7 times as fast as one")
    out.close()


if __name__ == "__main__":
    main()

"""Engines: serial, threads, and Dask with one worker and with two; efficiency and equality.

    python benchmarks/engines.py                # 10^7 steps
    python benchmarks/engines.py --steps 1e6
    python benchmarks/engines.py --parts 16
    python benchmarks/engines.py --quick

The data are partitions that Dask workers make (a seed each) and keep; the other engines read the
same arrays from memory. Workers are processes of one thread on this machine (`LocalCluster`), so
two of them can at most halve the time. Timed are whole default fits after the first look at the
data, and its two largest kinds of pass: regression moments and the gradient. The weights must be
those of the serial engine to the last bit. Then a worker is killed in the middle of a fit.

What two workers can reach on this machine at all is measured too: the same passes and fits by two
processes that share nothing, each on half of the data, next to one such process alone. All of them
run in turns, and the best time of each counts: other work on the machine makes times longer, never
shorter.

What a pass costs beside its sums is measured on partitions of a few rows, by visits of the workers
and by a task for each partition.

Acceptance: two workers at least 1.7 times as fast as one at 10^7 steps, where two free processes
are twice as fast; a killed worker changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from _common import Column, Output, option_parser

from gloree import IORNN, SpectralRNNRegressor, datasets, sources
from gloree.engine import DaskEngine, Engine, Source, get_engine
from gloree.moments import RegressionFeatures, Whitening, regression_sums
from gloree.refinement import Layout, gradient_sums
from gloree.sequences import Data

SIZES = (10, 5, 4)
STEPS = 50
PARTS = 8
FITS = 5
PASSES = ("moments", "gradient", "fit")
NAMES = {1: "Dask, 1 worker", 2: "Dask, 2 workers"}
FEW = (8, 64)
PASSES_OF_FEW = 20


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


def timed(data: Data, engine: Engine, found: dict[str, Any]) -> dict[str, Any]:
    """The best seconds of the passes and of a fit so far, and its model."""
    engine.scan(data)
    seconds = passes(data, engine)
    begin = time.perf_counter()
    est = SpectralRNNRegressor(SIZES[1], random_state=0, engine=engine).fit(data)
    seconds["fit"] = time.perf_counter() - begin
    least = {key: min(value, found.get(key, value)) for key, value in seconds.items()}
    return {**least, "model": est.model_}


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


def alone(n_parts: int, n_sequences: int, pipe: Any) -> None:
    """A process that shares nothing: it times itself whenever it is asked to."""
    data = sources.batches(Parts(n_parts, n_sequences // 2))
    engine = get_engine("serial")
    engine.scan(data)
    while pipe.recv():
        pipe.send({key: timed(data, engine, {})[key] for key in PASSES})


class Free:
    """Two processes that share nothing."""

    def __init__(self, n_parts: int, n_sequences: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.children = [], []
        for _ in range(2):
            ours, theirs = context.Pipe()
            self.pipes.append(ours)
            self.children.append(context.Process(target=alone, args=(n_parts, n_sequences, theirs)))
            self.children[-1].start()

    def timed(self, n_processes: int, found: dict[str, float]) -> dict[str, float]:
        """The best seconds so far of the slower one of so many processes at once."""
        for pipe in self.pipes[:n_processes]:
            pipe.send(True)
        each = [pipe.recv() for pipe in self.pipes[:n_processes]]
        slower = {key: max(own[key] for own in each) for key in PASSES}
        return {key: min(value, found.get(key, value)) for key, value in slower.items()}

    def close(self) -> None:
        """End the processes."""
        for pipe, child in zip(self.pipes, self.children, strict=True):
            pipe.send(False)
            child.join()


def few_rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A partition that is summed in no time."""
    X = np.random.default_rng(seed).standard_normal((4, STEPS, SIZES[0]))
    return X, X[:, :, : SIZES[2]].copy()


def overheads(client: Any, make: Any, n_parts: int) -> dict[str, float]:
    """Milliseconds of a pass over partitions of a few rows: by visits, by tasks, or here."""
    data = sources.partitions([make(seed) for seed in range(n_parts)])
    engine = get_engine(client)
    engine.scan(data)
    local = sources.batches([few_rows(seed) for seed in range(n_parts)])
    local.scan()
    found: dict[str, float] = {}
    for _ in range(PASSES_OF_FEW):
        for name, own, given in (
            ("visits", engine, data),
            ("tasks", NoVisits("dask", client=client), data),
            ("here", get_engine("serial"), local),
        ):
            seconds = passes(given, own)["moments"]
            found[name] = min(1e3 * seconds, found.get(name, np.inf))
    return found


class NoVisits(DaskEngine):
    """Engine whose passes are tasks alone."""

    def _visited(self, *_: Any, **__: Any) -> dict[int, object]:
        return {}


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
    few: list[dict[str, Any]] = []
    local = sources.batches(Parts(n_parts, n_sequences))
    for name in ("serial", "threads"):
        for _ in range(FITS):
            results[name] = timed(local, get_engine(name), results.get(name, {}))
    del local
    make = dask.delayed(part)
    free = Free(n_parts, n_sequences)
    alone_or_two: dict[int, dict[str, float]] = {1: {}, 2: {}}
    same_when_killed = None
    with ExitStack() as stack:
        clients, data = {}, {}
        for n_workers, name in NAMES.items():
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    memory_limit=0,
                )
            )
            clients[name] = stack.enter_context(Client(cluster))
            with clients[name].as_current():
                data[name] = sources.partitions(
                    [make(seed, n_sequences) for seed in range(n_parts)]
                )
        for _ in range(FITS):
            for n_workers, name in NAMES.items():
                alone_or_two[n_workers] = free.timed(n_workers, alone_or_two[n_workers])
                results[name] = timed(data[name], get_engine(clients[name]), results.get(name, {}))
        free.close()
        two = NAMES[2]
        for count in FEW:
            few.append({"parts": count, **overheads(clients[two], dask.delayed(few_rows), count)})
        timer = kill_one(clients[two], 0.4 * results[two]["fit"])
        begin = time.perf_counter()
        est = SpectralRNNRegressor(SIZES[1], random_state=0, engine=clients[two]).fit(data[two])
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
    one, two_workers = results[NAMES[1]], results[NAMES[2]]
    most = {key: 2 * alone_or_two[1][key] / alone_or_two[2][key] for key in PASSES}
    reached = {key: one[key] / two_workers[key] for key in PASSES}
    out.table(
        "two",
        "Work in a time of two workers over that of one",
        [Column("", "{what}"), *(Column(key, f"{{{key}:.2f}}") for key in PASSES)],
        [
            {"what": "processes that share nothing", **most},
            {"what": "Dask workers", **reached},
        ],
    )
    out.table(
        "few",
        "A pass over partitions of 200 rows: milliseconds",
        [
            Column("partitions", "{parts}"),
            *(Column(key, f"{{{key}:.1f}}", "ms") for key in ("visits", "tasks", "here")),
        ],
        few,
    )
    out.figure("steps", n_steps, "{value:,}", "steps")
    out.figure("parts", n_parts, "{value}", "partitions")
    out.figure("two_workers", reached["fit"], "{value:.2f}", "two workers over one, a fit")
    out.figure("two_free", most["fit"], "{value:.2f}", "two free processes over one, a fit")
    out.figure(
        "of_tasks",
        few[-1]["visits"] / few[-1]["tasks"],
        "{value:.2f}",
        "time of a pass by visits over that by tasks",
    )
    out.figure("killed", killed["seconds"], "{value:.1f}", "seconds of a fit with a worker killed")
    out.target("same_met", all(row["same"] for row in rows), "the same weights by all engines")
    out.target("killed_met", same_when_killed, "the same weights with a worker killed")
    out.target("two_met", reached["fit"] >= 1.7, "two workers 1.7 times as fast as one")
    out.close()


if __name__ == "__main__":
    main()

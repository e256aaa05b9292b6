"""Peak memory of a fit in a process of its own: `python -m helpers.peak_memory CELL FOLDER`.

Prints the bytes by which the memory of the process grew at most, and the limit that was set: the
least one that the fit says would do. A small fit loads all libraries before.
"""

import ctypes
import gc
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, sources
from gloree.engine import Engine
from gloree.moments import MemoryLimitError

N_PARTS = 16


def status(name):
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


def simulated(n_sequences, n_steps, n_inputs=4, n_outputs=3):
    """Inputs and outputs of a quadratic network without recurrence."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_sequences, n_steps, n_inputs))
    A, B = rng.standard_normal((n_inputs, 2)), rng.standard_normal((2, n_outputs))
    noise = rng.standard_normal((n_sequences, n_steps, n_outputs))
    return X, (X @ A) ** 2 @ B + 0.1 * noise


class Parts:
    """An iterable that reads the archives of a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __iter__(self):
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path) as file:
                yield file["X"], file["Y"]


def as_arrays(X, Y, folder):
    return (X, Y)


def as_map(X, Y, folder):
    np.save(folder / "X.npy", X)
    np.save(folder / "Y.npy", Y)
    return (folder / "X.npy", folder / "Y.npy")


def as_own_map(X, Y, folder):
    return tuple(np.load(path, mmap_mode="r") for path in as_map(X, Y, folder))


def as_mapped_shards(X, Y, folder):
    for i in range(N_PARTS):
        np.save(folder / f"s{i:02d}.X.npy", X[i::N_PARTS])
        np.save(folder / f"s{i:02d}.Y.npy", Y[i::N_PARTS])
    return (sources.shards(folder),)


def as_shards(X, Y, folder):
    for i in range(N_PARTS):
        np.savez(folder / f"s{i:02d}.npz", X=X[i::N_PARTS], Y=Y[i::N_PARTS])
    return (sources.shards(folder),)


def as_iterable(X, Y, folder):
    as_shards(X, Y, folder)
    return (Parts(folder),)


SERIAL, THREADS = "serial", Engine("threads", n_workers=2)
CELLS = {
    "arrays, serial": (as_arrays, SERIAL, (8_000, 20), {}),
    "arrays, threads": (as_arrays, THREADS, (8_000, 20), {}),
    "map, serial": (as_map, SERIAL, (8_000, 20), {}),
    "map, threads": (as_map, THREADS, (8_000, 20), {}),
    "own map, threads": (as_own_map, THREADS, (8_000, 20), {}),
    "mapped shards, threads": (as_mapped_shards, THREADS, (8_000, 20), {}),
    "shards, serial": (as_shards, SERIAL, (8_000, 20), {}),
    "shards, threads": (as_shards, THREADS, (8_000, 20), {}),
    "iterable, threads": (as_iterable, THREADS, (8_000, 20), {}),
    "short sequences, serial": (as_arrays, SERIAL, (100_000, 2), {}),
    "one record, threads": (as_map, THREADS, (1, 160_000), {}),
    "windows, threads": (as_map, THREADS, (4_000, 40), {"lags": 3}),
    "both directions, threads": (as_arrays, THREADS, (4_000, 20), {"bidirectional": True}),
    "labels, threads": (as_arrays, THREADS, (4_000, 20), {"labels": True}),
}


def fitted(data, engine, limit, *, labels=False, **options):
    """Fit with a limit."""
    kind = SpectralRNNClassifier if labels else SpectralRNNRegressor
    return kind(2, random_state=0, engine=engine, memory_limit=limit, **options).fit(*data)


def measured(cell, folder):
    """Peak growth, and limit."""
    form, engine, sizes, options = CELLS[cell]
    warnings.simplefilter("ignore")
    X, Y = simulated(*sizes)
    Y = Y.argmax(axis=2) if options.get("labels") else Y
    small = (X[:200], Y[:200]) if sizes[0] > 1 else (X[:, :4000], Y[:, :4000])
    fitted(small, engine, None, **options)
    data = form(X, Y, folder)
    if form is not as_arrays:
        del X, Y, small
    try:
        fitted(data, engine, 1, **options)
    except MemoryLimitError as error:
        limit = int(re.search(r"at least ([\d,]+)", str(error))[1].replace(",", ""))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    fitted(data, engine, limit, **options)
    return {"growth": status("VmHWM") - before, "limit": limit}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))

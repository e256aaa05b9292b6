"""Data in parts: cut from arrays, written to folders, or made when they are asked for."""

import numpy as np

from gloree.sequences import as_sequences


def cut_in_parts(X, Y, n_parts=6):
    """Pairs of equal parts of both."""
    return list(zip(np.array_split(X, n_parts), np.array_split(Y, n_parts), strict=True))


def ragged_parts(lengths, seed=0):
    """Parts of pairs of sequences of these lengths, and all sequences together."""
    rng = np.random.default_rng(seed)
    parts = [
        [(rng.standard_normal((n, 2)), rng.standard_normal((n, 1))) for n in part]
        for part in lengths
    ]
    X, Y = zip(*(pair for part in parts for pair in part), strict=True)
    return parts, as_sequences(list(X), list(Y))


def flat(values):
    """Rows of all sequences."""
    return values.reshape(-1, values.shape[-1])


def rows_of(x, y):
    """Rows of both, and the lengths of their sequences."""
    return {"X": flat(x), "Y": flat(y), "lengths": np.full(len(x), x.shape[1])}


def write_npz(folder, parts, **others):
    """One archive for each part; other arrays beside X and Y."""
    for i, (x, y) in enumerate(parts):
        np.savez(folder / f"{i}.npz", X=x, Y=y, **others)
    return folder


def write_flat_npz(folder, parts):
    """One archive for each part, of rows and lengths."""
    for i, (x, y) in enumerate(parts):
        np.savez(folder / f"{i}.npz", **rows_of(x, y))
    return folder


def write_npy(folder, parts):
    """Two files for each part, which can be mapped."""
    for i, (x, y) in enumerate(parts):
        np.save(folder / f"{i}.X.npy", x)
        np.save(folder / f"{i}.Y.npy", y)
    return folder


def write_flat_npy(folder, parts):
    """Three files for each part: of rows, and of lengths."""
    for i, (x, y) in enumerate(parts):
        for name, values in rows_of(x, y).items():
            np.save(folder / f"{i}.{name}.npy", values)
    return folder


class Again:
    """An iterable that starts anew each time, and counts how often."""

    def __init__(self, items):
        self.items, self.n_passes = items, 0

    def __iter__(self):
        self.n_passes += 1
        yield from self.items


class PerPass:
    """An iterable that gives what function(1), function(2), .. give, one after another."""

    def __init__(self, function):
        self.function, self.n_passes = function, 0

    def __iter__(self):
        self.n_passes += 1
        yield from self.function(self.n_passes)

"""A program: fits to files that are harmed in the middle of a pass, and what each ends in.

``python -m helpers.harmed_files FOLDER [FORM]``: whoever reads a page of a map behind the end of
its file is killed by a signal, so that this has to run in a process of its own.
"""

from __future__ import annotations

import os
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from gloree import SpectralRNNRegressor, sources
from gloree.engine import Engine

ENDED = "ended well"
SHAPE = (240, 10, 3)
KEPT = {"to nothing": 0.0, "to the header": 0.01, "to a third": 0.35, "by a row": -24}
"""Files that are cut: the share of their bytes that stays, or bytes that go."""


def simulated():
    rng = np.random.default_rng(0)
    X = rng.standard_normal(SHAPE)
    state = X @ rng.standard_normal((3, 2))
    Y = state**2 @ rng.standard_normal((2, 2)) + 0.1 * rng.standard_normal((*SHAPE[:2], 2))
    return X, Y


def saved(folder, X, Y):
    np.save(folder / "X.npy", X)
    np.save(folder / "Y.npy", Y)
    return folder / "X.npy", folder / "Y.npy"


def loaded(mode):
    def open_maps(folder):
        return tuple(np.load(path, mmap_mode=mode) for path in saved(folder, *simulated()))

    return open_maps


def turned(folder):
    """Columns one after another."""
    X, Y = (np.asfortranarray(values.reshape(-1, values.shape[-1])) for values in simulated())
    return tuple(np.load(path, mmap_mode="r") for path in saved(folder, X, Y))


def sliced(folder):
    return tuple(values[::2] for values in loaded("r")(folder))


def listed(folder):
    return tuple(list(values) for values in loaded("r")(folder))


def hidden(folder):
    return tuple(np.asarray(values)[:] for values in loaded("r")(folder))


def raw(folder):
    """Bytes without a header."""
    maps = []
    for name, values in zip("XY", simulated(), strict=True):
        values.tofile(folder / f"{name}.npy")
        maps.append(np.memmap(folder / f"{name}.npy", values.dtype, "r", shape=values.shape))
    return tuple(maps)


def paths(folder):
    return saved(folder, *simulated())


def as_source(folder):
    return (sources.memory_map(*paths(folder)),)


def directory(folder):
    for part, (x, y) in enumerate(zip(*(np.split(v, 4) for v in simulated()), strict=True)):
        np.save(folder / f"{part}.X.npy", x)
        np.save(folder / f"{part}.Y.npy", y)
    return (str(folder),)


FORMS = {
    "own map": loaded("r"),
    "own map that may be written": loaded("r+"),
    "own map, copied on writing": loaded("c"),
    "own map, columns one after another": turned,
    "own map, every other sequence": sliced,
    "own map, a list of its sequences": listed,
    "own map as a plain array": hidden,
    "own map of raw bytes": raw,
    "paths": paths,
    "memory_map": as_source,
    "directory": directory,
}


def cut(path, kept):
    size = path.stat().st_size
    os.truncate(path, int(kept * size) if kept >= 0 else size + kept)


def overwritten(path):
    """Other values in the same bytes, by whoever has the file open too."""
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2 // 8 * 8)
        file.write(np.full(40, 0.125).tobytes())


def harm_in_pass(number, harm):
    """Let the first batch of this pass harm the files; counts passes."""
    plain, count = Engine.run, [0]

    def run(self, function, data, *, label="pass"):
        count[0] += 1
        if count[0] != number:
            return plain(self, function, data, label=label)
        waiting = [harm]

        def harming(batch):
            while waiting:
                waiting.pop()()
            return function(batch)

        return plain(self, harming, data, label=label)

    Engine.run = run
    return count, plain


def outcome(call, number, harm):
    count, plain = harm_in_pass(number, harm)
    try:
        call()
        found = ENDED
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    finally:
        Engine.run = plain
    return found, count[0]


def fit(engine):
    return SpectralRNNRegressor(
        2, recurrence=None, refine=None, engine=engine, batch_size=300, random_state=0
    )


def harmed(form, folder, thorough):
    """Lines about all harms of files in a form, each in one of three passes or in all of them."""
    make = FORMS[form]
    victims = ("0.Y.npy", "2.X.npy") if form == "directory" else ("X.npy", "Y.npy")
    whole = fit("serial")
    _, n_passes = outcome(lambda: whole.fit(*make(folder)), 0, None)
    harms = {f"cut {name}": (cut, kept) for name, kept in KEPT.items()}
    harms["overwritten"] = (overwritten,)
    passes = (1, n_passes // 2, n_passes)
    for index, (name, (harm, *how)) in enumerate(harms.items()):
        for number in passes if thorough else passes[index % 3 :][:1]:
            engine = ("serial", "threads")[(index + number) % 2]
            data, victim, est = make(folder), victims[number % 2], fit(engine)
            spoil = partial(harm, folder / victim, *how)
            found, _ = outcome(partial(est.fit, *data), number, spoil)
            if found == ENDED and est.model_ != whole.model_:
                found = "ended with other weights"
            yield f"{name}, {victim}, pass {number}, {engine}", found
    for name in ("fit", "predict", "score"):
        est, data, victim = whole if name != "fit" else fit("serial"), make(folder), victims[-1]
        if name == "predict" and form != "directory":
            data, victim = data[:1], victims[0]
        cut(folder / victim, 0.1)
        yield f"cut before, {name}", outcome(partial(getattr(est, name), *data), 0, None)[0]


def main(folder, *forms):
    for form in forms or FORMS:
        for what, found in harmed(form, Path(folder), bool(forms)):
            print(f"{form} | {what} | {found}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])

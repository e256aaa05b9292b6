"""True and predicted labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import LIGHT, new_axes
from gloree.sequences import IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 0.01  # share of a row above which a cell holds its number
SMALLEST_CELL = 11.0  # side of a cell in points below which there is no room for numbers


def plot_confusion(
    truth: Iterable[object],
    predicted: Iterable[object],
    *,
    classes: Sequence[Hashable] | None = None,
    normalise: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class was predicted as which.

    Rows are true classes, with their counts where there is room, and columns predicted ones. The
    shade of a cell grows with the square root of its share of the row. Cells with at least 1 % of
    their row hold their number, where there is room.

    Parameters
    ----------
    truth, predicted : sequence or sequence of sequences
        Labels of any hashable type, both in the same form. Strings and numbers are labels; lists,
        tuples and arrays are sequences.
    classes : sequence, optional
        Classes in the order of rows and columns; by default all that occur, sorted.
    normalise : bool, default True
        Whether cells are percent of their row; counts otherwise.

    Raises
    ------
    TypeError, ValueError
        If labels are not hashable or not among `classes`, or the two differ in length or are empty.
    """
    true, found = _sequences(truth, "truth"), _sequences(predicted, "predicted")
    if len(true) != len(found):
        raise ValueError(f"`truth` has {len(true)} sequences, `predicted` {len(found)}")
    for i, (rows, columns) in enumerate(zip(true, found, strict=True)):
        if len(rows) != len(columns):
            where = f"[{i}]" if len(true) > 1 else ""
            raise ValueError(
                f"`truth{where}` has {len(rows)} labels, `predicted{where}` {len(columns)}"
            )
    rows, columns = list(chain(*true)), list(chain(*found))
    if not rows:
        raise ValueError("`truth` holds no labels: nothing to draw")
    names = _sorted({*rows, *columns}) if classes is None else list(classes)
    place = {name: i for i, name in enumerate(names)}
    if len(place) != len(names):
        raise ValueError(f"`classes` names a class twice: {names}")
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (_codes(rows, place, "truth"), _codes(columns, place, "predicted")), 1)
    return _draw(counts, [str(name) for name in names], normalise, ax)


def _draw(counts: IntArray, names: list[str], normalise: bool, ax: Axes | None) -> Axes:
    n = len(names)
    side = float(np.clip(1.8 + 0.36 * n, 3.6, 14.0))
    ax = new_axes(ax, (side + 0.6, side))
    from matplotlib.colors import PowerNorm

    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    ax.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), interpolation="none")
    edges = np.arange(n + 1) - 0.5
    ax.hlines(edges, -0.5, n - 0.5, color=LIGHT, lw=0.5)
    ax.vlines(edges, -0.5, n - 0.5, color=LIGHT, lw=0.5)
    # an estimate: axes are placed when they are drawn, and the names of classes take room as well
    box = ax.get_window_extent()
    cell = 0.95 * 72 * min(box.width, box.height) / (ax.figure.dpi * n)
    size = float(np.clip(0.42 * cell, 4.0, 9.0))
    roomy = cell >= SMALLEST_CELL
    number_size = size if normalise else min(size, 1.4 * cell / len(str(counts.max())))
    for i, j in np.argwhere((shares >= SHOWN) & (counts > 0)) if roomy else ():
        text = f"{100 * shares[i, j]:.0f}" if normalise else f"{counts[i, j]}"
        colour = "white" if shares[i, j] > 0.35 else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize=number_size, color=colour)
    places = np.arange(0, n, 1 if roomy else max(1, int(np.ceil(6.0 / cell))))
    rows = [f"{names[i]} ({totals[i]:,})" if roomy else names[i] for i in places]
    columns = [names[i] for i in places]
    rotation = 90 if n > 4 and max(map(len, names)) > 2 else 0
    ax.set_yticks(places, rows, fontsize=max(size, 5.0))
    ax.set_xticks(places, columns, fontsize=max(size, 5.0), rotation=rotation)
    ax.tick_params(length=0)
    ax.set(
        xlabel="predicted; cells in percent of the row" if roomy and normalise else "predicted",
        ylabel="true (count)" if roomy else "true",
        title=f"{100 * int(np.trace(counts)) / counts.sum():.1f} % of {counts.sum():,} correct",
    )
    ax.spines[:].set_visible(False)
    return ax


def _sequences(labels: object, name: str) -> list[list[Hashable]]:
    """Labels as a list of sequences; flat ones are one sequence."""
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise TypeError(
            f"`{name}` is {labels!r}, expected a sequence of labels or a sequence of sequences"
        )
    parts = [part.tolist() if isinstance(part, np.ndarray) else part for part in labels]
    nested = [isinstance(part, (list, tuple)) for part in parts]
    if any(nested) and not all(nested):
        i = nested.index(not nested[0])
        raise ValueError(
            f"`{name}` mixes labels and sequences of labels: `{name}[0]` is {parts[0]!r}, "
            f"`{name}[{i}]` is {parts[i]!r}"
        )
    sequences = [list(part) for part in parts] if any(nested) else [parts]
    for label in chain(*sequences):
        if not isinstance(label, Hashable):
            raise TypeError(f"`{name}` holds {label!r}, expected labels that are hashable")
    return sequences


def _sorted(classes: set[Hashable]) -> list[Hashable]:
    try:
        return sorted(classes)  # type: ignore[type-var]
    except TypeError:
        return sorted(classes, key=lambda label: (type(label).__name__, str(label)))


def _codes(labels: list[Hashable], place: dict[Hashable, int], name: str) -> IntArray:
    for label in labels:
        if label not in place:
            raise ValueError(f"`{name}` holds {label!r}, which is not among `classes`")
    return np.array([place[label] for label in labels], dtype=np.int64)

"""True and predicted labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gloree.plotting._style import LIGHT, new_axes
from gloree.sequences import IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 0.01  # share of a row above which a cell holds its number
SMALLEST_CELL = 11.0  # side of a cell in points below which there is no room for numbers


def plot_confusion(
    truth: Any,
    predicted: Any,
    *,
    classes: Sequence[Any] | None = None,
    normalise: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class was taken for which.

    Parameters
    ----------
    truth, predicted : sequence or sequence of sequences
        Labels of any hashable kind, both in the same form; strings and numbers are labels, and
        lists, tuples and arrays sequences.
    classes : sequence, optional
        Classes in the order of rows and columns; by default all that occur, sorted.
    normalise : bool, default True
        Whether cells are percent of their row; counts otherwise.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Rows are true classes, with their counts where there is room, columns predicted ones.
        Shades go with the square root of the share of the row. Cells of at least 1 % of their row
        hold their number, where there is room.

    Raises
    ------
    TypeError
        If labels are not hashable.
    ValueError
        If the two differ in length, there are none, or a label is not among `classes`.
    """
    true, found = _flat(truth, "truth"), _flat(predicted, "predicted")
    if [len(part) for part in true] != [len(part) for part in found]:
        raise ValueError(_mismatch(true, found))
    rows, columns = [label for part in true for label in part], [x for part in found for x in part]
    if not rows:
        raise ValueError("`truth` holds no labels: nothing to draw")
    names = _classes(rows, columns) if classes is None else list(classes)
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
    ax.hlines(edges, -0.5, n - 0.5, color=LIGHT, linewidth=0.5)
    ax.vlines(edges, -0.5, n - 0.5, color=LIGHT, linewidth=0.5)

    # An estimate: layouts place axes when they are drawn, and names of classes take room as well.
    box = ax.get_window_extent()
    cell = 0.95 * 72 * min(box.width, box.height) / (ax.figure.dpi * n)
    size = float(np.clip(0.42 * cell, 4.0, 9.0))
    roomy = cell >= SMALLEST_CELL
    if roomy:
        for i, j in np.argwhere((shares >= SHOWN) & (counts > 0)):
            ax.text(
                j,
                i,
                f"{100 * shares[i, j]:.0f}" if normalise else f"{counts[i, j]}",
                ha="center",
                va="center",
                fontsize=size if normalise else min(size, 1.4 * cell / len(str(counts.max()))),
                color="white" if shares[i, j] > 0.35 else "black",
            )
    step = 1 if roomy else max(1, int(np.ceil(6.0 / cell)))
    places = np.arange(0, n, step)
    rows = [f"{names[i]} ({totals[i]:,})" if roomy else names[i] for i in places]
    ax.set_yticks(places, rows, fontsize=max(size, 5.0))
    upright = n > 4 and max(map(len, names)) > 2
    ax.set_xticks(
        places,
        [names[i] for i in places],
        fontsize=max(size, 5.0),
        rotation=90 if upright else 0,
    )
    ax.tick_params(length=0)
    right = int(np.trace(counts))
    ax.set(
        xlabel="predicted",
        ylabel="true (count)" if roomy else "true",
        title=f"{100 * right / counts.sum():.1f} % of {counts.sum():,} correct",
    )
    if roomy:
        ax.set_xlabel("predicted; cells in percent of the row" if normalise else "predicted")
    ax.spines[:].set_visible(False)
    return ax


def _flat(labels: Any, name: str) -> list[list[Any]]:
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
    sequences = [list(part) for part in parts] if nested and nested[0] else [parts]
    for part in sequences:
        for label in part:
            if not isinstance(label, Hashable):
                raise TypeError(f"`{name}` holds {label!r}, expected labels that are hashable")
    return sequences


def _mismatch(true: list[list[Any]], found: list[list[Any]]) -> str:
    if len(true) != len(found):
        return f"`truth` has {len(true)} sequences, `predicted` {len(found)}"
    i = next(i for i, part in enumerate(true) if len(part) != len(found[i]))
    where = f"[{i}]" if len(true) > 1 else ""
    return f"`truth{where}` has {len(true[i])} labels, `predicted{where}` {len(found[i])}"


def _classes(rows: list[Any], columns: list[Any]) -> list[Any]:
    present = set(rows) | set(columns)
    try:
        return sorted(present)
    except TypeError:
        return sorted(present, key=lambda label: (type(label).__name__, str(label)))


def _codes(labels: list[Any], place: dict[Any, int], name: str) -> IntArray:
    unknown = next((label for label in labels if label not in place), None)
    if unknown is not None:
        raise ValueError(f"`{name}` holds {unknown!r}, which is not among `classes`")
    return np.array([place[label] for label in labels], dtype=np.int64)

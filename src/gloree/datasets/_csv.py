"""A reader for a user's own CSV files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from gloree.sequences import Array, IntArray


@dataclass(frozen=True)
class Table:
    """Columns of a CSV file.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_inputs)
    Y : ndarray of shape (n_rows, n_outputs)
    inputs, outputs : tuple of str
        Names of the columns.
    lengths : ndarray of int or None
        Rows of each sequence, if a sequence column was given.
    """

    X: Array
    Y: Array
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lengths: IntArray | None = None


def read_csv(
    path: str | PathLike[str],
    *,
    inputs: str | Sequence[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    sequence: str | None = None,
) -> Table:
    r"""Read input and output columns of a CSV file with a header line.

    Parameters
    ----------
    path : str or path
    inputs, outputs : str or sequence of str, optional
        Names of columns. By default the first column is the input and the second the output.
    sequence : str, optional
        Name of a column that tells sequences apart; rows of one sequence stand together.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If a column is missing or a cell is not a number, naming the line.

    Notes
    -----
    Empty cells are an error in the columns asked for and ignored in all others.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gloree.datasets import read_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "record.csv"
    ...     _ = file.write_text("time,u,y\n0,0.5,1.0\n1,0.25,2.0\n")
    ...     table = read_csv(file, inputs="u", outputs="y")
    >>> table.X.tolist(), table.Y.tolist()
    ([[0.5], [0.25]], [[1.0], [2.0]])
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    named = [name for name in names if name]
    if len(named) < 2:
        raise ValueError(f"{path}: the header line names {named}; at least two columns are needed")
    inputs, outputs = _names(inputs, named[0]), _names(outputs, named[1])
    wanted = [*inputs, *outputs, *([sequence] if sequence else [])]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; its columns are {named}")
    if not rows:
        raise ValueError(f"{path} holds a header and no rows")
    columns = [names.index(name) for name in (*inputs, *outputs)]
    values = np.array([_numbers(path, line, row, columns) for line, row in rows])
    lengths = None
    if sequence is not None:
        column = names.index(sequence)
        labels = [row[column] if column < len(row) else "" for _, row in rows]
        cuts = [i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]
        lengths = np.diff([0, *cuts, len(labels)])
    n_inputs = len(inputs)
    return Table(values[:, :n_inputs], values[:, n_inputs:], inputs, outputs, lengths)


def _names(chosen: str | Sequence[str] | None, default: str) -> tuple[str, ...]:
    if chosen is None:
        return (default,)
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def _numbers(
    path: str | PathLike[str], line: int, row: list[str], columns: list[int]
) -> list[float]:
    numbers = []
    for column in columns:
        cell = row[column] if column < len(row) else ""
        try:
            numbers.append(float(cell))
        except ValueError:
            raise ValueError(
                f"{path}, line {line}, column {column + 1}: {cell!r} is not a number"
            ) from None
    return numbers

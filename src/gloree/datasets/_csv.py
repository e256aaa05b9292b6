"""A reader for a user's own tables: CSV files and their relatives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gloree.datasets._columns import find_header, groups_of, refuse_key, units_of
from gloree.datasets._delimited import Cells, find_separator, read_cells, read_text
from gloree.datasets._numbers import Numbers, marks_of, numbers_of
from gloree.datasets._times import check_order, default_clock, is_clock, times_of
from gloree.sequences import Array, IntArray

Column: TypeAlias = str | int
"""A column by its name, or by its place from 0."""

MISSING = ("error", "split", "nan")

SPREADSHEET = re.compile(r'"?sep=([^\n])"?\1*[^\S\n]*\n', re.IGNORECASE)
"""A first line that tells a spreadsheet what separates the columns."""


@dataclass(frozen=True, repr=False)
class Table:
    """Columns of a CSV file.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_inputs)
    Y : ndarray of shape (n_rows, n_outputs)
    inputs, outputs : tuple of str
        Names of the columns.
    lengths : ndarray of int or None
        Rows of each sequence, if a sequence column was given or rows were left out.
    sequences : tuple of str
        What the sequence column holds for each of them; empty without one.
    time : ndarray of shape (n_rows,) or None
        Times of the rows: numbers (seconds, of times of a day), or ``datetime64``; None without
        such a column.
    units : dict of str to str
        Units of the columns of `X` and `Y`, from a row of units; empty without one.
    """

    X: Array
    Y: Array
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lengths: IntArray | None = None
    sequences: tuple[str, ...] = ()
    time: NDArray[np.generic] | None = None
    units: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        sequences = "" if self.lengths is None else f" of {len(self.lengths)} sequences"
        columns = f"inputs={self.inputs}, outputs={self.outputs}"
        return f"{type(self).__name__}({len(self.X)} rows{sequences}, {columns})"


def read_csv(
    path: str | PathLike[str],
    *,
    inputs: Column | Sequence[Column] | None = None,
    outputs: Column | Sequence[Column] | None = None,
    sequence: Column | None = None,
    time: Column | bool | None = None,
    missing: str = "error",
    separator: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    units: bool | None = None,
    skip: int = 0,
    quotes: bool = True,
) -> Table:
    r"""Read input and output columns of a CSV file, or another text file of rows.

    How the file is written is found by looking at it; every guess can be replaced by a parameter,
    and what stays in doubt is an error that names it. Needs pandas: ``pip install
    "gloree[pandas]"``.

    Parameters
    ----------
    path : str or path
        May be packed by gzip, bzip2, xz or zip (of one file), whatever its name.
    inputs, outputs : str, int, or sequence of them, optional
        Columns by name, or by place from 0. By default the first column is the input and the
        second the output, not counting columns without a name, columns of times or running
        numbers, the `sequence`, and those given as the other of the two. A column named like
        experiments ("run", "id", ...) is never taken by default.
    sequence : str or int, optional
        Column that tells sequences (experiments, runs) apart. Rows of several may stand mixed:
        those of each are put together in their order, sequences in that of their first rows.
    time : str, int or False, optional
        Column of the times, which must not go back within a sequence: numbers, time stamps, or
        times of a day such as 12:30:05, which become seconds since the first row of their sequence,
        beyond midnight too. By default a column named like one ("t", "time", "t [s]", ...), else
        one of times of a day; a column of dates goes with such a one. False takes none.
    missing : {"error", "split", "nan"}, default "error"
        What becomes of a row with an empty cell (or NA, NaN, null, -) in a column asked for: an
        error that names it; "split" leaves the row out and begins a new sequence behind it, so that
        no step leads over the gap, and does so at blank lines too; "nan" keeps NaN for you to fill.
        Otherwise blank lines are passed over; a row of separators alone has missing cells.
    separator : str, optional
        Between columns: a character, or " " for any run of blanks and tabs. By default a tab,
        semicolon, bar, comma or blanks, whichever cuts the first lines alike.
    decimal : {".", ","}, optional
        Decimal mark. By default what the columns asked for hold, if it is one of both. Numbers
        such as 1.200 beside semicolons, or 1,200 beside other separators, are refused unless
        another number of the file (1.25, 0.200; 1.200,5) shows what is meant.
    thousands : str, optional
        Mark between groups of three digits, to be left out of numbers. By default a point or comma
        where numbers such as 1.200,5 or 1.200.000 show that it is one, else none.
    encoding : str, optional
        By default that of the byte order mark (UTF-8, UTF-16, UTF-32), else UTF-8, else Windows's
        cp1252.
    header : bool, optional
        Whether the first row holds names. By default it does if it holds no numbers; without names
        columns are called "0", "1", ...
    units : bool, optional
        Whether the row below the names holds units. By default it does if it holds no number in
        the columns asked for, and the next row holds one in each.
    skip : int, default 0
        Lines before the first row.
    quotes : bool, default True
        Whether double quotes enclose cells; False where they are ordinary characters.

    Returns
    -------
    Table

    Raises
    ------
    ImportError
        Without pandas.
    TypeError, ValueError
        If a column is missing, given twice, or both input and output; a cell is no number; a row is
        longer than the first one; times go back; or the form of the file is in doubt. The message
        names the file, the line, and what to pass.

    Notes
    -----
    Cells of other columns may hold anything. The file is read into memory as text: some 100 bytes a
    cell.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gloree.datasets import read_csv
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name) / "record.csv"
    >>> def write(text, encoding="utf-8"):
    ...     _ = file.write_text(text, encoding=encoding)

    The time is no input:

    >>> write("time,u,y\n0,0.5,1.0\n1,0.25,2.0\n")
    >>> table = read_csv(file)
    >>> table.inputs, table.X.tolist(), table.outputs, table.Y.tolist()
    (('u',), [[0.5], [0.25]], ('y',), [[1.0], [2.0]])
    >>> read_csv(file, inputs=["time", "u"], outputs="y").X.tolist()
    [[0.0, 0.5], [1.0, 0.25]]

    A file of another country, in another encoding, with a row of units:

    >>> write("t;Druck;Temperatur\ns;bar;\N{DEGREE SIGN}C\n0;1,5;20,5\n1;1,25;21\n", "cp1252")
    >>> table = read_csv(file, inputs="Druck", outputs="Temperatur")
    >>> table.X.tolist(), table.units
    ([[1.5], [1.25]], {'Druck': 'bar', 'Temperatur': '°C'})

    The same said instead of found:

    >>> options = {"separator": ";", "decimal": ",", "encoding": "cp1252", "units": True}
    >>> bool((read_csv(file, inputs=1, outputs=2, **options).X == table.X).all())
    True

    No names; lines before the first row; thousands:

    >>> write("# logger 7\n0.5 1,200\n0.25 1,300\n")
    >>> read_csv(file, skip=1, header=False, thousands=",").Y.tolist()
    [[1200.0], [1300.0]]

    Experiments that were logged side by side, with time stamps:

    >>> rows = "A,2024-05-01 10:00,1,5", "B,2024-05-01 10:00,2,6", "A,2024-05-01 10:01,3,7"
    >>> write("\n".join(("run,when,u,y", *rows)))
    >>> table = read_csv(file, inputs="u", outputs="y", sequence="run", time="when")
    >>> table.X.tolist(), table.lengths.tolist(), table.sequences
    ([[1.0], [3.0], [2.0]], [2, 1], ('A', 'B'))
    >>> int((table.time[1] - table.time[0]).astype("timedelta64[s]").astype(int))
    60

    Missing cells:

    >>> write("u,y\n1,5\n2,\n3,7\n4,8\n")
    >>> table = read_csv(file, missing="split")
    >>> table.X.tolist(), table.lengths.tolist()
    ([[1.0], [3.0], [4.0]], [1, 2])
    >>> read_csv(file, missing="nan").Y.ravel().tolist()
    [5.0, nan, 7.0, 8.0]
    >>> folder.cleanup()
    """
    _check_options(missing, separator, decimal, thousands, skip)
    name = fspath(path)
    text = read_text(name, encoding)
    told = SPREADSHEET.match(text)
    if told is not None:
        separator, skip = separator or told[1], max(skip, 1)
    if separator is None:
        sample = text.split("\n", skip)[-1]
        # a blank may stand between thousands
        separator = find_separator(
            sample if thousands in (None, ",") else sample.replace(thousands, "")
        )
    cells = read_cells(name, text, separator, skip=skip, quotes=quotes)
    names, cells = find_header(cells, header)
    cells = cells.filled() if missing == "split" else cells
    chosen = _choose(cells, names, inputs, outputs, sequence, time)
    wanted = (*chosen.inputs, *chosen.outputs)
    unit_row, below = units_of(cells, wanted, units)
    groups = chosen.groups[len(cells.rows) - len(below.rows) :]
    others = [column for column in range(len(names)) if column not in wanted]
    marks = marks_of(
        below, wanted, others, decimal=decimal, thousands=thousands, separator=separator
    )
    values = numbers_of(below, names, wanted, marks, missing)
    times = _times(below, names, chosen, groups, marks)
    gaps = below.gaps if missing == "split" else np.zeros(len(values), dtype=np.int64)
    order, lengths, kept = _sequences(values, groups, gaps, split=missing == "split")
    if not order.size:
        raise ValueError(f"{name}: every row misses a cell of {[names[i] for i in wanted]}")
    n_inputs, given = len(chosen.inputs), [names[column] for column in wanted]
    return Table(
        values[order, :n_inputs],
        values[order, n_inputs:],
        tuple(given[:n_inputs]),
        tuple(given[n_inputs:]),
        None if sequence is None and len(kept) == 1 else lengths,
        () if sequence is None else tuple(chosen.labels[i] for i in kept),
        None if times is None else times[order],
        {} if unit_row is None else {names[column]: unit_row[column] for column in wanted},
    )


@dataclass(frozen=True)
class _Chosen:
    """Columns that are asked for, or taken by default; the group of each row, and their labels."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    time: tuple[int, ...]
    groups: IntArray
    labels: tuple[str, ...]


def _check_options(
    missing: str, separator: str | None, decimal: str | None, thousands: str | None, skip: int
) -> None:
    if missing not in MISSING:
        raise ValueError(f"`missing` must be one of {', '.join(MISSING)}, got {missing!r}")
    for name, mark in (("separator", separator), ("thousands", thousands)):
        if mark is not None and (not isinstance(mark, str) or len(mark) != 1):
            raise ValueError(f"`{name}` must be a single character, got {mark!r}")
    if decimal not in (None, ".", ","):
        raise ValueError(f"`decimal` must be '.' or ',', got {decimal!r}")
    if decimal is not None and decimal == thousands:
        raise ValueError(f"`decimal` and `thousands` are both {decimal!r}")
    if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
        raise ValueError(f"`skip` must be a number of lines, got {skip!r}")


def _choose(
    cells: Cells,
    names: list[str],
    inputs: Column | Sequence[Column] | None,
    outputs: Column | Sequence[Column] | None,
    sequence: Column | None,
    time: Column | bool | None,
) -> _Chosen:
    named = [name for name in names if name]
    if len(named) < 2:
        raise ValueError(
            f"{cells.path}: the header line names {named}; at least two columns are needed. Pass "
            f"`skip` if the table begins further below, or its `separator`"
        )

    def places(asked: Column | Sequence[Column] | None) -> list[int]:
        if asked is None:
            return []
        each = [asked] if isinstance(asked, (str, int)) else list(asked)
        return [_place(column, names, cells.path) for column in each]

    ins, outs, keys = places(inputs), places(outputs), places(sequence)
    if time is True:
        raise TypeError("`time` must be the name of a column, False or None, got True")
    clock = places(None if time is False else time)
    if not len(cells.rows):
        raise ValueError(f"{cells.path} holds a header and no rows")
    groups, labels = groups_of(cells, keys[0] if keys else None)
    free = [
        column
        for column, name in enumerate(names)
        if name
        and column not in (*ins, *outs, *keys, *clock)
        and (time is False or not is_clock(cells, column, name, groups))
    ]
    for what, found, given in (("inputs", ins, inputs), ("outputs", outs, outputs)):
        if given is None:
            if not free:
                raise ValueError(
                    f"{cells.path}: no column is left to be taken for `{what}`; its columns are "
                    f"{named}, and times and running numbers are not taken by default: pass "
                    f"`inputs` and `outputs`"
                )
            refuse_key(cells, free[0], names[free[0]])
            found.append(free.pop(0))
        elif not found:
            raise ValueError(f"`{what}` is empty: give one column, or more")
    _check_once(ins, outs, keys, names, cells.path)
    if time is None:
        clock = list(default_clock(cells, names, keys))
    return _Chosen(tuple(ins), tuple(outs), tuple(clock), groups, labels)


def _place(column: Column, names: list[str], path: str) -> int:
    """Place of a column."""
    if isinstance(column, bool) or not isinstance(column, (str, int)):
        raise TypeError(
            f"a column is given by its name or its place, got {column!r} of type "
            f"{type(column).__name__}"
        )
    if isinstance(column, int):
        if not 0 <= column < len(names):
            raise ValueError(f"{path} has no column {column}: its {len(names)} are counted from 0")
        return column
    count = names.count(column)
    if count == 1:
        return names.index(column)
    known = [name for name in names if name]
    if count:
        raise ValueError(f"{path} has {count} columns {column!r}: give one by its place, from 0")
    raise ValueError(f"{path} has no column {column!r}; its columns are {known}")


def _check_once(
    ins: list[int], outs: list[int], keys: list[int], names: list[str], path: str
) -> None:
    """Refuse a column that is asked for twice: outputs among the inputs make a perfect fit."""
    for column in {*ins, *outs}:
        roles = [
            role
            for role, columns in (("inputs", ins), ("outputs", outs), ("sequence", keys))
            for _ in range(columns.count(column))
        ]
        if len(roles) > 1:
            raise ValueError(
                f"{path}: column {names[column]!r} is asked for twice, in "
                f"{' and '.join(f'`{role}`' for role in roles)}: a column has one part"
            )


def _times(
    cells: Cells, names: list[str], chosen: _Chosen, groups: IntArray, marks: Numbers
) -> NDArray[np.generic] | None:
    """Times of the rows, which must not go back within a sequence."""
    if not chosen.time:
        return None
    times = times_of(cells, chosen.time, groups, marks)
    check_order(cells, times, groups, names[chosen.time[-1]])
    return times


def _sequences(
    values: Array, groups: IntArray, gaps: IntArray, *, split: bool
) -> tuple[IntArray, IntArray, IntArray]:
    """Rows in the order of their sequences, the lengths of these, and the group of each."""
    order = np.argsort(groups, kind="stable")
    first = np.diff(groups[order], prepend=-1) != 0
    first |= np.diff(gaps[order], prepend=-1) != 0
    if split:
        # a row that is left out cuts its sequence
        whole = ~np.isnan(values[order]).any(axis=1)
        piece = np.cumsum(first | ~whole)
        order, piece = order[whole], piece[whole]
        first = np.diff(piece, prepend=-1) != 0
    starts = np.flatnonzero(first)
    return order, np.diff([*starts, len(order)]), groups[order[starts]]

"""Text files of rows: from bytes to cells, each with its line; pandas splits the lines."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gloree._extras import require
from gloree.sequences import IntArray

SEPARATORS = {"\t": "a tab", ";": "a semicolon", "|": "a bar", ",": "a comma"}
"""Looked for in this order: a comma may also be a decimal mark."""

BLANKS = " "
"""As a separator: any run of blanks and tabs."""

SAMPLE_LINES = 50
"""Lines by which the separator is chosen."""

NUMBER = re.compile(r"[+\-\u2212]?(\d+([.,]\d*)?|[.,]\d+)([eE][+\-\u2212]?\d+)?")
"""A number, with a decimal point or a decimal comma."""

GROUPED_NUMBER = re.compile(
    r"[+\-\u2212]?\d{1,3}([.,' \u2019\u00a0\u202f])(\d{2,3}\1)*\d{3}([.,]\d*)?"
)
"""A number with marks between its thousands, whatever the mark."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; that of UTF-32 begins like that of UTF-16."""

TOO_LONG = re.compile(r"Expected \d+ fields in line \d+, saw (\d+)")
OPEN_QUOTE = re.compile(r"inside string starting at row (\d+)")

DAMAGED = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Cells:
    """Cells of a file as text, shape (n_rows, n_columns), and the line on which each row begins.

    Blank lines are left out, and so are rows without a value at the end and right below the names.
    `gaps` counts the blank lines and rows without a value above each row.
    """

    path: str
    rows: NDArray[np.object_]
    lines: IntArray
    gaps: IntArray

    def below(self, n_rows: int) -> Cells:
        """The same without the first rows."""
        while n_rows and n_rows < len(self.rows) and not _holds(self.rows[n_rows]):
            n_rows += 1
        return Cells(self.path, self.rows[n_rows:], self.lines[n_rows:], self.gaps[n_rows:])

    def filled(self) -> Cells:
        """The same without the rows that hold no value."""
        kept = np.array([_holds(row) for row in self.rows], dtype=bool)
        return Cells(self.path, self.rows[kept], self.lines[kept], self.gaps[kept])


def read_text(path: str | Path, encoding: str | None) -> str:
    """Text of a file, unpacked where its first bytes say that it is packed."""
    content = _unpacked(str(path), Path(path).read_bytes())
    names = [encoding] if encoding is not None else _encodings(content)
    for name in names:
        try:
            text = content.decode(name)
        except LookupError:
            raise ValueError(
                f"`encoding` is {name!r}, which Python does not know: pass 'utf-8', 'cp1252', ..."
            ) from None
        except UnicodeDecodeError as error:
            if name != names[-1]:
                continue
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"{path}, line {line}: byte 0x{content[error.start]:02x} is not {name}: pass the "
                f"`encoding` of the file ('utf-8', 'utf-16', 'cp1252', ...)"
            ) from None
        break
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{path}, line {line}: a null character, so this is no text, or `encoding` is wrong: "
            f"export the table as CSV, or pass its encoding"
        )
    return text


def _encodings(content: bytes) -> list[str]:
    """Encodings to try, by the first bytes; every file is Latin-1."""
    for mark, name in MARKS:
        if content.startswith(mark):
            return [name]
    start = content[:200]
    if len(start) > 3 and start.count(b"\0") > len(start) // 4:
        return ["utf-16-le" if start[1::2].count(b"\0") > start[::2].count(b"\0") else "utf-16-be"]
    return ["utf-8", "cp1252", "latin-1"]


def _unpacked(path: str, content: bytes) -> bytes:
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError(f"{path} is packed by zstd: unpack it first")
    unpack = next((unpack for start, unpack in PACKED if content.startswith(start)), bytes)
    try:
        return unpack(content)
    except DAMAGED as error:
        raise ValueError(f"{path} is packed, and damaged ({error}): fetch it again") from error
    except _NotOneFile as error:
        raise ValueError(f"{path} is {error}") from None


class _NotOneFile(Exception):
    """An archive that holds something else than one file."""


def _only_member(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if "[Content_Types].xml" in names:
            raise _NotOneFile("a workbook of a spreadsheet: export its sheet as CSV")
        if len(names) != 1:
            raise _NotOneFile(f"an archive of the files {names}: unpack it, and give one of them")
        return archive.read(names[0])


PACKED: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ\0", lzma.decompress),
    (b"PK\x03\x04", _only_member),
)
"""First bytes of packed files, and what unpacks them."""


def is_number(cell: str) -> bool:
    """Whether a cell is written like a number, with thousands or without."""
    return bool(NUMBER.fullmatch(cell) or GROUPED_NUMBER.fullmatch(cell))


def find_separator(text: str) -> str:
    """Separator of the columns: the one that cuts the first lines alike, and into numbers."""
    lines = [line for line in text[: 2**20].split("\n") if line.strip()][:SAMPLE_LINES]
    best, found = (False, 0.0, 0), ","
    for separator in (*SEPARATORS, BLANKS):
        cut = [_cut(line, separator) for line in lines]
        sizes = [len(row) for row in cut]
        if not cut or sizes[0] < 2:
            continue
        below = [cell.strip() for row in cut[1:] or cut for cell in row]
        numbers = sum(cell == "" or (is_number(cell) and " " not in cell) for cell in below)
        # how far apart lines may be is for later: a row of another length is named then
        score = (len(set(sizes)) == 1, round(numbers / max(len(below), 1), 6), sizes[0])
        if score > best and (separator != BLANKS or score[0]):
            best, found = score, separator
    return found


def _cut(line: str, separator: str) -> list[str]:
    """Cells of a line, without empty ones at its end."""
    if separator == BLANKS:
        return line.split()
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a cell beyond any length: it shows as an open quote
        return []
    while cells and not cells[-1].strip():
        cells.pop()
    return cells


def read_cells(path: str, text: str, separator: str, *, skip: int, quotes: bool) -> Cells:
    """Split a text into cells, of the lines after the first `skip`."""
    pandas = require("pandas", "pandas", "datasets.read_csv")
    start = 0
    for _ in range(skip):
        start = text.find("\n", start) + 1
        if start == 0:
            raise ValueError(f"{path} has fewer lines than `skip` = {skip}")
    blank = re.compile(r"(?:[^\S\n]*\n)*").match(text, start)
    if blank is not None:
        skip, start = skip + blank[0].count("\n"), blank.end()
    body, width = text[start:], 0
    if not body.strip():
        none = np.empty(0, dtype=np.int64)
        return Cells(path, np.empty((0, 0), dtype=object), none, none)
    while True:
        try:
            frame = pandas.read_csv(
                io.StringIO(body),
                sep=r"\s+" if separator == BLANKS else separator,
                header=None,
                names=range(width) if width else None,
                dtype=str,
                na_filter=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
            )
            break
        except pandas.errors.ParserError as error:
            longer = TOO_LONG.search(str(error))
            if longer is None:
                raise _unreadable(path, body, skip, error) from None
            width = max(int(longer[1]), 2 * width)
    rows = frame.to_numpy(dtype=object)
    # rows are fewer than lines where cells hold line breaks
    plain = len(rows) > body.rstrip("\n").count("\n")
    breaks = np.zeros(len(rows), dtype=np.int64) if plain else _line_breaks(rows)
    before = np.cumsum(breaks) - breaks
    lines = np.arange(len(rows)) + before + skip + 1
    filled = np.array([_holds(row) for row in rows], dtype=bool)
    kept = filled.copy()
    if not filled.all():
        # a row of separators has missing cells, a blank line is no row
        written = body.split("\n")
        last = int(np.flatnonzero(filled)[-1])
        for row in np.flatnonzero(~filled[:last]):
            kept[row] = written[lines[row] - skip - 1].strip(" ") != ""
    return Cells(path, rows[kept], lines[kept], np.cumsum(~filled)[kept])


def _holds(row: NDArray[np.object_]) -> bool:
    """Whether a row holds a value."""
    return any(cell.strip() for cell in row)


def _line_breaks(rows: NDArray[np.object_]) -> IntArray:
    """Line breaks inside the cells of each row."""
    return np.array([sum(cell.count("\n") for cell in row) for row in rows], dtype=np.int64)


def _unreadable(path: str, body: str, skip: int, error: Exception) -> ValueError:
    opened = OPEN_QUOTE.search(str(error))
    if opened is None:
        return ValueError(f"{path} cannot be read as a table ({str(error).strip()})")
    line = _line_of_row(body, int(opened[1])) + skip
    return ValueError(
        f"{path}, line {line}: a quote opens a cell here, and none closes it: mend the line, or "
        f"pass quotes=False if quotes are ordinary characters in this file"
    )


def _line_of_row(body: str, row: int) -> int:
    """Line on which a row begins, where quoted cells before it may hold line breaks."""
    line, inside = 1, False
    for text in body.split("\n"):
        if row == 0:
            break
        inside ^= text.count('"') % 2 == 1
        line, row = line + 1, row - (not inside)
    return line

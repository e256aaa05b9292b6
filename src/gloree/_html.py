"""Results as HTML for notebooks: short tables, small pictures, and nothing that is not in the text.

All text is escaped: names of columns, labels and messages come from users.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 12
"""Rows of a table that are shown: a report in a notebook is a glance."""

MOST_LETTERS = 600
"""Letters of a message that are shown."""

LEFT = 'style="text-align:left"'
SPACED = 'style="margin:0 0 0.8em -0.7em;border-collapse:separate;border-spacing:0.7em 0.1em"'
"""Styles of cells and of tables; notebooks leave out what is not in the tags themselves."""

MOST_PIXELS = 40
"""Rows and columns of a matrix that a picture shows, one pixel for an entry."""

POSITIVE, NEGATIVE = (202, 0, 32), (5, 113, 176)
"""Colours of the largest entries (of ColorBrewer's RdBu, safe for colour-blind readers)."""


def html_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Table of text, escaped; rows beyond `MOST_ROWS` are counted only."""
    listed = list(rows)
    body = [
        "<tr>" + "".join(f"<td {LEFT}>{escape(_cut(str(cell)))}</td>" for cell in row) + "</tr>"
        for row in listed[:MOST_ROWS]
    ]
    if len(listed) > MOST_ROWS:
        body.append(f"<tr><td colspan={len(heading)}>and {len(listed) - MOST_ROWS} more</td></tr>")
    head = "".join(f"<th {LEFT}>{escape(name)}</th>" for name in heading)
    return f"<table {SPACED}><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def html_list(items: Iterable[str], label: str) -> str:
    """Messages under a label, cut where they are long; empty without any."""
    listed = list(items)
    if not listed:
        return ""
    points = "".join(f"<li>{escape(_cut(text))}</li>" for text in listed[:MOST_ROWS])
    return f"<p><b>{escape(label)}</b></p><ul>{points}</ul>"


def html_page(title: str, text: str, *parts: str) -> str:
    """A title and a sentence, both escaped, and parts that are HTML already."""
    return f"<div><p><b>{escape(title)}</b>: {escape(_cut(text))}</p>{''.join(parts)}</div>"


def html_matrix(values: NDArray[np.float64], label: str) -> str:
    """Picture of a matrix: red is positive, blue negative, white zero, one pixel for an entry.

    Rows and columns beyond `MOST_PIXELS` are left out, and the label says so.
    """
    rows, columns = values.shape
    if not values.size:
        return ""
    shown = np.nan_to_num(values[:MOST_PIXELS, :MOST_PIXELS], posinf=0.0, neginf=0.0)
    cut = "" if shown.size == values.size else f", first {shown.shape[0]} x {shown.shape[1]} of it"
    share = (shown / max(float(np.abs(shown).max()), np.finfo(float).tiny))[:, :, None]
    full = np.where(share > 0, np.array(POSITIVE), np.array(NEGATIVE))
    pixels = np.rint(255 + np.abs(share) * (full - 255)).astype(np.uint8)
    size = max(4, min(14, 200 // max(shown.shape)))
    text = escape(f"{label} ({rows} x {columns}{cut})")
    return (
        f'<figure style="display:inline-block;margin:4px 12px 4px 0"><img alt="{text}" '
        f"width={size * shown.shape[1]} height={size * shown.shape[0]} "
        f'style="image-rendering:pixelated;border:1px solid #ccc" '
        f'src="data:image/png;base64,{_png(pixels)}"><figcaption>{text}</figcaption></figure>'
    )


def _png(pixels: NDArray[np.uint8]) -> str:
    """Base64 of a PNG file of pixels, (height, width, 3)."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)  # each line: no filter, then colours
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return base64.b64encode(file).decode("ascii")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"

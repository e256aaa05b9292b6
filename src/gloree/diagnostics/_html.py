"""Reports as HTML for notebooks: short tables, and nothing that is not in the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

MOST_ROWS = 12
"""Rows of a table that are shown: a report in a notebook is a glance."""

MOST_LETTERS = 300
"""Letters of a message that are shown."""


def html_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Table of text, escaped; rows beyond `MOST_ROWS` are counted only."""
    listed = list(rows)
    body = [
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in listed[:MOST_ROWS]
    ]
    if len(listed) > MOST_ROWS:
        body.append(f"<tr><td colspan={len(heading)}>and {len(listed) - MOST_ROWS} more</td></tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in heading)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def html_list(items: Iterable[str], label: str) -> str:
    """Messages under a label, cut where they are long; empty without any."""
    listed = list(items)
    if not listed:
        return ""
    shown = [
        text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
        for text in listed[:MOST_ROWS]
    ]
    points = "".join(f"<li>{escape(text)}</li>" for text in shown)
    return f"<p><b>{escape(label)}</b></p><ul>{points}</ul>"

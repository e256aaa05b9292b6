"""Records: what a benchmark measured, as one small JSON file that pages are made from.

A record holds tables (rows of values, and how their cells are written), single named figures, and
what is needed to judge and to repeat them: command, machine, versions, date, commit. The
documentation renders tables and quoted figures from these files, so that no number is typed twice.

Nothing here imports gloree or NumPy: the documentation and the tests read records, too.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
FIELDS = {
    "name": str,
    "question": str,
    "command": str,
    "date": str,
    "commit": str,
    "quick": bool,
    "seconds": (int, float),
    "machine": dict,
    "versions": dict,
    "figures": dict,
    "tables": dict,
}
MACHINE = {"processor": str, "cores": int, "memory_gib": int, "note": str}
VERSIONS = ("gloree", "python", "numpy", "scipy", "tensorly", "scikit-learn")
SCALARS = (str, bool, int, float, type(None))
PATH = re.compile(r"(\w+)\.(\w+)(?:\[(.+)\]\.([\w ]+))?(?:\|([^|\]]+))?")
"""Of a figure: record, figure or table, row and cell of a table, format."""

SPAN = re.compile(r"<!-- figure: (?P<path>[^>]+?) -->(?P<shown>.*?)<!-- /figure -->", re.DOTALL)
"""A quoted figure in Markdown, which has no roles."""


class RecordError(ValueError):
    """A record that does not follow the schema, or that does not hold what is asked of it."""


@dataclass(frozen=True)
class Column:
    """Heading of a column, how its cells are written, and the unit of its values.

    `cell` is a format string over the values of a row: ``"{median:.2f} ({worst:3s})"``. Beside the
    formats of Python there is ``3s`` for numbers: three significant digits, without an exponent if
    that can be avoided. A missing value is a dash, and so is a cell whose first value is missing.
    """

    label: str
    cell: str
    unit: str = ""

    @property
    def heading(self) -> str:
        """Label with the unit, as a table shows it."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


def number(value: float, digits: int = 3) -> str:
    """Figure with so many significant digits, without a needless exponent."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf"
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


class CellFormatter(string.Formatter):
    """`str.format` with significant digits, dashes for what is missing, and yes or no."""

    def format_field(self, value: object, format_spec: str) -> str:
        """One value; numbers that JSON cannot hold are words in a record."""
        if value is None:
            return "-"
        if isinstance(value, bool):
            yes, _, no = format_spec.partition("/")
            return (yes or "yes") if value else (no or "no")
        if isinstance(value, str):
            return value
        if isinstance(value, float) and not math.isfinite(value):
            return number(value)
        digits = re.fullmatch(r"(\d+)s", format_spec)
        if digits and isinstance(value, (int, float)):
            return number(value, int(digits[1]))
        return str(format(value, format_spec))


FORMATTER = CellFormatter()


def cell_text(template: str, row: Mapping[str, object]) -> str:
    """One cell of a table; a dash where the first of its values is missing."""
    try:
        first = next((name for _, name, _, _ in FORMATTER.parse(template) if name), None)
        if first is not None and row[first] is None:
            return "-"
        return FORMATTER.vformat(template, (), row)
    except KeyError as error:
        raise RecordError(f"no value {error} in a row with {', '.join(row)}") from None


def as_json(value: object) -> Any:
    """Values for a record: plain, with words for what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return float(f"{value:.6g}")
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a record")


def table_content(
    title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, object]]
) -> dict[str, Any]:
    """A table of a record."""
    return {"title": title, "columns": [asdict(each) for each in columns], "rows": as_json(rows)}


def check(record: Mapping[str, Any], name: str) -> None:
    """Raise `RecordError` where a record lacks something or holds what it must not.

    Parameters
    ----------
    record : mapping
        Content of a JSON file.
    name : str
        The file's name without its ending, which is the record's name.
    """

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise RecordError(f"record {name!r}: {what}")

    for key, kind in FIELDS.items():
        need(isinstance(record.get(key), kind), f"field {key!r} is missing or of another type")
    need(not set(record) - set(FIELDS), f"unknown fields {sorted(set(record) - set(FIELDS))}")
    need(record["name"] == name, f"is called {record['name']!r} inside")
    need(bool(re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])), "`date` is not YYYY-MM-DD")
    need(bool(re.fullmatch(r"[0-9a-f]{40}", record["commit"])), "`commit` is not a commit")
    need(record["command"].startswith("python benchmarks/"), "`command` is not repeatable")
    need(
        "/" not in record["command"].replace("benchmarks/", "").replace("PATH/", ""),
        "`command` has a path of one machine",
    )
    for key, kind in MACHINE.items():
        need(isinstance(record["machine"].get(key), kind), f"machine lacks {key!r}")
    need(set(record["machine"]) == set(MACHINE), "machine says more than it should")
    for key in VERSIONS:
        need(isinstance(record["versions"].get(key), str), f"versions lack {key!r}")
    need(bool(record["figures"] or record["tables"]), "holds no figures")
    for key, figure in record["figures"].items():
        need(set(figure) == {"value", "cell", "what"}, f"figure {key!r} needs value, cell, what")
        need(isinstance(figure["value"], SCALARS), f"figure {key!r} is not a single value")
        cell_text(figure["cell"], figure)
    for key, table in record["tables"].items():
        need(set(table) == {"title", "columns", "rows"}, f"table {key!r}: title, columns, rows")
        for row in table["rows"]:
            need(all(isinstance(v, SCALARS) for v in row.values()), f"table {key!r} is not flat")
            for column in table["columns"]:
                cell_text(column["cell"], row)


def load(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Read a record and check it; raises `RecordError` where there is none."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise RecordError(f"no record {name!r} in benchmarks/results")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    check(record, name)
    return record


def quoted(path: str, folder: Path = RESULTS) -> str:
    """Text of a quoted figure.

    Parameters
    ----------
    path : str
        ``RECORD.FIGURE`` for a named figure; ``RECORD.TABLE[ROW].CELL`` for a value of a table,
        ROW being the first value of the row as it stands in the record; either with ``|FORMAT``
        behind it for another format than the record's own.
    folder : Path
        Where records are.
    """
    match = PATH.fullmatch(path)
    if match is None:
        raise RecordError(f"{path!r} is neither RECORD.FIGURE nor RECORD.TABLE[ROW].CELL")
    name, key, row_name, cell, spec = match.groups()
    record = load(name, folder)
    place = record["figures" if cell is None else "tables"]
    if key not in place:
        raise RecordError(f"record {name!r} has no {'figure' if cell is None else 'table'} {key!r}")
    if cell is None:
        return cell_text(f"{{value:{spec}}}" if spec else place[key]["cell"], place[key])
    rows = [row for row in place[key]["rows"] if str(next(iter(row.values()))) == row_name]
    if len(rows) != 1:
        raise RecordError(f"table {name}.{key} has {len(rows)} rows {row_name!r}, not one")
    return cell_text(f"{{{cell}:{spec or '3s'}}}", rows[0])


def provenance(record: Mapping[str, Any]) -> str:
    """One line on the origin of figures: machine, versions, date, commit."""
    machine, versions = record["machine"], record["versions"]
    note = f" ({machine['note']})" if machine["note"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB{note}; "
        f"{packages}; {record['date']}, commit {record['commit'][:10]}"
    )


def requote(text: str, folder: Path = RESULTS) -> str:
    """The same Markdown with every quoted figure as its record has it."""
    return SPAN.sub(
        lambda m: f"<!-- figure: {m['path']} -->{quoted(m['path'], folder)}<!-- /figure -->", text
    )

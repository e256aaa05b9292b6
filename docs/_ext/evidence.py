"""Tables and quoted figures of the pages, rendered from the records of the benchmarks.

Directive, with the table of a record and a line on machine, versions and command below it::

    .. benchmark-table:: recovery ratios
       :columns: cell; seeds; A1
       :where: fit=default

Content that rests on a record which may not have been made yet stands in a directive of its own;
as long as there is no such record, it is replaced by a line that says so::

    .. measured:: bptt

       *Reading.* The best run takes ...

The role ``figure`` with ``recovery.worst`` writes a measured figure, with
``tagging.taggers[refined].test|.1f`` a value of a table in a format. The role ``given`` writes a
figure that was chosen or published, not measured here. What no record holds is a warning, hence an
error where warnings are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _record import RESULTS, Column, RecordError, cell_text, load, provenance, quoted
from run_all import RUNS

LOGGER = logging.getLogger(__name__)


class BenchmarkTable(Directive):
    """A table of a record."""

    required_arguments = 2
    option_spec = {  # noqa: RUF012 - docutils wants it so
        "columns": directives.unchanged,
        "where": directives.unchanged,
        "title": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Table and line of origin; a warning in their place where the record lacks something."""
        name, key = self.arguments
        note_dependency(self.state.document, name)
        try:
            record = load(name)
            if key not in record["tables"]:
                raise RecordError(f"record {name!r} has no table {key!r}")
            table = record["tables"][key]
            columns = self._columns([Column(**each) for each in table["columns"]])
            rows = self._rows(table["rows"])
            cells = [[cell_text(each.cell, row) for each in columns] for row in rows]
        except RecordError as error:
            LOGGER.warning("%s", error, location=(self.state.document.current_source, self.lineno))
            return []
        title = self.options.get("title", table["title"])
        headings = [each.heading for each in columns]
        command = nodes.literal("", record["command"])
        origin = nodes.paragraph("", "", command, nodes.Text(f". {provenance(record)}."))
        origin["classes"] += ["benchmark-origin"]
        node = table_node(title, headings, cells)
        self.state.document.set_id(node)  # numbered tables need one
        return [node, origin]

    def _columns(self, columns: list[Column]) -> list[Column]:
        """Those asked for, by their labels."""
        if "columns" not in self.options:
            return columns
        wanted = [label.strip() for label in self.options["columns"].split(";")]
        missing = set(wanted) - {each.label for each in columns}
        if missing:
            raise RecordError(f"no columns {sorted(missing)} in table {' '.join(self.arguments)}")
        return [each for label in wanted for each in columns if each.label == label]

    def _rows(self, rows: list[dict]) -> list[dict]:
        """Those asked for, by a value."""
        if "where" not in self.options:
            return rows
        name, _, value = self.options["where"].partition("=")
        found = [row for row in rows if str(row.get(name.strip())) == value.strip()]
        if not found:
            raise RecordError(f"no rows {name}={value} in table {' '.join(self.arguments)}")
        return found


class Measured(Directive):
    """Content that needs records, or a line that says which of them are missing."""

    required_arguments = 1
    optional_arguments = 9
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Parse the content or say what is missing; names unknown to `run_all.py` are warnings."""
        known = {run.name for run in RUNS}
        missing = []
        for name in self.arguments:
            note_dependency(self.state.document, name)
            if name not in known:
                place = (self.state.document.current_source, self.lineno)
                LOGGER.warning("no record is called %r in run_all.py", name, location=place)
            elif not (RESULTS / f"{name}.json").is_file():
                missing.append(name)
        if not missing:
            content = nodes.container()
            self.state.nested_parse(self.content, self.content_offset, content)
            return list(content.children)
        command = f"python benchmarks/run_all.py --only {' '.join(missing)}"
        text = "Not measured with this version: this awaits a run of "
        parts = [nodes.Text(text), nodes.literal("", command), nodes.Text(".")]
        return [nodes.paragraph("", "", *parts)]


def note_dependency(document: nodes.document, name: str) -> None:
    """Read the page again when the record has changed."""
    document.settings.env.note_dependency(str(RESULTS / f"{name}.json"))


def table_node(title: str, headings: list[str], cells: list[list[str]]) -> nodes.table:
    """A table of plain text."""

    def row_node(texts: list[str]) -> nodes.row:
        entries = [nodes.entry("", nodes.paragraph("", "", nodes.Text(text))) for text in texts]
        return nodes.row("", *entries)

    group = nodes.tgroup(cols=len(headings))
    for index in range(len(headings)):
        longest = max(len(row[index]) for row in [headings, *cells])
        group += nodes.colspec(colwidth=max(1, longest))
    group += nodes.thead("", row_node(headings))
    group += nodes.tbody("", *(row_node(row) for row in cells))
    table = nodes.table("", nodes.title("", title), group)
    table["classes"] += ["colwidths-auto", "benchmark-table"]
    return table


def figure_role(role, rawtext, text, lineno, inliner, options=None, content=None):
    """A measured figure."""
    note_dependency(inliner.document, text.partition(".")[0])
    try:
        return [nodes.inline("", quoted(text), classes=["figure"])], []
    except RecordError as error:
        LOGGER.warning("%s", error, location=(inliner.document.current_source, lineno))
        return [nodes.Text("?")], []


def given_role(role, rawtext, text, lineno, inliner, options=None, content=None):
    """A figure that is not of this project's measuring."""
    return [nodes.inline("", text, classes=["given"])], []


def setup(app):
    """Register the directive and the roles."""
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("measured", Measured)
    app.add_role("figure", figure_role)
    app.add_role("given", given_role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

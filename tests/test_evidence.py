"""Pages quote what records hold, records are whole and of this version, and no table is pasted."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import pytest

import gloree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _record  # noqa: E402
import run_all  # noqa: E402

OTHERS = {"reference_fits", "reference_times"}
"""Files of results that are no records: weights of fits, to the last bit."""

NAMES = sorted({path.stem for path in _record.RESULTS.glob("*.json")} - OTHERS)
PAGES = [
    page
    for folder in (ROOT / "docs", ROOT / "docs" / "benchmarks")
    for page in sorted(folder.glob("*.rst"))
    if page.name != "sg_execution_times.rst"  # made by the gallery
]
DERIVATIONS = {"symbols.rst", "paper_map.rst", "api.rst", "glossary.rst"}
"""Pages of formulas and names, which have constants and no measurements."""

ROLE = re.compile(r":(figure|given|math|eq|ref|doc|pytest|obj)?:?`[^`]*`")
TABLE = re.compile(r"^ *\.\. benchmark-table:: (\w+) (\w+)$", re.MULTILINE)
MEASURED_BLOCK = re.compile(r"^( *)\.\. measured:: (.+)\n((?:\1 +.*\n|\s*\n)*)", re.MULTILINE)
"""Content that a page shows once its records have been made."""

FIGURE = re.compile(r":figure:`([^`]+)`")
UNIT = r"(?:s|ms|seconds|minutes|mV|kB|MB|MiB|GB|GiB|%|times|points)"
MEASURED = re.compile(rf"(?<![\w.,^])\d[\d,]*(?:\.\d+)? {UNIT}(?![\w/])")
"""A bare number with a unit in which benchmarks measure."""


def version_of(text: str) -> tuple[int, int]:
    """Major and minor version."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def shown(page: str) -> str:
    """A page without the content that waits for records; checks the names of what it waits for."""

    def replace(match: re.Match[str]) -> str:
        names = match[2].split()
        assert set(names) <= {run.name for run in run_all.RUNS}, names
        return match[3] if set(names) <= set(NAMES) else ""

    return MEASURED_BLOCK.sub(replace, page)


def prose(page: str) -> str:
    """A page without literal blocks, directives' options, lists of tables, and literals."""
    kept: list[str] = []
    block: int | None = None
    for line in page.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and block is not None and indent <= block:
            block = None
        if block is not None:
            continue
        if re.match(r" *\.\. (code-block|math|list-table|image|figure|toctree)::", line):
            block = indent
            continue
        if line.rstrip().endswith("::") and not line.lstrip().startswith(".. "):
            block = indent
        kept.append(line)
    text = re.sub(r"``.+?``", "", "\n".join(kept), flags=re.DOTALL)
    return re.sub(r"\s+", " ", ROLE.sub("", text))


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_whole(name: str) -> None:
    record = _record.load(name)
    assert not record["quick"], "a quick run is not evidence"


@pytest.mark.parametrize("name", NAMES)
def test_no_record_is_older_than_the_code_by_a_minor_version(name: str) -> None:
    measured, code = _record.load(name)["versions"]["gloree"], gloree.__version__
    assert version_of(measured) >= version_of(code), f"{name} is of {measured}: measure again"


@pytest.mark.parametrize("field", sorted(_record.FIELDS))
def test_a_record_without_a_field_is_refused(field: str) -> None:
    record = _record.load(NAMES[0])
    del record[field]
    with pytest.raises(_record.RecordError, match=field):
        _record.check(record, NAMES[0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record["machine"].update(host="somewhere"),
        lambda record: record.update(command="python benchmarks/bptt.py /home/me/file.csv"),
        lambda record: record["versions"].pop("numpy"),
        lambda record: record.update(commit="main"),
        lambda record: record.update(figures={"one": {"value": 1}}),
        lambda record: record.update(
            tables={"one": {"title": "", "columns": [], "rows": [{"a": []}]}}
        ),
    ],
    ids=["host", "path", "version", "commit", "figure", "nested"],
)
def test_a_record_that_says_too_much_or_too_little_is_refused(spoil) -> None:
    record = copy.deepcopy(_record.load(NAMES[0]))
    spoil(record)
    with pytest.raises(_record.RecordError):
        _record.check(record, NAMES[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_is_in_a_record(page: Path) -> None:
    text = shown(page.read_text(encoding="utf-8"))
    for path in FIGURE.findall(text):
        assert _record.quoted(re.sub(r"\s+", " ", path))
    for name, key in TABLE.findall(text):
        assert key in _record.load(name)["tables"], f"record {name} has no table {key}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in DERIVATIONS], ids=lambda page: page.name
)
def test_numbers_with_units_are_quoted_or_given(page: Path) -> None:
    bare = MEASURED.findall(prose(page.read_text(encoding="utf-8")))
    assert not bare, f"{page.name}: {bare}; use :figure: for what was measured, :given: otherwise"


def test_content_that_waits_for_records_is_left_out_and_no_more() -> None:
    page = f"a\n\n.. measured:: {NAMES[0]}\n\n   b\n\n   c\n\nd\n"
    assert shown(page).split() == ["a", "b", "c", "d"]
    waiting = next((run.name for run in run_all.RUNS if run.name not in NAMES), None)
    if waiting is not None:
        assert shown(page.replace(NAMES[0], waiting)).split() == ["a", "d"]
    with pytest.raises(AssertionError, match="nothing"):
        shown(page.replace(NAMES[0], "nothing"))


def test_every_record_is_one_of_run_all() -> None:
    assert set(NAMES) <= {run.name for run in run_all.RUNS}


def test_a_bare_number_would_be_found() -> None:
    text = prose("It takes 4.2 times as long, and :given:`60 s` are given.\n\n::\n\n   in 3 s\n")
    assert MEASURED.findall(text) == ["4.2 times"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_of_results_is_pasted(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.parent.name == "benchmarks" or page.name == "benchmarks.rst":
        assert ".. list-table::" not in text
        assert ".. csv-table::" not in text
        assert not re.search(r"^ *\+[-=+]{3,}\+", text, re.MULTILINE)
        assert not re.search(r"^ *=+( +=+)+ *$", text, re.MULTILINE)
    for block in re.findall(r"\.\. list-table::.*?(?=\n\S|\Z)", text, re.DOTALL):
        cells = re.findall(r"^ *(?:\* )?- *(.*)$", block, re.MULTILINE)
        numbers = [cell for cell in cells if re.fullmatch(r"[*\s]*[\d.,]+( ?%)?[*\s]*", cell)]
        assert len(numbers) < 4 or ":class: published" in block, block.splitlines()[0]


def test_readme_has_the_figures_of_the_records() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert _record.SPAN.search(text)
    assert _record.requote(text) == text, "python benchmarks/quotes.py --write"


def test_readme_has_no_other_measured_figures() -> None:
    text = _record.SPAN.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    bare = MEASURED.findall(re.sub(r"\s+", " ", re.sub(r"`[^`]+`", "", text)))
    assert not bare


def test_cells_are_written_as_their_formats_say() -> None:
    row = {"few": 0.001234, "many": 123456.0, "missing": None, "good": True, "never": "inf"}
    assert _record.cell_text("{missing:3s} ({few:2s})", row) == "-"
    text = _record.cell_text("{few:2s} {many:3s} {missing:.2f} {good:met/missed} {never:.1f}", row)
    assert text == "0.0012 1.23e+05 - met inf"
    with pytest.raises(_record.RecordError, match="other"):
        _record.cell_text("{other}", row)


def test_a_figure_that_no_record_holds_is_an_error() -> None:
    for path in ("nothing.at_all", f"{NAMES[0]}.nothing", f"{NAMES[0]}.nothing[row].cell", "words"):
        with pytest.raises(_record.RecordError):
            _record.quoted(path)

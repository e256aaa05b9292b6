"""Draw the architecture from the imports of the package: ``python docs/architecture.py``.

The order of the packages is declared once, in `FLOORS`; what imports what is read from the code.
``--check`` writes nothing. It exits with 1, and says why, if the committed picture is not that of
the code or if a rule is broken:

* imports run downward only, from a package to one that stands before it in `FLOORS`;
* there is no circle between modules (imports for type checkers only do not count);
* no package imports a private name or a private module of another one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
NAME = "gloree"

GROUND = "ground floor"
"""The private modules at the top of the package (`gloree._sums` and others), as one."""

FLOORS: tuple[tuple[tuple[str, float, str], ...], ...] = (
    ((GROUND, 1.5, "arrays, mergeable sums, monomials, storage, optional packages"),),
    (("sequences", 1, "ragged data, segments"), ("activations", 3, "polynomial, smooth")),
    (("sources", 1, "arrays, files, streams"),),
    (("engine", 1, "serial, threads, Dask"), ("models", 2, "IORNN, BRNN")),
    (
        ("chains", 0, "input laws"),
        ("datasets", 1, "simulated and read data"),
        ("states", 2, "states of a batch"),
        ("metrics", 3, "errors of weights"),
    ),
    (
        ("score_functions", 0, "scores, Stein defect"),
        ("moments", 1, "score and regression"),
        ("decomposition", 2, "tensor to components"),
    ),
    (("recurrence", 1, "estimators of U"), ("diagnostics", 3, "warnings and reports")),
    (("paper", 0, "GLOREE as published"), ("refinement", 2, "rounds, losses, solvers")),
    (("fitting", 2, "the stages of a fit"), ("systems", 3, "bands, tests, exports")),
    (("identification", 1, "dynamic systems"),),
    (
        ("preprocessing", 1, "scaled sequences"),
        ("estimators", 2, "what users call"),
        ("plotting", 3, "figures"),
    ),
)
"""Packages from the bottom to the top, and on a floor from the left to the right: an import runs to
an earlier one. With each stand its lane in the picture and what it is about."""


@dataclass(frozen=True)
class Import:
    """One imported name: `importer` (a module) takes `name` ("" for all of it) from `imported`."""

    importer: str
    imported: str
    name: str
    line: int


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Every module of the package under its dotted name."""
    found = {}
    for path in sorted((source / NAME).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(module: str) -> str:
    """Name of the box that a module is drawn in; the package itself for `gloree`."""
    parts = module.split(".")
    if len(parts) == 1:
        return NAME
    return GROUND if parts[1].startswith("_") else parts[1]


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from (inner for other in child.orelse for inner in (other, *_nodes(other)))
            continue
        yield child
        yield from _nodes(child)


def imports(known: dict[str, Path]) -> list[Import]:
    """Every import of one module of the package by another."""
    found = []
    for module, path in known.items():
        base = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                pairs = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = base[: len(base) + 1 - node.level] if node.level else []
                origin = ".".join([*start, *([node.module] if node.module else [])])
                pairs = [(origin, alias.name) for alias in node.names]
            else:
                continue
            for origin, name in pairs:
                if origin.split(".")[0] != NAME:
                    continue
                whole = f"{origin}.{name}" in known
                imported, name = (f"{origin}.{name}", "") if whole else (origin, name)
                found.append(Import(module, imported, name, node.lineno))
    return found


def upward(found: Iterable[Import]) -> list[str]:
    """Imports that run upward, and packages that have no place in `FLOORS`."""
    place = {box[0]: i for i, box in enumerate(box for floor in FLOORS for box in floor)}
    wrong = []
    for one in found:
        above, below = package_of(one.importer), package_of(one.imported)
        if NAME in (above, below):
            if above != NAME:
                wrong.append(f"{one.importer}:{one.line} imports the top of the package")
            continue
        for package in (above, below):
            if package not in place:
                wrong.append(f"{package} has no place in FLOORS of docs/architecture.py")
        if above != below and place.get(above, 0) < place.get(below, 0):
            wrong.append(f"{one.importer}:{one.line} imports {one.imported}, which is above it")
    return sorted(set(wrong))


def circles(known: dict[str, Path], found: Iterable[Import]) -> list[str]:
    """A circle of modules that import each other, if there is one."""
    graph: dict[str, set[str]] = {module: set() for module in known}
    for one in found:
        # a package is imported before its parts, so `__init__` importing a part is no circle
        if one.imported in graph and not f"{one.importer}.".startswith(f"{one.imported}."):
            graph[one.importer].add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["circle: " + " <- ".join(error.args[1])]
    return []


def private(found: Iterable[Import]) -> list[str]:
    """Imports of private names, or of private modules, of another package."""
    wrong = []
    for one in found:
        if package_of(one.importer) == package_of(one.imported) != GROUND:
            continue
        inside = one.imported.split(".")[2:]
        if one.importer == one.imported or not (inside or one.name):
            continue
        if any(p.startswith("_") and not p.endswith("__") for p in (*inside, one.name)):
            what = f"{one.imported}.{one.name}" if one.name else one.imported
            wrong.append(f"{one.importer}:{one.line} imports {what}, which is private")
    return wrong


def broken_rules(source: Path = SOURCE) -> list[str]:
    """Say what breaks the rules of this module."""
    known = modules(source)
    found = imports(known)
    return upward(found) + circles(known, found) + private(found)


# %% The picture


def arrows(found: Iterable[Import]) -> dict[str, set[str]]:
    """What each package imports, without what follows from other arrows."""
    direct: dict[str, set[str]] = {box[0]: set() for floor in FLOORS for box in floor}
    for one in found:
        above, below = package_of(one.importer), package_of(one.imported)
        if above != below and above in direct and below in direct and below != GROUND:
            direct[above].add(below)
    reached: dict[str, set[str]] = {}
    for name in direct:  # from the bottom: everything below is known
        steps = [reached.get(below, set()) | {below} for below in direct[name]]
        reached[name] = set().union(*steps)
    return {
        name: {b for b in below if not any(b in reached.get(other, set()) for other in below - {b})}
        for name, below in direct.items()
    }


WIDTH, BOX, HEIGHT, LANE, FLOOR, EDGE = 960, 180, 46, 216, 82, 24
"""Sizes in pixels: the picture, a box, the distances of lanes and of floors, the margin."""

STYLE = """
  text { font-family: Helvetica, Arial, sans-serif; text-anchor: middle; fill: #1b1b1b }
  .name { font-size: 15px; font-weight: bold }
  .about { font-size: 11px; fill: #555 }
  .box { fill: #eef3f8; stroke: #35618f; stroke-width: 1.2 }
  .ground { fill: #f3f0e8; stroke: #8a7a4d; stroke-width: 1.2 }
  .arrow { fill: none; stroke: #35618f; stroke-width: 1.3; marker-end: url(#head) }
  .wrong { fill: none; stroke: #c0392b; stroke-width: 1.3; marker-end: url(#head) }
"""


def svg(source: Path = SOURCE) -> str:
    """Draw boxes and arrows: the same text for the same imports, on any machine."""
    found = imports(modules(source))
    present = {package_of(module) for module in modules(source)}
    floors = [[box for box in floor if box[0] in present] for floor in FLOORS]
    floors = [floor for floor in floors if floor]
    height = 2 * EDGE + FLOOR * (len(floors) - 1) + HEIGHT
    centre: dict[str, tuple[int, int]] = {}
    shapes = []
    for i, floor in enumerate(floors):
        y = height - EDGE - HEIGHT // 2 - FLOOR * i
        for name, lane, about in floor:
            x = round(WIDTH / 2 + LANE * (lane - 1.5))
            width = WIDTH - 2 * EDGE if name == GROUND else BOX
            centre[name] = (x, y)
            shapes.append(
                f'<rect class="{"ground" if name == GROUND else "box"}" x="{x - width // 2}" '
                f'y="{y - HEIGHT // 2}" width="{width}" height="{HEIGHT}" rx="5"/>\n'
                f'<text class="name" x="{x}" y="{y - 3}">{escape(name)}</text>\n'
                f'<text class="about" x="{x}" y="{y + 14}">{escape(about)}</text>'
            )
    lines = []
    for above, below in arrows(found).items():
        for name in sorted(below):
            lines.append(_line(centre[above], centre[name]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}">\n'
        f"<title>Packages of gloree and what they import</title>\n<style>{STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" fill="#35618f"/>'
        "</marker></defs>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n'
        + "\n".join(lines + shapes)
        + "\n</svg>\n"
    )


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    """An arrow: straight, or around the boxes between two of the same lane."""
    (x1, y1), (x2, y2) = start, end
    kind = "arrow" if y2 > y1 or (y2 == y1 and x2 < x1) else "wrong"
    if y1 == y2:
        side = BOX // 2 if x2 > x1 else -BOX // 2
        return f'<path class="{kind}" d="M{x1 + side} {y1} L{x2 - side} {y2}"/>'
    if x1 == x2 and abs(y2 - y1) > FLOOR:
        side = 1 if x1 > WIDTH // 2 else -1
        x = x1 + side * BOX // 2
        out = x + side * min(14 * (abs(y2 - y1) // FLOOR), 66)
        return f'<path class="{kind}" d="M{x} {y1} C{out} {y1} {out} {y2} {x} {y2}"/>'
    down = HEIGHT // 2 if y2 > y1 else -HEIGHT // 2
    shift = round((x2 - x1) / LANE * BOX / 6)  # arrows from one box do not start in one point
    return f'<path class="{kind}" d="M{x1 + shift} {y1 + down} L{x2 - shift} {y2 - down}"/>'


def main(arguments: list[str]) -> str | None:
    """Write the picture, or check it; what is returned is an error."""
    if arguments not in ([], ["--check"]):
        return __doc__
    if not arguments:
        PICTURE.write_text(svg(), encoding="utf-8")
        return None
    wrong = broken_rules()
    if not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != svg():
        wrong.append(f"{PICTURE.relative_to(ROOT)} is out of date: run python docs/architecture.py")
    return "\n".join(wrong) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Mutants of a copy of the library, and tests that are run on them; see `mutations.py`.

As a program, ``python _mutants.py ROOT``: reads jobs from the standard input, a JSON list of files
of tests and names of tests in each line, and writes a word on each. The libraries below are loaded
once, and each job runs in a copy of this process, which loads gloree and the tests anew.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOADED = (
    *("numpy", "scipy.linalg", "scipy.optimize", "scipy.stats", "sklearn.linear_model"),
    *("tensorly", "hypothesis", "pytest", "joblib", "tqdm.auto", "matplotlib.pyplot"),
)
WORDS = ["-q", "-n0", "-p", "no:cacheprovider", "--assert=plain", "--no-header", "--tb=no"]
SLACK = 30.0
"""Seconds that a job may take beyond five times what its tests took before."""

REPLACED = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("Div",),
    "Div": ("Mul",),
    "Pow": ("Mul",),
    "FloorDiv": ("Div",),
    "Mod": ("Mul",),
}
COMPARED = {
    "Lt": ("LtE", "GtE"),
    "LtE": ("Lt", "Gt"),
    "Gt": ("GtE", "LtE"),
    "GtE": ("Gt", "Lt"),
    "Eq": ("NotEq",),
    "NotEq": ("Eq",),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{old}_{new}" for old in REPLACED for new in REPLACED[old]),
    *(f"core/ReplaceComparisonOperator_{old}_{new}" for old in COMPARED for new in COMPARED[old]),
    *("core/ReplaceUnaryOperator_USub_UAdd", "core/ReplaceUnaryOperator_Delete_Not"),
    *("core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue"),
    *("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/NumberReplacer"),
    *("core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak"),
    "core/ZeroIterationForLoop",
)
"""Of cosmic-ray's operators: those that give what could have been meant.

Bitwise operators in the place of sums and `is` in that of `==` are left out, as any test kills
them, decorators and exceptions too, as are operators between types.
"""


@dataclass(frozen=True)
class Mutant:
    """The `occurrence`-th place of a module at which an operator of cosmic-ray applies."""

    path: str
    operator: str
    occurrence: int
    line: int


def mutants_of(path: Path, name: str) -> Iterator[Mutant]:
    """All mutants of a file."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    nodes = list(ast_nodes(get_ast(path.read_text(encoding="utf-8"))))
    for operator in OPERATORS:
        found = get_operator(operator)()
        places = [place for node in nodes for place in found.mutation_positions(node)]
        for occurrence, (begin, _) in enumerate(places):
            yield Mutant(name, operator, occurrence, begin[0])


def mutated(source: str, mutant: Mutant) -> str | None:
    """Source of a mutant, None if it is no Python."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    changed = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
    if changed is None:
        return None
    try:
        compile(changed, mutant.path, "exec")
    except SyntaxError:
        return None
    return None if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)) else changed


def statement(tree: ast.AST, line: int) -> range:
    """Lines of the statement around a line, of a compound one its head."""
    best = range(line, line + 1)
    size = sys.maxsize
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        begin = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno
        end = max(begin, end or begin)
        if begin <= line <= end and end - begin < size:
            best, size = range(begin, end + 1), end - begin
    return best


def function(tree: ast.AST, line: int) -> str:
    """Names of the classes and functions around a line."""
    around = [
        (node.lineno, node.name)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return ".".join(name for _, name in sorted(around)) or "module"


class Chosen:
    """Only these tests, the quickest first."""

    def __init__(self, names: list[str]) -> None:
        self.places = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if item.nodeid in self.places]
        items.sort(key=lambda item: self.places[item.nodeid])


class Traced:
    """Which lines each test runs, and how long it takes."""

    def __init__(self, tracer: object) -> None:
        self.tracer, self.seconds = tracer, {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tracer.switch_context(nodeid)
        self.seconds[nodeid] = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] = time.process_time() - self.seconds[nodeid]
        self.tracer.switch_context("")


def trace(folders: list[str], packages: list[str], into: str) -> None:
    """Run tests, and write the tests of each line and the seconds of each test."""
    import coverage
    import pytest

    tracer = coverage.Coverage(
        data_file=None, include=[f"*/gloree/{name}/*" for name in packages], branch=False
    )
    traced = Traced(tracer)
    tracer.start()
    status = pytest.main([*WORDS, *folders], plugins=[traced])
    tracer.stop()
    data = tracer.get_data()
    lines = {
        path: {str(line): tests for line, tests in data.contexts_by_lineno(path).items()}
        for path in data.measured_files()
    }
    content = {"status": int(status), "lines": lines, "seconds": traced.seconds}
    Path(into).write_text(json.dumps(content), encoding="utf-8")


def tested(files: list[str], names: list[str], seconds: float) -> str:
    """Run tests in a copy of this process: whether one fails, or all end well."""
    import pytest

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(seconds))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = pytest.main(["-x", *WORDS, *files], plugins=[Chosen(names)])
        os._exit(int(status))
    _, how = os.waitpid(child, 0)
    if os.WIFSIGNALED(how):
        return "killed, out of time" if os.WTERMSIG(how) == signal.SIGALRM else "killed"
    return "survived" if os.WEXITSTATUS(how) == 0 else "killed"


def main() -> None:
    root = Path(sys.argv[1])
    os.chdir(root)
    # in the place of the folder of this file, one of whose scripts has the name of a library
    sys.path[:1] = [str(root / "src"), str(root / "tests"), str(root / "docs")]
    sys.dont_write_bytecode = True
    for name in LOADED:
        __import__(name)
    for line in sys.stdin:
        job = json.loads(line)
        if "into" in job:
            trace(**job)
            return
        sys.stdout.write(tested(**job) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

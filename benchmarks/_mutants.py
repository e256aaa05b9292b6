"""Mutants of a copy of the library, and tests that are run on them; see `mutations.py`.

As a program, ``python _mutants.py ROOT [FOLDER ..]``: reads jobs from the standard input, one in
each line, and writes a word on each. A job runs in a copy of this process. Where folders of tests
are named, their tests have been collected before, and what changed are bodies of functions, which
the copy puts into place. Otherwise only the libraries below are loaded, and the copy loads the
changed gloree and its tests anew: a value of a module or a class may have gone anywhere.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

LOADED = (
    *("numpy", "scipy.linalg", "scipy.optimize", "scipy.stats", "sklearn.linear_model"),
    *("tensorly", "hypothesis", "pytest", "joblib", "tqdm.auto", "matplotlib.pyplot"),
)
WORDS = ["-q", "-n0", "-p", "no:cacheprovider", "--assert=plain", "--no-header", "--tb=no"]
SLACK = 20.0
"""Seconds of the processor that a test may take beyond ten times what it took before."""
LATE = (signal.SIGPROF, signal.SIGALRM)
NO_TESTS, LOAD = 5, 99
"""Statuses: pytest's for no tests, and that of a mutant that has to be loaded anew."""

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


SILENT = (
    "repr",
    "strict",
    "check_finite",
    "overwrite_a",
    "optimize",
    "full_matrices",
    "keep_tensors",
)
"""Keywords whose values are left: how a value is printed, `zip` that checks the code itself, and
how or where something is computed, not what is found."""
BLOCKS = ("block_rows", "row_blocks")
"""Functions whose arguments are left: rows that are looked at together."""
WAYS = (
    *("POLISH_DAMPING", "FIRST_DAMPING", "SMALLEST_DAMPING", "LARGEST_DAMPING", "SLOW"),
    *("NEWTON_DECREASE", "NEWTON_SIZE", "N_DIRECTIONS", "N_STEPS", "N_COMBINATIONS", "N_PENCILS"),
    *("START_LIMITS", "MAX_CANDIDATES", "DRAWS", "SWEEPS", "ROWS_TIMES_WEIGHTS", "ROWS_NUMBERS"),
    *("NUMBERS_AT_ONCE", "STRONGER", "WEAKER", "AS_FORESEEN", "MEMORY", "KEPT_ROWS", "SOLVED"),
    *("MOST_PRODUCTS", "UNIT_ROWS", "BLOCK_ROWS", "RIDGE", "MAX_STEPS", "ROWS_TOGETHER", "WHOLE"),
)
"""Constants of modules that are left: sizes of pieces of work, and how a search goes to its end."""


@dataclass(frozen=True)
class Mutant:
    """The `occurrence`-th place of a module at which an operator of cosmic-ray applies."""

    path: str
    operator: str
    occurrence: int
    line: int


def silent(node: Any, operator: str, which: int) -> bool:
    """Whether a place, a node of parso's tree, is left as it is, as no test should notice.

    These are: numbers in f-strings, which are texts for people, annotations, `if TYPE_CHECKING`,
    values of the keywords `SILENT`, arguments of `BLOCKS`, constants among `WAYS`, the star before
    keywords in a signature, `reshape(-1)` that becomes `reshape(-2)`, the same, and `shape[0]` that
    becomes `shape[-1]`, which is the same for one axis.
    """
    if node.parent is not None and node.parent.type in ("parameters", "param", "lambdef"):
        return node.type == "operator"
    if node.type == "if_stmt" and "TYPE_CHECKING" in node.children[1].get_code():
        return True
    number = operator.endswith("NumberReplacer")
    signed = number and which == 0 and node.parent.children[0] == "-"
    first = number and which == 1 and node.get_code().strip() == "0"
    while node.parent is not None:
        before, node = node, node.parent
        place = node.children.index(before)
        head = node.children[0]
        if (
            node.type == "fstring"
            or (node.type == "annassign" and place == 1)
            or (node.type == "tfpdef" and place == 2)
            or (node.type == "funcdef" and before is node.annotation)
            or (node.type == "argument" and head.get_code().strip() in SILENT)
            or (node.type == "expr_stmt" and set(head.get_code().strip().split(", ")) & set(WAYS))
            or (node.type == "trailer" and called(node, *BLOCKS))
            or (node.type == "trailer" and signed and called(node, "reshape"))
            or (node.type == "trailer" and first and head == "[" and called(node, "shape"))
        ):
            return True
    return False


def called(trailer: Any, *names: str) -> bool:
    """Whether arguments or an index follow one of these names."""
    before = trailer.get_previous_sibling()
    return before is not None and before.get_code().strip(" .").endswith(names)


def mutants_of(path: Path, name: str) -> Iterator[Mutant]:
    """All mutants of a file, but for those that no test should notice."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    nodes = list(ast_nodes(get_ast(path.read_text(encoding="utf-8"))))
    for operator in OPERATORS:
        found = get_operator(operator)()
        occurrence = 0
        for node in nodes:
            for which, (begin, _) in enumerate(found.mutation_positions(node)):
                if not silent(node, operator, which):
                    yield Mutant(name, operator, occurrence, begin[0])
                occurrence += 1


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


def limit(seconds: float) -> None:
    """End this process after seconds of the processor, or ten times as many of the clock."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(int(10 * seconds))


class Chosen:
    """Only these tests, the quickest first, each with an alarm."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if item.nodeid in self.seconds]
        items.sort(key=lambda item: self.seconds[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        limit(SLACK + 10 * self.seconds[nodeid])


class Waiting:
    """Tests that are collected, and wait for jobs."""

    def __init__(self, jobs: Iterable[str]) -> None:
        self.jobs = jobs

    def pytest_runtestloop(self, session: Any) -> bool:
        functions: dict[CodeType, list[FunctionType]] = {}
        for each in gc.get_objects():
            if isinstance(each, FunctionType):
                functions.setdefault(each.__code__, []).append(each)
        for job in map(json.loads, self.jobs):
            answer(lambda job=job: run_collected(session, functions, **job))
        return True


def run_collected(
    session: Any, functions: dict, changes: list[str], seconds: dict[str, float]
) -> int:
    """Put changed functions into place, and run tests until one fails."""
    changed = changed_functions(*changes)
    if changed is None or not all(old in functions for old, _ in changed):
        return LOAD
    for old, new in changed:
        for each in functions[old]:
            each.__code__ = new
    chosen = Chosen(seconds)
    chosen.pytest_collection_modifyitems(session.items)
    for plugin in (chosen, Strict()):
        session.config.pluginmanager.register(plugin)
    for item, after in zip(session.items, [*session.items[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    return 0


class Strict:
    """The end with the first failure."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os._exit(1)


def bodies(code: CodeType, functions: list[CodeType]) -> list[object]:
    """What a module and its classes say outside of functions, which are put into a list."""
    own: list[object] = [code.co_code, code.co_names]
    for each in code.co_consts:
        if not isinstance(each, CodeType):
            own.append(each)
        elif each.co_flags & inspect.CO_OPTIMIZED:
            functions.append(each)
        else:
            own.append(bodies(each, functions))
    return own


def changed_functions(path: str, source: str, other: str) -> list[tuple[CodeType, CodeType]] | None:
    """Functions and methods of which a mutant changes the body; None if it changes more."""
    old: list[CodeType] = []
    new: list[CodeType] = []
    codes = [compile(each, path, "exec", dont_inherit=True) for each in (source, other)]
    if bodies(codes[0], old) != bodies(codes[1], new):
        return None
    return [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]


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
        os.path.relpath(path): {
            str(line): tests for line, tests in data.contexts_by_lineno(path).items()
        }
        for path in data.measured_files()
    }
    content = {"status": int(status), "lines": lines, "seconds": traced.seconds}
    Path(into).write_text(json.dumps(content), encoding="utf-8")


def tested(files: list[str], seconds: dict[str, float]) -> int:
    """Load tests, and run them until one fails."""
    import pytest

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main(["-x", *WORDS, *files], plugins=[Chosen(seconds)]))


def answer(job: Callable[[], int]) -> None:
    """Do a job in a copy of this process, and say whether a test failed."""
    child = os.fork()
    if child == 0:
        for each in LATE:
            signal.signal(each, signal.SIG_DFL)
        limit(5 * SLACK)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        status = LOAD
        with contextlib.suppress(BaseException):
            status = job()
        os._exit(status)
    _, how = os.waitpid(child, 0)
    word = {0: "survived", NO_TESTS: "survived", LOAD: "load"}.get(how >> 8, "killed")
    if os.WIFSIGNALED(how):
        word = "killed, out of time" if os.WTERMSIG(how) in LATE else "killed"
    os.write(ANSWERS, f"{word}\n".encode())


def main() -> None:
    root = Path(sys.argv[1])
    os.chdir(root)
    # in the place of the folder of this file, one of whose scripts has the name of a library
    sys.path[:1] = [str(root / "src"), str(root / "tests"), str(root / "docs")]
    sys.dont_write_bytecode = True
    for name in LOADED:
        __import__(name)
    if sys.argv[2:]:
        import pytest

        raise SystemExit(pytest.main([*WORDS, *sys.argv[2:]], plugins=[Waiting(JOBS)]))
    for job in map(json.loads, JOBS):
        if "into" in job:
            trace(**job)
            return
        answer(lambda job=job: tested(**job))


if __name__ == "__main__":
    # kept, as pytest puts files into the places of both
    JOBS, ANSWERS = os.fdopen(os.dup(0)), os.dup(1)
    os.dup2(2, 1)
    main()

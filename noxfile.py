"""One-word tasks: ``nox -s test``, ``slow``, ``lowest``, ``lint``, ``docs``, ``bench``, and so on.

Each task makes its own environment, installs gloree with the extras it needs, and runs one thing.
Words after ``--`` go to the program that the task runs: ``nox -s test -- -k stein``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
nox.options.sessions = ["lint", "test"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def test(session: nox.Session) -> None:
    """Run the tests that take seconds."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def tensors(session: nox.Session) -> None:
    """Run the tests on PyTorch tensors."""
    session.install(".[test,test-torch]")
    tests = [p for p in sorted(ROOT.glob("tests/**/test_*.py")) if "torch" in p.read_text("utf-8")]
    session.run("python", "-m", "pytest", *(session.posargs or map(str, tests)))


@nox.session
def slow(session: nox.Session) -> None:
    """Run the statistical tests that take minutes, and only them."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that `pyproject.toml` admits of what is needed."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    lowest = [each.replace(">=", "==") for each in project["dependencies"]]
    session.install(".[test]", *lowest)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def mutations(session: nox.Session) -> None:
    """Count the small faults that the tests of five packages notice; half an hour or more."""
    session.install(".[test,mutations]")
    session.run("python", "benchmarks/mutations.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and types."""
    session.install(".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation with its gallery, a warning is an error; look at it in a browser."""
    session.install(".[docs]")
    target = ROOT / "docs" / "_build" / "html"
    session.run(
        "sphinx-build",
        *("-W", "--keep-going", "-b", "html"),
        *session.posargs,
        "docs",
        str(target),
        env={"MPLBACKEND": "Agg"},
    )
    session.run("python", "docs/check_pages.py", str(target))
    session.log(f"open {target / 'index.html'}")


@nox.session
def bench(session: nox.Session) -> None:
    """Write the records of the benchmarks named after ``--``, or of all that need no files."""
    session.install(".[torch,dask]")
    names = ["--only", *session.posargs] if session.posargs else []
    session.run("python", "benchmarks/run_all.py", *names, env={"MPLBACKEND": "Agg"})


@nox.session
def examples(session: nox.Session) -> None:
    """Run the examples of the gallery named after ``--``, or all of them, as plain scripts."""
    session.install(".[plot]")
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        for script in _scripts("examples", session.posargs):
            if not script.name.startswith("plot_"):  # needs data; tests/test_examples.py has some
                continue
            session.run("python", str(script), env={"MPLBACKEND": "Agg"})


def _scripts(folder: str, names: list[str]) -> list[Path]:
    """Scripts of a folder, or those whose names contain one of the given words."""
    found = sorted(p for p in (ROOT / folder).glob("*.py") if not p.name.startswith("_"))
    return [p for p in found if not names or any(name in p.stem for name in names)]

"""Runs the benchmark scripts one after the other and keeps their tables and figures.

    python benchmarks/run_all.py FOLDER [--quick] [--only recovery laws] [--wiener-hammerstein PATH]
                                       [--silverbox PATH]

FOLDER receives NAME.txt (the printed tables) and NAME.json (all figures) for every script. A script
that fails does not stop the others; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    *("decompose", "forward", "recovery", "laws", "slope", "recurrence", "memory"),
    *("bidirectional", "passes", "growth", "engines"),
    *("wiener_hammerstein", "identification", "linear_peers", "bptt", "gpu"),
)


def command(name: str, arguments: argparse.Namespace) -> list[str] | None:
    """Command line of a script; None if it cannot run."""
    words = [sys.executable, str(HERE / f"{name}.py")]
    if name == "forward":
        return words + (["--steps", "100000"] if arguments.quick else [])
    if name == "wiener_hammerstein":
        if arguments.wiener_hammerstein is None:
            return None
        words.append(str(arguments.wiener_hammerstein))
    if name == "identification":
        # without files it has its linear systems
        for option in ("wiener_hammerstein", "silverbox"):
            path = getattr(arguments, option)
            words += [] if path is None else [f"--{option.replace('_', '-')}", str(path)]
    if name == "linear_peers" and arguments.wiener_hammerstein is not None:
        words += ["--wiener-hammerstein", str(arguments.wiener_hammerstein)]
    if arguments.quick:
        words.append("--quick")
    if arguments.rst:
        words.append("--rst")
    return [*words, "--json", str(arguments.folder / f"{name}.json")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where tables and figures go")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all run")
    parser.add_argument("--rst", action="store_true", help="tables as reStructuredText")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="NAME")
    parser.add_argument("--wiener-hammerstein", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--silverbox", type=Path, metavar="PATH", help="its CSV file")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    names = [name for name in SCRIPTS if name in arguments.only]
    for name in tqdm(names, desc="benchmarks"):
        words = command(name, arguments)
        if words is None:
            outcomes.append((name, "left out: no --wiener-hammerstein PATH", 0.0))
            continue
        begin = time.perf_counter()
        with open(arguments.folder / f"{name}.txt", "w", encoding="utf-8") as file:
            status = subprocess.run(words, stdout=file, check=False).returncode
        word = "done" if status == 0 else f"failed with status {status}"
        outcomes.append((name, word, time.perf_counter() - begin))
    for name, word, seconds in outcomes:
        print(f"{name:20s} {seconds:8.0f} s  {word}")
    return int(any(word.startswith("failed") for _, word, _ in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())

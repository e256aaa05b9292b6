"""Runs the benchmark scripts one after the other and writes their records.

    python benchmarks/run_all.py [--only recovery laws] [--note TEXT]
                                 [--wiener-hammerstein PATH] [--silverbox PATH] [--corpus FOLDER]
                                 [--records FOLDER]
    python benchmarks/run_all.py --quick --folder /tmp/records

Records go to `benchmarks/results`, from where the documentation takes its tables and figures, or to
another folder. Options are those of the records that the documentation shows; `--full` runs every
script with its own defaults instead, which takes hours. A script that fails does not stop the
others; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from _record import RESULTS
from tqdm import tqdm

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Run:
    """A record, the script that writes it, and how.

    `brief` are options that keep a run within minutes, `words` those that make it what it is.
    `files` are options of this script that are passed on, and without which it cannot run.
    """

    name: str
    script: str
    brief: str = ""
    words: str = ""
    files: tuple[str, ...] = ()

    def command(self, arguments: argparse.Namespace) -> list[str] | None:
        """Command line; None if a file is missing."""
        line = [sys.executable, str(HERE / f"{self.script}.py"), *self.words.split()]
        for option in self.files:
            path = getattr(arguments, option.replace("-", "_"))
            if path is None:
                return None
            line += [f"--{option}", str(path)]
        if arguments.quick:
            line.append("--quick")
        elif not arguments.full:
            line += self.brief.split()
        return [
            *line,
            "--note",
            arguments.note,
            "--json",
            str(arguments.folder / f"{self.name}.json"),
        ]


RUNS = (
    Run("decompose", "decompose", "--seeds 5"),
    Run("certificate", "decompose", "--seeds 5", "--certificate"),
    Run("forward", "forward"),
    Run("recovery", "recovery", "--seeds 5"),
    Run("laws", "laws", "--seeds 3"),
    Run("law_moments", "law_moments"),
    Run("paper", "paper"),
    Run("slope", "slope", "--seeds 3"),
    Run("recurrence", "recurrence", "--seeds 4"),
    Run("memory", "memory"),
    Run("limits", "limits"),
    Run("stepper", "stepper"),
    Run("coverage", "coverage"),
    Run("output_weights", "output_weights", "--seeds 60"),
    Run("prediction_errors", "prediction_errors", "--seeds 40"),
    Run("specification", "specification", "--seeds 100"),
    Run("units", "units"),
    Run("going_on", "going_on"),
    Run("smooth", "smooth", "--seeds 20 --jobs 2", "--parts cells"),
    Run("smooth_small", "smooth", "--fits 1000 --jobs 2", "--parts small"),
    Run("smooth_labels", "smooth_labels", "--seeds 20 --jobs 2"),
    Run("smooth_ends", "smooth", "--seeds 2", "--parts ends"),
    Run("smooth_adam", "smooth", "", "--parts adam"),
    Run("bidirectional", "bidirectional", "--seeds 2"),
    Run("passes", "passes"),
    Run("whole_fits", "whole_fits"),
    Run("compiled", "compiled"),
    Run("growth", "growth", "--most 1e7"),
    Run("engines", "engines", "--steps 2e6"),
    Run("wiener_hammerstein", "wiener_hammerstein", files=("wiener-hammerstein",)),
    Run(
        "identification",
        "identification",
        words="--parts all silverbox",
        files=("wiener-hammerstein", "silverbox"),
    ),
    Run(
        "identification_stretches",
        "identification",
        words="--parts stretch order --seconds 60",
        files=("wiener-hammerstein",),
    ),
    Run("records", "records", "--ours", files=("records",)),
    Run("cascade", "identification", words="--parts cascade"),
    Run("linear_systems", "identification", "--seeds 2", "--parts linear"),
    Run("linear_peers", "linear_peers", "--seeds 3 --rows 2000"),
    Run("bands", "bands"),
    Run(
        "bptt",
        "bptt",
        "--cells short few-outputs many-outputs cubic both-ways --schedules cosine:10 cosine:20 "
        "--seeds 1 --lbfgs 3 --fits 3",
    ),
    Run(
        "bptt_times4",
        "bptt",
        "--cells short few-outputs many-outputs --batch 256 --schedules cosine:10 cosine:20 "
        "--seeds 1 --lbfgs 1 --fits 2 --cap 30",
        "--times 4",
    ),
    Run("bptt_smooth", "bptt", "--seeds 1 --lbfgs 3 --fits 3 --cap 15", "--smooth"),
    Run(
        "bptt_loss",
        "bptt",
        "--lr 0.01 0.03 0.1 --schedules cosine:4 cosine:30 --cap 8 --seeds 1 --cells 1 2",
        "--loss",
    ),
    Run("tagging", "tagging", files=("corpus",)),
    Run("gpu", "gpu"),
    Run("mutations", "mutations"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [each.name for each in RUNS]
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where records go")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all run")
    parser.add_argument("--full", action="store_true", help="every script with its own defaults")
    parser.add_argument("--note", default="", metavar="TEXT", help="on the machine")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--wiener-hammerstein", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--silverbox", type=Path, metavar="PATH", help="its CSV file")
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="of three CoNLL-U files")
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="of .npz files")
    arguments = parser.parse_args()
    if arguments.quick and arguments.folder == RESULTS:
        parser.error("figures of quick runs are not to be quoted: name another --folder")
    outcomes = []
    for run in tqdm([each for each in RUNS if each.name in arguments.only], desc="benchmarks"):
        words = run.command(arguments)
        if words is None:
            outcomes.append((run.name, f"left out: needs --{' and --'.join(run.files)}", 0.0))
            continue
        begin = time.perf_counter()
        status = subprocess.run(words, check=False).returncode
        word = "done" if status == 0 else f"failed with status {status}"
        outcomes.append((run.name, word, time.perf_counter() - begin))
    for name, word, seconds in outcomes:
        print(f"{name:26s} {seconds:8.0f} s  {word}")
    return int(any(word.startswith("failed") for _, word, _ in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())

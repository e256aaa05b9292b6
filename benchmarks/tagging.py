"""Part-of-speech tagging of a corpus: accuracy and time of each ingredient of the tagger.

    python benchmarks/tagging.py --corpus FOLDER

FOLDER has three CoNLL-U files whose names end in train.conllu, dev.conllu and test.conllu, such as
the English Web Treebank of Universal Dependencies, which is not part of this project. The work is
that of `examples/pos_tagging.py` with its defaults, run as a script; its table is the record.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import Column, Output, option_parser

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "pos_tagging.py"
PARTS = ("train", "dev", "test")
ROW = re.compile(
    r"(?P<tagger>\S.{10,35}?)\s+(?P<seconds>[\d.]+)\s+(?P<dev>[\d.]+)\s+(?P<test>[\d.]+)$"
)
KEYS = {
    "most frequent": "frequent",
    "ridge": "ridge",
    "logistic": "logistic",
    "moments": "moments",
    "the same": "refined",
    "random start": "random",
}


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="of three CoNLL-U files")
    arguments = parser.parse_args()
    if arguments.corpus is None:
        print("tagging.py needs --corpus with the folder of a corpus, which is not part of gloree")
        return
    out = Output(arguments)
    files = [next(arguments.corpus.glob(f"*{part}.conllu")) for part in PARTS]
    words = [sys.executable, str(EXAMPLE), *map(str, files)]
    if arguments.quick:
        words += ["--units", "4", "--dimensions", "16"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    rows: list[dict[str, Any]] = []
    for line in printed.splitlines():
        match = ROW.match(line)
        if match:
            key = next(key for start, key in KEYS.items() if match["tagger"].startswith(start))
            numbers = {name: float(match[name]) for name in ("seconds", "dev", "test")}
            rows.append({"key": key, "tagger": match["tagger"], **numbers})
    out.table(
        "taggers",
        "Share of the words that are tagged correctly; training, word vectors included",
        [
            Column("tagger", "{tagger}"),
            Column("training", "{seconds:.1f}", "s"),
            Column("DEV", "{dev:.2f}", "%"),
            Column("TEST", "{test:.2f}", "%"),
        ],
        rows,
    )
    for key, pattern, cell, what in (
        ("vector_seconds", r"dimensions: ([\d.]+) s", "{value:.1f}", "seconds of word vectors"),
        ("words_a_second", r"tagging: ([\d,]+) words", "{value:,.0f}", "words tagged a second"),
    ):
        found = re.search(pattern, printed)
        if found is None:
            raise RuntimeError(f"{EXAMPLE.name} has printed no {what}")
        out.figure(key, float(found[1].replace(",", "")), cell, what)
    out.close()


if __name__ == "__main__":
    main()

"""Part-of-speech tagging of a corpus: accuracy and time of each ingredient of the tagger.

    python benchmarks/tagging.py --corpus FOLDER

FOLDER has three CoNLL-U files whose names end in train.conllu, dev.conllu and test.conllu, such as
the English Web Treebank of Universal Dependencies, which is not part of this project. The work is
that of `examples/pos_tagging.py` with its defaults, run as a script; its table is the record. Where
UDPipe 1 is installed (``pip install ufal.udpipe``), its tagger is trained beside on the same files
and for the same tags alone, otherwise with its defaults (twenty passes). That takes half an hour,
without anything of gloree: ``--udpipe-of RECORD`` takes its row from an earlier record instead.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import Column, Output, option_parser

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "pos_tagging.py"
UNUSED = tuple(
    f"{use}_{column}" for use in ("use", "provide") for column in ("lemma", "xpostag", "feats")
)
"""What else UDPipe would learn to predict."""

PARTS = ("train", "dev", "test")
ROW = re.compile(
    r"(?P<tagger>\S.{10,35}?)\s+(?P<seconds>[\d.]+)\s+(?P<dev>[\d.]+)\s+(?P<test>[\d.]+)$"
)
KEYS = {
    "most frequent": "frequent",
    "word vectors": "words",
    "ridge": "ridge",
    "logistic": "logistic",
    "moments": "moments",
    "the same": "refined",
    "random start": "random",
}


def sentences_of(path: Path) -> Any:
    """Sentences of a CoNLL-U file, as UDPipe reads them."""
    import ufal.udpipe as udpipe

    found, error = udpipe.Sentences(), udpipe.ProcessingError()
    reader = udpipe.InputFormat.newConlluInputFormat()
    reader.setText(path.read_text(encoding="utf-8"))
    sentence = udpipe.Sentence()
    while reader.nextSentence(sentence, error):
        found.append(sentence)
        sentence = udpipe.Sentence()
    if error.occurred():
        raise RuntimeError(f"UDPipe cannot read {path.name}: {error.message}")
    return found


def udpipe_row(train: Path, dev: Path, test: Path, quick: bool) -> dict[str, Any] | None:
    """Row of UDPipe 1, trained on the same files; None where it is not installed."""
    try:
        import ufal.udpipe as udpipe
    except ImportError:
        return None
    error = udpipe.ProcessingError()
    options = "models=1;" + ";".join(f"{use}=0" for use in UNUSED)
    options += ";iterations=1" if quick else ""
    read, none = sentences_of(train), udpipe.Trainer.NONE
    begin = time.process_time()
    method = "morphodita_parsito"
    model = udpipe.Trainer.train(method, read, udpipe.Sentences(), none, options, none, error)
    seconds = time.process_time() - begin
    if error.occurred():
        raise RuntimeError(f"UDPipe: {error.message}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.udpipe"
        path.write_bytes(model)
        tagger = udpipe.Model.load(str(path))
    row: dict[str, Any] = {"key": "udpipe", "tagger": "UDPipe 1", "seconds": seconds}
    for name, part in (("dev", dev), ("test", test)):
        truth = [w.upostag for s in sentences_of(part) for w in s.words[1:]]
        tags = []
        for sentence in sentences_of(part):  # a copy each, which takes the tags
            if not tagger.tag(sentence, udpipe.Model.DEFAULT):
                raise RuntimeError("UDPipe tags no sentence with the model that it has trained")
            tags += [word.upostag for word in sentence.words[1:]]
        right = sum(a == b for a, b in zip(tags, truth, strict=True))
        row[name] = 100.0 * right / len(truth)
    return row


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="of three CoNLL-U files")
    parser.add_argument("--udpipe-of", type=Path, metavar="RECORD", help="with the row of UDPipe")
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
    if arguments.udpipe_of is None:
        beside = udpipe_row(*files, quick=arguments.quick)
    else:
        earlier = json.loads(arguments.udpipe_of.read_text(encoding="utf-8"))
        kept = earlier["tables"]["taggers"]["rows"]
        beside = next((row for row in kept if row["key"] == "udpipe"), None)
    if beside is not None:
        rows.append(beside)
    out.table(
        "taggers",
        "Share of the words tagged correctly; processor time of training, vectors included",
        [
            Column("tagger", "{tagger}"),
            Column("training", "{seconds:.1f}", "s"),
            Column("DEV", "{dev:.2f}", "%"),
            Column("TEST", "{test:.2f}", "%"),
        ],
        rows,
    )
    for key, pattern, cell, what in (
        ("vector_seconds", r"dimensions: ([\d.]+) s", "{value:.1f}", "seconds of vectors"),
        ("words_a_second", r"tagging: ([\d,]+) words", "{value:,.0f}", "words tagged a second"),
    ):
        found = re.search(pattern, printed)
        if found is None:
            raise RuntimeError(f"{EXAMPLE.name} has printed no {what}")
        out.figure(key, float(found[1].replace(",", "")), cell, what)
    out.close()


if __name__ == "__main__":
    main()

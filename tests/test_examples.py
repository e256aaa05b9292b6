"""Examples that the gallery leaves out, on small made-up data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]

KINDS = {
    "DET": ("the", "a", "this", "every"),
    "ADJ": ("small", "green", "old", "sudden", "plain"),
    "NOUN": ("dog", "house", "walks", "idea", "river", "runs"),
    "VERB": ("walks", "sees", "runs", "likes", "paints"),
    "PROPN": ("Ada", "Paris", "Noether"),
    "PUNCT": (".", "!"),
}
PATTERNS = (
    ("DET", "NOUN", "VERB", "PUNCT"),
    ("DET", "ADJ", "NOUN", "VERB", "DET", "NOUN", "PUNCT"),
    ("PROPN", "VERB", "DET", "ADJ", "ADJ", "NOUN", "PUNCT"),
    ("PROPN", "VERB", "PUNCT"),
)


def write_corpus(path, n_sentences, rng):
    """Sentences of a few patterns, with words of two tags and names that occur once among them."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_sentences):
            file.write(f"# sent_id = {number}\n")
            for place, tag in enumerate(PATTERNS[rng.integers(len(PATTERNS))], start=1):
                word = rng.choice(KINDS[tag]) + (str(number) if tag == "PROPN" else "")
                file.write(f"{place}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n")
            file.write("\n")
    return str(path)


@pytest.mark.slow
def test_pos_tagging_runs_on_a_corpus(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {"train": 1500, "dev": 20, "test": 20}
    files = [write_corpus(tmp_path / f"{name}.conllu", n, rng) for name, n in sizes.items()]
    picture = tmp_path / "confusion.png"
    script = ROOT / "examples" / "pos_tagging.py"
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(script), *files, "--units", "2", "--picture", str(picture)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    test_shares = {" ".join(row[:-3]): float(row[-1]) for row in rows if row[-1:] and _is_row(row)}
    assert set(test_shares) == {
        "most frequent tag of each word",
        "word vectors alone, logistic",
        "ridge regression on 3 words",
        "logistic regression on 3 words",
        "moments of 2 units, no gradient",
        "the same, refined",
        "random start, refined alike",
    }
    # every word of two tags is told by its neighbours, so a window knows all of them
    assert test_shares["the same, refined"] > test_shares["most frequent tag of each word"]
    assert test_shares["the same, refined"] > 95.0
    assert "words a second" in done.stdout
    assert picture.stat().st_size > 0


def _is_row(row):
    """Whether a line ends in three numbers: seconds and two shares."""
    return len(row) > 3 and all(cell.replace(".", "", 1).isdigit() for cell in row[-3:])

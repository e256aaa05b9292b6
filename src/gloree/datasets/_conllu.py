"""A reader for tagged sentences in the CoNLL-U format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

N_COLUMNS = 10
TAG_COLUMNS = {"upos": 3, "xpos": 4}
PASSED_OVER = re.compile(r"[0-9]+[-.][0-9]+")  # ids of contractions (1-2) and empty nodes (1.1)


@dataclass(frozen=True, repr=False)
class TaggedSentences:
    """Sentences as lists of words, with a tag for every word.

    Attributes
    ----------
    words : list of list of str
    tags : list of list of str
        The tag of every word.
    path : str
        The file.
    """

    words: list[list[str]]
    tags: list[list[str]]
    path: str

    def __repr__(self) -> str:
        sizes = f"{len(self)} sentences, {self.n_words} words"
        return f"{type(self).__name__}({sizes}, path={self.path!r})"

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.words)

    @property
    def n_words(self) -> int:
        """Number of words in all sentences together."""
        return sum(map(len, self.words))


def read_conllu(path: str | PathLike[str], *, column: str = "upos") -> TaggedSentences:
    r"""Read words and tags of a file in the CoNLL-U format of Universal Dependencies.

    Parameters
    ----------
    path : str or path
        A UTF-8 file: one line of ten columns, separated by tabs, for every word, and an empty
        line after every sentence.
    column : {"upos", "xpos"}, default "upos"
        Column of the tags: the universal part of speech, or that of the language.

    Returns
    -------
    TaggedSentences

    Raises
    ------
    TypeError
        If `column` is not a string.
    ValueError
        If `column` is unknown, the file is not UTF-8 or holds no words, a line has not ten
        columns, the ids of a sentence are not 1, 2, 3 and so on, or a word has no form or no tag.
        The message names the line.

    Notes
    -----
    Comments, the lines of contracted words (``1-2``, whose parts follow on lines with their own
    ids) and those of empty nodes (``1.1``) are skipped. Lines may end as on any system; a byte
    order mark and a missing end of the last line do no harm. An underscore is a form like any
    other, but as a tag it stands for no tag. The time is linear in the size of the file, which is
    read into memory as a whole.

    References
    ----------
    The format: https://universaldependencies.org/format.html

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gloree import datasets
    >>> lines = "1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_", "2\t!\t!\tPUNCT\t.\t_\t1\tpunct\t_\t_"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two_words.conllu")
    ...     _ = path.write_text("\n".join(lines), encoding="utf-8")
    ...     sentences = datasets.read_conllu(path)
    >>> sentences.words, sentences.tags, len(sentences), sentences.n_words
    ([['Go', '!']], [['VERB', 'PUNCT']], 1, 2)
    """
    if not isinstance(column, str):
        raise TypeError(f"`column` must be a string, got {type(column).__name__}")
    if column not in TAG_COLUMNS:
        raise ValueError(f"`column` must be one of {', '.join(TAG_COLUMNS)}, got {column!r}")
    words: list[list[str]] = []
    tags: list[list[str]] = []
    inside = False
    for number, line in enumerate(_lines(path), start=1):
        cells = line.split("\t")
        where = f"{path}, line {number}"
        if not line.strip():
            inside = False
        if not line.strip() or line.startswith("#"):
            continue
        if len(cells) != N_COLUMNS:
            raise ValueError(
                f"{where}: {len(cells)} columns, expected the {N_COLUMNS} columns of CoNLL-U, "
                "separated by tabs"
            )
        if PASSED_OVER.fullmatch(cells[0]):
            continue
        if not inside:
            words.append([])
            tags.append([])
            inside = True
        _check_id(where, cells[0], len(words[-1]) + 1)
        words[-1].append(_filled(where, "form", cells[1]))
        tags[-1].append(_filled(where, column, cells[TAG_COLUMNS[column]]))
    if not words:
        raise ValueError(f"{path} holds no words; expected sentences in the CoNLL-U format")
    return TaggedSentences(words, tags, str(path))


def _lines(path: str | PathLike[str]) -> list[str]:
    """Lines of a UTF-8 file without their ends, where only line feeds and returns end a line."""
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the codec counts from behind a byte order mark
        before = error.object[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        column = len(before) - before.rfind(b"\n")
        raise ValueError(
            f"{path}, line {before.count(10) + 1}: byte {column} of the line "
            f"(0x{error.object[error.start]:02x}) is not UTF-8, which is the encoding of CoNLL-U; "
            "convert the file to UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _check_id(where: str, label: str, expected: int) -> None:
    if not (label.isascii() and label.isdigit()):
        raise ValueError(f"{where}: id {label!r} is not a number; expected {expected}")
    if int(label) != expected:
        hint = "; is the empty line between two sentences missing?" if int(label) == 1 else ""
        raise ValueError(f"{where}: id {label}, expected {expected}{hint}")


def _filled(where: str, column: str, cell: str) -> str:
    if not cell.strip():
        raise ValueError(f"{where}: the column {column} is empty")
    if cell == "_" and column != "form":
        raise ValueError(f"{where}: the word has no tag in the column {column} (an underscore)")
    return cell

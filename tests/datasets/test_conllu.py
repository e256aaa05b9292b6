"""The reader of tagged sentences: what it passes over, what it refuses, and where it says so."""

from __future__ import annotations

import codecs

import pytest

from gloree import datasets


def row(label, form, upos="NOUN", xpos="NN"):
    return "\t".join([label, form, form.lower(), upos, xpos, "_", "0", "dep", "_", "_"])


GO_HOME = [row("1", "Go", "VERB", "VB"), row("2", "home", "ADV", "RB")]
STOP = [row("1", "Stop", "VERB", "VB")]


@pytest.fixture
def write(tmp_path):
    def write(lines, *, end="\n", last=True, mark=b""):
        path = tmp_path / "some.conllu"
        text = end.join(lines) + (end if last else "")
        path.write_bytes(mark + text.encode())
        return path

    return write


def assert_go_home_and_stop(sentences):
    assert sentences.words == [["Go", "home"], ["Stop"]]
    assert sentences.tags == [["VERB", "ADV"], ["VERB"]]


def test_words_and_tags_of_two_sentences(write):
    path = write([*GO_HOME, "", *STOP, ""])
    sentences = datasets.read_conllu(path)
    assert_go_home_and_stop(sentences)
    assert len(sentences) == 2 and sentences.n_words == 3
    assert sentences.path == str(path)
    assert datasets.read_conllu(str(path)) == sentences


def test_the_column_can_be_chosen(write):
    path = write([*GO_HOME, ""])
    assert datasets.read_conllu(path, column="xpos").tags == [["VB", "RB"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_ends_of_line_and_byte_order_marks_do_not_matter(write, end, last, mark):
    path = write([*GO_HOME, "", *STOP], end=end, last=last, mark=mark)
    assert_go_home_and_stop(datasets.read_conllu(path))


def test_comments_contractions_empty_nodes_and_blank_lines_are_passed_over(write):
    path = write(
        [
            "# sent_id = 1",
            row("1-2", "Gohome", "_", "_"),
            GO_HOME[0],
            row("1.1", "gone", "_", "_"),
            "# in the middle",
            GO_HOME[1],
            "",
            "  ",
            "# a comment and no words",
            "",
            row("0.1", "there", "_", "_"),
            *STOP,
            "",
            "",
        ]
    )
    assert_go_home_and_stop(datasets.read_conllu(path))


def test_a_word_may_hold_a_space_an_underscore_or_a_strange_line_separator(write):
    path = write([row("1", "10 000"), row("2", "_"), row("3", "a\u2028b"), row("4", "#")])
    assert datasets.read_conllu(path).words == [["10 000", "_", "a\u2028b", "#"]]


def test_sentences_are_frozen(write):
    sentences = datasets.read_conllu(write(STOP))
    with pytest.raises(AttributeError):
        sentences.words = []


REFUSED = {
    "nine columns": ([*GO_HOME, "3\tnow\tnow\tADV\tRB\t_\t1\tdep\t_"], "line 3: 9 columns"),
    "eleven columns": ([GO_HOME[0] + "\tmore"], "line 1: 11 columns, expected the 10"),
    "spaces": (["# text", "1 Go go VERB VB _ 0 root _ _"], "line 2: 1 columns.*separated by tabs"),
    "id of letters": ([row("one", "Go")], "line 1: id 'one' is not a number; expected 1"),
    "id half": ([row("1-", "Go")], "line 1: id '1-' is not a number"),
    "id two dots": ([row("1.2.3", "Go")], "line 1: id '1.2.3' is not a number"),
    "empty id": ([row("", "Go")], "line 1: id '' is not a number"),
    "raised id": ([row("²", "Go")], "line 1: id '²' is not a number"),
    "gap": ([GO_HOME[0], row("3", "home")], "line 2: id 3, expected 2"),
    "start": ([row("2", "home")], "line 1: id 2, expected 1"),
    "no blank": ([*GO_HOME, *STOP], "line 3: id 1, expected 3; is the empty line .* missing"),
    "no tag": ([*GO_HOME, row("3", "now", "_")], "line 3: the word has no tag in the column upos"),
    "empty tag": ([row("1", "now", " ")], "line 1: the column upos is empty"),
    "empty form": ([row("1", "")], "line 1: the column form is empty"),
}


@pytest.mark.parametrize("lines, message", REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_line_is_named(write, lines, message):
    path = write(lines)
    with pytest.raises(ValueError, match=message) as error:
        datasets.read_conllu(path)
    assert str(path) in str(error.value)


def test_only_the_column_asked_for_needs_tags(write):
    path = write([row("1", "Go", "VERB", "_")])
    assert datasets.read_conllu(path).tags == [["VERB"]]
    with pytest.raises(ValueError, match="no tag in the column xpos"):
        datasets.read_conllu(path, column="xpos")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_another_encoding_is_refused_with_line_and_byte(tmp_path, end, mark):
    path = tmp_path / "latin.conllu"
    path.write_bytes(mark + end.join([*STOP, "", row("1", "café")]).encode("latin-1"))
    with pytest.raises(ValueError, match=r"line 3: byte 6 of the line \(0xe9\) is not UTF-8"):
        datasets.read_conllu(path)


@pytest.mark.parametrize("lines", [[], [""], ["# only a comment"], [row("1-2", "Gohome")]])
def test_a_file_without_words_is_refused(write, lines):
    with pytest.raises(ValueError, match="holds no words"):
        datasets.read_conllu(write(lines))


def test_a_missing_file_is_the_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        datasets.read_conllu(tmp_path / "none.conllu")


def test_an_unknown_column_is_refused(write):
    path = write(STOP)
    with pytest.raises(ValueError, match="`column` must be one of upos, xpos, got 'lemma'"):
        datasets.read_conllu(path, column="lemma")
    with pytest.raises(TypeError, match="`column` must be a string, got int"):
        datasets.read_conllu(path, column=3)

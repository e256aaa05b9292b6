"""Tables of other people: every way to write one is read right, or refused by file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zipfile

import numpy as np
import pytest

from gloree.sequences import as_sequences

pytest.importorskip("pandas")


PLAIN = {
    "plain": "u,y\n1,2\n3,4\n",
    "spaces": "u, y\n1, 2\n3,  4\n",
    "Windows line ends": "u,y\r\n1,2\r\n3,4\r\n",
    "old Mac line ends": "u,y\r1,2\r3,4\r",
    "quotes": '"u","y"\n"1","2"\n3,"4"\n',
    "trailing commas": "u,y,\n1,2,\n3,4,\n",
    "trailing commas in rows only": "u,y\n1,2,\n3,4,\n",
    "many trailing commas in one row": "u,y\n1,2\n3,4,,,,,\n",
    "empty cells in other columns": "u,y,z\n1,2,\n3,4,text\n",
    "no line end at the end": "u,y\n1,2\n3,4",
    "blank line": "u,y\n1,2\n\n3,4\n",
    "blank lines all around": "\n \nu,y\n1,2\n   \n3,4\n\n\n",
    "exponents and signs": "u,y\n1e0,+2\n0.3e+1,4.\n",
    "byte order mark": "\ufeffu,y\n1,2\n3,4\n",
    "semicolons": "u;y\n1;2\n3;4\n",
    "tabs": "u\ty\n1\t2\n3\t4\n",
    "bars": "u|y\n1|2\n3|4\n",
    "blanks": "u y\n1 2\n3 4\n",
    "aligned by blanks": "   u    y  \n   1    2\n   3    4  \n",
    "decimal commas": "u;y\n1,0;2,0\n3;4,\n",
    "decimal commas, blanks": "u y\n1,0 2,0\n3,0 4,0\n",
    "decimal commas, tabs": "u\ty\n1,0\t2,0\n3,0\t4,0\n",
    "decimal commas in quotes": 'u,y\n"1,0","2,0"\n"3,0","4,0"\n',
    "the separator told to a spreadsheet": "sep=;\nu;y\n1;2\n3;4\n",
    "units": "u,y\nV,mm\n1,2\n3,4\n",
    "units of one column": "u;y\n;mm\n1;2\n3;4\n",
    "a true minus": "u,y\n1,2\n3,4\n",
    "time first": "time,u,y\n0,1,2\n1,3,4\n",
    "time stamps": "when,u,y\n2024-01-31 10:00:00,1,2\n2024-01-31 10:00:01,3,4\n",
    "time of day": "clock,u,y\n23:59:59,1,2\n00:00:00,3,4\n",
    "time between": "u,t [s],y\n1,0.0,2\n3,0.1,4\n",
    "time last": "u,y,Time (ms)\n1,2,0\n3,4,10\n",
    "running numbers": "index,u,y\n7,1,2\n8,3,4\n",
    "an index without a name": ",u,y\n0,1,2\n1,3,4\n",
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN.keys())
@pytest.mark.parametrize("named", [False, True])
def test_the_first_two_columns_are_input_and_output(text, named, write):
    options = {"inputs": ["u"], "outputs": ["y"]} if named else {}
    table = write(text, **options)
    np.testing.assert_array_equal(table.X, [[1.0], [3.0]])
    np.testing.assert_array_equal(table.Y, [[2.0], [4.0]])
    assert (table.inputs, table.outputs, table.lengths) == (("u",), ("y",), None)


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


@pytest.mark.parametrize("encoding", [*ENCODINGS, "latin-1"])
@pytest.mark.parametrize("told", [False, True])
def test_names_are_read_in_every_encoding(encoding, told, write):
    text = "Größe [°C];y\n1,5;2\n3,5;4\n"
    table = write(text.encode(encoding), encoding=encoding if told else None)
    assert table.inputs == ("Größe [°C]",)
    np.testing.assert_array_equal(table.X.ravel(), [1.5, 3.5])


def _zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.csv", content)
    return buffer.getvalue()


PACKED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zip": _zipped}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
def test_packed_files_are_known_by_their_first_bytes(pack, write):
    table = write(pack(b"u,y\n1,2\n3,4\n"))
    np.testing.assert_array_equal(np.hstack([table.X, table.Y]), [[1, 2], [3, 4]])


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
def test_a_packed_file_that_is_cut_off_is_named(pack, write):
    content = pack(b"u,y\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(500)))
    with pytest.raises(ValueError, match=r"table\.csv is packed, and damaged"):
        write(content[: len(content) // 2])


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_that_were_written(seed, write):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((200, 2)) * 10.0 ** rng.integers(-300, 300, (200, 2))
    text = "u;y\n" + "\n".join(";".join(map(repr, row)) for row in values.tolist())
    np.testing.assert_array_equal(np.hstack(_XY(write(text))), values)
    comma = text.replace(".", ",")
    np.testing.assert_array_equal(np.hstack(_XY(write(comma))), values)


def _XY(table):
    return table.X, table.Y


def test_columns_are_found_by_name_in_the_order_asked_for(write):
    table = write("a,b,c\n1,2,3\n4,5,6\n", inputs=["c", "a"], outputs=["b"])
    np.testing.assert_array_equal(table.X, [[3.0, 1.0], [6.0, 4.0]])
    np.testing.assert_array_equal(table.Y, [[2.0], [5.0]])


def test_columns_are_found_by_place(write):
    table = write("a,a,c\n1,2,3\n4,5,6\n", inputs=[2, 0], outputs=1)
    np.testing.assert_array_equal(table.X, [[3.0, 1.0], [6.0, 4.0]])
    assert (table.inputs, table.outputs) == (("c", "a"), ("a",))


def test_one_name_may_be_given_as_a_string(write):
    table = write("out,in\n1,2\n", inputs="in", outputs="out")
    assert (table.inputs, table.outputs) == (("in",), ("out",))


@pytest.mark.parametrize("name", ['"u, in V"', '"u\nin V"', '"u ""raw"""'])
def test_a_quoted_name_may_hold_anything(name, write):
    plain = name[1:-1].replace('""', '"')
    table = write(f"{name},y\n1,2\n", inputs=[plain], outputs=["y"])
    np.testing.assert_array_equal(table.X, [[1.0]])


def test_a_default_is_never_a_column_that_is_asked_for_as_the_other(write):
    assert write("level,pump\n1,9\n2,8\n", outputs="level").inputs == ("pump",)
    assert write("level,pump\n1,9\n2,8\n", inputs="level").outputs == ("pump",)
    assert write("a,b,c\n1,9,3\n2,8,5\n", inputs="b").outputs == ("a",)


CLOCKS = ("t", "time", "Time", "timestamp", "time [s]", "t [s]", "t_ms", "Date", "Zeit (h)")


@pytest.mark.parametrize("name", [*CLOCKS, "datetime", "T [s]", "time.s", "sample", "Index", "k"])
def test_a_time_column_is_no_input_by_default(name, write):
    text = f"{name},u,y\n0,5,1\n1,3,2\n2,4,3\n"
    assert (write(text).inputs, write(text).outputs) == (("u",), ("y",))
    assert write(text, inputs=name, outputs="y").inputs == (name,)
    assert write(text, time=False).inputs == (name,)


@pytest.mark.parametrize("name", ["T [°C]", "T", "torque", "timing valve", "tempo2", "kappa"])
def test_a_name_that_only_begins_like_a_time_is_an_input(name, write):
    assert write(f"{name},y\n5,1\n3,2\n4,3\n").inputs == (name,)


def test_evenly_spaced_rising_numbers_are_a_clock_whatever_their_name(write):
    rng = np.random.default_rng(0)
    rows = [f"{0.1 * i:.1f},{a:.3f},{b:.3f}" for i, (a, b) in enumerate(rng.random((30, 2)))]
    table = write("channel,u,y\n" + "\n".join(rows))
    assert (table.inputs, table.outputs) == (("u",), ("y",))


def test_times_come_beside_the_data(write):
    table = write("time,u,y\n0,1,2\n0.5,3,4\n")
    np.testing.assert_array_equal(table.time, [0.0, 0.5])
    assert write("u,y\n1,2\n").time is None


STAMPS = {
    "ISO": ("2024-02-01 00:00:00", "2024-02-01 00:00:10"),
    "ISO with a zone": ("2024-02-01T01:00:00+01:00", "2024-02-01T01:00:10+01:00"),
    "day first": ("01.02.2024 00:00:00", "01.02.2024 00:00:10"),
    "month first, by a later row": ("02/01/2024 00:00:00", "02/13/2024 00:00:00"),
}


@pytest.mark.parametrize("stamps", STAMPS.values(), ids=STAMPS.keys())
def test_time_stamps_are_read_where_they_can_be_read_in_one_way(stamps, write):
    text = "when,u,y\n" + "".join(f"{stamp},{i},5\n" for i, stamp in enumerate(stamps))
    if "01.02" in stamps[0]:
        with pytest.raises(ValueError, match=r"line 2, column 1: .* one way only.*time=False"):
            write(text, inputs="u", outputs="y", time="when")
        return
    table = write(text, inputs="u", outputs="y", time="when")
    assert table.time[0] == np.datetime64("2024-02-01T00:00:00")


def test_the_order_of_rows_tells_the_day_from_the_month(write):
    text = "date,u,y\n30/01/2024,1,2\n31/01/2024,3,4\n01/02/2024,5,6\n"
    assert write(text).time[-1] == np.datetime64("2024-02-01")
    text = "date,u,y\n01/05/2024,1,2\n01/06/2024,3,4\n02/01/2024,5,6\n"
    assert write(text).time[-1] == np.datetime64("2024-02-01")


def test_experiments_that_stand_mixed_are_put_together_in_the_order_of_time(write):
    text = "run,t,u,y\nA,0,1,1\nB,0,2,2\nA,1,3,3\nB,1,4,4\nA,2,5,5\n"
    table = write(text, inputs="u", outputs="y", sequence="run")
    np.testing.assert_array_equal(table.lengths, [3, 2])
    np.testing.assert_array_equal(table.X.ravel(), [1, 3, 5, 2, 4])
    np.testing.assert_array_equal(table.time, [0, 1, 2, 0, 1])
    assert table.sequences == ("A", "B")


@pytest.mark.parametrize("seed", range(3))
def test_any_interleaving_gives_the_sequences_themselves(seed, write):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 6)
    turns = rng.permutation(np.repeat(np.arange(6), lengths))
    place = np.zeros(6, dtype=int)
    rows = ["id,u,y"]
    for turn in turns:
        rows.append(f"{turn},{100 * turn + place[turn]},{turn}")
        place[turn] += 1
    table = write("\n".join(rows), inputs="u", outputs="y", sequence="id")
    seen = list(dict.fromkeys(turns.tolist()))
    np.testing.assert_array_equal(table.lengths, lengths[seen])
    expected = np.concatenate([100 * i + np.arange(lengths[i]) for i in seen])
    np.testing.assert_array_equal(table.X.ravel(), expected)
    assert table.sequences == tuple(map(str, seen))
    data = as_sequences(table.X, table.Y, lengths=table.lengths)
    assert data.n_sequences == 6


def test_the_sequence_column_is_no_input_by_default(write):
    table = write("run,u,y\n1,5,2\n2,6,4\n", sequence="run")
    assert (table.inputs, table.outputs) == (("u",), ("y",))


def test_rows_with_missing_cells_cut_sequences(write):
    text = "run,u,y\nA,1,1\nB,2,2\nA,,3\nB,4,4\nA,5,5\nC,NA,1\nB,7,nan\n"
    options = {"inputs": "u", "outputs": "y", "sequence": "run"}
    table = write(text, missing="split", **options)
    np.testing.assert_array_equal(table.X.ravel(), [1, 5, 2, 4])
    np.testing.assert_array_equal(table.lengths, [1, 1, 2])
    assert table.sequences == ("A", "A", "B")
    kept = write(text, missing="nan", **options)
    np.testing.assert_array_equal(kept.lengths, [3, 3, 1])
    assert np.isnan(kept.X).sum() == 2 and np.isnan(kept.Y).sum() == 1


def test_units_are_kept(write):
    table = write("t;p;q\ns;bar;-\n0;1;5\n1;2;6\n", inputs="p", outputs="q")
    assert table.units == {"p": "bar", "q": "-"}
    np.testing.assert_array_equal(table.X.ravel(), [1, 2])
    assert write("p;q\n1;5\n").units == {}


def test_without_a_header_no_row_is_lost(write):
    table = write("0.5,1.5\n0.7,1.7\n0.9,1.9\n")
    np.testing.assert_array_equal(table.X.ravel(), [0.5, 0.7, 0.9])
    assert (table.inputs, table.outputs) == (("0",), ("1",))
    assert len(write("1,2\n3,4\n", header=True).X) == 1
    table = write("2024-01-01 10:00,1,2\n2024-01-01 10:01,3,4\n")
    np.testing.assert_array_equal(table.X.ravel(), [1, 3])


def test_lines_before_the_table_are_skipped(write):
    table = write("logger, 7\nof, May, 2024\nu;y\n1;2\n3;4\n", skip=2)
    np.testing.assert_array_equal(table.X.ravel(), [1, 3])
    with pytest.raises(ValueError, match=r"table\.csv, line 5, column 1: 'x'"):
        write("logger\n\nu;y\n1;2\nx;4\n", skip=2)


def test_thousands_are_left_out_where_they_are_told(write):
    text = "u;y\n1.234,5;2\n2.345,5;3\n"
    table = write(text, thousands=".")
    np.testing.assert_array_equal(table.X.ravel(), [1234.5, 2345.5])
    # and where the numbers can be read in one way only
    np.testing.assert_array_equal(write(text).X, table.X)
    with pytest.raises(
        ValueError, match=r"line 2, column 1: '1\.234,5'.*decimal=.* and thousands="
    ):
        write(text, decimal=",")


def test_a_quote_may_be_an_ordinary_character(write):
    table = write('u,y,note\n1,2,5" pipe\n3,4,"\n', quotes=False)
    np.testing.assert_array_equal(table.X.ravel(), [1, 3])


BAD = {
    "missing column": (
        "u,y\n1,2\n",
        {"inputs": ["v"]},
        r"has no column 'v'; its columns are \['u', 'y'\]",
    ),
    "missing place": ("u,y\n1,2\n", {"inputs": 2}, "has no column 2"),
    "missing sequence": ("u,y\n1,2\n", {"sequence": "run"}, "has no column 'run'"),
    "missing time": ("u,y\n1,2\n", {"time": "when"}, "has no column 'when'"),
    "a name that two columns have": (
        "u,u,y\n1,2,3\n",
        {"inputs": "u"},
        "has 2 columns 'u': give one by its place",
    ),
    "one column": ("u\n1\n", {}, "at least two columns are needed"),
    "empty file": ("", {}, "at least two columns are needed"),
    "header only": ("u,y\n", {}, "table.csv.* no "),
    "text": ("u,y\n1,2\n3,x\n", {}, "line 3, column 2: 'x' is not a number"),
    "empty cell": ("u,y\n1,2\n3,\n", {}, "line 3, column 2: '' is not a number.*missing='split'"),
    "NA": ("u,y\n1,2\nNA,3\n", {}, "line 3, column 1: 'NA' is not a number.*'u' is missing"),
    "short row": ("u,y\n1,2\n3\n", {}, "line 3, column 2: '' is not a number"),
    "text after a blank line": ("u,y\n1,2\n\n3,x\n", {}, "line 4, column 2: 'x'"),
    "text after a cell of two lines": (
        'u,y,z\n1,2,"a\nb"\n3,x,c\n',
        {},
        "line 4, column 2: 'x'",
    ),
    "infinity": ("u,y\n1,2\ninf,3\n", {}, "line 3, column 1: 'inf' is not a number"),
    "underscores": ("u,y\n1,2\n1_0,3\n", {}, "line 3, column 1: '1_0' is not a number"),
    "long row": ("u,y\n1,2\n3,4,5\n", {}, "line 3: 3 cells, where the header has 2"),
    "long rows": ("u,y\n1,2,0\n3,4,5\n", {}, "line 2: 3 cells, where the header has 2"),
    "decimal commas between commas": (
        "u,y\n1,5,2,5\n",
        {},
        "line 2: 4 cells, where the header has 2.*decimal commas",
    ),
    "long row without a header": ("1,2\n3,4,5\n", {}, "line 2: 3 cells, where the first row has 2"),
    "input and output": (
        "u,y\n1,2\n",
        {"inputs": ["u", "y"], "outputs": "y"},
        "column 'y' is asked for twice, in `inputs` and `outputs`",
    ),
    "an input twice": (
        "u,y\n1,2\n",
        {"inputs": ["u", 0], "outputs": "y"},
        "asked for twice, in `inputs` and `inputs`",
    ),
    "the sequence as input": (
        "u,y\n1,2\n",
        {"inputs": "u", "outputs": "y", "sequence": "u"},
        "asked for twice",
    ),
    "no inputs": ("u,y\n1,2\n", {"inputs": []}, "`inputs` is empty"),
    "nothing but a time": ("time,y\n1,2\n", {}, "no column is left .* pass `inputs` and `outputs`"),
    "points and commas": (
        "u;y\n1,5;2\n1.5;3\n",
        {},
        r"line 2 holds '1,5' and line 3 holds '1\.5'.*pass `decimal`",
    ),
    "decimals or thousands": (
        'u,y\n"1,234",1\n"2,345",2\n',
        {},
        "line 2, column 1: '1,234' may be .* pass decimal=',' or thousands=','",
    ),
    "names or values": ("A,1,2\nB,3,4\n", {}, "line 1: it is in doubt.*header=True"),
    "names or values, of a data frame": (
        ",0,1\n0,5,6\n1,7,8\n",
        {},
        "line 1: it is in doubt.*header=True",
    ),
    "time goes back": (
        "time,u,y\n0,1,2\n1,3,4\n0,5,6\n1,7,8\n",
        {},
        "line 4: the time 'time' goes back.*`sequence`.*time=False",
    ),
    "time goes back in a sequence": (
        "run,t,u,y\nA,0,1,2\nB,5,3,4\nA,1,5,6\nB,4,7,8\n",
        {"inputs": "u", "outputs": "y", "sequence": "run"},
        "line 5: the time 't' goes back",
    ),
    "no time": (
        "when,u,y\nnoon,1,2\nlater,3,4\n",
        {"inputs": "u", "outputs": "y", "time": "when"},
        "line 2, column 1: the time 'noon' is no number",
    ),
    "no sequence": (
        "run,u,y\nA,1,2\n,3,4\n",
        {"inputs": "u", "outputs": "y", "sequence": "run"},
        "line 3, column 1: no sequence",
    ),
    "an open quote": (
        'u,y\n1,2\n"3,4\n' + "5,6\n" * 50_000,
        {},
        "line 3: a quote opens a cell.*quotes=False",
    ),
    "null characters": (b"u,y\n1,2\n3,\x004\n", {}, "line 3: a null character"),
    "a wrong encoding": ("ü,y\n1,2\n".encode("cp1252"), {"encoding": "utf-8"}, "line 1: byte 0xfc"),
    "an unknown encoding": ("u,y\n1,2\n", {"encoding": "utf-7b"}, "`encoding` is 'utf-7b'"),
    "fewer lines than skipped": ("u,y\n1,2\n", {"skip": 7}, "fewer lines than `skip` = 7"),
    "units that are not all units": (
        "u,y\nV,1\n1,2\n",
        {},
        "line 2, column 1: 'V' is not a number: pass units=True",
    ),
}


@pytest.mark.parametrize("text, options, message", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_read_is_named_with_its_line(text, options, message, write):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        write(text, **options)


@pytest.mark.parametrize("text, options, message", BAD.values(), ids=BAD.keys())
def test_every_message_names_the_file_or_the_parameter(text, options, message, write):
    with pytest.raises(ValueError, match=r"table\.csv|`(encoding|inputs)`"):
        write(text, **options)


OPTIONS = {
    "missing": ({"missing": "drop"}, "`missing` must be one of error, split, nan"),
    "separator": ({"separator": ", "}, "`separator` must be a single character"),
    "decimal": ({"decimal": "'"}, "`decimal` must be"),
    "thousands": ({"decimal": ",", "thousands": ","}, "are both ','"),
    "skip": ({"skip": -1}, "`skip` must be"),
}


@pytest.mark.parametrize("options, message", OPTIONS.values(), ids=OPTIONS.keys())
def test_options_are_checked_by_name(options, message, write):
    with pytest.raises(ValueError, match=message):
        write("u,y\n1,2\n", **options)
    with pytest.raises(TypeError, match="`time` must be"):
        write("u,y\n1,2\n", time=True)
    with pytest.raises(TypeError, match="by its name or its place, got True"):
        write("u,y\n1,2\n", inputs=[True])


def test_a_workbook_is_named(write):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(ValueError, match="a workbook of a spreadsheet: export"):
        write(buffer.getvalue())


def test_a_row_with_ever_more_cells_is_refused_soon(write):
    rows = [",".join(["1"] * n) for n in range(2, 400)]
    with pytest.raises(ValueError, match="line 3: 3 cells"):
        write("u,y\n" + "\n".join(rows))


def test_without_pandas_the_error_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"read_csv needs pandas: .*gloree\[pandas\]"):
        write("u,y\n1,2\n")


def test_no_warnings_of_pandas_come_through(write):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write("date,u,y\n13/02/2024,1,2\n14/02/2024,3,4,\n")

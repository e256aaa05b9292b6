"""Numbers, times and gaps in tables: read as they are meant, or refused with the option."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pandas")


def in_groups(value, decimals, mark, point):
    """A number with a mark between its thousands, written out from the definition."""
    whole, rest = f"{abs(value):.{decimals}f}".split(".") if decimals else (f"{abs(value):.0f}", "")
    groups = []
    while whole:
        whole, group = whole[:-3], whole[-3:]
        groups.insert(0, group)
    return ("-" if value < 0 else "") + mark.join(groups) + (point + rest if rest else "")


# --- 1.200 --------------------------------------------------------------------------------------

DOUBTFUL = {
    "points beside semicolons": ("u;y\n1.200;2\n1.300;3\n", r"1\.200", "."),
    "a later column": ("u;y\n1;2.500\n2;12.750\n", r"2\.500", "."),
    "a sign": ("u;y\n-1.200;2\n3;4\n", r"-1\.200", "."),
    "one cell": ("u;y\n1;2\n1.200;3\n", r"1\.200", "."),
    "decimal commas elsewhere": ("u;y;z\n1.200;2;0,5\n1.300;3;0,7\n", r"1\.200", "."),
    "decimal commas elsewhere, tabs": ("u\ty\tz\n1.200\t2\t0,5\n1.300\t3\t0,7\n", r"1\.200", "."),
    "decimal commas elsewhere, quotes": ('u,y,z\n1.200,2,"0,5"\n1.300,3,"0,7"\n', r"1\.200", "."),
    "commas between commas": ('u,y\n"1,234",1\n"2,345",2\n', "1,234", ","),
    "commas between tabs": ("u\ty\n1,234\t1\n2,345\t2\n", "1,234", ","),
    "commas between bars": ("u|y\n1,234|1\n2,345|2\n", "1,234", ","),
    "commas, points elsewhere": ("u;y;z\n1,234;1;0.5\n2,345;2;0.25\n", "1,234", ","),
}


@pytest.mark.parametrize("text, cell, mark", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_decimals_or_thousands_are_refused_with_file_line_column_and_options(
    text, cell, mark, write
):
    message = rf"table\.csv, line \d, column \d: '{cell}' .*pass decimal='\{mark}' or thousands='"
    with pytest.raises(ValueError, match=message):
        write(text, inputs="u", outputs="y")
    decimals = write(text, inputs="u", outputs="y", decimal=mark)
    thousands = write(text, inputs="u", outputs="y", thousands=mark)
    for read in (decimals, thousands):
        assert np.isfinite(read.X).all()
    assert not np.array_equal(
        np.hstack([decimals.X, decimals.Y]), np.hstack([thousands.X, thousands.Y])
    )


DECIDED = {
    "fewer decimals": ("u;y\n1.200;2\n1.25;3\n", [1.2, 1.25]),
    "fewer decimals in the other column": ("u;y\n1.200;2.5\n1.300;3\n", [1.2, 1.3]),
    "fewer decimals in a column not asked for": ("t;u;y\n0.1;1.200;2\n0.2;1.300;3\n", [1.2, 1.3]),
    "a zero before the point": ("u;y\n1.200;2\n0.300;3\n", [1.2, 0.3]),
    "no digit before the point": ("u;y\n1.200;2\n.300;3\n", [1.2, 0.3]),
    "an exponent": ("u;y\n1.200;2\n1.300e1;3\n", [1.2, 13.0]),
    "four digits before the point": ("u;y\n1.200;2\n1234.567;3\n", [1.2, 1234.567]),
    "commas between points": ("u;y\n1,200.5;2\n1.300;3\n", [1200.5, 1.3]),
    "points before commas": ("u;y\n1.200,5;2\n1.300;3\n", [1200.5, 1300.0]),
    "points before commas, other column": ("u;y\n1.200;1.200,5\n1.300;3\n", [1200.0, 1300.0]),
    "two points": ("u;y\n1.200;2\n1.300.000;3\n", [1200.0, 1300000.0]),
    "two commas": ('u,y\n"1,200",2\n"1,300,000",3\n', [1200.0, 1300000.0]),
    "commas beside semicolons": ("u;y\n1,200;2\n1,300;3\n", [1.2, 1.3]),
    "commas, fewer decimals": ("u\ty\n1,200\t2\n1,25\t3\n", [1.2, 1.25]),
    "points between commas": ("u,y\n1.200,2\n1.300,3\n", [1.2, 1.3]),
    "points between tabs": ("u\ty\n1.200\t2\n1.300\t3\n", [1.2, 1.3]),
    "points between blanks": ("u y\n1.200 2\n1.300 3\n", [1.2, 1.3]),
}


@pytest.mark.parametrize("text, expected", DECIDED.values(), ids=DECIDED.keys())
def test_a_file_may_decide_itself_between_decimals_and_thousands(text, expected, write):
    np.testing.assert_array_equal(write(text, inputs="u", outputs="y").X.ravel(), expected)


@pytest.mark.parametrize("code", ["192.168.100.200", "100.200.300", "01.2024"])
def test_codes_of_other_columns_say_nothing_about_thousands(code, write):
    text = f"host,u,y\n{code},1.200,0\n{code},2.300,7\n"
    np.testing.assert_array_equal(write(text, inputs="u", outputs="y").X.ravel(), [1.2, 2.3])
    with pytest.raises(ValueError, match="pass decimal="):
        write(text.replace(",", ";"), inputs="u", outputs="y")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "mark, point, separator",
    [(".", ",", ";"), (",", ".", ";"), ("'", ".", ","), (" ", ",", ";"), ("\u00a0", ",", ";")],
)
def test_thousands_of_any_mark_are_those_that_were_written(mark, point, separator, seed, write):
    rng = np.random.default_rng(seed)
    values = np.round(rng.standard_normal((60, 2)) * 10.0 ** rng.integers(0, 9, (60, 2)), 2)
    rows = [separator.join(in_groups(v, 2, mark, point) for v in row) for row in values]
    for head in ("u" + separator + "y\n", ""):
        table = write(head + "\n".join(rows), thousands=mark)
        np.testing.assert_array_equal(np.hstack([table.X, table.Y]), values)


@pytest.mark.parametrize(
    "cell", ["1.5", "12.34", "1.2345", "0.500", "1.234.5", "1234.567", "1,5.000"]
)
def test_a_mark_that_stands_where_no_thousands_end_is_refused(cell, write):
    with pytest.raises(
        ValueError, match=rf"line 3, column 1: '{cell}' is not a number.*thousands="
    ):
        write(f"u;y\n1.000;2\n{cell};3\n", thousands=".")


def test_the_first_row_is_no_row_of_names_or_units_for_its_thousands(write):
    table = write("1'234;2'345\n999;998\n", thousands="'")
    np.testing.assert_array_equal(table.X.ravel(), [1234, 999])
    table = write("u;y\n1'234;2'345\n999;998\n", thousands="'")
    np.testing.assert_array_equal(table.X.ravel(), [1234, 999])


# --- clock times --------------------------------------------------------------------------------

CLOCKS = {
    "seconds": (("12:30:05", "12:30:06", "12:31:00"), [0, 1, 55]),
    "minutes": (("12:30", "12:31", "13:00"), [0, 60, 1800]),
    "midnight": (("23:59:59", "00:00:00", "00:00:02"), [0, 1, 3]),
    "two midnights": (("20:00", "06:00", "16:00", "02:00"), [0, 36000, 72000, 108000]),
    "fractions": (("23:59:59.5", "00:00:00.25", "00:00:01.0"), [0, 0.75, 1.5]),
    "fractions with commas": (("9:00:00,0", "9:00:00,5", "9:00:01,0"), [0, 0.5, 1]),
    "halves of a day": (
        ("11:59:59 AM", "12:00:00 PM", "11:59:59 pm", "12:00:00 a.m."),
        [0, 1, 43200, 43201],
    ),
    "a stopwatch of hours": (("99:59:59", "100:00:00", "100:00:01"), [0, 1, 2]),
    "minutes and seconds": (("59:59.5", "00:00.0", "00:00.5"), [0, 0.5, 1]),
    "a leap second": (("23:59:59", "23:59:60", "00:00:00"), [0, 1, 1]),
    "equal times": (("12:00", "12:00", "12:01"), [0, 0, 60]),
}


@pytest.mark.parametrize("clock, expected", CLOCKS.values(), ids=CLOCKS.keys())
@pytest.mark.parametrize("name", ["time", "Uhrzeit", "channel 3"])
def test_times_of_a_day_are_seconds_since_the_first(clock, expected, name, write):
    rows = [f"{time};{i + 5};{7 - i}" for i, time in enumerate(clock)]
    table = write(f"{name};u;y\n" + "\n".join(rows))
    assert (table.inputs, table.outputs) == (("u",), ("y",))
    np.testing.assert_array_equal(table.time, np.array(expected, dtype=float))


def test_dates_go_with_clock_times_that_stand_before_them(write):
    text = "Time;Date;u;y\n23:00;31.12.2023;1;2\n01:00;02.01.2024;2;3\n"
    stamps = np.array(["2023-12-31T23:00", "2024-01-02T01:00"], dtype="datetime64[ns]")
    np.testing.assert_array_equal(write(text).time, stamps)


def test_sequences_have_clocks_of_their_own(write):
    rows = ["A;23:59;1;2", "B;10:00;3;4", "A;00:01;5;6", "B;10:02;7;8"]
    table = write("run;clock;u;y\n" + "\n".join(rows), sequence="run")
    np.testing.assert_array_equal(table.time, [0, 120, 0, 120])
    np.testing.assert_array_equal(table.X.ravel(), [1, 5, 3, 7])


def test_dates_go_with_the_times_of_a_column_of_their_own(write):
    table = write("Date,Time,u,y\n2024-01-31,23:59:59,1,2\n2024-02-01,00:00:00,3,4\n")
    stamps = np.array(["2024-01-31T23:59:59", "2024-02-01T00:00:00"], dtype="datetime64[ns]")
    np.testing.assert_array_equal(table.time, stamps)
    assert write("Date,u,y\n2024-01-31,1,2\n", time="Date").time[0] == np.datetime64("2024-01-31")


BAD_CLOCKS = {
    "back by less than half a day": (
        ("10:00", "10:05", "10:00"),
        "line 4: the time 'clock' goes back",
    ),
    "two readings": (
        ("61:10", "61:20"),
        "line 2, column 1: .*'61:10' may be hours and minutes, or",
    ),
    "no such minute": (("10:00:00", "10:61:00"), r"line 3, column 1: the time '10:61:00'"),
    "no such half of a day": (("10:00 AM", "13:00 AM"), r"line 3, column 1: the time '13:00 AM'"),
    "a missing one": (("10:00", ""), "line 3, column 1: the time ''"),
}


@pytest.mark.parametrize("clock, message", BAD_CLOCKS.values(), ids=BAD_CLOCKS.keys())
def test_clocks_that_cannot_be_read_are_named(clock, message, write):
    text = "clock,u,y\n" + "".join(f"{time},{i},5\n" for i, time in enumerate(clock))
    with pytest.raises(ValueError, match=message):
        write(text, inputs="u", outputs="y")
    assert write(text, inputs="u", outputs="y", time=False).time is None


@pytest.mark.parametrize("name", ["ts", "epoch", "Local Time", "elapsed", "Unix time", "Heure"])
def test_more_names_of_times_are_no_inputs(name, write):
    assert write(f"{name},u,y\n17,5,1\n30,3,2\n31,4,3\n").inputs == ("u",)


@pytest.mark.parametrize("seed", range(4))
def test_a_clock_that_jitters_is_no_input(seed, write):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.9, 1.1, 40) + 30.0 * (rng.random(40) < 0.05))
    rows = [f"{t:.4f},{u:.3f},{u:.2f}" for t, u in zip(times, rng.random(40), strict=True)]
    assert write("channel,u,y\n" + "\n".join(rows)).inputs == ("u",)
    ramp = np.cumsum(rng.exponential(size=40))
    rows = [f"{r:.4f},{u:.3f}" for r, u in zip(ramp, rng.random(40), strict=True)]
    assert write("level,y\n" + "\n".join(rows)).inputs == ("level",)


@pytest.mark.parametrize("name", ["run", "Experiment", "id", "trial_no", "Session ID"])
def test_a_column_named_like_an_experiment_is_no_input_by_default(name, write):
    text = f"{name},u,y\n7,5,1\n7,3,2\n9,4,3\n"
    with pytest.raises(
        ValueError, match=rf"column 1, '{name}'.*pass sequence='{name}', or `inputs`"
    ):
        write(text)
    assert write(text, sequence=name).lengths.tolist() == [2, 1]
    assert write(text, inputs=name, outputs="y").inputs == (name,)


# --- rows that hold nothing ---------------------------------------------------------------------

EMPTY_ROWS = {"a blank line": "\n", "blanks": "   \n", "separators": ";\n", "two rows": ";\n\n"}


@pytest.mark.parametrize("empty", EMPTY_ROWS.values(), ids=EMPTY_ROWS.keys())
def test_a_row_that_holds_nothing_is_a_gap_where_missing_rows_split(empty, write):
    table = write(f"u;y\n1;2\n3;4\n{empty}5;6\n", missing="split")
    np.testing.assert_array_equal(table.X.ravel(), [1, 3, 5])
    np.testing.assert_array_equal(table.lengths, [2, 1])


@pytest.mark.parametrize("empty", EMPTY_ROWS.values(), ids=EMPTY_ROWS.keys())
def test_rows_that_hold_nothing_around_the_table_are_no_gaps(empty, write):
    for missing in ("split", "error", "nan"):
        table = write(f"\nu;y\n{empty}1;2\n3;4\n{empty}{empty}", missing=missing)
        np.testing.assert_array_equal(table.X.ravel(), [1, 3])
        assert table.lengths is None


def test_a_gap_cuts_every_sequence_that_goes_on_behind_it(write):
    text = "run;u;y\nA;1;1\nB;2;2\n\nA;3;3\n;;\nB;4;4\nB;5;5\n"
    table = write(text, inputs="u", outputs="y", sequence="run", missing="split")
    np.testing.assert_array_equal(table.X.ravel(), [1, 3, 2, 4, 5])
    np.testing.assert_array_equal(table.lengths, [1, 1, 1, 2])
    assert table.sequences == ("A", "A", "B", "B")


def test_a_table_of_which_no_row_is_whole_is_refused(write):
    with pytest.raises(ValueError, match=r"table\.csv: every row misses a cell of \['u', 'y'\]"):
        write("u;y\n1;NA\nNA;2\n", missing="split")


def test_a_row_of_separators_has_missing_cells(write):
    text = 'note;u;y\n"a\nb";1;2\nc;3;4\n;;\nd;5;6\n'
    with pytest.raises(ValueError, match=r"line 5, column 2: '' is not a number.*missing='split'"):
        write(text, inputs="u", outputs="y")
    table = write(text, inputs="u", outputs="y", missing="nan")
    np.testing.assert_array_equal(table.X.ravel(), [1, 3, np.nan, 5])


# --- other exports ------------------------------------------------------------------------------

SPELLINGS = (
    *(
        "",
        "NA",
        "N/A",
        "#N/A",
        "NaN",
        "nan",
        "-nan",
        "<NA>",
        "None",
        "null",
        "NULL",
        "-",
        "--",
        "?",
    ),
    *("n.a.", "missing", "#NV", "#DIV/0!", "#VALUE!", "#WERT!", "1.#QNAN", "-1.#IND", "-nan(ind)"),
)


@pytest.mark.parametrize("cell", SPELLINGS)
def test_every_spelling_of_no_value_is_named_or_becomes_nan(cell, write):
    text = f"u;y\n{cell};{cell}\n1;2\n{cell};3\n5;4\n"
    with pytest.raises(ValueError, match=r"line 2, column 1: .* is not a number: 'u' is missing"):
        write(text.replace(f"{cell};{cell}\n", f"{cell};1\n", 1))
    table = write(text.replace(f"{cell};{cell}\n", f"{cell};1\n", 1), missing="nan")
    np.testing.assert_array_equal(table.X.ravel(), [np.nan, 1, np.nan, 5])
    table = write(text.replace(f"{cell};{cell}\n", f"{cell};1\n", 1), missing="split")
    np.testing.assert_array_equal(table.lengths, [1, 1])


@pytest.mark.parametrize("cell", [c for c in SPELLINGS if c not in ("", "-", "--")])
def test_a_first_row_without_values_is_no_row_of_units(cell, write):
    assert write(f"u;y\n{cell};{cell}\n1;2\n", missing="nan").units == {}


TOLD = ["sep=;\n", "SEP=;\n", '"sep=;"\n', "sep=; \r\n", "sep=;;\n"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("line", TOLD)
def test_a_line_for_spreadsheets_is_no_row(line, encoding, write):
    text = line + "Größe;y\n1,5;2\n3,25;4\n"
    for options in ({}, {"separator": ";"}, {"skip": 1}):
        table = write(text.encode(encoding), **options)
        assert table.inputs == ("Größe",)
        np.testing.assert_array_equal(table.X.ravel(), [1.5, 3.25])


OTHERS = {
    "scientific with commas": ("u;y\n1,5E-03;2,0e+1\n3,25E-03;4e0\n", [0.0015, 0.00325]),
    "negative zero": ("u;y\n-0,0;2\n3;4\n", [-0.0, 3.0]),
    "quoted names with units": ('"u, in V";"y (mm)"\n1,5;2\n3;4\n', [1.5, 3.0]),
    "separators at the end": ("u;y;;\n1,5;2;;\n3;4;;\n", [1.5, 3.0]),
    "times with decimal commas": ("t;u;y\n0,1;1;2\n0,2;3;4\n", [1.0, 3.0]),
    "a form feed": ("u;y\n1,5;2\n\f3;4\n", [1.5, 3.0]),
}


@pytest.mark.parametrize("text, expected", OTHERS.values(), ids=OTHERS.keys())
def test_other_exports_are_read(text, expected, write):
    values = write(text).X.ravel()
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(np.signbit(values), np.signbit(expected))


def test_numbers_of_the_times_are_written_like_the_others(write):
    np.testing.assert_array_equal(write("t;u;y\n0,1;1;2\n0,2;3;4\n").time, [0.1, 0.2])

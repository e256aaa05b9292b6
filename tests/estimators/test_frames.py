"""Data frames of pandas and polars: columns by name, and nothing lost on the way to numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.estimates import regressor
from helpers.marks import first_of
from sklearn.linear_model import Ridge

from gloree import (
    SpectralRNNClassifier,
    SpectralRNNRegressor,
    SystemIdentifier,
    datasets,
    metrics,
)
from gloree.diagnostics import GloreeWarning
from gloree.sequences import as_sequences
from gloree.sources import SourceError

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")

INPUTS, OUTPUTS = ["wind", "sun", "rain", "load"], ["price", "flow", "level"]
LENGTHS = [10] * 200


def polars_frame(values, columns):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(dict(zip(columns, np.asarray(values).T, strict=True)))


def pandas_frame(values, columns):
    return pd.DataFrame(values, columns=columns)


frames = pytest.mark.parametrize("frame", [pandas_frame, polars_frame], ids=["pandas", "polars"])


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 3, random_state=0)
    return X.reshape(-1, 4), Y.reshape(-1, 3)


@pytest.fixture(scope="module")
def fitted(data):
    return regressor(2).fit(*data, lengths=LENGTHS)


@pytest.fixture(scope="module")
def labels(data):
    return np.array(["low", "middle", "high"])[data[1].argmax(axis=1)]


def classifier():
    return SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0)


# ----------------------------------------------------------------------------------- regressors


@frames
def test_a_frame_is_its_values_and_the_names_of_its_columns(frame, data, fitted):
    X, Y = frame(data[0], INPUTS), frame(data[1], OUTPUTS)
    est = regressor(2).fit(X, Y, lengths=LENGTHS)
    assert est.model_ == fitted.model_
    assert est.feature_names_in_.tolist() == INPUTS
    assert est.feature_names_in_.dtype == object
    expected = fitted.predict(data[0], lengths=LENGTHS)
    np.testing.assert_array_equal(est.predict(X, lengths=LENGTHS), expected)
    assert est.score(X, Y, lengths=LENGTHS) == fitted.score(*data, lengths=LENGTHS)
    assert not hasattr(fitted, "feature_names_in_")


@pytest.mark.slow
@pytest.mark.parametrize("frame", first_of([pandas_frame, polars_frame]))
def test_frames_in_lists_and_batches_are_those_of_flat_data(frame, data, fitted):
    cut = [slice(10 * i, 10 * i + 10) for i in range(200)]
    X = [frame(data[0][rows], INPUTS) for rows in cut]
    Y = [frame(data[1][rows], OUTPUTS) for rows in cut]
    listed = regressor(2).fit(X, Y)
    assert listed.model_ == fitted.model_

    class Batches:
        def __iter__(self):
            yield X[:100], Y[:100]
            yield frame(data[0][1000:], INPUTS), frame(data[1][1000:], OUTPUTS), LENGTHS[:100]

    streamed = regressor(2).fit(Batches())
    for est in (listed, streamed):
        assert est.feature_names_in_.tolist() == INPUTS
    assert streamed.score(Batches()) == pytest.approx(fitted.score(*data, lengths=LENGTHS))


@frames
@pytest.mark.parametrize(
    "columns",
    first_of(
        [
            INPUTS[::-1],
            ["wind", "sun", "rain", "snow"],
            INPUTS[:3],
            [*INPUTS, "snow"],
            list("abcdefgh"),
        ],
        2,
    ),
    ids=["order", "another", "missing", "more", "many"],
)
def test_other_columns_are_refused_in_the_words_of_scikit_learn(frame, columns, data):
    X = frame(data[0], INPUTS)
    other = frame(np.zeros((10, len(columns))), columns)
    with pytest.raises(ValueError, match="The feature names should match") as theirs:
        Ridge().fit(pandas_frame(data[0], INPUTS), data[1]).predict(
            pandas_frame(np.zeros((10, len(columns))), columns)
        )
    est = regressor(2).fit(X, data[1], lengths=LENGTHS)
    for action in (lambda: est.predict(other), lambda: est.score(other, data[1][:10])):
        with pytest.raises(ValueError, match="The feature names should match") as ours:
            action()
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(ValueError, match="The feature names should match"):
        est.predict([X[:10], X[10:20]] if columns == INPUTS else [other, other])


@frames
def test_columns_of_the_outputs_in_another_order_are_refused(frame, data):
    X = frame(data[0], INPUTS)
    est = regressor(2).fit(X, frame(data[1], OUTPUTS), lengths=LENGTHS)
    turned = frame(data[1][:, ::-1], OUTPUTS[::-1])
    with pytest.raises(
        ValueError, match=r"`Y` has the columns \['level', 'flow', 'price'\], in fit"
    ):
        est.score(X, turned, lengths=LENGTHS)
    # plain arrays have no names to differ
    assert est.score(X, data[1], lengths=LENGTHS) > 0.9


@frames
def test_tables_with_different_columns_do_not_make_one_set_of_data(frame, data):
    X, other = frame(data[0], INPUTS), frame(data[0], INPUTS[::-1])
    Y = frame(data[1], OUTPUTS)
    with pytest.raises(
        ValueError, match=r"`X\[1\]` has the columns 'load', .* `X\[0\]` has the col"
    ):
        as_sequences([X, other])
    with pytest.raises(ValueError, match=r"`Y\[1\]` has columns without names, `Y\[0\]` has the"):
        as_sequences([X, X], [Y, data[1]])

    class Batches:
        def __iter__(self):
            yield X, Y
            yield other, Y

    with pytest.raises(SourceError, match=r"batch 1 has the input columns \('load', .* same order"):
        regressor(2).fit(Batches())


@pytest.mark.slow
def test_names_that_are_missing_on_one_side_come_with_the_warning_of_scikit_learn(data, fitted):
    X = pandas_frame(data[0], INPUTS)
    est = regressor(2).fit(X, data[1], lengths=LENGTHS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.predict(X)
        with pytest.raises(
            GloreeWarning, match=r"^X does not have valid feature names, but Spectral"
        ):
            est.predict(data[0])
        with pytest.raises(
            GloreeWarning, match=r"^X has feature names, but SpectralRNNRegressor was"
        ):
            fitted.predict(X)
    # a fit without names forgets those of the fit before
    assert not hasattr(est.fit(*data, lengths=LENGTHS), "feature_names_in_")


def test_names_are_strings_or_none(data):
    X = pandas_frame(data[0], range(4))
    assert not hasattr(regressor(2).fit(X, data[1], lengths=LENGTHS), "feature_names_in_")
    mixed = pandas_frame(data[0], [0, "sun", "rain", "load"])
    with pytest.raises(TypeError, match="only supported if all input features have string names"):
        regressor(2).fit(mixed, data[1], lengths=LENGTHS)


# ------------------------------------------------------------------------- what columns may hold


def nullable(values, columns):
    return pandas_frame(values, columns).astype("Float64")


@frames
def test_columns_of_whole_numbers_and_truth_values_are_numbers(frame):
    values = np.array([[1, 0], [3, 1], [2, 1]])
    table = frame(values, ["n", "on"])
    if frame is pandas_frame:
        table = table.astype({"on": bool})
        variants = [
            table,
            table.astype({"n": "Int64"}),
            table.astype({"n": "Int8", "on": "boolean"}),
        ]
    else:
        polars = pytest.importorskip("polars")
        variants = [
            table.with_columns(polars.col("on").cast(polars.Boolean)),
            table.with_columns(polars.col("n").cast(polars.UInt8)),
            table.with_columns(polars.col("n").cast(polars.Decimal(10, 2))),
        ]
    for variant in variants:
        held = as_sequences(variant)
        np.testing.assert_array_equal(held.X.astype(np.float64), values)
        assert held.X.dtype.kind in "biuf" and held.input_names == ("n", "on")


def test_nullable_columns_are_fitted_like_any_other(data, fitted):
    X, Y = nullable(data[0], INPUTS), nullable(data[1], OUTPUTS)
    assert regressor(2).fit(X, Y, lengths=LENGTHS).model_ == fitted.model_
    single = regressor(2).fit(X, Y[["price", "flow"]], lengths=LENGTHS)
    assert single.model_.n_outputs == 2


@pytest.mark.parametrize("name", ["X", "Y"])
@pytest.mark.parametrize("frame", [nullable, polars_frame], ids=["pandas", "polars"])
def test_missing_cells_are_named_by_column_and_row(frame, name, data):
    tables = {"X": frame(data[0], INPUTS), "Y": frame(data[1], OUTPUTS)}
    column = tables[name].columns[1]
    if frame is nullable:
        tables[name].iloc[[42, 77], 1] = pd.NA
    else:
        polars = pytest.importorskip("polars")
        place = polars.int_range(polars.len())
        hidden = polars.when(~place.is_in([42, 77])).then(polars.col(column))
        tables[name] = tables[name].with_columns(hidden.alias(column))
    message = rf"`{name}` has missing values in column\(s\) '{column}' \(2\), .* at row 42"
    with pytest.raises(ValueError, match=message):
        regressor(2).fit(*tables.values(), lengths=LENGTHS)
    with pytest.raises(ValueError, match=message):
        regressor(2).fit(tables["X"], tables["Y"])


@frames
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_by_column(frame, value, data):
    X = data[0].copy()
    X[25, 2] = value
    message = f"`X` holds {value} at sequence 2, step 5, column 'rain'"
    with pytest.raises(ValueError, match=message):
        regressor(2).fit(frame(X, INPUTS), data[1], lengths=LENGTHS)


def columns_without_numbers():
    stamps = pd.date_range("2026-01-01", periods=3, freq="h")
    yield "datetime64", stamps, "leave time stamps out"
    yield "datetime64.*UTC", stamps.tz_localize("UTC"), "leave time stamps out"
    yield "timedelta64", stamps - stamps[0], "leave time stamps out"
    yield "str|object", ["a", "b", "c"], "pandas.to_numeric"
    yield "object", np.array([1.5, 2.5, 3.5], dtype=object), "pandas.to_numeric"
    yield "category", pd.Categorical(["a", "b", "a"]), "pandas.get_dummies"
    yield "complex128", np.ones(3) * 1j, "real and imaginary columns"


@pytest.mark.parametrize("case", list(columns_without_numbers()), ids=lambda case: case[0])
def test_columns_without_numbers_are_named(case):
    kind, values, advice = case
    table = pd.DataFrame({"load": np.zeros(3), "when": values, "rain": np.ones(3)})
    message = rf"`X` has columns that do not hold real numbers: 'when' \(({kind}).*\).*{advice}"
    with pytest.raises(TypeError, match=message):
        as_sequences(table)
    with pytest.raises(TypeError, match=rf"`Y` has dtype ({kind}).*{advice}"):
        as_sequences(np.zeros((3, 1)), table["when"])
    with pytest.raises(TypeError, match=message.replace("`X`", "`u`")):
        SystemIdentifier().fit(table, np.zeros(3))


def test_columns_of_polars_without_numbers_are_named():
    polars = pytest.importorskip("polars")
    stamps = polars.datetime_range(
        polars.datetime(2026, 1, 1), polars.datetime(2026, 1, 1, 2), "1h", eager=True
    )
    table = polars.DataFrame({"load": [0.0, 1.0, 2.0], "when": stamps, "tag": ["a", "b", "c"]})
    with pytest.raises(TypeError, match=r"'when' \(Datetime.*\), 'tag' \(String\): leave time"):
        as_sequences(table)
    with pytest.raises(TypeError, match=r"`X` is a LazyFrame.*give X\.collect\(\)"):
        as_sequences(table.lazy())


# ----------------------------------------------------------------------------- vectors and records


@pytest.mark.slow
@pytest.mark.parametrize("kind", first_of(["Float64", "float64", "polars"]))
def test_a_series_is_one_output_or_one_channel(kind):
    rng = np.random.default_rng(0)
    u = rng.standard_normal(400)
    y = np.convolve(u, [0.0, 0.5, 0.2])[:400]
    if kind == "polars":
        column = pytest.importorskip("polars").Series
    else:

        def column(values):
            return pd.Series(values, index=np.arange(len(values))[::-1], dtype=kind)

    plain = SystemIdentifier(1, 0, max_seconds=60).fit(u, y)
    est = SystemIdentifier(1, 0, max_seconds=60).fit(column(u), column(y))
    assert est.model_ == plain.model_
    np.testing.assert_array_equal(est.predict(column(u)), plain.predict(u))
    listed = SystemIdentifier(1, 0, max_seconds=60).fit([column(u)] * 2, [column(y)] * 2)
    assert [part.shape for part in listed.predict([column(u), column(u)[:50]])] == [(400,), (50,)]
    assert metrics.r2_score(column(y), column(y)) == 1.0
    assert as_sequences(u[:, None], column(y)).flat_outputs


def test_records_in_frames_have_names():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((400, 2))
    y = np.convolve(u[:, 0] - u[:, 1], [0.0, 0.5, 0.2])[:400]
    table = pandas_frame(u, ["valve", "pump"])
    est = SystemIdentifier(1, 0, max_seconds=60).fit(table, y)
    assert est.feature_names_in_.tolist() == ["valve", "pump"]
    assert est.predict(table).shape == (400,)
    for action in (est.predict, est.simulate, lambda u: est.score(u, y)):
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            action(table[["pump", "valve"]])


# ------------------------------------------------------------------------------------------ labels


def containers(labels):
    yield "array", labels
    yield "column of an array", labels[:, None]
    yield "list", labels.tolist()
    yield "Series", pd.Series(labels, index=np.arange(labels.size)[::-1])
    yield "frame", pd.DataFrame({"tag": labels}, index=np.arange(labels.size)[::-1])
    yield "category", pd.Series(labels, dtype="category")
    yield "nullable", pd.DataFrame({"tag": labels}).astype("string")
    yield "Index", pd.Index(labels)
    try:
        import polars
    except ImportError:
        return
    yield "polars Series", polars.Series(labels)
    yield "polars frame", polars.DataFrame({"tag": labels})


@pytest.mark.slow
def test_one_column_of_labels_may_come_in_any_container(data, labels):
    plain = classifier().fit(data[0], labels, lengths=LENGTHS)
    expected = plain.score(data[0], labels, lengths=LENGTHS)
    for name, given in containers(labels):
        est = classifier().fit(data[0], given, lengths=LENGTHS)
        assert est.model_ == plain.model_, name
        np.testing.assert_array_equal(est.classes_, plain.classes_)
        assert est.score(data[0], given, lengths=LENGTHS) == expected, name


@pytest.mark.slow
def test_containers_of_labels_may_stand_in_a_list(data, labels):
    X = list(data[0].reshape(200, 10, 4))
    plain = classifier().fit(X, list(labels.reshape(200, 10)))
    stacked = labels.reshape(200, 10, 1)
    table = pd.DataFrame(labels.reshape(200, 10), columns=list("abcdefghij"))
    for X_given, given in (
        (X, [pd.Series(each[:, 0]) for each in stacked]),
        (X, [pd.DataFrame({"tag": each[:, 0]}) for each in stacked]),
        (X, pd.Series(labels.reshape(200, 10).tolist(), index=np.arange(200)[::-1])),
        (np.array(X), stacked),
        (np.array(X), table),
    ):
        assert classifier().fit(X_given, given).model_ == plain.model_


def test_indicators_are_refused_with_what_to_give(data, labels):
    indicators = pd.get_dummies(labels)
    with pytest.raises(ValueError, match=r"a DataFrame of 3 columns \('high', .*idxmax\(axis=1\)"):
        classifier().fit(data[0], indicators, lengths=LENGTHS)
    with pytest.raises(ValueError, match=r"shape \(2000, 3\), .*give labels\.argmax\(axis=1\)"):
        classifier().fit(data[0], indicators.to_numpy(), lengths=LENGTHS)
    with pytest.raises(ValueError, match=r"`labels\[0\]` is a DataFrame of 3 columns"):
        classifier().fit([data[0][:10]] * 2, [indicators[:10]] * 2)
    est = classifier().fit(data[0], labels, lengths=LENGTHS)
    with pytest.raises(ValueError, match="expected one column of labels"):
        est.score(data[0], indicators, lengths=LENGTHS)


@pytest.mark.parametrize(
    "missing",
    [None, np.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT")],
    ids=["None", "NaN", "float32", "NA", "NaT", "NumPy's NaT"],
)
def test_labels_that_are_missing_are_refused_with_their_place(missing, data, labels):
    given = labels.tolist()
    given[13] = missing
    with pytest.raises(ValueError, match=r"`labels` holds .* at sequence 1, step 3"):
        classifier().fit(data[0], given, lengths=LENGTHS)
    est = classifier().fit(data[0], labels, lengths=LENGTHS)
    with pytest.raises(ValueError, match=r"`labels` holds .* at sequence 1, step 3"):
        est.score(data[0], given, lengths=LENGTHS)


@pytest.mark.parametrize("kind", ["string", "category", "Int64", "polars"])
def test_cells_without_a_label_are_refused(kind, data, labels):
    if kind == "polars":
        given = labels.tolist()
        given[13] = None
        column = pytest.importorskip("polars").Series(given)
    else:
        names, codes = np.unique(labels, return_inverse=True)
        column = pd.Series(codes if kind == "Int64" else names[codes]).astype(kind)
        column.iloc[13] = pd.NA
    with pytest.raises(ValueError, match=r"`labels` holds .* at sequence 1, step 3"):
        classifier().fit(data[0], column, lengths=LENGTHS)


def test_inputs_of_a_classifier_have_names_too(data, labels):
    X = pandas_frame(data[0], INPUTS)
    est = classifier().fit(X, labels, lengths=LENGTHS)
    assert est.feature_names_in_.tolist() == INPUTS
    for method in (est.predict, est.predict_proba, est.decision_function):
        method(X)
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            method(X[INPUTS[::-1]])


def test_two_columns_of_one_name_are_refused(data):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.zeros((20, 3)), columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="`X` has several columns of the name 'a'"):
        SpectralRNNRegressor(1).fit(frame, np.zeros(20))

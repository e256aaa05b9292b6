"""Labels keep the type that they come in: dates and durations in any unit, small numbers, bytes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, datasets
from gloree.diagnostics import LabelWarning

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(60, 10, 4, 2, 3, random_state=0)
    labels = np.array(["low", "middle", "high"])[Y.argmax(axis=2)]
    return X.reshape(-1, 4), labels.ravel(), [10] * 60


def classifier():
    return SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0)


DAYS = np.array(["2024-01-31", "2024-02-01", "2024-03-01"], dtype="datetime64[D]")
UNITS = ("D", "h", "s", "ms", "us", "ns")


def _dated(labels, kind):
    number = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return DAYS.astype(kind)[number] if kind.startswith("datetime") else (DAYS - DAYS[0])[number]


def _dates(kind, dates):
    """Dates of all steps in a container, and what they are as an array."""
    if kind == "array":
        return dates
    if kind == "series":
        return pd.Series(dates)
    if kind == "frame":
        return pd.DataFrame({"day": dates})
    if kind == "category":
        return pd.Series(pd.Categorical(dates))
    return pytest.importorskip("polars").Series(dates)


@pytest.mark.parametrize("unit", first_of(UNITS, 2))
@pytest.mark.parametrize("of", ["datetime64", "timedelta64"])
def test_dates_and_durations_keep_their_type_as_labels(of, unit, data):
    X, labels, lengths = data
    dates = _dated(labels, "datetime64[D]")
    if of == "timedelta64":
        dates = dates - DAYS[0]
    dates = dates.astype(f"{of}[{unit}]")
    fitted = classifier().fit(X, dates, lengths=lengths)
    np.testing.assert_array_equal(fitted.classes_, np.unique(dates))
    assert fitted.classes_.dtype == dates.dtype
    predicted = fitted.predict(X, lengths=lengths)
    assert predicted.dtype == dates.dtype
    plain = classifier().fit(X, labels, lengths=lengths)
    names = np.unique(labels)
    np.testing.assert_array_equal(
        names[np.searchsorted(np.unique(dates), predicted)], plain.predict(X, lengths=lengths)
    )
    # a moment is the same in every unit
    assert fitted.score(X, dates, lengths=lengths) == plain.score(X, labels, lengths=lengths)
    finer = dates.astype(f"{of}[ns]")
    assert fitted.score(X, finer, lengths=lengths) == plain.score(X, labels, lengths=lengths)


@pytest.mark.parametrize("kind", first_of(["series", "frame", "category", "polars"]))
def test_dates_in_columns_keep_their_type_as_labels(kind, data):
    X, labels, lengths = data
    dates = _dated(labels, "datetime64[ns]")
    given = _dates(kind, dates)
    fitted = classifier().fit(X, given, lengths=lengths)
    assert fitted.classes_.dtype == np.dtype("datetime64[ns]")
    np.testing.assert_array_equal(fitted.classes_, np.unique(dates))
    assert fitted.predict(X, lengths=lengths).dtype == np.dtype("datetime64[ns]")
    for other in (given, dates, dates.astype("datetime64[s]"), [pd.Timestamp(d) for d in dates]):
        assert fitted.score(X, other, lengths=lengths) == fitted.score(X, given, lengths=lengths)


@pytest.mark.slow
def test_dates_of_python_and_with_time_zones_stay_what_they_are(data):
    X, labels, lengths = data
    dates = _dated(labels, "datetime64[ns]")
    stamps = [pd.Timestamp(each) for each in dates]
    zoned = pd.Series(dates).dt.tz_localize("Europe/Berlin")
    for given in (stamps, zoned, dates.astype("datetime64[D]").tolist()):
        fitted = classifier().fit(X, given, lengths=lengths)
        assert {type(each) for each in fitted.classes_} == {type(each) for each in given}
        assert set(fitted.predict(X, lengths=lengths)) <= set(given)
    # with a time zone it is another moment than without
    with pytest.warns(LabelWarning, match="not seen in `fit`"):
        assert classifier().fit(X, zoned, lengths=lengths).score(X, dates, lengths=lengths) == 0.0


def test_sequences_of_dates_in_several_units_are_in_the_finest(data):
    X, labels, lengths = data
    cuts = np.cumsum(lengths)[:-1]
    days = np.split(_dated(labels, "datetime64[D]"), cuts)
    mixed = [each.astype("datetime64[s]") if i % 2 else each for i, each in enumerate(days)]
    fitted = classifier().fit(np.split(X, cuts), mixed)
    assert fitted.classes_.dtype == np.dtype("datetime64[s]")
    np.testing.assert_array_equal(fitted.classes_, DAYS[: len(fitted.classes_)])


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "float32", "S1"])
def test_numbers_and_bytes_keep_their_type_as_labels(kind, data):
    X, labels, lengths = data
    number = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(kind)
    fitted = classifier().fit(X, number, lengths=lengths)
    assert fitted.classes_.dtype == fitted.predict(X, lengths=lengths).dtype == np.dtype(kind)
    np.testing.assert_array_equal(fitted.classes_, np.unique(number))
    assert fitted.score(X, number, lengths=lengths) > 0.4


def test_labels_that_are_missing_dates_are_refused(data):
    X, labels, lengths = data
    dates = _dated(labels, "datetime64[ns]")
    dates[3] = "NaT"
    with pytest.raises(ValueError, match=r"`labels` holds .*NaT.* at sequence 0, step 3"):
        classifier().fit(X, dates, lengths=lengths)
    with pytest.raises(ValueError, match=r"2024-01-31.*there is nothing to tell apart"):
        classifier().fit(X, np.full(len(X), DAYS[0].astype("datetime64[ns]")), lengths=lengths)

"""What lies under the mask of a masked array is never computed with: masked entries are refused."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.estimates import regressor

from gloree import SpectralRNNClassifier, SystemIdentifier, datasets, metrics, sources
from gloree.chains import GaussianVAR
from gloree.decomposition import choose_rank, cp_tensor, decompose
from gloree.models import IORNN

# what these small fits have to say about themselves is not the matter here
pytestmark = pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")

PLACEHOLDER = -9999.0


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(60, 10, 4, 2, 3, random_state=0)
    return X, Y


def masked(values, place):
    mask = np.zeros(np.shape(values), dtype=bool)
    mask[place] = True
    changed = np.array(values)
    changed[place] = PLACEHOLDER if changed.dtype.kind == "f" else changed.flat[0]
    return np.ma.masked_array(changed, mask)


class Batches:
    def __init__(self, *parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


def forms(X, Y, name):
    """The same data in every form that takes arrays, masked in X or in Y; and what is named."""
    where = (slice(5, 9), 3, 1)
    A, B = (masked(X, where), Y) if name == "X" else (X, masked(Y, where))
    yield "array", (A, B), {}, f"`{name}` is masked in 4 place"
    yield "list", (list(A), list(B)), {}, rf"`{name}\[5\]` is masked in 1 place"
    flat = (A.reshape(-1, A.shape[-1]), B.reshape(-1, B.shape[-1]))
    yield "flat", flat, {"lengths": [10] * 60}, rf"`{name}` is masked.*first at \(53, 1\)"
    yield "record", flat, {}, f"`{name}` is masked"
    yield "source", (Batches((X, Y), (A, B)),), {}, f"batch 1: `{name}` is masked"
    pairs = list(zip(A, B, strict=True))
    yield "pairs", (Batches(pairs),), {}, rf"batch 0: `{name}\[5\]` is masked"
    yield "rows", ([list(a) for a in A], [list(b) for b in B]), {}, rf"`{name}\[5\]\[3\]` is masked"


@pytest.mark.parametrize("name", ["X", "Y"])
def test_masked_entries_are_refused_by_name_in_every_form(name, data):
    for _, given, options, message in forms(*data, name):
        with pytest.raises(ValueError, match=message):
            regressor(2).fit(*given, **options)


@pytest.mark.parametrize("name", ["X", "Y"])
def test_masked_entries_are_refused_in_score_and_predict(name, data):
    est = regressor(2).fit(*data)
    for _, given, options, message in forms(*data, name):
        with pytest.raises(ValueError, match=message):
            est.score(*given, **options)
        if name == "X":
            with pytest.raises(ValueError, match=message):
                est.predict(given[0], **options)


def test_a_mask_that_masks_nothing_changes_nothing(data):
    X, Y = data
    plain = regressor(2).fit(X, Y)
    for mask in (np.ma.nomask, np.zeros(X.shape, dtype=bool)):
        est = regressor(2).fit(np.ma.masked_array(X, mask), np.ma.masked_array(Y))
        assert est.model_ == plain.model_
        np.testing.assert_array_equal(est.predict(np.ma.masked_array(X, mask)), plain.predict(X))


def test_masked_labels_are_refused_by_name(data):
    X, Y = data
    labels = np.array(list("abc"))[Y.argmax(axis=2)]
    clf = SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0)
    hidden = masked(labels, (7, 2))
    for given, message in (
        (hidden, r"`labels` is masked in 1 place\(s\), the first at \(7, 2\)"),
        (list(hidden), r"`labels\[7\]` is masked"),
        ([[*row[:2], np.ma.masked, *row[3:]] for row in labels.tolist()], r"`labels\[0\]\[2\]` is"),
    ):
        with pytest.raises(ValueError, match=message):
            clf.fit(X, given)
    clf.fit(X, np.ma.masked_array(labels))
    with pytest.raises(ValueError, match="`labels` is masked"):
        clf.score(X, hidden)


def test_masked_inputs_of_records_are_refused_by_name():
    rng = np.random.default_rng(0)
    name, records = "u", {"u": rng.standard_normal(300), "y": rng.standard_normal(300)}
    records[name] = masked(records[name], slice(20, 30))
    est = SystemIdentifier(1, 0, max_seconds=1)
    for shape in ((300,), (300, 1)):
        given = {key: value.reshape(shape) for key, value in records.items()}
        with pytest.raises(ValueError, match=f"`{name}` is masked in 10 place"):
            est.fit(**given)
        with pytest.raises(ValueError, match=rf"`{name}\[1\]` is masked"):
            est.fit(*([np.zeros(shape), value] for value in given.values()))


def test_lengths_and_parameters_that_are_masked_are_refused(data):
    X, Y = data
    flat, lengths = X.reshape(-1, 4), np.ma.masked_array([300, 300], [False, True])
    with pytest.raises(ValueError, match="`lengths` is masked"):
        regressor(2).fit(flat, Y.reshape(-1, 3), lengths=lengths)
    with pytest.raises(ValueError, match="`input_weights` is masked"):
        IORNN(masked(np.eye(2), 0), None, np.eye(2), activation="quadratic")
    with pytest.raises(ValueError, match="`coefficients` is masked"):
        GaussianVAR(masked(0.3 * np.eye(2), 0), np.eye(2))


def test_masked_tensors_are_refused(data):
    tensor = cp_tensor(np.ones((2, 3)), np.eye(4)[:2], order=2)
    with pytest.raises(
        ValueError, match=r"`T` is masked in 1 place\(s\), the first at \(0, 3, 3\)"
    ):
        decompose(masked(tensor, (0, 3, 3)), 2, random_state=0)
    with pytest.raises(ValueError, match="is masked"):
        choose_rank(masked(tensor, (0, 3, 3)), tensor, random_state=0)
    with pytest.raises(ValueError, match="`components` is masked"):
        cp_tensor(np.ones((2, 3)), masked(np.eye(4)[:2], 0), order=2)


def test_masked_values_have_no_error(data):
    _, Y = data
    with pytest.raises(ValueError, match="`Y` is masked"):
        metrics.r2_score(masked(Y, (0, 0, 0)), Y)
    with pytest.raises(ValueError, match="`predictions` is masked"):
        metrics.root_mean_square_error(Y[0, :, 0], masked(Y[0, :, 0], 3))


def test_partitions_name_what_is_masked(data):
    dask = pytest.importorskip("dask")
    X, Y = data
    parts = [dask.delayed((X, Y)), dask.delayed((X, masked(Y, (0, 0, 0))))]
    with pytest.raises(sources.SourceError, match="partition 1: `Y` is masked"):
        regressor(2).fit(sources.partitions(parts))

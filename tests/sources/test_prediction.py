"""Predictions and scores for data kept anywhere equal those for arrays in memory."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import estimates
from helpers.marks import first_of
from helpers.parts import Again, PerPass, cut_in_parts, write_flat_npz, write_npy, write_npz

import gloree.models._recursion as recursion_module
from gloree import (
    BRNN,
    IORNN,
    SpectralRNNClassifier,
    SpectralRNNRegressor,
    SystemIdentifier,
    datasets,
    metrics,
    sources,
)
from gloree.diagnostics import LabelWarning
from gloree.engine import Checkpoint, Engine
from gloree.metrics import SquaredErrors
from gloree.models import ExplosionError, ExplosionWarning
from gloree.sequences import as_sequences

# Products of the same numbers for another number of rows, and sums in another order: rounding.
ROUNDING = 1e-12

N_PARTS = 5
parts = partial(cut_in_parts, n_parts=N_PARTS)


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(600, 8, 4, 2, 3, random_state=0)
    return X, Y


@pytest.fixture(scope="module")
def regressor(data):
    return estimates.regressor(2).fit(*data)


@pytest.fixture(scope="module")
def labels(data):
    return 3 * data[1].argmax(axis=2) - 2


@pytest.fixture(scope="module")
def classifier(data, labels):
    return SpectralRNNClassifier(2, random_state=0, engine="serial").fit(data[0], labels)


def shards_of(X, Y, folder):
    return write_npz(folder, parts(X, Y))


def mapped_shards_of(X, Y, folder):
    return str(write_npy(folder, parts(X, Y)))


def flat_shards_of(X, Y, folder):
    return sources.shards(write_flat_npz(folder, parts(X, np.reshape(Y, (*X.shape[:2], -1)))))


def inputs_alone_in_shards(X, Y, folder):
    for i, (x, _) in enumerate(parts(X, Y)):
        np.savez(folder / f"{i}.npz", X=x)
    return folder


def delayed(X, Y, folder):
    dask = pytest.importorskip("dask")
    return [dask.delayed(lambda pair: pair)(pair) for pair in parts(X, Y)]


def bag(X, Y, folder):
    dask_bag = pytest.importorskip("dask.bag")
    return dask_bag.from_sequence(list(zip(X, Y, strict=True)), npartitions=N_PARTS)


IN_PARTS = {
    "shards": shards_of,
    "mapped shards": mapped_shards_of,
    "flat shards": flat_shards_of,
    "iterable": lambda X, Y, folder: Again(parts(X, Y)),
    "batches": lambda X, Y, folder: sources.batches(parts(X, Y)),
    "lists of pairs": lambda X, Y, folder: Again(
        [list(zip(x, y, strict=True)) for x, y in parts(X, Y)]
    ),
    "delayed": delayed,
    "bag": bag,
}
INPUTS_ALONE = {
    "arrays": lambda X, Y, folder: Again([x for x, _ in parts(X, Y)]),
    "pairs with None": lambda X, Y, folder: Again([(x, None) for x, _ in parts(X, Y)]),
    "shards": inputs_alone_in_shards,
}
WHOLE = {
    "memory map": lambda X, Y, folder: (folder / "X.npy",),
    "sequences": lambda X, Y, folder: (as_sequences(X, Y),),
}


@pytest.mark.parametrize("make", first_of([*IN_PARTS.values(), *INPUTS_ALONE.values()], 8))
@pytest.mark.parametrize("engine", ["serial", Engine("threads", n_workers=3)], ids=str)
def test_predictions_for_parts_are_those_for_arrays(make, engine, data, regressor, tmp_path):
    expected = regressor.predict(data[0])
    est = SpectralRNNRegressor(2, engine=engine)
    vars(est).update({name: each for name, each in vars(regressor).items() if name[-1] == "_"})
    est._flat_outputs = False
    found = est.predict(make(*data, tmp_path))
    assert isinstance(found, list) and len(found) == 600
    np.testing.assert_array_equal(np.array(found), expected)


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_predictions_for_one_part_have_its_form(make, data, regressor, tmp_path):
    np.save(tmp_path / "X.npy", data[0])
    expected = regressor.predict(data[0])
    np.testing.assert_array_equal(regressor.predict(*make(*data, tmp_path)), expected)


@pytest.mark.parametrize("make", IN_PARTS.values(), ids=IN_PARTS)
def test_scores_for_parts_are_those_for_arrays(make, data, regressor, tmp_path):
    found = regressor.score(make(*data, tmp_path), skip=2)
    assert found == pytest.approx(regressor.score(*data, skip=2), rel=ROUNDING)


def test_scores_for_one_part_are_those_for_arrays(data, regressor, tmp_path):
    for name, values in zip("XY", data, strict=True):
        np.save(tmp_path / f"{name}.npy", values)
    expected = regressor.score(*data)
    assert regressor.score(tmp_path / "X.npy", tmp_path / "Y.npy") == expected
    assert regressor.score(sources.memory_map(tmp_path / "X.npy", tmp_path / "Y.npy")) == expected
    assert regressor.score(as_sequences(*data)) == expected
    rows, lengths = (values.reshape(4800, -1) for values in data), [8] * 600
    assert regressor.score(*rows, lengths=lengths) == expected


def test_tensors_are_taken_in_every_form(data, regressor):
    torch = pytest.importorskip("torch")
    X, Y = map(torch.as_tensor, data)
    expected = regressor.predict(data[0])
    np.testing.assert_array_equal(regressor.predict(X), expected)
    kept = as_sequences(X, Y, keep_tensors=True)
    np.testing.assert_array_equal(regressor.predict(kept), expected)
    assert regressor.score(kept) == regressor.score(X, Y) == regressor.score(*data)
    pieces = [(X[i::2], Y[i::2]) for i in range(2)]
    found = np.array(regressor.predict(Again(pieces)))
    np.testing.assert_array_equal(found, np.concatenate([expected[0::2], expected[1::2]]))


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.RotationWarning")
def test_one_output_without_its_axis(data):
    X, y = data[0], data[1][..., 0]
    est = SpectralRNNRegressor(1, recurrence=None, engine="serial").fit(X, y)
    found = est.predict(Again(parts(X, y)))
    np.testing.assert_array_equal(np.array(found), est.predict(X))
    assert found[0].shape == (8,)


@pytest.mark.parametrize("make", first_of(IN_PARTS.values(), 3), ids=IN_PARTS)
def test_labels_of_parts_are_those_of_arrays(make, data, labels, classifier, tmp_path):
    X = data[0]
    source = make(X, labels[..., None], tmp_path)
    for method in ("predict", "decision_function", "predict_proba"):
        found = np.array(getattr(classifier, method)(source))
        np.testing.assert_array_equal(found, getattr(classifier, method)(X))
    assert classifier.score(source) == classifier.score(X, labels)


@pytest.mark.parametrize("readout, refine", [("logistic", None), ("least-squares", None)])
def test_probabilities_of_parts_sum_to_one(readout, refine, data, labels):
    est = SpectralRNNClassifier(2, random_state=0, readout=readout, refine=refine, engine="serial")
    est.fit(Again(parts(data[0], labels[..., None])))
    found = np.array(est.predict_proba(Again(parts(data[0], labels[..., None]))))
    np.testing.assert_allclose(found.sum(axis=2), 1.0, atol=ROUNDING)
    np.testing.assert_array_equal(found, est.predict_proba(data[0]))


def test_labels_that_were_not_seen_count_as_errors_in_sources_too(data, labels, classifier):
    changed = labels.copy()
    changed[:7, 0] = [100, 200, 300, 400, 500, 600, 600]
    with pytest.warns(LabelWarning) as caught:
        found = classifier.score(Again(parts(data[0], changed[..., None])))
    text = str(caught[0].message)
    assert "7 steps have labels that were not seen in `fit` (100, 200, 300, 400, 500, ..)" in text
    assert caught[0].filename == __file__
    with pytest.warns(LabelWarning):
        assert found == classifier.score(data[0], changed)


def test_bad_labels_in_sources_are_refused(data, labels, classifier):
    X = data[0]
    with pytest.raises(ValueError, match="one whole number a step"):
        classifier.score(Again(parts(X, labels[..., None] + 0.5)))
    with pytest.raises(ValueError, match="`labels` are missing"):
        classifier.score(Again([x for x, _ in parts(X, labels)]))
    with pytest.raises(ValueError, match="`labels` are missing"):
        classifier.score(X)
    with pytest.raises(ValueError, match="`labels` were given beside data that hold labels"):
        classifier.score(Again(parts(X, labels[..., None])), labels)


@pytest.fixture(scope="module")
def system():
    rng = np.random.default_rng(0)
    u, y = rng.standard_normal(4000), np.zeros(4000)
    for t in range(1, 4000):
        y[t] = 0.7 * y[t - 1] + np.tanh(u[t - 1])
    return SystemIdentifier(1, 1, max_seconds=2, engine="serial").fit(u, y), u, y


@pytest.mark.slow
def test_records_in_sources_are_simulated_as_arrays(system):
    est, u, y = system
    records = [(part[0][:, None], part[1][:, None]) for part in parts(u, y)]
    listed = [record[0] for record in records]
    for expected, found in zip(est.predict(listed), est.predict(Again(records)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)
    found = est.score(Again(records), skip=20)
    listed_y = [record[1] for record in records]
    assert found == pytest.approx(est.score(listed, listed_y, skip=20), rel=ROUNDING)
    with pytest.raises(ValueError, match="`u` has 2 columns"):
        est.predict(Again([np.ones((5, 2))]))
    with pytest.raises(ValueError, match="`y` is missing"):
        SystemIdentifier().fit(Again([np.ones((50, 1))]))


# ------------------------------------------------------------------------------------ networks


def network(kind, *, lags=1, direct=True):
    rng = np.random.default_rng(1)
    draw = rng.standard_normal
    columns = 3 * lags
    if kind == "forward":
        weights = (draw((4, columns)), 0.03 * draw((4, 4)), draw((4, 2)))
        return IORNN(
            *weights,
            draw(4),
            draw(2),
            draw((columns, 2)) if direct else None,
            activation="tanh",
            lags=lags,
        )
    return BRNN(
        draw((2, columns)),
        0.03 * draw((2, 2)),
        draw((2, columns)),
        0.03 * draw((2, 2)),
        draw((4, 2)),
        draw(4),
        draw(2),
        draw((3 * (2 * lags - 1), 2)) if direct else None,
        activation="tanh",
        lags=lags,
    )


@pytest.mark.parametrize("kind", ["forward", "both ways"])
@pytest.mark.parametrize("lags", [1, 3])
def test_long_and_short_sequences_of_every_network(kind, lags, monkeypatch):
    """Sequences are not cut for a prediction, whatever the sizes of batches and blocks."""
    monkeypatch.setattr(recursion_module, "_MIN_BATCH_ROWS", 700)
    monkeypatch.setattr(recursion_module, "_ROWS_PER_STEP", 1)
    model, rng = network(kind, lags=lags), np.random.default_rng(0)
    X = [rng.standard_normal((n, 3)) for n in (5, 3000, 1, 40, 2500, 600, 2)]
    expected = [model.predict(x) for x in X]
    for found in (model.predict(Again(X)), model.predict(Again(X), engine="serial")):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=ROUNDING)


def exploding():
    """The third sequence of the second part explodes at step 6, the last of the fourth at 6."""
    X = np.zeros((20, 9, 1))
    X[7] = X[19] = 1.0
    return IORNN([[1.0]], [[1.0]], [[1.0]]), X


@pytest.mark.parametrize("engine", ["serial", Engine("threads", n_workers=3)], ids=str)
def test_an_explosion_names_the_sequence_in_the_whole_of_the_data(engine):
    model, X = exploding()
    source = Again([(X[i : i + 5], X[i : i + 5]) for i in range(0, 20, 5)])
    with pytest.raises(ExplosionError, match=r"sequence 7 .* at step 6") as caught:
        model.predict(source, engine=engine)
    assert caught.value.sequence == 7
    with pytest.raises(ExplosionError, match=r"sequence 7 .* at step 6"):
        metrics.score_model(model, sources.as_data(source), engine=engine)
    with pytest.warns(ExplosionWarning, match=r"2 of 20 .* sequence 7 at step 6") as warned:
        found = model.predict(source, engine=engine, on_explosion="nan")
    assert warned[0].filename == __file__
    with pytest.warns(ExplosionWarning):
        expected = model.predict(X, on_explosion="nan")
    np.testing.assert_array_equal(np.array(found), expected)
    assert np.isnan(found[7][6:]).all() and np.isfinite(found[8]).all()


def test_bad_data_are_refused(data, regressor):
    X, Y = data
    with pytest.raises(ValueError, match=r"`X` has 3 columns, the model expects n_inputs = 4"):
        regressor.predict(Again([X[..., :3]]))
    with pytest.raises(ValueError, match=r"`Y` has 2 columns, the model has n_outputs = 3"):
        regressor.score(Again([(X, Y[..., :2])]))
    with pytest.raises(ValueError, match="`Y` is missing: score needs outputs"):
        regressor.score(Again([X]))
    with pytest.raises(ValueError, match="`Y` is missing: score needs outputs"):
        regressor.score(X)
    with pytest.raises(ValueError, match="`skip`=8 leaves no steps: the longest sequence has 8"):
        regressor.score(Again(parts(X, Y)), skip=8)
    with pytest.raises(ValueError, match="`lengths` was given beside a source"):
        regressor.predict(Again([X]), lengths=[3])
    with pytest.raises(TypeError, match=r"an iterator .*spent after one pass"):
        regressor.predict(iter([X]))
    with pytest.raises(ValueError, match="`Y` is missing: fit needs outputs"):
        SpectralRNNRegressor(2, engine="serial").fit(Again([X]))
    with pytest.raises(sources.SourceError, match="is not what it was in the first pass"):
        regressor.predict(Again(PerPass(lambda n: [X + n])))


def test_sequences_shorter_than_what_is_skipped_count_nothing(data, regressor):
    X, Y = data
    source = Again([(X[:300, :2], Y[:300, :2]), (X[300:], Y[300:])])
    expected = regressor.score([*X[:300, :2], *X[300:]], [*Y[:300, :2], *Y[300:]], skip=3)
    assert regressor.score(source, skip=3) == pytest.approx(expected, rel=ROUNDING)


def test_a_score_is_no_pass_of_a_checkpoint(data, regressor, tmp_path):
    log = Checkpoint(tmp_path / "fit", {}, {})
    model, source = regressor.model_, sources.as_data(Again(parts(*data)))
    engine = Engine("serial", checkpoint=log)
    metrics.score_model(model, source, engine=engine)
    model.predict(source, engine=engine)
    assert log.n_passes == 0


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_squared_errors_merge_as_if_they_were_one_sum(offset):
    rng = np.random.default_rng(0)
    values, errors = offset + rng.standard_normal((90, 3)), rng.standard_normal((90, 3))
    whole = SquaredErrors.of(values, errors)
    pieces = [SquaredErrors.of(values[a:b], errors[a:b]) for a, b in ((0, 1), (1, 1), (1, 60))]
    last = SquaredErrors.of(values[60:], errors[60:])
    for merged in (
        pieces[0].merge(pieces[1]).merge(pieces[2]).merge(last),
        pieces[1].merge(pieces[0]).merge(pieces[2].merge(last)),
    ):
        # rounding of the values themselves, relative to their spread
        tolerance = ROUNDING * max(1.0, offset)
        assert merged.r2() == pytest.approx(whole.r2(), rel=tolerance)
        assert merged.n_rows == 90 and np.array_equal(merged.largest, whole.largest)


# -------------------------------------------------------------------------------------- memory

N_ROWS = 4000
"""Steps of a part."""


def squares(n_parts):
    """Parts of random numbers, made when they are asked for."""
    for seed in range(n_parts):
        x = np.random.default_rng(seed).standard_normal((N_ROWS // 10, 10, 20))
        yield x, x[..., :1] ** 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["predict", "score"])
def test_memory_is_that_of_a_few_parts(method):
    model = IORNN(np.ones((1, 20)) / 20, [[0.05]], [[1.0]])
    est = SpectralRNNRegressor(1, engine=Engine("threads", n_workers=2))
    est.model_, est._flat_outputs = model, True
    getattr(est, method)(PerPass(lambda _: squares(2)))
    part = N_ROWS * (20 + 1) * 8
    tracemalloc.start()
    getattr(est, method)(PerPass(lambda _: squares(200)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # two workers and a part that is read, each with a copy, windows and states
    kept = 200 * (N_ROWS * 8 + 400 * 120) if method == "predict" else 200 * 5000
    assert peak < 16 * part + kept < 200 * part / 4


# ---------------------------------------------------------------------------------------- Dask


CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(**CLUSTER) as cluster, distributed.Client(cluster) as found:
        yield found


@pytest.mark.slow
def test_dask_predicts_and_scores_where_the_partitions_are(
    client, data, labels, regressor, classifier, tmp_path
):
    X, Y = data
    regressor, classifier = (pickle.loads(pickle.dumps(est)) for est in (regressor, classifier))
    regressor.engine = classifier.engine = client
    expected, score = regressor.model_.predict(X), regressor.score(X, Y)
    for source in (delayed(X, Y, tmp_path), shards_of(X, Y, tmp_path), Again(parts(X, Y))):
        np.testing.assert_array_equal(np.array(regressor.predict(source)), expected)
        assert regressor.score(source) == pytest.approx(score, rel=ROUNDING)
    source = delayed(X, labels[..., None], tmp_path)
    np.testing.assert_array_equal(np.array(classifier.predict(source)), classifier.predict(X))
    assert classifier.score(source) == classifier.score(X, labels)
    # without an engine the running client is taken for partitions
    found = regressor.model_.predict(delayed(X, Y, tmp_path))
    np.testing.assert_array_equal(np.array(found), expected)


def test_arrays_need_no_engine_that_still_runs(data, regressor):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(**CLUSTER) as cluster:
        closed = distributed.Client(cluster, set_as_default=False)
        closed.close()
    est = SpectralRNNRegressor(2, engine=closed)
    est.model_, est._flat_outputs = regressor.model_, False
    np.testing.assert_array_equal(est.predict(data[0]), regressor.predict(data[0]))
    with pytest.raises(ValueError, match="the Dask client is closed"):
        est.predict(Again([data[0]]))


def test_no_warning_from_reading_twice(data, regressor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor.predict(Again(parts(*data)))


def test_a_folder_that_is_not_there(regressor):
    with pytest.raises(sources.SourceError, match="nowhere is not a directory"):
        regressor.predict(Path("nowhere"))

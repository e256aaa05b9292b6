"""The classifier: labels of any kind, readouts, refinement, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.marks import first_of
from helpers.parts import PerPass
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from gloree import BRNN, IORNN, SpectralRNNClassifier, datasets, sources
from gloree.diagnostics import IdentifiabilityError, LabelWarning
from gloree.estimators._labels import distinct, flatten_labels, numbers_of
from gloree.fitting._labels import ClassWhitening, indicators, label_sums
from gloree.refinement import _readout
from gloree.sequences import as_sequences

# logits of the simulated labels are 3 times the outputs of a known network: the labels it gives
# most often are right at this share of the steps, and a model that knew the truth could not do
# better by more than the standard error of a share of 5,000, .007; three of them
SHARE_TOLERANCE = 0.021
# two programs for the same sums of a few thousand terms
ALGEBRA = 1e-10
# the ridge of slopes of labels, relative to the variance: it changes the residual by its size
RIDGE = 1e-4
# the readout ends at a gradient of 1e-4 a row, in single precision, and its ridge is smaller
RIDGE_OF_THE_READOUT = 1e-3
# linear systems of condition 1e3 or so, by normal equations
LINEAR_SYSTEM = 1e-8

# labels are noisy outputs: whether single units are certain is not the matter here
pytestmark = [
    pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning"),
    pytest.mark.filterwarnings("ignore::gloree.diagnostics.RotationWarning"),
]

NAMES = np.array(["low", "middle", "high", "top"])


def simulate(seed=0, n_sequences=800, n_steps=10, bidirectional=False, n_outputs=4):
    """Labels drawn from the softmax of a known network's outputs."""
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, n_steps, 5, 4, n_outputs, noise=0.0, bidirectional=bidirectional,
        recurrence_norm=0.15, random_state=seed,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    noise = rng.gumbel(size=Y.shape)
    labels = NAMES[(3.0 * Y + noise).argmax(axis=2)]
    best = NAMES[Y.argmax(axis=2)]
    return X, labels, float(np.mean(best == labels)), truth


@pytest.fixture(scope="module")
def labelled():
    return simulate()


def classifier(n_hidden=4, **options):
    return SpectralRNNClassifier(n_hidden, **{"random_state": 0, "engine": "serial", **options})


# ------------------------------------------------------------------------------------ what it finds


@pytest.mark.parametrize("seed", first_of(range(3)))
@pytest.mark.parametrize("bidirectional", [False, True])
def test_accuracy_comes_close_to_that_of_the_true_network(seed, bidirectional):
    X, labels, best, _ = simulate(seed, 1500, bidirectional=bidirectional)
    clf = classifier(bidirectional=bidirectional).fit(X[:1000], labels[:1000])
    assert clf.score(X[1000:], labels[1000:]) > best - SHARE_TOLERANCE
    assert isinstance(clf.model_, BRNN if bidirectional else IORNN)


def test_refinement_lowers_the_cross_entropy(labelled):
    X, labels, _, _ = labelled
    start, end = (classifier(refine=refine).fit(X, labels) for refine in (None, "full"))
    losses = [log_loss(clf, X, labels) for clf in (start, end)]
    assert losses[1] < losses[0]
    assert end.report_.refinement_steps > 0


def log_loss(clf, X, labels):
    codes = np.searchsorted(clf.classes_, labels)
    return -np.mean(np.log(np.take_along_axis(clf.predict_proba(X), codes[..., None], axis=2)))


@pytest.mark.parametrize("readout", ["logistic", "least-squares"])
def test_probabilities_belong_to_the_labels_and_sum_to_one(labelled, readout):
    X, labels, _, _ = labelled
    clf = classifier(readout=readout, refine=None).fit(X, labels)
    P = clf.predict_proba(X)
    assert P.shape == (*labels.shape, 4)
    assert P.min() >= 0.0
    np.testing.assert_allclose(P.sum(axis=2), 1.0, atol=ALGEBRA)
    np.testing.assert_array_equal(clf.classes_[P.argmax(axis=2)], clf.predict(X))


def test_logistic_probabilities_are_right_in_the_mean(labelled):
    """A logistic readout with a free bias matches the frequencies, up to its ridge."""
    X, labels, _, _ = labelled
    P = classifier(refine=None).fit(X, labels).predict_proba(X)
    shares = [np.mean(labels == name) for name in sorted(NAMES)]
    np.testing.assert_allclose(P.mean(axis=(0, 1)), shares, atol=RIDGE_OF_THE_READOUT)


def test_least_squares_readout_gives_the_least_squares_estimates(labelled):
    """Outputs estimate probabilities: they sum to one at every step."""
    X, labels, _, _ = labelled
    clf = classifier(readout="least-squares", refine=None).fit(X, labels)
    np.testing.assert_allclose(clf.decision_function(X).sum(axis=2), 1.0, atol=LINEAR_SYSTEM)


def test_two_labels_are_enough(labelled):
    """The boundary is a quadratic form of two directions: two units and no linear path see it."""
    X = labelled[0]
    two = np.where(X[..., 0] ** 2 > X[..., 1] ** 2, "a", "b")
    clf = classifier(2, recurrence=None).fit(X, two)
    assert clf.predict_proba(X).shape == (*two.shape, 2)
    assert clf.score(X, two) > 0.97


@pytest.mark.slow
def test_windows_in_both_directions(labelled):
    X, labels, _, _ = labelled
    clf = classifier((2, 2), bidirectional=True, lags=2).fit(X, labels)
    assert (clf.model_.n_forward, clf.model_.n_backward, clf.model_.lags) == (2, 2, 2)
    assert clf.model_.direct_weights.shape == (15, 4)


# -------------------------------------------------------------------------------------- whitening


@pytest.mark.parametrize("direct", [False, True])
def test_whitened_indicators_have_uncorrelated_residuals_of_unit_size(labelled, direct):
    X, labels, _, _ = labelled
    data = as_sequences(X)
    codes = numbers_of(labels.ravel().tolist(), distinct(labels.ravel().tolist()))
    batch = as_sequences(X, codes.reshape(labels.shape)[..., None]).whole()
    whitening = ClassWhitening.of(label_sums(batch, 4), direct=direct)
    Y = whitening(codes[:, None].astype(float))
    rows = data.X - data.X.mean(axis=0)
    if direct:
        ridge = RIDGE * np.diag(np.var(rows, axis=0)) * len(rows)
        Y = Y - rows @ np.linalg.solve(rows.T @ rows + ridge, rows.T @ Y)
    np.testing.assert_allclose(Y.T @ Y / len(Y), np.eye(3), atol=10 * RIDGE)
    back = whitening(codes[:, None].astype(float)) @ whitening.inverse + whitening.frequencies
    np.testing.assert_allclose(back, indicators(codes, 4), atol=LINEAR_SYSTEM)


# ---------------------------------------------------------------------------------- kinds of labels


@pytest.mark.parametrize(
    "kinds",
    first_of(
        [
            ["a", "b", "c", "d"],
            [3, 1, 2, 7],
            [("x", 1), ("x", 2), ("y", 1), ("y", 2)],
            ["a", 1, ("t",), 2.5],
            [True, False, "maybe", "never"],
        ],
        2,
    ),
)
def test_labels_of_any_hashable_kind_come_back_as_they_were(labelled, kinds):
    X, labels, _, _ = labelled
    place = dict(zip(NAMES.tolist(), kinds, strict=True))
    given = [[place[name] for name in row] for row in labels.tolist()]
    clf = classifier(refine=None).fit(list(X), given)
    predicted = clf.predict(list(X))
    assert isinstance(predicted, list) and len(predicted) == len(X)
    assert {type(v) for v in predicted[0].tolist()} <= {type(kind) for kind in kinds}
    plain = classifier(refine=None).fit(X, labels)
    expected = [place[name] for name in plain.predict(X).ravel().tolist()]
    same = np.mean([a == b for a, b in zip(np.concatenate(predicted), expected, strict=True)])
    # the classes stand in another order: whitening and readout agree up to their iterations
    assert same > 0.99


def test_classes_are_sorted_where_they_can_be():
    assert distinct(["b", "a", "b"]).tolist() == ["a", "b"]
    assert distinct([2, 10, 1]).tolist() == [1, 2, 10]
    assert distinct(["b", 1, "a"]).tolist() == ["b", 1, "a"]
    assert distinct([(2, 1), (1, 2)]).tolist() == [(1, 2), (2, 1)]


@pytest.mark.slow
def test_forms_of_the_data_give_the_same_model(labelled):
    X, labels, _, _ = labelled
    flat = X.reshape(-1, 5)
    forms = [
        classifier(refine=None).fit(X, labels),
        classifier(refine=None).fit(list(X), list(labels)),
        classifier(refine=None).fit(flat, labels.ravel(), lengths=[10] * len(X)),
    ]
    assert forms[0].model_ == forms[1].model_ == forms[2].model_
    np.testing.assert_array_equal(
        forms[2].predict(flat, lengths=[10] * len(X)), forms[0].predict(X).ravel()
    )


def test_the_first_of_equal_classes_is_predicted(labelled):
    X, labels, _, _ = labelled
    clf = classifier(refine=None).fit(X, labels)
    zero = clf.model_.replace(
        output_weights=np.zeros((4, 4)), output_bias=None, direct_weights=None
    )
    clf.model_ = zero
    assert set(clf.predict(X).ravel().tolist()) == {clf.classes_[0]}


# ------------------------------------------------------------------------------------- bad input


def test_a_label_seen_only_in_test_counts_as_an_error_with_a_warning(labelled):
    X, labels, _, _ = labelled
    clf = classifier(refine=None).fit(X, labels)
    changed = labels.copy().astype(object)
    changed[0, :5] = "unheard of"
    with pytest.warns(LabelWarning, match=r"5 steps have labels .* \(unheard of\)"):
        share = clf.score(X, changed)
    hits = clf.predict(X) == labels
    assert share == pytest.approx(np.delete(hits.ravel(), range(5)).sum() / hits.size)


@pytest.mark.slow
def test_a_class_with_one_example_does_not_spoil_the_others(labelled):
    X, labels, _, _ = labelled
    changed = labels.copy().astype(object)
    changed[3, 4] = "once"
    clf = classifier(refine=None).fit(X, changed)
    plain = classifier(refine=None).fit(X, labels)
    assert "once" in clf.classes_
    assert clf.score(X, labels) > plain.score(X, labels) - 0.01


@pytest.mark.slow
def test_sequences_of_one_step_are_fine_among_longer_ones(labelled):
    X, labels, _, _ = labelled
    lengths = [1, 7, 1, 1] * 800
    flat_X, flat = X.reshape(-1, 5)[: sum(lengths)], labels.ravel()[: sum(lengths)]
    clf = classifier(bidirectional=True, refine=None).fit(flat_X, flat, lengths=lengths)
    assert clf.predict(X[:1, :1]).shape == (1, 1)


def test_only_sequences_of_one_step_have_no_recurrence(labelled):
    X, labels, _, _ = labelled
    with pytest.raises(IdentifiabilityError, match=r"single step.*recurrence=None"):
        classifier().fit(X[:, :1], labels[:, :1])
    assert classifier(2, recurrence=None).fit(X[:, :1], labels[:, :1]).score(X, labels) > 0.5


def test_an_empty_sequence_is_named(labelled):
    X, labels, _, _ = labelled
    with pytest.raises(ValueError, match="sequence 1 of `X` has no steps"):
        classifier().fit([X[0], X[1][:0]], [labels[0], labels[1][:0]])


def test_labels_of_another_length_are_named(labelled):
    X, labels, _, _ = labelled
    short = [*labels[:4], labels[4][:-1], *labels[5:]]
    with pytest.raises(ValueError, match=r"`X\[4\]` has 10 steps, `labels\[4\]` has 9 labels"):
        classifier().fit(list(X), short)
    with pytest.raises(ValueError, match=r"800 sequences, `labels` has 799"):
        classifier().fit(X, labels[:-1])
    with pytest.raises(ValueError, match=r"`X` has 10 steps, `labels` has 3 labels"):
        classifier().fit(X[0], labels[0][:3])


def test_one_class_only_is_refused(labelled):
    X, labels, _, _ = labelled
    with pytest.raises(ValueError, match=r"all 8000 labels are 'x'.*nothing to tell apart"):
        classifier().fit(X, np.full(labels.shape, "x"))


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_missing_label_is_located(labelled, missing):
    X, labels, _, _ = labelled
    changed = labels.copy().astype(object)
    changed[2, 3] = missing
    with pytest.raises(ValueError, match=r"`labels` holds .* at sequence 2, step 3"):
        classifier().fit(X, changed)


def test_labels_that_are_lists_are_refused(labelled):
    X, labels, _, _ = labelled
    nested = [[[name] for name in row] for row in labels.tolist()]
    with pytest.raises(TypeError, match=r"hashable.*\['.*'\] of type list"):
        classifier().fit(list(X), nested)


def test_more_units_than_identifiable_are_refused(labelled):
    X, labels, _, _ = labelled
    two = np.where(labels == "low", "a", "b")
    with pytest.raises(IdentifiabilityError, match="one output"):
        classifier(4).fit(X, two)
    with pytest.raises(IdentifiabilityError, match="`n_hidden`=40 is too large"):
        classifier(40).fit(X, labels)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"readout": "softmax"}, ValueError, "`readout` must be one of .*got 'softmax'"),
        ({"refine": "one-step"}, ValueError, "`refine` must be one of"),
        ({"readout": "least-squares"}, ValueError, "goes with refine=None"),
        ({"n_hidden": (2, 2)}, ValueError, "a pair .* with bidirectional=True"),
        ({"bidirectional": True, "recurrence": "score"}, ValueError, "V not at all"),
    ],
)
def test_options_that_do_not_fit_are_named(labelled, options, kind, message):
    X, labels, _, _ = labelled
    with pytest.raises(kind, match=message):
        classifier(**options).fit(X, labels)


def test_strings_instead_of_sequences_of_labels_are_refused(labelled):
    X, _, _, _ = labelled
    with pytest.raises(ValueError, match="expected one sequence of labels"):
        flatten_labels("NOUN", as_sequences(X))
    with pytest.raises(ValueError, match=r"`labels\[0\]` is 'NOUN', expected a sequence of 10"):
        flatten_labels(["NOUN"] * 800, as_sequences(X))


# ------------------------------------------------------------------------------------- the contract


def test_estimator_contract(labelled):
    X, labels, _, _ = labelled
    with pytest.raises(NotFittedError):
        classifier().predict(X)
    clf = classifier(refine=None, readout="least-squares")
    assert clone(clf).get_params() == clf.get_params()
    first, second = clf.fit(X, labels).model_, clone(clf).fit(X, labels).model_
    assert first == second


def test_report_tells_the_stages_and_accuracies(labelled):
    X, labels, _, _ = labelled
    text = str(classifier().fit(X, labels).report_)
    for part in ("labels 4", "readout", "cross-entropy", "refined, held out"):
        assert part in text


def test_labels_beyond_the_whole_numbers_of_a_float_are_refused_in_a_source():
    X, Y, _, _ = datasets.make_rnn(200, 10, 3, 1, 3, random_state=0)
    labels = 2**53 + 2 + Y.argmax(axis=2)
    with pytest.raises(ValueError, match=r"at most 2\^53 .* number the classes from 0"):
        SpectralRNNClassifier(1).fit(sources.batches([(X, labels)]))


def stream(n_parts):
    """So many parts of labelled sequences."""
    for seed in range(n_parts):
        x = np.random.default_rng(seed).standard_normal((50, 20, 4))
        yield x, (np.square(x[..., :2]).sum(axis=2) > 2).astype(int) + (x[..., 2] > 1)


@pytest.mark.parametrize("n_parts", first_of([4, 16]))
def test_the_readout_takes_a_limited_number_of_rows_and_keeps_none(n_parts, tmp_path, monkeypatch):
    """Evenly spread over the data; neither memory nor the checkpoint grows with these."""
    monkeypatch.setattr(_readout, "MOST_ROWS", 2000)
    seen, fit = [], LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression,
        "fit",
        lambda self, X, y: seen.append(X.shape[0]) or fit(self, X, y),
    )
    path = tmp_path / "fit"
    clf = SpectralRNNClassifier(2, random_state=0, refine=None, max_rounds=1)
    clf.fit(sources.batches(PerPass(lambda _: stream(n_parts))), checkpoint=path)
    assert seen == [2000]
    assert path.stat().st_size < 250_000
    x, labels = next(stream(1))
    assert clf.score(x, labels) > 0.75


def test_probabilities_are_those_of_the_fit_whatever_readout_is_set_later(tmp_path):
    X, Y, _, _ = datasets.make_rnn(60, 10, 3, 2, 3, random_state=0)
    est = SpectralRNNClassifier(2, refine=None, random_state=0, engine="serial")
    for readout, other in (("logistic", "least-squares"), ("least-squares", "logistic")):
        est.set_params(readout=readout).fit(X, Y.argmax(axis=2))
        plain = est.predict_proba(X)
        est.set_params(readout=other).save(tmp_path / "est.npz")
        for found in (est, SpectralRNNClassifier.load(tmp_path / "est.npz")):
            np.testing.assert_array_equal(found.predict_proba(X), plain)

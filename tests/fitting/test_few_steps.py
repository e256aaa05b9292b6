"""Labelling with few steps for many weights: never below a linear model, degenerate stages skipped.

The text is drawn from a chain of tags; a word has a stem of its own and an ending of its tag.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers.marks import first_of
from sklearn.linear_model import Ridge

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets
from gloree.diagnostics import (
    DirectionWarning,
    GloreeWarning,
    LinearModelWarning,
)
from gloree.fitting import _directions
from gloree.fitting._readout_choice import CLEAR, clearly_more
from gloree.models import lag_windows
from gloree.refinement import RefinementStatus, _rounds

N_TAGS, STEMS = 9, 400


def text(n_sentences, seed, language=0):
    """Sentences of a language, and their tags."""
    told = np.random.default_rng(language)
    follows = told.dirichlet(np.full(N_TAGS, 0.25), N_TAGS)
    tag_of = told.integers(0, N_TAGS, STEMS)
    endings = [[f"{a}{b}" for a, b in told.choice(list("aeioust"), (3, 2))] for _ in range(N_TAGS)]
    frequency = 1.0 / np.arange(1, STEMS + 1)
    rng = np.random.default_rng((seed, language))
    words, tags = [], []
    for _ in range(n_sentences):
        tag, sentence, own = rng.integers(N_TAGS), [], []
        for _ in range(rng.integers(4, 18)):
            tag = rng.choice(N_TAGS, p=follows[tag])
            weights = frequency * np.where(tag_of == tag, 1.0, 0.05)
            stem = rng.choice(STEMS, p=weights / weights.sum())
            ending = rng.choice(endings[tag]) if rng.random() < 0.6 else ""
            sentence.append(f"w{stem}{ending}")
            own.append(f"T{tag}")
        words.append(sentence)
        tags.append(own)
    return words, tags


@cache
def features(n_sentences, seed, width=1, language=0):
    """Word vectors and tags of a training text, and of a new one."""
    words, tags = text(n_sentences, seed, language)
    vectors, X = datasets.WordVectors.fit_transform(words, tags=tags, width=width)
    new_words, new_tags = text(600, seed + 1000, language)
    return X, tags, vectors.transform(new_words), new_tags


def windows(X):
    return np.vstack(
        [np.hstack([np.pad(x, ((1, 1), (0, 0)))[i : i + len(x)] for i in range(3)]) for x in X]
    )


def correct(predicted, truth):
    return np.array(
        [np.sum(np.asarray(a) == np.asarray(b)) for a, b in zip(predicted, truth, strict=True)]
    )


def by_ridge(X, tags, X_new):
    names, codes = np.unique(np.concatenate(tags), return_inverse=True)
    model = Ridge().fit(windows(X), np.eye(len(names))[codes])
    rows = names[model.predict(windows(X_new)).argmax(axis=1)]
    return np.split(rows, np.cumsum([len(x) for x in X_new])[:-1])


def fitted(X, tags, units=(2, 2), **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GloreeWarning)
        settings = {"bidirectional": True, "lags": 2, "random_state": 0, "engine": "serial"}
        return SpectralRNNClassifier(units, **{**settings, **options}).fit(X, tags)


def require_not_below_ridge(X, tags, X_new, new_tags, **options):
    """Not by more than chance: two standard errors over sentences."""
    ours = correct(fitted(X, tags, **options).predict(X_new), new_tags)
    theirs = correct(by_ridge(X, tags, X_new), new_tags)
    assert not clearly_more(theirs, ours), (ours.sum(), theirs.sum())
    return ours.sum() - theirs.sum()


@pytest.mark.slow
@pytest.mark.parametrize("refine", first_of([None, "full"]))
def test_a_tagger_of_few_sentences_is_not_below_ridge_regression(refine):
    data = features(100, 1)
    require_not_below_ridge(*data, refine=refine)


@pytest.mark.slow
@pytest.mark.parametrize("n_sentences", [150, 400])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("language", [0, 1, 2])
def test_taggers_of_many_languages_are_not_below_ridge_regression(n_sentences, width, language):
    data = features(n_sentences, language + 7, width, language)
    require_not_below_ridge(*data, units=(4, 4))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_inputs_that_say_nothing_leave_a_linear_model():
    """Labels that depend on the inputs linearly, and many inputs: units cannot help."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 12, 20))
    A = rng.standard_normal((20, 3))
    labels = (X @ A + 5.0 * rng.standard_normal((30, 12, 3))).argmax(axis=2)
    classifier = SpectralRNNClassifier(2, random_state=0, engine="serial")
    with pytest.warns(LinearModelWarning, match=r"360 steps are few for the .* linear model"):
        classifier.fit(X, labels)
    report = classifier.report_
    assert not classifier.model_.output_weights.any()
    assert report.refinement_status is RefinementStatus.NO_DECREASE
    tried = [name for name in report.accuracies if "held out in turn" in name]
    assert len(tried) == 2
    probabilities = classifier.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=2), 1.0, rtol=1e-12)
    # sharp enough to be probabilities, and not only in the right order
    own = np.take_along_axis(probabilities, labels[..., None], axis=2)
    assert -np.log(own).mean() < 0.95 * np.log(3)


def test_units_that_help_are_kept_where_steps_are_few():
    X, Y, _, _ = datasets.make_rnn(60, 10, 4, 2, 6, random_state=3)
    labels = Y.argmax(axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LinearModelWarning)
        warnings.simplefilter("ignore", GloreeWarning)
        warnings.simplefilter("error", LinearModelWarning)
        classifier = SpectralRNNClassifier(2, random_state=0, engine="serial").fit(X, labels)
    assert np.abs(classifier.model_.output_weights).max() > 0.1


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_many_steps_are_not_cut_into_parts():
    X, Y, _, _ = datasets.make_rnn(400, 10, 4, 2, 3, random_state=0)
    classifier = SpectralRNNClassifier(2, random_state=0, engine="serial")
    report = classifier.fit(X, Y.argmax(axis=2)).report_
    assert not any("held out in turn" in name for name in report.accuracies)
    assert "held-out parts" not in [stage.name for stage in report.stages]


def test_a_difference_is_clear_beyond_two_standard_errors_over_sequences():
    rng = np.random.default_rng(0)
    n, false = 2000, 0
    for _ in range(n):
        ours, theirs = rng.integers(0, 10, (2, 50))
        false += clearly_more(ours, theirs)
    expected = 0.0228  # of a normal beyond 2
    assert abs(false / n - expected) < 4 * np.sqrt(expected / n) + 0.005
    assert clearly_more(np.array([2, 3, 2, 3]), np.array([1, 1, 1, 1])) and CLEAR == 2.0
    assert not clearly_more(np.ones(5), np.ones(5))


def test_a_round_whose_components_cancel_is_given_up(monkeypatch):
    X, Y, _, _ = datasets.make_rnn(300, 10, 4, 3, 3, random_state=0)
    estimator = SpectralRNNRegressor(3, refine=None, random_state=0, engine="serial")
    assert any(label == "round" for label, _ in estimator.fit(X, Y).report_.history)
    # as if every growth were one without end
    monkeypatch.setattr(_rounds, "LARGEST_GROWTH", 0.0)
    assert not any(label == "round" for label, _ in estimator.fit(X, Y).report_.history)


def bidirectional_data(n_sequences=300):
    options = {"bidirectional": True, "random_state": 0}
    return datasets.make_rnn(n_sequences, 10, 4, 4, 3, **options)[:2]


def regressor():
    return SpectralRNNRegressor(
        (2, 2), bidirectional=True, refine=None, random_state=0, engine="serial"
    )


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_units_that_cancel_have_no_direction(monkeypatch):
    monkeypatch.setattr(_directions, "CANCELLING", 0.0)
    with pytest.warns(DirectionWarning, match="cancel each other all but exactly"):
        found = regressor().fit(*bidirectional_data())
    assert found.report_.directions.undetermined.all()
    assert np.isfinite(found.predict(bidirectional_data()[0])).all()


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_recurrences_that_raise_the_error_are_left_out(monkeypatch):
    run = _directions.run_both_ways

    def worse(problem, current, rounds, found):
        """As if the recurrences of the directions led far away."""
        iterate, both = run(problem, current, rounds, found)
        if found.past.any():
            sums = replace(iterate.sums, squares=100.0 * iterate.sums.squares)
            iterate = replace(iterate, sums=sums)
        return iterate, both

    X, Y = bidirectional_data()
    monkeypatch.setattr(_directions, "run_both_ways", worse)
    monkeypatch.setattr(_directions, "DOUBTFUL", -np.inf)
    with pytest.warns(DirectionWarning, match=r"raise the root mean .* went on without"):
        found = regressor().fit(X, Y)
    assert found.score(X, Y) > 0.5


def test_windows_of_a_tagger():
    """The windows that ridge regression sees are those of the tagger's linear path."""
    x = np.arange(8.0).reshape(4, 2)
    both = windows([x])
    past = lag_windows(x, np.arange(4), 2)
    np.testing.assert_array_equal(both[:, 2:4], past[:, :2])
    np.testing.assert_array_equal(both[:, :2], past[:, 2:])

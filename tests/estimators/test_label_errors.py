"""Maximum likelihood of labels and its standard errors, against naive loops and differences."""

import warnings

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.differences import by_weights, central
from helpers.generators import forward_network, two_way_network
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, datasets, metrics
from gloree.diagnostics import CertificateStatus, ConvergenceWarning, delta_method
from gloree.engine import Engine, Source
from gloree.refinement import (
    CrossEntropy,
    FisherScoring,
    Layout,
    SquaredError,
    label_gauge,
    without_common_part,
)
from gloree.refinement._fisher_scoring import fisher_sums
from gloree.sequences import as_sequences

ENGINE = Engine("serial")
DIFFERENCE, STEP = 1e-6, 1e-5
# what Fisher scoring leaves to gain, in standard errors
ENDED = 0.1


def softmax(logits):
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def labelled(truth, X, seed):
    p = softmax(truth.predict(X))
    draw = np.random.default_rng(seed).uniform(size=p.shape[:2])
    return (draw[..., None] > p.cumsum(axis=-1)).sum(axis=-1)


@pytest.mark.parametrize("two_way", [False, True])
def test_information_is_that_of_the_multinomial_distribution(two_way):
    """sum_t J_t^T (diag p - p p^T) J_t with J by differences."""
    make, given = (two_way_network, (2, 1, 3, 3)) if two_way else (forward_network, (3, 3, 3))
    model = make(*given, seed=1, direct=True)
    layout = Layout(3, 3, 3, direct=True, n_backward=1 if two_way else None)
    X = np.random.default_rng(0).standard_normal((6, 4, 3))
    data = as_sequences(X, np.zeros((6, 4, 1)))
    J = by_weights(lambda moved: moved.predict(X).reshape(-1, 3), model, layout, STEP)
    p = softmax(model.predict(X)).reshape(-1, 3)
    W = np.einsum("ta,ab->tab", p, np.eye(3)) - np.einsum("ta,tb->tab", p, p)
    expected = np.einsum("tap,tab,tbq->pq", J, W, J)
    found = fisher_sums(data.whole(), model, layout)
    assert found.n_rows == 24
    assert_close(found.hessian, expected, DIFFERENCE)


def test_the_gauge_is_what_changes_no_probability():
    model = forward_network(3, 2, 3, seed=1, direct=True)
    layout = Layout(3, 2, 3, direct=True)
    X = np.random.default_rng(0).standard_normal((4, 5, 3))
    gauge = label_gauge(layout)
    np.testing.assert_allclose(gauge @ gauge.T, np.eye(len(gauge)), atol=1e-14)
    moved = layout.move(model, np.random.default_rng(1).standard_normal(len(gauge)) @ gauge)
    assert_close(softmax(moved.predict(X)), softmax(model.predict(X)), 1e-12)
    centred = without_common_part(moved)
    assert_close(softmax(centred.predict(X)), softmax(model.predict(X)), 1e-12)
    np.testing.assert_allclose(gauge @ layout.vector(centred), 0.0, atol=1e-13)


@pytest.fixture(scope="module")
def problem():
    truth = forward_network(3, 2, 3, seed=3, scale=0.8, direct=True)
    truth = without_common_part(truth).canonical()
    X = np.random.default_rng(0).standard_normal((400, 10, 3))
    return truth, X, labelled(truth, X, 1)


@pytest.fixture(scope="module")
def fitted(problem):
    _, X, labels = problem
    clf = SpectralRNNClassifier(2, refine="likelihood", random_state=0, engine="serial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clf.fit(X, labels)


def log_likelihood(model, X, labels):
    p = softmax(model.predict(X))
    return float(np.log(np.take_along_axis(p, labels[..., None], axis=2)).sum())


def test_a_fit_is_at_the_maximum_of_the_likelihood(problem, fitted):
    truth, X, labels = problem
    report, layout = fitted.report_, Layout(3, 2, 3, direct=True)
    errors = np.empty(layout.size)
    for name, index in layout.indices.items():
        errors[index] = report.standard_errors[name]

    def along(change):
        return log_likelihood(layout.move(fitted.model_, change * errors), X, labels)

    gradient = central(along, np.zeros(layout.size), 1e-3)
    assert np.abs(gradient).max() < 2 * ENDED
    assert log_likelihood(fitted.model_, X, labels) > log_likelihood(truth, X, labels)


def test_standard_errors_are_a_sandwich_of_the_scores_of_sequences(problem, fitted):
    """H^+ (sum_q g_q g_q^T) H^+ with scores of sequences by differences of their likelihood."""
    _, X, labels = problem
    model, layout = fitted.model_, Layout(3, 2, 3, direct=True)

    def each(moved):
        p = softmax(moved.predict(X))
        return np.log(np.take_along_axis(p, labels[..., None], axis=2)).sum(axis=(1, 2))

    scores = by_weights(each, model, layout, STEP)
    data = as_sequences(X, labels[..., None].astype(float))
    H = fisher_sums(data.whole(), model, layout).hessian
    fixed = np.vstack((layout.scale_constraints(model), label_gauge(layout)))
    inverse = np.linalg.inv(H + 1e3 * fixed.T @ fixed)
    sandwich = inverse @ scores.T @ scores @ inverse
    for name, index in layout.indices.items():
        expected = np.sqrt(np.diag(sandwich)[index])
        # less what a sequence of 400 has of the whole, and constraints that are not quite fixed
        np.testing.assert_allclose(fitted.report_.standard_errors[name], expected, rtol=0.03)


def test_weights_add_up_to_zero_over_labels_and_have_intervals(problem, fitted):
    truth, X, _ = problem
    model = fitted.model_
    np.testing.assert_allclose(model.output_weights.sum(axis=1), 0.0, atol=1e-10)
    np.testing.assert_allclose(model.output_bias.sum(), 0.0, atol=1e-10)
    intervals = fitted.report_.intervals()
    assert set(intervals) >= {"input_weights", "output_weights", "direct_weights", "output_bias"}
    aligned = metrics.align(model, truth)
    low, high = intervals["direct_weights"]
    assert (
        np.mean((low < aligned.truth.direct_weights) & (aligned.truth.direct_weights < high)) > 0.7
    )
    value, error = delta_method(
        lambda w: w["direct_weights"][0, 1] - w["direct_weights"][0, 0], fitted.report_
    )
    assert value == model.direct_weights[0, 1] - model.direct_weights[0, 0]
    assert error > 0
    assert fitted.predict_proba(X[:2]).shape == (2, 10, 3)


def test_a_saved_fit_keeps_its_solver(fitted, tmp_path):
    fitted.save(tmp_path / "labels.npz")
    loaded = SpectralRNNClassifier.load(tmp_path / "labels.npz")
    np.testing.assert_array_equal(loaded.report_.covariance, fitted.report_.covariance)


def test_labels_that_are_separated_have_no_maximum():
    X, Y, _, _ = datasets.make_rnn(300, 5, 3, 2, 3, noise=0.0, random_state=0)
    solver = FisherScoring(max_steps=15)
    clf = SpectralRNNClassifier(2, refine=solver, direct=False, random_state=0, engine="serial")
    with pytest.warns(ConvergenceWarning, match="no maximum of the likelihood was found"):
        clf.fit(X, (Y - Y.mean(axis=(0, 1))).argmax(axis=2))
    assert clf.report_.standard_errors == {}


def test_a_search_that_has_not_ended_has_no_certificate():
    X, Y, _, _ = datasets.make_rnn(300, 10, 3, 1, 3, noise=1.0, random_state=0)
    options = {"direct": False, "random_state": 0, "engine": "serial"}
    clf = SpectralRNNClassifier(1, refine=FisherScoring(max_steps=1), **options)
    with pytest.warns(ConvergenceWarning, match="no maximum of the likelihood was found"):
        clf.fit(X, Y.argmax(axis=2))
    assert clf.report_.certificate.status is CertificateStatus.UNCERTAIN


def test_other_losses_are_refused():
    model, layout = forward_network(3, 2, 3, seed=1), Layout(3, 2, 3)
    data = as_sequences(np.zeros((3, 4, 3)), np.zeros((3, 4, 3)))
    with pytest.raises(ValueError, match="Fisher scoring maximises the likelihood of labels"):
        FisherScoring().minimise(SquaredError(), model, layout, ENGINE, Source(data))
    assert CrossEntropy().name == "cross-entropy"


@pytest.mark.long
@pytest.mark.slow
def test_intervals_hold_the_true_weights_as_often_as_they_say():
    truth = without_common_part(forward_network(3, 2, 3, seed=3, scale=0.8, direct=True))
    truth, held = truth.canonical(), []
    for seed in range(40):
        X = np.random.default_rng([seed, 5]).standard_normal((1500, 10, 3))
        clf = SpectralRNNClassifier(2, refine="likelihood", random_state=0, engine="serial")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clf.fit(X, labelled(truth, X, [seed, 6]))
        low, high = clf.report_.intervals()["direct_weights"]
        held.append(float(np.mean((low < truth.direct_weights) & (truth.direct_weights < high))))
    assert abs(np.mean(held) - 0.95) < 4 * np.std(held) / np.sqrt(len(held)) + 0.01


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("seed", first_of([157, 137, *range(300, 312)]))
def test_a_fit_of_few_labels_is_no_false_optimum(seed):
    """Twice the log-likelihood over that of the truth: a chi square of the weights, never less."""
    X, _, truth, _ = datasets.make_rnn(60, 10, 4, 2, 3, random_state=seed)
    truth = truth.replace(output_weights=truth.output_weights * 3 / truth.predict(X).std())
    labels = labelled(truth, X, seed)
    clf = SpectralRNNClassifier(2, refine="likelihood", direct=False, random_state=0)
    clf.fit(X, labels)

    def likelihood(model):
        p = softmax(model.predict(X))
        return np.sum(np.log(np.take_along_axis(p, labels[..., None], axis=2)))

    assert likelihood(clf.model_) > likelihood(truth)

"""Is a maximum of the likelihood of labels the highest one: the test of its residuals, and more."""

from functools import partial

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.marks import long_but_first

from gloree import IORNN, SpectralRNNClassifier
from gloree.diagnostics import (
    CertificateStatus,
    ConvergenceWarning,
    PrecisionWarning,
    SpecificationWarning,
)
from gloree.engine import Engine, Source
from gloree.fitting._label_optimum import (
    Maximum,
    Search,
    _Likelihood,
    findings_of,
    label_residuals,
)
from gloree.fitting._lack_of_fit import Frame, LackOfFit, feature_sums
from gloree.fitting._other_weights import any_elsewhere, squared_distance
from gloree.refinement import (
    Layout,
    RefinementStatus,
    Solution,
    fisher_information,
    without_common_part,
)
from gloree.sequences import as_sequences

ALGEBRA = 1e-10


def simulated(seed, activation="tanh", sizes=(4, 3, 3), n=1500, n_steps=10):
    """Inputs, labels, and the network whose softmax they are drawn from."""
    rng = np.random.default_rng(seed)
    d, k, q = sizes
    A1, U = rng.standard_normal((k, d)), rng.standard_normal((k, k))
    truth = IORNN(
        A1 / np.linalg.norm(A1, axis=1, keepdims=True),
        0.6 * U / np.linalg.norm(U, 2),
        3.0 * rng.standard_normal((k, q)),
        hidden_bias=0.5 * rng.standard_normal(k),
        activation=activation,
    )
    X = rng.standard_normal((n, n_steps, d))
    logits = truth.predict(X)
    return X, np.argmax(logits + rng.gumbel(size=logits.shape), axis=2), truth


def softmax(logits):
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def cross_entropy(model, X, labels):
    p = softmax(model.predict(X))
    return -np.mean(np.log(np.take_along_axis(p, labels[..., None], axis=2)))


def test_residuals_of_labels_are_indicators_less_probabilities():
    X, labels, truth = simulated(0, n=6)
    frame = Frame(np.zeros(4), np.eye(4), np.zeros(3), np.ones(3), 4, recurrent=True)
    source = Source(as_sequences(X, labels[..., None]))
    function = partial(feature_sums, model=truth, frame=frame, residuals_of=label_residuals)
    sums = Engine("serial").run(function, source)
    left = (np.eye(3)[labels] - softmax(truth.predict(X)))[:, 1:]  # no step before the first
    assert sums.squares == pytest.approx(np.sum(left**2))
    # the constant is the first feature, the inputs of the step follow
    assert_close(sums.cross.sum(axis=0)[0], left.sum(axis=(0, 1)), ALGEBRA)
    products = np.einsum("nti,ntl->il", X[:, 1:], left)
    assert_close(sums.cross.sum(axis=0)[1:5], products, ALGEBRA)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize(("mean", "size"), [(3.0, 100.0)])
def test_the_certificate_of_labels_does_not_depend_on_units(mean, size):
    X, labels, _ = simulated(1)
    given = X * size * np.array([1.0, 1.0, 0.1, 5.0]) + mean
    clf = SpectralRNNClassifier(3, activation="tanh", refine="likelihood", random_state=0)
    report = clf.fit(given, labels).report_
    reference = clf.fit(X, labels).report_
    assert report.certificate.share == pytest.approx(reference.certificate.share, abs=1e-6)
    assert report.certificate.status is reference.certificate.status


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("seed", long_but_first(range(6), 3))
def test_no_start_but_the_truth_is_needed(seed):
    """Cross-entropy at most a thousandth above that of the descent from the truth, or a word."""
    sizes = (6, 4, 2) if seed % 2 else (6, 4, 4)
    X, labels, truth = simulated(seed, "tanh" if seed < 3 else "softplus", sizes, n=4000)
    clf = SpectralRNNClassifier(
        4, activation=truth.activation, refine="likelihood", direct=False, random_state=seed
    ).fit(X, labels)
    assert cross_entropy(clf.model_, X, labels) < (1 + 1e-3) * cross_entropy(truth, X, labels)


def test_a_network_with_a_unit_too_few_is_named():
    X, labels, _ = simulated(3, n=600)
    clf = SpectralRNNClassifier(
        2, activation="tanh", direct=False, refine="likelihood", engine="serial", random_state=0
    )
    with pytest.warns((SpecificationWarning, ConvergenceWarning), match="still depend on the past"):
        clf.fit(X, labels)
    certificate = clf.report_.certificate
    assert certificate.status is not CertificateStatus.CERTIFIED
    assert certificate.share > 1e-3


def maximum(score, status=RefinementStatus.CONVERGED, share=0.01):
    return Maximum("moments", Solution(None, status, 100.0, ()), LackOfFit(share, score))


@pytest.mark.parametrize(
    ("best", "ends", "status", "said"),
    [
        (maximum(1.0, share=1e-5), (), "CERTIFIED", None),
        (maximum(1.0), (1.0, 1.1, 1.0, 1.2), "AGREED", None),  # more could not have been seen
        (maximum(1.0), (1.0, 1.0, 1.0), "UNCERTAIN", "too few to tell"),
        (maximum(1.0), (1.0, 1.01, 1.02, 1.03), "UNCERTAIN", "too few to tell"),
        (maximum(9.0), (1.0, 1.0, 1.0, 1.1), "UNCERTAIN", "false optimum"),
        (maximum(9.0), (1.0, 1.1, 1.0, 1.00005, 1.0), "AGREED", "class of networks"),
        (maximum(9.0, RefinementStatus.STEP_LIMIT), (1.0,), "UNCERTAIN", None),
    ],
)
def test_what_tests_and_starts_say_of_a_maximum(best, ends, status, said):
    search = Search(best, ends)
    assert search.certificate.status.name == status
    found = findings_of(search)
    assert len(found) == (said is not None)
    assert said is None or said in found[0].text


@pytest.mark.parametrize(("elsewhere", "count"), [(False, 0), (True, 1)])
def test_ends_of_equal_likelihood_with_other_weights_are_named(elsewhere, count):
    search = Search(maximum(1.0), (1.0, 1.1, 1.0, 1.2), elsewhere=elsewhere)
    found = findings_of(search)
    assert len(found) == count
    assert all(each.category is PrecisionWarning for each in found)


@pytest.mark.parametrize(("elsewhere", "count"), [(False, 0), (True, 1)])
def test_a_certificate_does_not_hide_other_weights(elsewhere, count):
    search = Search(maximum(1.0, share=1e-5), (1.0, 1.00002), elsewhere=elsewhere)
    assert search.certificate.status is CertificateStatus.CERTIFIED
    assert [each.category for each in findings_of(search)] == count * [PrecisionWarning]


def test_starts_that_ended_alike_come_lowest_first():
    assert Search(maximum(1.0), (1.00005, 1.2, 1.0, 1.00002)).alike == (2, 3, 0)


def perturbed(model, size, seed=0):
    """The network with all weights moved at random, by `size` relative to their kind."""
    rng = np.random.default_rng(seed)

    def moved(weights):
        return weights + size * np.abs(weights).mean() * rng.standard_normal(weights.shape)

    return model.replace(
        input_weights=moved(model.input_weights),
        recurrent_weights=moved(model.recurrent_weights),
        output_weights=moved(model.output_weights),
        hidden_bias=moved(model.hidden_bias),
    )


def information_and_rows(n=200):
    X, labels, truth = simulated(0, n=n)
    model, layout = without_common_part(truth).canonical(), Layout(4, 3, 3)
    source = Source(as_sequences(X, labels[..., None]))
    return fisher_information(model, layout, Engine("serial"), source), X, model, layout


def test_squared_distance_is_twice_the_divergence_of_the_labels():
    """2 sum_t KL(p_t, p'_t) of nearby weights, whatever the order and the signs of the units."""
    information, X, model, layout = information_and_rows()
    other = perturbed(model, 1e-4)
    p, q = softmax(model.predict(X)), softmax(other.predict(X))
    twice = 2.0 * np.sum(p * np.log(p / q))
    signs = np.array([-1.0, 1.0, -1.0])
    image = other.rearranged(np.array([2, 0, 1]), signs, signs)
    image = image.replace(output_bias=image.output_bias + 7.0)  # changes no probability
    for each in (other, image):
        assert squared_distance(model, each, information, layout) == pytest.approx(twice, rel=2e-3)


def test_only_weights_outside_the_confidence_region_are_elsewhere():
    information, _, model, layout = information_and_rows()
    near, far = perturbed(model, 1e-4), perturbed(model, 1.0)
    assert not any_elsewhere(model, [near, near], information, layout)
    assert any_elsewhere(model, [near, far], information, layout)


@pytest.mark.filterwarnings("ignore:the labels do not tell:gloree.diagnostics.PrecisionWarning")
def test_an_interrupted_search_keeps_the_best_maximum_and_says_so(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_Likelihood, "at_random", interrupt)
    X, labels, _ = simulated(3, n=600)
    clf = SpectralRNNClassifier(
        2, activation="tanh", direct=False, refine="likelihood", engine="serial", random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="search for a higher maximum .* was interrupted"):
        clf.fit(X, labels)
    assert clf.report_.certificate.status is CertificateStatus.UNCERTAIN
    assert clf.score(X, labels) > 0.5

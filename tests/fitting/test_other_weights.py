"""Whether the labels determine every unit: by information that is singular by construction."""

import warnings

import numpy as np
import pytest

from gloree import IORNN, SpectralRNNClassifier
from gloree.diagnostics import CertificateStatus, PrecisionWarning
from gloree.engine import Engine, Source
from gloree.fitting import _label_optimum
from gloree.fitting._other_weights import open_covariance, unit_effects
from gloree.refinement import Layout, fisher_information, label_gauge, without_common_part
from gloree.sequences import as_sequences

# algebra, with what is added to the information (1e-10) and the condition of its blocks
ALGEBRA = 1e-5


def information(model, X=None, n=1000):
    """Expected information at a network, whatever the labels."""
    if X is None:
        X = np.random.default_rng(0).standard_normal((n, 10, model.n_inputs))
    layout = Layout(model.n_inputs, model.n_hidden, model.n_outputs)
    source = Source(as_sequences(X, np.zeros((*X.shape[:2], 1))))
    return fisher_information(model, layout, Engine("serial"), source), layout


def tanh_network(seed=1):
    """Three units of four inputs, and weights of three labels that add up to zero."""
    rng = np.random.default_rng(seed)
    A1, A2 = rng.standard_normal((3, 4)), np.eye(3)[[1, 2, 0]] - np.eye(3)
    model = IORNN(
        1.5 * A1 / np.linalg.norm(A1, axis=1, keepdims=True),
        0.3 * rng.standard_normal((3, 3)),
        2.0 * A2,
        hidden_bias=0.3 * rng.standard_normal(3),
        activation="tanh",
    )
    return without_common_part(model)


def effects_of(model, order=None):
    found, layout = information(model)
    return unit_effects(model, found, layout, order)


def split(model, share):
    """The same probabilities of one unit more: the last one twice, with parts of its effect."""
    last = model.n_hidden - 1
    places = [*range(model.n_hidden), last]
    shares = np.ones(last + 2)
    shares[last:] = share, 1.0 - share
    return model.replace(
        input_weights=model.input_weights[places],
        recurrent_weights=model.recurrent_weights[np.ix_(places, places)] * shares,
        output_weights=model.output_weights[places] * shares[:, None],
        hidden_bias=model.hidden_bias[places],
    )


def test_statistics_are_those_of_the_inverse_information():
    model = tanh_network()
    found, layout = information(model)
    # what changes no probability has no information, and an inverse without it
    inverse = np.linalg.pinv(found.hessian, rcond=1e-12, hermitian=True)
    vector, free = layout.vector(model), layout.size - len(label_gauge(layout))
    assert np.linalg.matrix_rank(inverse, rtol=1e-12, hermitian=True) == free
    effects = unit_effects(model, found, layout)
    for unit in range(3):
        # of three output weights that add up to zero two are free
        others = np.delete(layout.indices["recurrent_weights"][:, unit], unit)
        own = np.concatenate((layout.indices["output_weights"][unit, :2], others))
        w = vector[own]
        expected = w @ np.linalg.solve(inverse[np.ix_(own, own)], w)
        assert effects.statistics[unit] == pytest.approx(expected, rel=ALGEBRA)


def test_the_inverse_is_large_along_what_the_data_do_not_determine():
    """Along the difference of two equal units; along their sum it is that of one unit."""

    def of(model, *values):
        found, layout = information(model)
        change = np.zeros(layout.size)
        for unit, value in zip((2, 3), values, strict=False):
            change[layout.indices["output_weights"][unit, :2]] = value, -value  # a log-ratio
        return change @ open_covariance(model, found, layout) @ change

    single = of(tanh_network(), 1.0)
    twice = split(tanh_network(), 0.5)
    assert of(twice, 1.0, 1.0) == pytest.approx(single, rel=1e-3)
    assert of(twice, 1.0, -1.0) > 1e6 * single


def test_units_that_the_labels_determine_are_not_named():
    effects = effects_of(tanh_network())
    assert (effects.statistics > 2 * effects.limits).all()
    assert effects.findings() == ()


@pytest.mark.parametrize("share", [0.5, 0.2, 3.0])
def test_two_equal_units_are_named_and_the_others_are_not(share):
    """Their output weights are determined in the sum alone: the information is singular."""
    effects = effects_of(split(tanh_network(), share))
    assert effects.undetermined.tolist() == [2, 3]
    assert effects.statistics[2:].max() < 1e-3
    (finding,) = effects.findings()
    assert finding.category is PrecisionWarning
    assert "do not tell hidden unit(s) 2 (" in finding.text


def test_a_unit_of_no_effect_is_named_by_its_number_in_the_report():
    model = tanh_network()
    A2, U = model.output_weights.copy(), model.recurrent_weights.copy()
    A2[0], U[1:, 0] = 0.0, 0.0
    model = model.replace(output_weights=A2, recurrent_weights=U)
    assert effects_of(model).undetermined.tolist() == [0]
    assert effects_of(model, np.array([2, 0, 1])).undetermined.tolist() == [1]


def test_a_rectifier_that_never_acts_is_named():
    model = tanh_network().replace(activation="relu", hidden_bias=np.array([0.1, -1e3, 0.2]))
    assert effects_of(model).undetermined.tolist() == [1]


def test_a_unit_that_acts_through_the_others_alone_is_determined():
    model = tanh_network()
    A2, U = model.output_weights.copy(), model.recurrent_weights.copy()
    A2[0], U[1:, 0] = 0.0, 1.0
    model = model.replace(output_weights=A2, recurrent_weights=U)
    assert effects_of(model).undetermined.size == 0


def test_columns_that_follow_from_others_are_no_doubt_about_units():
    """The information is singular, and nothing that a unit gives depends on it."""
    model = tanh_network()
    X = np.random.default_rng(0).standard_normal((1000, 10, 4))
    X[:, :, 3] = X[:, :, 0] - X[:, :, 1]
    found, layout = information(model, X)
    rank = np.linalg.matrix_rank(found.hessian, rtol=1e-12, hermitian=True)
    assert rank == layout.size - len(label_gauge(layout)) - 3
    assert unit_effects(model, found, layout).undetermined.size == 0


def one_unit(seed=0, n=600):
    """Inputs, and labels of a single tanh unit."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 10, 3))
    truth = IORNN(
        np.array([[0.6, 0.7, -0.2]]),
        np.array([[0.1]]),
        2.0 * rng.standard_normal((1, 3)),
        hidden_bias=np.array([-0.3]),
        activation="tanh",
    )
    logits = truth.predict(X)
    return X, np.argmax(logits + rng.gumbel(size=logits.shape), axis=2)


@pytest.fixture(scope="module")
def labelled():
    return one_unit()


def warned(n_hidden, X, labels):
    """The certificate of a fit, and whether it says that a unit may be noise."""
    clf = SpectralRNNClassifier(
        n_hidden, activation="tanh", direct=False, refine="likelihood", engine="serial"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = clf.set_params(random_state=0).fit(X, labels).report_
    said = [each for each in caught if "do not tell hidden unit" in str(each.message)]
    assert all(each.category is PrecisionWarning for each in said)
    return report.certificate.status, bool(said)


@pytest.mark.slow
@pytest.mark.parametrize("certified", [False, True])
def test_a_unit_too_many_is_named_whatever_the_certificate(labelled, monkeypatch, certified):
    if certified:  # as a test of more rows would
        monkeypatch.setattr(_label_optimum, "DETECTABLE", np.inf)
        monkeypatch.setattr(_label_optimum, "LEFT", np.inf)
    status, said = warned(2, *labelled)
    assert (status is CertificateStatus.CERTIFIED) == certified
    assert said


@pytest.mark.slow
@pytest.mark.parametrize("certified", [False, True])
def test_the_right_number_of_units_is_not_doubted(labelled, monkeypatch, certified):
    if certified:
        monkeypatch.setattr(_label_optimum, "DETECTABLE", np.inf)
        monkeypatch.setattr(_label_optimum, "LEFT", np.inf)
    assert warned(1, *labelled)[1] is False

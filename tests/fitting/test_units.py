"""The test of every hidden unit, and what a fit says of units that might be noise."""

import warnings

import numpy as np
import pytest
from helpers.generators import forward_network

from gloree import SpectralRNNRegressor, datasets
from gloree.diagnostics import AcceptanceWarning, GloreeWarning
from gloree.engine import Engine, Source
from gloree.fitting._units import cancelling_units, judge_units, noise_limit, wald
from gloree.refinement import Layout, gauss_newton
from gloree.sequences import as_sequences

# algebra: quadratic forms of size five
ALGEBRA = 1e-10


def covariance(size, seed=0):
    root = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return root @ root.T


def test_wald_statistic_is_the_quadratic_form_of_the_inverse():
    matrix, values = covariance(5), np.arange(1.0, 6.0)
    expected = values @ np.linalg.inv(matrix) @ values
    np.testing.assert_allclose(wald(values, matrix), expected, rtol=ALGEBRA)
    # whatever the units of each weight
    scale = np.array([1e-6, 1.0, 1e3, 1e8, 2.0])
    scaled = wald(scale * values, np.outer(scale, scale) * matrix)
    np.testing.assert_allclose(scaled, expected, rtol=ALGEBRA)


def test_wald_statistic_of_a_singular_covariance_counts_what_it_knows():
    root = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    values = root @ np.array([2.0, 3.0])
    np.testing.assert_allclose(wald(values, root @ root.T), 13.0, rtol=ALGEBRA)
    assert wald(np.array([1.0, 2.0]), np.diag([1.0, 0.0])) == np.inf
    assert wald(np.array([3.0, 0.0]), np.diag([1.0, 0.0])) == 9.0
    assert wald(np.ones(2), np.full((2, 2), np.nan)) == 0.0


def test_each_unit_is_judged_by_its_own_weights_in_the_order_of_the_report():
    model = forward_network(4, 3, 2, seed=0)
    layout = Layout(4, 3, 2)
    matrix = covariance(layout.size)
    tests = judge_units(model, layout, [4 * matrix, 9 * matrix], np.array([2, 0, 1]))
    for place, unit in enumerate((2, 0, 1)):
        for values, own, found in (
            (model.output_weights[unit], layout.indices["output_weights"][unit], tests.outputs),
            (
                model.recurrent_weights[:, unit],
                layout.indices["recurrent_weights"][:, unit],
                tests.feedback,
            ),
        ):
            expected = values @ np.linalg.inv(matrix[np.ix_(own, own)]) @ values
            # the least of both counts
            np.testing.assert_allclose(found[place], expected / 9, rtol=ALGEBRA)


def test_noise_stays_below_the_limit_along_the_best_of_all_directions():
    """Squares of rank-one terms of noise, the best of many unit rows x (a squares unit of x)."""
    rng = np.random.default_rng(0)
    n_outputs, n_inputs, over = 4, 5, 0
    for _ in range(40):
        draw = rng.standard_normal((n_outputs, n_inputs, n_inputs))
        noise = (draw + draw.swapaxes(1, 2)) / 2
        x = rng.standard_normal((400, n_inputs))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        largest = (np.einsum("aij,ti,tj->ta", noise, x, x) ** 2).sum(axis=1).max()
        over += largest > noise_limit(n_outputs, 2 * n_inputs)
    assert over == 0


def simulate(seed, n_hidden=3, *, noise=0.2, n_sequences=400):
    X, Y, truth, _ = datasets.make_rnn(n_sequences, 10, 5, n_hidden, 4, random_state=seed)
    rng = np.random.default_rng(1000 + seed)
    return X, Y + noise * Y.std() * rng.standard_normal(Y.shape), truth


def findings(X, Y, n_hidden, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est = SpectralRNNRegressor(n_hidden, random_state=0, engine="serial", **options).fit(X, Y)
    return est, [each for each in caught if issubclass(each.category, GloreeWarning)]


def test_a_unit_too_many_is_named():
    X, Y, truth = simulate(0)
    est, found = findings(X, Y, 4)
    texts = [str(each.message) for each in found if "hidden unit(s)" in str(each.message)]
    assert len(texts) == 1
    assert AcceptanceWarning in {each.category for each in found}
    cosines = np.abs(est.model_.input_weights @ truth.input_weights.T)
    extra = int(np.argmin(cosines.max(axis=1)))
    assert texts[0].startswith(f"hidden unit(s) {extra} (")
    assert "lower `n_hidden` by 1" in texts[0]
    assert texts[0] in est.report_.warnings


@pytest.mark.slow
def test_the_right_number_of_units_is_not_doubted():
    for seed in range(3):
        X, Y, _ = simulate(seed)
        assert findings(X, Y, 3)[1] == []


@pytest.mark.slow
def test_without_a_refinement_the_components_are_judged():
    X, Y, _ = simulate(0)
    _, found = findings(X, Y, 4, refine=None)
    assert [each.category for each in found] == [AcceptanceWarning]
    assert findings(X, Y, 3, refine=None)[1] == []


@pytest.mark.slow
def test_refined_units_that_pass_end_a_doubt_of_the_first_moment():
    """A moment of much noise, whose fit is as good as a descent from the truth."""
    for seed in (4, 6):
        X, Y, truth = simulate(seed, noise=1.5)
        est, found = findings(X, Y, 3)
        assert found == []
        assert est.report_.decomposition.overall_objection.startswith("predicted errors")
        layout, source = Layout(5, 3, 4), Source(as_sequences(X, Y))
        best = gauss_newton(truth, layout, Engine("serial"), source, to_convergence=True)
        squares = np.sum((Y - est.predict(X)) ** 2)
        assert squares < best.squares.sum() * (1 + 1 / Y.size)
    # the last one doubts some unit: all is said
    X, Y, _ = simulate(5, noise=1.5)
    texts = [str(each.message) for each in findings(X, Y, 3)[1]]
    assert [text.split()[0] for text in texts] == ["the", "hidden"]


def test_a_decomposition_that_failed_stays_in_doubt():
    """Two outputs and five units of five inputs: as many unknowns as the moment has entries."""
    X, Y, _, _ = datasets.make_rnn(400, 10, 5, 5, 2, noise=0.2, random_state=0)
    est, found = findings(X, Y, 5)
    assert not est.report_.decomposition.status.ok
    assert any("first moment is not reliable" in str(each.message) for each in found)


@pytest.mark.parametrize(("activation", "degree"), [("quadratic", 2), ("cubic", 3)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_units_that_cancel_each_other_are_pairs(activation, degree, sign):
    model = forward_network(4, 3, 2, seed=0).replace(activation=activation)
    layout = Layout(4, 3, 2)
    assert cancelling_units(model, layout) == []
    a, w = model.input_weights.copy(), model.output_weights.copy()
    a[2], w[2] = sign * (a[0] + 1e-2), -(sign**degree) * w[0] * 1.01
    pair = model.replace(input_weights=a, output_weights=w)
    assert cancelling_units(pair, layout) == [(0, 2)]
    w[2] *= -1.0
    assert cancelling_units(pair.replace(output_weights=w), layout) == []


def test_two_units_too_many_that_cancel_each_other_are_named():
    """They have large Wald statistics each, and explode on new data."""
    X, Y, _ = simulate(224, n_sequences=80)
    _, found = findings(X, Y, 5)
    assert any("are nearly one and cancel each" in str(each.message) for each in found)
    assert AcceptanceWarning in {each.category for each in found}


@pytest.mark.slow
def test_units_of_two_directions_are_judged():
    X, Y, _, _ = datasets.make_rnn(1500, 10, 5, 4, 4, bidirectional=True, random_state=1)
    Y = Y + 0.1 * Y.std() * np.random.default_rng(0).standard_normal(Y.shape)
    assert findings(X, Y, 4, bidirectional=True)[1] == []
    _, found = findings(X, Y, 5, bidirectional=True)
    assert any("hidden unit(s)" in str(each.message) for each in found)


KINDS = {
    "plain": {},
    "noisy": {"noise": 1.0},
    "few": {"n_sequences": 80},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_extra", [0, 1, 2])
def test_units_too_many_are_never_silent_and_right_fits_hardly_ever_doubted(kind, n_extra):
    n_fits, doubted = 25, 0
    for seed in range(n_fits):
        X, Y, _ = simulate(200 + seed, **KINDS[kind])
        doubted += bool(findings(X, Y, 3 + n_extra)[1])
    if n_extra:
        assert doubted == n_fits
    else:
        # 8 %, and two standard deviations of the count
        assert doubted <= 0.08 * n_fits + 2 * np.sqrt(0.08 * 0.92 * n_fits)

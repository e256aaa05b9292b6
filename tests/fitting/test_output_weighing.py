"""Several outputs: the same fit in all units, in the metric of their residuals, or of one given."""

import warnings
from functools import partial

import numpy as np
import pytest
from helpers.batches import merged
from helpers.comparisons import assert_close
from helpers.differences import central
from helpers.generators import forward_network, two_way_network, with_biases
from helpers.marks import first_of
from helpers.parts import cut_in_parts, write_npz
from scipy.linalg import null_space
from sklearn.covariance import oas

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import OutlierWarning
from gloree.engine import Engine, Source
from gloree.fitting._output_weighing import _no_less
from gloree.refinement import (
    Layout,
    on_unmixed_outputs,
    residual_sums,
    shrunk_covariance,
)
from gloree.sequences import as_sequences

ALGEBRA = 1e-10
# fits that round otherwise: 1e-16 times the condition of the moments and of J^T J, 1e6 at most
ROUNDING = 1e-8
# units of other output weights stand in another order, in which their sums are rounded
ORDER = 1e-13
# what is left to gain at the end, in standard errors
ENDED = 0.05
POWERS = 2.0 ** np.array([0, 10, -12, 5])
UNITS = np.array([1.0, 1000.0, 0.001, 30.0])


@pytest.fixture(autouse=True)
def quiet():
    """What fits notice is none of these tests' business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def simulate(seed=1, n_hidden=3, noise=0.1, correlation=0.6, n_sequences=200, **options):
    """Outputs of unlike sizes, with noise that is correlated and of unlike size."""
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, 10, 5, n_hidden, 4, noise=0.0, random_state=seed, **options
    )
    root = np.linalg.cholesky((1.0 - correlation) * np.eye(4) + correlation)
    draw = np.random.default_rng([seed, 1]).standard_normal(Y.shape) @ root.T
    return X, Y + noise * Y.std() * np.array([1.0, 0.5, 0.2, 1.0]) * draw, truth


def smooth_outputs():
    """Of a network of two units of tanh."""
    rng = np.random.default_rng(0)
    truth = datasets.random_rnn(3, 2, 4, activation="tanh", recurrence_norm=0.4, random_state=rng)
    X = 2.0 * rng.standard_normal((150, 10, 3))
    Y = truth.predict(X)
    return X, Y + 0.1 * Y.std() * rng.standard_normal(Y.shape)


def fit(X, Y, n_hidden=3, **options):
    return SpectralRNNRegressor(n_hidden, **{"random_state": 0, "engine": "serial", **options}).fit(
        X, Y
    )


PATHS = {
    "one direction": {},
    "two directions": {"bidirectional": True, "n_hidden": 4},
    "lags": {"lags": 2},
    "direct path": {"direct": True},
    "no biases": {"fit_bias": False},
    "any activation": {"activation": "tanh"},
    "moments alone": {"refine": None},
    "to convergence": {"refine": "full"},
}


@pytest.mark.parametrize("path", first_of(PATHS, 2))
def test_fits_are_the_same_in_all_units(path):
    """To the last bit in powers of two, to rounding otherwise."""
    options = dict(PATHS[path])
    n_hidden = options.pop("n_hidden", 3)
    if "activation" in options:
        n_hidden, (X, Y) = 2, smooth_outputs()
    else:
        X, Y, _ = simulate(n_hidden=n_hidden, bidirectional="bidirectional" in options)
    found = fit(X, Y, n_hidden, **options)
    for units, tolerance in ((1024.0, 0.0), (POWERS, ORDER), (UNITS, ROUNDING)):
        other = fit(X, Y * units, n_hidden, **options)
        expected = found.predict(X)
        if tolerance < ROUNDING:
            for name in ("input_weights", "recurrent_weights", "hidden_bias"):
                mine, its = (np.sort(getattr(e.model_, name), None) for e in (found, other))
                np.testing.assert_array_equal(its, mine)
        np.testing.assert_allclose(
            other.predict(X) / units, expected, rtol=0, atol=tolerance * np.abs(expected).max()
        )
        if options.get("refine", "") is None:
            continue
        report, its = found.report_, other.report_
        np.testing.assert_allclose(its.refined_rmse / units, report.refined_rmse, rtol=tolerance)
        np.testing.assert_allclose(its.moments_rmse / units, report.moments_rmse, rtol=tolerance)
        np.testing.assert_allclose(its.output_std / units, report.output_std, rtol=tolerance)
        metric = its.output_weighting.metric * np.outer(np.ones(4) * units, np.ones(4) * units)
        np.testing.assert_allclose(
            metric, report.output_weighting.metric, rtol=1e3 * tolerance, atol=1e3 * tolerance
        )


@pytest.mark.slow
def test_standard_errors_have_the_units_of_the_outputs():
    X, Y, _ = simulate()
    one, other = (fit(X, Y * unit).report_ for unit in (1.0, 1024.0))
    for name, errors in one.standard_errors.items():
        unit = 1024.0 if name.startswith("output") else 1.0
        np.testing.assert_array_equal(other.standard_errors[name], unit * errors)


def test_a_single_output_is_the_same_in_units_of_powers_of_two():
    options = {"activation": "cubic"}
    X, Y, _, _ = datasets.make_rnn(200, 10, 3, 2, 1, degree=3, noise=0.1, random_state=0)
    one, other = fit(X, Y, 2, **options), fit(X, 1024.0 * Y, 2, **options)
    np.testing.assert_array_equal(other.predict(X), 1024.0 * one.predict(X))
    assert one.report_.output_weighting is None
    np.testing.assert_allclose(one.report_.residual_covariance, [[0.01]], rtol=0.1)


def loss_of(model, metric, X, Y):
    residuals = (Y - model.predict(X)).reshape(-1, Y.shape[-1])
    return np.einsum("ta,ab,tb->", residuals, metric, residuals)


def test_a_fit_is_at_the_optimum_of_the_metric_that_it_reports():
    """No gradient of sum r^T G r but along the free scales of the units."""
    X, Y, _ = simulate(n_sequences=60)
    est = fit(X, Y, refine="full")
    layout = Layout(5, 3, 4)
    metric = est.report_.output_weighting.metric

    def loss(change):
        return loss_of(layout.move(est.model_, change), metric, X, Y)

    # in units of their standard errors
    errors = np.empty(layout.size)
    for name, index in layout.indices.items():
        errors[index] = est.report_.standard_errors[name]
    gradient = central(lambda change: loss(change * errors), np.zeros(layout.size), 1e-4)
    fixed = layout.scale_constraints(est.model_) * errors
    free = null_space(fixed)
    assert np.abs(free.T @ gradient / 2).max() < ENDED


def test_the_metric_is_the_inverse_covariance_of_the_residuals():
    X, Y, _ = simulate(n_sequences=500)
    est = fit(X, Y * UNITS)
    residuals = (Y * UNITS - est.predict(X)).reshape(-1, 4) / UNITS
    covariance = residuals.T @ residuals / len(residuals)
    metric = est.report_.output_weighting.metric * np.outer(UNITS, UNITS)
    # outputs are weighed until (1 + c)^2 / 4 c < 1.02 for the condition c of what is left, c < 1.33
    np.testing.assert_allclose(metric @ covariance, np.eye(4), atol=0.15)
    given = est.report_.residual_covariance / np.outer(UNITS, UNITS)
    freedom = len(residuals) / (len(residuals) - Layout(5, 3, 4).size / 4)
    np.testing.assert_allclose(given, freedom * covariance, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        est.report_.refined_rmse / UNITS, np.sqrt(np.diag(covariance)), rtol=1e-8
    )
    assert est.report_.output_weighting.gain > 10.0
    assert "by the inverse covariance" in str(est.report_)


def test_given_weights_are_those_of_scaled_outputs():
    X, Y, _ = simulate()
    weights = np.array([4.0, 0.25, 16.0, 1.0])  # whose roots are exact
    given = fit(X, Y, output_weights=weights)
    scaled = fit(X, Y * np.sqrt(weights), output_weights="equal")
    # units are listed in another order, and sums of them rounded in it
    assert_close(given.predict(X), scaled.predict(X) / np.sqrt(weights), ALGEBRA)
    as_metric = fit(X, Y, output_weights=np.diag(weights))
    assert_close(as_metric.predict(X), given.predict(X), ROUNDING)
    assert given.report_.output_weighting.kind == "given"
    np.testing.assert_allclose(given.report_.output_weighting.metric, np.diag(weights))


def test_a_given_metric_is_that_of_mixed_outputs():
    X, Y, _ = simulate()
    root = np.tril(np.random.default_rng(0).uniform(0.5, 1.5, (4, 4)))
    metric = root @ root.T
    est = fit(X, Y, output_weights=metric, refine="full")
    mixed = fit(X, Y @ root, output_weights="equal", refine="full")
    expected = mixed.predict(X) @ np.linalg.inv(root)
    assert_close(est.predict(X), expected, 1e-5)  # both ends of descents to 1e-8 of the loss
    np.testing.assert_allclose(est.report_.output_weighting.metric, metric, rtol=ALGEBRA)
    errors = (each.report_.standard_errors["input_weights"] for each in (est, mixed))
    np.testing.assert_allclose(*map(np.sort, map(np.ravel, errors)), rtol=1e-3)


def test_equal_weights_are_least_squares_of_the_outputs_as_they_come():
    X, Y, _ = simulate(n_sequences=60)
    est = fit(X, Y, refine="full", output_weights="equal")
    other = fit(X, Y, refine="full")
    assert loss_of(est.model_, np.eye(4), X, Y) < loss_of(other.model_, np.eye(4), X, Y)
    metric = other.report_.output_weighting.metric
    assert loss_of(other.model_, metric, X, Y) < loss_of(est.model_, metric, X, Y)
    assert est.report_.output_weighting.kind == "equal"


SINGULAR = {
    "two equal outputs": lambda Y: np.concatenate((Y, Y[..., :1]), axis=2),
    "sums of others": lambda Y: np.concatenate((Y, Y.sum(axis=2, keepdims=True)), axis=2),
    "a constant": lambda Y: np.concatenate((Y, np.full((*Y.shape[:2], 1), 7.0)), axis=2),
    "zeros": lambda Y: np.concatenate((Y, np.zeros((*Y.shape[:2], 1))), axis=2),
}


@pytest.mark.parametrize("kind", first_of(SINGULAR, 2))
def test_singular_residuals_have_bounded_weights(kind):
    X, Y, _ = simulate()
    alone = fit(X, Y)
    for values in (Y, SINGULAR[kind](Y)):
        est = fit(X, values)
        found = est.model_.replace(
            output_weights=est.model_.output_weights[:, :4], output_bias=est.model_.output_bias[:4]
        )
        off = metrics.weight_errors(found, alone.model_)["input_weights"]
        assert off < 0.5 * alone.report_.predicted_errors["input_weights"]
        assert np.isfinite(est.report_.output_weighting.metric).all()
        assert all(np.isfinite(each).all() for each in est.report_.standard_errors.values())
    assert 4 in est.report_.output_weighting.bounded
    assert "bounded" in str(est.report_.output_weighting)
    np.testing.assert_allclose(
        est.predict(X)[..., 4], SINGULAR[kind](est.predict(X)[..., :4])[..., 4], atol=1e-3
    )


def test_covariances_are_raised_in_small_directions_alone():
    """In a basis M in which the least one is I, and the covariance diagonal."""
    basis = np.random.default_rng(0).standard_normal((4, 4))
    least = basis.T @ basis
    for before, after in (([0.0, 0.1, 2.0, 3.0], [1.0, 1.0, 2.0, 3.0]), ([1.5, 2, 2, 3],) * 2):
        raised = _no_less(basis.T @ np.diag(before) @ basis, least)
        np.testing.assert_allclose(raised, basis.T @ np.diag(after) @ basis, atol=ALGEBRA)


@pytest.mark.slow
def test_a_copy_of_an_output_costs_nothing_beside_correlated_noise():
    """Over many fits: input weights have the errors of fits without the copy."""
    ratios = []
    for seed in range(12):
        X, _, truth, _ = datasets.make_rnn(200, 10, 4, 3, 3, noise=0.0, random_state=seed)
        Y = truth.predict(X)
        root = np.linalg.cholesky(0.05 * np.eye(3) + 0.95)
        Y += 0.5 * Y.std() * np.random.default_rng(seed).standard_normal(Y.shape) @ root.T
        alone, beside = fit(X, Y).model_, fit(X, np.concatenate((Y, Y[..., :1]), axis=2)).model_
        beside = beside.replace(
            output_weights=beside.output_weights[:, :3], output_bias=beside.output_bias[:3]
        )
        errors = [metrics.weight_errors(each, truth)["input_weights"] for each in (beside, alone)]
        ratios.append(errors[0] / errors[1])
    assert 0.9 < np.median(ratios) < 1.1
    assert max(ratios) < 1.5


def test_an_output_without_noise_decides_the_units():
    """What is known exactly of one output is known of the input weights that all share."""
    X, Y, truth = simulate(noise=1.0)
    exact = truth.predict(X)[..., :1]
    noisy, both = fit(X, Y), fit(X, np.concatenate((Y, exact), axis=2))
    errors = [
        metrics.weight_errors(
            each.model_.replace(
                output_weights=each.model_.output_weights[:, :4],
                output_bias=each.model_.output_bias[:4],
            ),
            truth,
        )["input_weights"]
        for each in (noisy, both)
    ]
    assert errors[1] < 1e-3 * errors[0]
    assert both.report_.output_weighting.bounded == (4,)


@pytest.mark.slow
def test_outputs_without_noise_stay_as_they_are():
    X, Y, truth = simulate(noise=0.0)
    est = fit(X, Y * UNITS, refine="full")
    scaled = truth.replace(output_weights=truth.output_weights * UNITS)
    assert max(metrics.weight_errors(est.model_, scaled).values()) < 1e-6


@pytest.mark.slow
def test_fits_from_files_are_those_from_arrays(tmp_path):
    X, Y, _ = simulate()
    write_npz(tmp_path, cut_in_parts(X, Y * UNITS, 4))
    est, other = fit(X, Y * UNITS), fit(str(tmp_path), None)
    assert_close(other.predict(X) / UNITS, est.predict(X) / UNITS, ROUNDING)


@pytest.mark.slow
def test_fits_of_tensors_are_those_of_arrays():
    torch = pytest.importorskip("torch")
    X, Y, _ = simulate(n_sequences=100)
    est = fit(X, Y * UNITS)
    other = fit(torch.from_numpy(X), torch.from_numpy(Y * UNITS))
    assert_close(other.predict(X) / UNITS, est.predict(X) / UNITS, ROUNDING)


@pytest.mark.slow
def test_an_output_that_explodes_is_named_in_any_units():
    """In its own size, whatever that of the others is."""
    X, Y, _ = simulate()
    for units in (np.ones(4), UNITS):
        values = Y * units
        values[7, 5:, 2] = 1e9 * units[2]
        with pytest.warns(OutlierWarning, match=r"1 sequence was left out .*\(sequences 7\)"):
            fit(X, values)
        values[::10, 5:, 2] = 1e9 * units[2]
        with pytest.raises(
            ValueError, match=f"the largest: {1e9 * units[2]:.3g}".replace("+", ".")
        ):
            fit(X, values)


def test_labels_and_other_losses_take_outputs_as_they_come():
    X, Y, _ = simulate(n_sequences=60)
    clf = SpectralRNNClassifier(2, random_state=0).fit(X, Y.argmax(axis=2))
    assert clf.report_.output_weighting is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("residual", "did you mean 'residuals'"),
        (np.ones(3), r"has shape \(3,\): expected a weight of each output, \(4,\)"),
        (np.array([1.0, 1.0, 0.0, 1.0]), "must be finite and positive"),
        (np.ones((4, 4)), "positive definite"),
        (np.tri(4) + np.eye(4), "symmetric"),
        (np.array([1.0, np.nan, 1.0, 1.0]), "must be finite"),
        (None, "must be one of"),
    ],
)
def test_weights_that_are_none_are_refused(given, message):
    X, Y, _ = simulate(n_sequences=60)
    with pytest.raises(ValueError, match=message):
        fit(X, Y, output_weights=given)


# -------------------------------------------------------------------------- pieces, against oracles


def test_shrinkage_is_the_oracle_approximating_one():
    """Of correlations: those of data with these as their second moments."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((50, 4)) @ np.tril(rng.uniform(0.2, 1.0, (4, 4)))
    covariance = values.T @ values / 50
    sizes = np.sqrt(np.diag(covariance))
    expected = oas(values / sizes, assume_centered=True)[0] * np.outer(sizes, sizes)
    np.testing.assert_allclose(shrunk_covariance(covariance, 50), expected, rtol=ALGEBRA)
    np.testing.assert_allclose(shrunk_covariance(np.diag(sizes), 50), np.diag(sizes), rtol=ALGEBRA)


def test_residual_sums_are_those_of_the_rows_and_merge():
    model = with_biases(forward_network(3, 2, 3, seed=1), seed=2)
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((12, 5, 3)), rng.standard_normal((12, 5, 3))
    data = as_sequences(X, Y)
    parts = [
        residual_sums(data.batch(segments), model) for segments in data.segments(batch_size=13)
    ]
    residuals = (Y - model.predict(X)).reshape(-1, 3)
    found = merged(parts)
    assert found.n_rows == 60
    np.testing.assert_allclose(found.products, residuals.T @ residuals, rtol=ALGEBRA)
    whole = Engine("serial").run(partial(residual_sums, model=model), Source(data))
    np.testing.assert_allclose(whole.covariance, residuals.T @ residuals / 60, rtol=ALGEBRA)


@pytest.mark.parametrize("two_way", [False, True])
def test_changes_of_weights_are_those_of_unmixed_outputs(two_way):
    rng = np.random.default_rng(0)
    model = two_way_network(2, 2, 3, 3, seed=1) if two_way else forward_network(3, 2, 3, seed=1)
    layout = Layout(3, model.n_hidden, 3, direct=True, n_backward=2 if two_way else None)
    model = model.replace(direct_weights=rng.standard_normal((3, 3)))
    B, change = rng.standard_normal((3, 3)), rng.standard_normal(layout.size)

    def unmixed(given):
        return given.replace(
            output_weights=given.output_weights @ B,
            output_bias=given.output_bias @ B,
            direct_weights=given.direct_weights @ B,
        )

    expected = layout.vector(unmixed(layout.move(model, change))) - layout.vector(unmixed(model))
    np.testing.assert_allclose(on_unmixed_outputs(layout, B) @ change, expected, atol=ALGEBRA)


@pytest.mark.slow
def test_standard_errors_are_those_of_weighed_outputs():
    """Coverage of 95 % intervals, 1,800 of them from 60 fits that are independent."""
    held = []
    for seed in range(60):
        X, Y, truth = simulate(seed)
        est = fit(X, Y * UNITS)
        scaled = truth.replace(output_weights=truth.output_weights * UNITS)
        aligned = metrics.align(est.model_, scaled)
        for name in ("input_weights", "output_weights"):
            low, high = est.report_.intervals()[name]
            half = ((high - low) / 2)[aligned.order]
            error = getattr(aligned.model, name) - getattr(aligned.truth, name)
            held.append(float(np.mean(np.abs(error) < half)))
    assert abs(np.mean(held) - 0.95) < 4 * np.std(held) / np.sqrt(len(held)) + 0.01

"""Normal equations of rows that are gone: by differences, merged, and what a parabola knows."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.batches import only_batch
from helpers.differences import central
from helpers.generators import forward_network, ragged, two_way_network

from gloree.engine import Engine, Source
from gloree.refinement import (
    Layout,
    NormalOutputs,
    SoftmaxLabels,
    chance,
    covariance_of,
    go_on,
    normal_sums,
    sum_normal_equations,
    sums_of_report,
)
from gloree.refinement import _kept_rows as kept_rows
from gloree.refinement._kept_rows import NormalSums
from gloree.sequences import as_sequences
from gloree.states import predict_rows, run_states

STEP, FROM_DIFFERENCES = 1e-5, 1e-6
# Sums of some dozens of products of numbers of size 1.
ALGEBRA = 1e-10
SERIAL = Engine("serial")
NOISE = NormalOutputs(np.array([[2.0, 0.5], [0.5, 1.0]]))
NETWORKS = {
    "forward": (forward_network(direct=True), {"direct": True}),
    "both ways": (two_way_network(), {"n_backward": 2}),
    "windows": (forward_network(n_inputs=6, activation="tanh"), {}),
}


def case(name, labels=False, seed=1):
    model, free = NETWORKS[name]
    X, Y = ragged(model.n_columns, 2, seed=seed)
    if labels:
        Y = [(y[:, :1] > 0).astype(float) for y in Y]
    layout = Layout(model.n_columns, model.n_hidden, 2, **free)
    return model, layout, Source(as_sequences(X, Y))


def loss(model, batch, likelihood):
    predicted = predict_rows(model, batch, run_states(model, batch))
    return likelihood.rows(predicted, batch.targets)[0].sum()


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_that_of_the_loss_and_the_curvature_is_of_all_jacobians(name, labels):
    model, layout, source = case(name, labels)
    batch, likelihood = only_batch(source), SoftmaxLabels() if labels else NOISE
    found = normal_sums(batch, model, layout, likelihood)

    def predicted(step):
        moved = layout.move(model, step)
        return predict_rows(moved, batch, run_states(moved, batch))

    zero = np.zeros(layout.size)
    slope = central(lambda s: loss(layout.move(model, s), batch, likelihood), zero, STEP)
    np.testing.assert_allclose(found.gradient, -slope, atol=FROM_DIFFERENCES * abs(slope).max())
    J = np.moveaxis(np.asarray(central(predicted, zero, STEP)), 0, -1)
    if labels:
        e = np.exp(predicted(zero))
        p = e / e.sum(axis=1, keepdims=True)
        W = p[:, :, None] * np.eye(2) - p[:, :, None] * p[:, None]
    else:
        W = np.broadcast_to(NOISE.precision, (batch.n_rows, 2, 2))
    H = np.einsum("nai,nab,nbj->ij", J, W, J)
    np.testing.assert_allclose(found.information, H, atol=FROM_DIFFERENCES * abs(H).max())
    assert found.loss == pytest.approx(loss(model, batch, likelihood), rel=ALGEBRA)


def test_two_halves_of_the_rows_have_the_sums_of_all_rows_to_rounding():
    model, layout, source = case("forward")
    whole = sum_normal_equations(model, layout, SERIAL, source, NOISE)
    halves = []
    for part in (slice(0, 2), slice(2, 5)):
        X, Y = ragged(model.n_columns, 2)
        half = Source(as_sequences(X[part], Y[part]))
        halves.append(sum_normal_equations(model, layout, SERIAL, half, NOISE))
    merged = halves[0].merge(halves[1])
    for name in ("n_rows", "loss", "gradient", "information", "spread", "misses"):
        expected = getattr(whole, name)
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(getattr(merged, name), expected, atol=ALGEBRA * scale)


def test_derivatives_that_do_not_fit_are_taken_row_by_row(monkeypatch):
    model, layout, source = case("forward")
    whole = sum_normal_equations(model, layout, SERIAL, source, NOISE)
    monkeypatch.setattr(kept_rows, "NUMBERS_AT_ONCE", 1)
    parts = sum_normal_equations(model, layout, SERIAL, source, NOISE)
    scale = np.abs(whole.information).max()
    np.testing.assert_allclose(parts.information, whole.information, atol=ALGEBRA * scale)


def test_the_parabola_is_exact_in_weights_that_predictions_are_linear_in():
    model, layout, source = case("forward")
    sums = sum_normal_equations(model, layout, SERIAL, source, NOISE)
    step = np.zeros(layout.size)
    step[layout.n_unit_parameters :] = np.random.default_rng(0).standard_normal(
        layout.size - layout.n_unit_parameters
    )
    there = sum_normal_equations(layout.move(model, step), layout, SERIAL, source, NOISE)
    moved = sums.moved(step)
    assert moved.loss == pytest.approx(there.loss, rel=ALGEBRA)
    outputs = slice(layout.n_unit_parameters, None)
    scale = np.abs(there.gradient).max()
    np.testing.assert_allclose(
        moved.gradient[outputs], there.gradient[outputs], atol=ALGEBRA * scale
    )
    # and of second order in the others
    small = np.random.default_rng(1).standard_normal(layout.size)
    off = [
        abs(
            sums.moved(size * small).gradient
            - sum_normal_equations(
                layout.move(model, size * small), layout, SERIAL, source, NOISE
            ).gradient
        ).max()
        for size in (1e-3, 1e-4)
    ]
    assert off[1] < off[0]


def linear_case(seed):
    """A network whose units do not matter: outputs are linear in what is left."""
    model = forward_network(direct=True, recurrent_weights=np.zeros((4, 4)))
    X, Y = ragged(3, 2, lengths=(30, 20, 25), seed=seed)
    return model, Source(as_sequences(X, Y))


def test_new_rows_beside_the_parabola_of_the_old_ones_end_where_all_rows_do():
    model, old = linear_case(1)
    _, new = linear_case(2)
    layout = Layout(3, 4, 2, recurrent=False, direct=True)

    def outputs_only(weights):
        return weights[layout.n_unit_parameters :]

    kept = sum_normal_equations(model, layout, SERIAL, old, NOISE)
    # a prior that holds the units where they are: what is left is linear least squares
    stiff = np.zeros(layout.size)
    stiff[: layout.n_unit_parameters] = 1e14
    kept = replace(kept, information=kept.information + np.diag(stiff))
    found = go_on(kept, model, layout, SERIAL, new, NOISE)
    assert found.settled
    rows = []
    for source in (old, new):
        batch = only_batch(source)
        h = run_states(model, batch).h
        rows.append((np.column_stack((h, np.ones(len(h)), batch.X)), batch.targets))
    phi, y = (np.concatenate(part) for part in zip(*rows, strict=True))
    expected = np.linalg.lstsq(phi, y, rcond=None)[0]
    np.testing.assert_allclose(
        outputs_only(layout.vector(found.model)), expected.T.ravel(), rtol=1e-5
    )


def test_the_sandwich_is_that_of_segments():
    model, layout, source = case("windows")
    batch = only_batch(source)
    sums = normal_sums(batch, model, layout, NOISE)
    scores = []
    for first, n in zip(batch.starts, batch.lengths, strict=True):
        X, Y = batch.X[first : first + n], batch.targets[first : first + n]
        own = only_batch(Source(as_sequences([X], [Y])))
        scores.append(normal_sums(own, model, layout, NOISE).gradient)
    spread = np.transpose(scores) @ np.array(scores)
    np.testing.assert_allclose(sums.spread, spread, atol=ALGEBRA * abs(spread).max())
    sums = replace(sums, information=sums.information + np.eye(layout.size))
    inverse = np.linalg.inv(sums.information)
    expected = inverse @ spread @ inverse
    np.testing.assert_allclose(
        covariance_of(sums, layout, model), expected, atol=1e-8 * abs(expected).max()
    )


def test_a_covariance_gives_the_sums_that_have_it():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((5, 4))
    C = A @ A.T  # of rank 4: one combination is held fixed
    sums = sums_of_report(C, 10.0, np.ones(1), 5)
    np.testing.assert_allclose(C @ sums.information @ C, C, atol=1e-8)
    assert not sums.gradient.any()
    assert chance(0.0, 3.0) == 1.0
    assert chance(100.0, 3.0) < 1e-10


def test_the_information_of_a_report_is_what_its_rows_had_and_not_the_inverse_of_the_sandwich():
    rng = np.random.default_rng(0)
    A, scores = rng.standard_normal((4, 4)), rng.standard_normal((6, 4))
    H, Q = A @ A.T + np.eye(4), scores.T @ scores  # six clusters for four weights
    inverse = np.linalg.inv(H)
    sums = sums_of_report(inverse @ Q @ inverse, 10.0, np.ones(1), 4, inverse)
    np.testing.assert_allclose(sums.information, H, rtol=1e-8)
    np.testing.assert_allclose(sums.spread, Q, atol=1e-8 * abs(Q).max())


def test_weights_of_infinite_variance_are_no_information():
    C = np.array([[np.inf, 0.3], [0.3, 0.25]])
    for inverse in (None, np.diag([1.0, 0.5])):
        sums = sums_of_report(C, 10.0, np.ones(1), 2, inverse)
        known = 4.0 if inverse is None else 2.0
        np.testing.assert_allclose(sums.information, np.diag([0.0, known]))
        np.testing.assert_allclose(sums.spread, np.diag([0.0, 0.25 * known**2]))


def test_rows_without_information_contradict_nothing():
    size = 3
    kept = NormalSums(10.0, 0.0, np.zeros(size), np.zeros((size, size)), np.eye(size), np.zeros(1))
    new = replace(kept, information=np.diag([4.0, 1.0, 0.0]), gradient=np.array([2.0, 1.0, 0.0]))
    statistic, degrees = kept_rows._disagreement(kept, new, np.eye(size))
    assert degrees == 2.0
    assert statistic == pytest.approx(2.0**2 / 4.0 + 1.0)

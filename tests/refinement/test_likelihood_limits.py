"""Labels and rows that are gone: searches step by step, and every figure by its definition."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.batches import SERIAL
from helpers.generators import forward_network, ragged, two_way_network

from gloree.engine import Source
from gloree.models import IORNN, ExplosionError
from gloree.refinement import (
    CrossEntropy,
    FisherScoring,
    HessianSums,
    Layout,
    NormalOutputs,
    RefinementStatus,
    SquaredError,
    chance,
    go_on,
    in_other_units,
    logistic_readout,
    on_uncentred_inputs,
    sum_normal_equations,
    sums_of_report,
)
from gloree.refinement import _fisher_scoring as fisher
from gloree.refinement import _kept_rows as kept_rows
from gloree.refinement import _readout as readout
from gloree.refinement._curvature import solve_step
from gloree.refinement._fisher_scoring import _Scoring, label_gauge, without_common_part
from gloree.refinement._kept_rows import NormalSums, _disagreement, _free_directions
from gloree.refinement._losses import softmax
from gloree.refinement._rescaling import _lengths, on_unmixed_outputs
from gloree.refinement._standard_errors import inverse_root
from gloree.sequences import as_sequences

ROUNDING = 1e-12
# Small systems by two routes.
TWO_ROUTES = 1e-8

LAYOUT = Layout(3, 2, 2)
N_ROWS = 40.0


def network(**options):
    return forward_network(3, 2, 2, activation="tanh", **options)


class Passes:
    """Losses of one pass after another, with a gradient along the first weight."""

    def __init__(self, losses, gain=5.0):
        self.losses, self.gain, self.n = list(losses), gain, 0

    def __call__(self):
        loss = self.losses[min(self.n, len(self.losses) - 1)]
        self.n += 1
        if loss is None:
            return None
        gradient = -np.sqrt(self.gain) * np.eye(1, LAYOUT.size)[0]
        return SimpleNamespace(loss=loss, n_rows=N_ROWS, gradient=gradient)


def scored(monkeypatch, passes, max_steps=100):
    """The end of a search, and the dampings of its trials."""
    dampings = []

    def step(H, gradient, constraints, damping):
        dampings.append(damping)
        return gradient

    monkeypatch.setattr(_Scoring, "sums", lambda *_: passes())
    monkeypatch.setattr(
        _Scoring, "information", lambda *_: HessianSums(N_ROWS, np.eye(LAYOUT.size))
    )
    monkeypatch.setattr(fisher, "solve_step", step)
    source = Source(as_sequences(np.zeros((4, 3)), np.zeros((4, 1))))
    end = FisherScoring(max_steps).minimise(CrossEntropy(), network(), LAYOUT, SERIAL, source)
    assert min(dampings) == 0.0  # what is left to gain is that of a full step
    return end, [each for each in dampings if each > 0.0]


def test_scoring_is_damped_eight_times_less_after_a_step(monkeypatch):
    end, dampings = scored(monkeypatch, Passes([9.0, 8.0, 7.0, 6.0]), max_steps=3)
    np.testing.assert_allclose(dampings, 1e-3 / 8.0 ** np.arange(3), rtol=ROUNDING)
    assert (end.status, end.n_steps) == (RefinementStatus.STEP_LIMIT, 3)
    assert [step.loss * N_ROWS for step in end.history] == [9.0, 8.0, 7.0, 6.0]
    end, dampings = scored(monkeypatch, Passes(range(99, 0, -1)), max_steps=12)
    assert min(dampings) == 1e-9
    # where that is too little, it goes on from a millionth
    end, dampings = scored(monkeypatch, Passes([*range(99, 86, -1), 99, 1]), max_steps=13)
    np.testing.assert_allclose(dampings[-2:], [1e-9, 1e-6], rtol=ROUNDING)


def test_scoring_ends_where_the_curvature_is_not_the_expected_one():
    """Two sigmoid units that labels hardly tell apart: hundreds of steps else."""
    rng = np.random.default_rng(5)
    A1, U = rng.standard_normal((2, 4)), rng.standard_normal((2, 2))
    truth = IORNN(
        A1 / np.linalg.norm(A1, axis=1, keepdims=True),
        0.6 * U / np.linalg.norm(U, 2),
        3.0 * rng.standard_normal((2, 3)),
        hidden_bias=0.5 * rng.standard_normal(2),
        activation="sigmoid",
    )
    X = rng.standard_normal((400, 10, 4))
    logits = truth.predict(X)
    labels = np.argmax(logits + rng.gumbel(size=logits.shape), axis=2)[..., None]
    source, layout = Source(as_sequences(X, labels)), Layout(4, 2, 3)
    end = FisherScoring().minimise(CrossEntropy(), truth, layout, SERIAL, source)
    assert end.status is RefinementStatus.CONVERGED
    assert end.n_steps < 100
    gradient = SERIAL.run(partial(CrossEntropy().sums, model=end.model, layout=layout), source)
    step = solve_step(end.hessian.hessian, -gradient.gradient, label_gauge(layout), 1e-9)
    assert float(-gradient.gradient @ step) < 1e-2


@pytest.mark.parametrize("failure", [None, 9.0, 10.0])
def test_scoring_is_damped_eight_times_more_where_nothing_is_gained(failure, monkeypatch):
    passes = Passes([9.0, failure, failure, 8.0, 7.0])
    end, dampings = scored(monkeypatch, passes, max_steps=2)
    np.testing.assert_allclose(dampings, [1e-3, 8e-3, 64e-3, 8e-3], rtol=ROUNDING)
    assert end.n_steps == 2


@pytest.mark.parametrize(
    ("gain", "n_steps", "status"),
    [
        (5.0, 0, "NO_DECREASE"),
        (0.5, 0, "NO_DECREASE"),
        (0.9, 1, "CONVERGED"),
        (1.1, 1, "NO_DECREASE"),
    ],
)
def test_the_end_of_scoring_where_no_damping_helps(gain, n_steps, status, monkeypatch):
    passes = Passes([9.0, 8.0, 9.0] if n_steps else [9.0, 9.0], gain)
    end, dampings = scored(monkeypatch, passes)
    assert (end.status, end.n_steps) == (RefinementStatus[status], n_steps)
    own = dampings[n_steps:]
    assert own[-1] < 1e6 <= 8 * own[-1]
    np.testing.assert_allclose(np.diff(np.log(own)), np.log(8.0), rtol=1e-9)


@pytest.mark.parametrize(("gain", "ended"), [(0.99e-4, True), (1.01e-4, False)])
def test_scoring_ends_where_a_ten_thousandth_is_left_to_gain(gain, ended, monkeypatch):
    end, dampings = scored(monkeypatch, Passes([9.0, 8.0], gain), max_steps=1)
    assert (end.status is RefinementStatus.CONVERGED) is ended
    assert len(dampings) == (not ended)


def test_a_start_of_scoring_that_explodes_and_other_losses_are_errors(monkeypatch):
    with pytest.raises(ExplosionError) as exploded:
        scored(monkeypatch, Passes([None]))
    assert exploded.value.args == (0, 0, math.inf)
    source = Source(as_sequences(np.zeros((4, 3)), np.zeros((4, 1))))
    with pytest.raises(ValueError, match="`loss` is the 'squared error'"):
        FisherScoring().minimise(SquaredError(), network(), LAYOUT, SERIAL, source)


def test_weights_whose_squares_overflow_are_refused():
    source = Source(as_sequences(np.zeros((4, 1, 3)), np.zeros((4, 1, 1))))
    scoring, model = _Scoring(CrossEntropy(), LAYOUT, SERIAL, source), network()
    large = model.replace(input_weights=1e160 * model.input_weights)
    assert scoring.sums(model) is not None
    assert scoring.sums(large) is None


@pytest.mark.parametrize(("n_sequences", "stride"), [(39, 1), (40, 2), (60, 3)])
def test_the_information_of_many_rows_is_that_of_some(n_sequences, stride, monkeypatch):
    """Of 20,000 rows at least, here of 20; scaled to all of them."""
    monkeypatch.setattr(fisher, "LEAST_ROWS", 20 * 1)
    monkeypatch.setattr(fisher, "ROWS_PER_WEIGHT", 0)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_sequences, 1, 3))
    labels = rng.integers(0, 2, (n_sequences, 1, 1)).astype(float)
    model = network()
    source = Source(as_sequences(X, labels), batch_size=10)
    scoring = _Scoring(CrossEntropy(), LAYOUT, SERIAL, source)
    found = scoring.information(model)
    some = as_sequences(X[::stride], labels[::stride]).whole()
    part = fisher.fisher_sums(some, model, LAYOUT)
    scale = n_sequences / len(X[::stride])
    np.testing.assert_allclose(found.hessian, scale * part.hessian, rtol=1e-9, atol=1e-12)
    assert found.n_rows == n_sequences


def test_weights_of_labels_add_up_to_nothing_in_their_gauge():
    layout = Layout(3, 2, 3, direct=True)
    model = forward_network(3, 2, 3, direct_weights=np.ones((3, 3)))
    model = model.replace(output_bias=[1.0, 2.0, 6.0])
    found, gauge = without_common_part(model), label_gauge(layout)
    np.testing.assert_allclose(gauge @ layout.vector(found), 0.0, atol=ROUNDING)
    np.testing.assert_allclose(gauge @ gauge.T, np.eye(layout.output_width), atol=ROUNDING)
    assert np.abs(gauge @ layout.vector(model)).min() > 0.1
    X = np.random.default_rng(0).standard_normal((9, 3))
    before, after = (softmax(each.predict(X))[0] for each in (model, found))
    np.testing.assert_allclose(after, before, rtol=1e-9)


def test_the_information_of_labels_of_both_directions_is_that_of_the_normal_equations():
    """sum_t J_t^T (diag(p) - p p^T) J_t, by sensitivities of two chains and by dense Jacobians."""
    model, layout = two_way_network(), Layout(3, 5, 2, n_backward=2)
    X, Y = ragged(3, 2)
    batch = as_sequences(X, [(y[:, :1] > 0).astype(float) for y in Y]).whole()
    found = fisher.fisher_sums(batch, model, layout)
    expected = kept_rows.normal_sums(batch, model, layout, kept_rows.SoftmaxLabels())
    scale = np.abs(expected.information).max()
    np.testing.assert_allclose(found.hessian, expected.information, atol=TWO_ROUTES * scale)


# ------------------------------------------------------------------------------------ readout


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("direct", [False, True])
def test_the_readout_is_the_maximum_of_its_penalised_likelihood(n_labels, direct, monkeypatch):
    """sum_t (e - p) x~ = w~ for features of unit variance; the bias has no penalty."""
    monkeypatch.setattr(readout, "MAX_STEPS", 1000)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) * [1.0, 10.0, 0.1]
    labels = rng.integers(0, n_labels, (200, 1)).astype(float)
    labels[:, 0] = np.where(X[:, 0] > 0.5, 0.0, labels[:, 0])
    model = forward_network(3, 2, n_labels, activation="tanh")
    if direct:
        model = model.replace(direct_weights=np.zeros((3, n_labels)))
    source = Source(as_sequences(X, labels))
    found = logistic_readout(model, SERIAL, source, n_labels)
    features = model.hidden_states(X)
    weights = found.output_weights
    if direct:
        features = np.column_stack((features, X))
        weights = np.vstack((weights, found.direct_weights))
    scale = features.std(axis=0)
    p = softmax(found.predict(X))[0]
    e = np.eye(n_labels)[labels[:, 0].astype(int)]
    scaled = weights * scale[:, None]
    # of two labels scikit-learn penalises the difference of both rows of weights
    penalty = 2 * scaled if n_labels == 2 else scaled
    slope = ((features - features.mean(axis=0)) / scale).T @ (e - p)
    np.testing.assert_allclose(slope, penalty, atol=0.05)
    np.testing.assert_allclose((e - p).sum(axis=0), 0.0, atol=0.05)
    more = logistic_readout(found, SERIAL, source, n_labels + 1)
    assert more.output_bias[-1] == pytest.approx(more.output_bias[:-1].min() - 20.0)
    assert not more.output_weights[:, -1].any()


@pytest.mark.parametrize(("size", "mean"), [(1e-3, 1e-4), (1e3, 1e5), (1e-5, 1.0)])
def test_the_readout_does_not_depend_on_units_of_inputs_nor_on_one_that_is_constant(size, mean):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3))
    X[:, 2] = 0.0
    labels = (X[:, :1] + rng.standard_normal((300, 1)) > 0).astype(float)
    model = forward_network(3, 2, 2, activation="tanh").replace(
        input_weights=np.zeros((2, 3)), direct_weights=np.zeros((3, 2))
    )
    logits = []
    for scale, offset, constant in ((1.0, 0.0, 0.0), (size, mean, 5.0)):
        changed = X * [scale, 1.0, 1.0] + [offset, 0.0, constant]
        source = Source(as_sequences(changed, labels))
        logits.append(logistic_readout(model, SERIAL, source, 2).predict(changed))
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-3)


# ------------------------------------------------------------------------------- rows kept


NOISE = NormalOutputs(np.array([[2.0, 0.5], [0.5, 1.0]]))


def continued(max_steps=None, monkeypatch=None):
    model, layout = forward_network(3, 2, 2), Layout(3, 2, 2)
    old, new = (
        Source(as_sequences(*ragged(3, 2, lengths=(20, 30, 25), seed=seed))) for seed in (1, 2)
    )
    kept = sum_normal_equations(model, layout, SERIAL, old, NOISE)
    return model, layout, new, kept


def test_figures_of_a_continuation_are_those_of_their_definitions():
    model, layout, new, kept = continued()
    found = go_on(kept, model, layout, SERIAL, new, NOISE)
    delta = layout.vector(found.model) - layout.vector(model)
    first = sum_normal_equations(model, layout, SERIAL, new, NOISE)
    last = sum_normal_equations(found.model, layout, SERIAL, new, NOISE)
    H = kept.information + last.information
    # a mean over all weights: scales of the units are fixed, but count
    n_free = layout.size
    moved = np.sqrt(delta @ kept.information @ delta / n_free)
    assert found.moved == pytest.approx(moved, rel=1e-6)
    missed = (last.gradient - (first.gradient - first.information @ delta)) * (
        kept.n_rows / last.n_rows
    )
    root = inverse_root(H, layout.scale_constraints(found.model))
    inverse = root @ root.T
    curved = np.sqrt(missed @ inverse @ missed / n_free)
    assert found.curved == pytest.approx(curved, rel=1e-3)
    assert found.settled
    assert found.sums.n_rows == kept.n_rows + first.n_rows
    expected = kept.loss - kept.gradient @ delta + delta @ kept.information @ delta / 2
    assert found.sums.loss == pytest.approx(expected + last.loss, rel=1e-9)


def test_steps_of_a_continuation_are_limited(monkeypatch):
    model, layout, new, kept = continued()
    free = go_on(kept, model, layout, SERIAL, new, NOISE)
    assert free.n_steps > 1
    monkeypatch.setattr(kept_rows, "MOST_STEPS", 1)
    found = go_on(kept, model, layout, SERIAL, new, NOISE)
    assert (found.n_steps, found.settled) == (1, False)
    monkeypatch.setattr(kept_rows, "MOST_DAMPING", 1e-9)
    found = go_on(kept, model, layout, SERIAL, new, NOISE)
    assert (found.n_steps, found.settled, found.moved) == (0, False, 0.0)
    assert found.model == model


@pytest.mark.parametrize("settled", [0.5, 2.0])
def test_a_continuation_ends_where_a_step_gains_a_hundred_thousandth(settled, monkeypatch):
    """A gradient of that size along the first free direction, at a minimum of the new rows."""
    model, layout = forward_network(3, 2, 2), Layout(3, 2, 2)
    X = as_sequences(*ragged(3, 2, seed=1)).X
    source = Source(as_sequences(X, model.predict(X)))
    first = sum_normal_equations(model, layout, SERIAL, source, NOISE)
    free = _free_directions(layout.scale_constraints(model))
    H = free.T @ (2 * first.information) @ free
    direction = free[:, 0] * np.sqrt(settled * 1e-5 / np.linalg.inv(H)[0, 0])
    kept = NormalSums(first.n_rows, 0.0, direction, first.information, first.spread, first.misses)
    found = go_on(kept, model, layout, SERIAL, source, NOISE)
    assert (found.n_steps == 0) is (settled < 1)
    assert found.settled


def test_disagreement_is_a_chi_square_of_the_new_score():
    """g^T (s (H + H V H))^+ g, with V the inverse of the old rows, s their spread if above 1."""
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((9, 3)) for _ in range(2))
    old, new = A.T @ A, B.T @ B
    g = rng.standard_normal(3)
    for size, factor in ((0.3, 1.0), (2.5, 2.5)):
        kept = NormalSums(9.0, 0.0, np.zeros(3), old, size * old, np.zeros(1))
        rows = NormalSums(9.0, 0.0, g, new, new, np.zeros(1))
        statistic, degrees = _disagreement(kept, rows, np.eye(3))
        V = factor * (new + new @ np.linalg.inv(old) @ new)
        assert statistic == pytest.approx(g @ np.linalg.solve(V, g), rel=TWO_ROUTES)
        assert degrees == 3.0
    one = np.eye(1)
    kept = NormalSums(9.0, 0.0, np.zeros(1), 4.0 * one, one, np.zeros(1))
    rows = NormalSums(9.0, 0.0, np.array([3.0]), 2.0 * one, one, np.zeros(1))
    statistic, degrees = _disagreement(kept, rows, one)
    assert (statistic, degrees) == (pytest.approx(9.0 / (2.0 + 2.0 * 2.0 / 4.0)), 1.0)
    found = sums_of_report(np.array([[0.25]]), 9.0, np.zeros(1), 1)
    np.testing.assert_allclose(found.information, [[4.0]])
    assert (found.n_rows, found.loss, found.gradient.tolist()) == (9.0, 0.0, [0.0])
    # what is not known, but for rounding, is no information
    found = sums_of_report(np.array([[1.0, 1.0], [1.0, 1.0 + 1e-11]]), 9.0, np.zeros(1), 2)
    np.testing.assert_allclose(found.information, np.full((2, 2), 0.25), rtol=1e-6)
    assert chance(3.84, 1.0) == pytest.approx(0.05, abs=1e-3)
    assert chance(1.0, 0.0) == 1.0


# ----------------------------------------------------------------------------- other units


def test_lengths_of_units_of_any_size():
    """g_i = a_i . da_i / |a_i|^2, and nothing of a unit without inputs."""
    model = forward_network(3, 2, 2)
    for size in (0.01, 1.0, 30.0):
        scaled = model.replace(input_weights=size * model.input_weights)
        layout = Layout(3, 2, 2)
        change = np.zeros(layout.size)
        da = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]])
        change[layout.indices["input_weights"]] = da
        a = scaled.input_weights
        expected = np.sum(a * da, axis=1) / np.sum(a**2, axis=1)
        np.testing.assert_allclose(_lengths(layout, scaled) @ change, expected, rtol=TWO_ROUTES)
    none = model.replace(input_weights=np.zeros((2, 3)))
    assert not np.any(_lengths(layout, none))
    assert math.isfinite(in_other_units(none, layout, np.array([1.0, 2.0, 3.0])).sum())


def test_biases_on_inputs_as_given_and_outputs_as_mixed():
    """b - A1 m, c - D^T m; y = y~ B."""
    layout = Layout(3, 2, 2, direct=True)
    model = forward_network(3, 2, 2, direct_weights=np.ones((3, 2)))
    centre = np.array([1.0, -2.0, 0.5])
    rng = np.random.default_rng(0)
    step = rng.standard_normal(layout.size)
    found = layout.named(on_uncentred_inputs(layout, centre) @ step)
    own = layout.named(step)
    np.testing.assert_allclose(
        found["hidden_bias"], own["hidden_bias"] - own["input_weights"] @ centre, rtol=TWO_ROUTES
    )
    np.testing.assert_allclose(
        found["output_bias"], own["output_bias"] - own["direct_weights"].T @ centre, rtol=TWO_ROUTES
    )
    for name in ("input_weights", "recurrent_weights", "output_weights", "direct_weights"):
        np.testing.assert_array_equal(found[name], own[name])
    np.testing.assert_array_equal(on_uncentred_inputs(layout, None), np.eye(layout.size))
    B = rng.standard_normal((2, 2))
    found = layout.named(on_unmixed_outputs(layout, B) @ step)
    for name in ("output_weights", "direct_weights", "output_bias"):
        np.testing.assert_allclose(found[name], own[name] @ B, rtol=TWO_ROUTES)
    np.testing.assert_array_equal(found["input_weights"], own["input_weights"])
    assert model.n_hidden == 2

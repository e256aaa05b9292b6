"""Passes over the data by plain loops: losses of clusters, steps together, rounds step by step."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.batches import SERIAL
from helpers.differences import by_weights
from helpers.generators import forward_network

from gloree.engine import Source
from gloree.models import ExplosionError
from gloree.moments import PlainRegression
from gloree.recurrence import RECURRENCES, OutputsOnly, WeightChange
from gloree.refinement import CrossEntropy, Layout, Loss, Rounds, SquaredError
from gloree.refinement import _rounds as module
from gloree.refinement import _sensitivities as sensitivities
from gloree.refinement._clusters import WHOLE, find_clusters, segment_cluster_sums
from gloree.refinement._losses import LossSums, _label_numbers
from gloree.refinement._rounds import Iterate, RoundSums, residual_round, start_rounds, sweep
from gloree.refinement._sensitivities import _steps_together
from gloree.refinement._specification import Alternatives, _block_starts, score_rows
from gloree.refinement._standard_errors import degrees
from gloree.sequences import as_sequences

ROUNDING = 1e-12
# Central differences at 1e-5.
DIFFERENCES = 1e-6


class Quartic(Loss):
    name = "quartic"

    def rows(self, outputs, targets):
        residuals = targets - outputs
        return residuals**4 / 4, residuals**3


@pytest.mark.parametrize("loss", [Quartic(), SquaredError(), CrossEntropy()])
def test_scores_of_clusters_are_slopes_of_the_loss_of_each_sequence(loss):
    model, layout = forward_network(2, 2, 2, activation="tanh"), Layout(2, 2, 2)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 4, 2))
    Y = rng.standard_normal((5, 4, 2))
    if isinstance(loss, CrossEntropy):
        Y = rng.integers(0, 2, (5, 4, 1)).astype(float)
    found = segment_cluster_sums(as_sequences(X, Y).whole(), model, layout, WHOLE, loss)
    for i in range(5):
        own = as_sequences(X[i], Y[i]).whole()
        slope = by_weights(lambda m, own=own: loss.sums(own, m).loss, model, layout, 1e-5)
        np.testing.assert_allclose(found.scores[i], -slope, rtol=1e-5, atol=DIFFERENCES)
    assert found.n_clusters == 5
    many = Source(as_sequences(np.tile(X, (12, 1, 1)), np.tile(Y, (12, 1, 1))))
    clusters = find_clusters(model, layout, SERIAL, many, loss)
    np.testing.assert_allclose(clusters.sums.scores, np.tile(found.scores, (12, 1)), rtol=1e-9)
    assert clusters.sums.hessians.shape[1] == 0


def test_sums_of_a_loss_are_those_of_its_rows():
    model, layout = forward_network(2, 2, 2, activation="tanh"), Layout(2, 2, 2)
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((9, 2)), rng.integers(0, 2, (9, 1)).astype(float)
    found = CrossEntropy().sums(as_sequences(X, labels).whole(), model, layout)
    logits = model.predict(X)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = labels[:, 0].astype(int)
    assert found.loss == pytest.approx(-np.log(p[np.arange(9), own]).sum(), rel=1e-9)
    right = float((logits.argmax(axis=1) == own).sum())
    assert (found.correct, found.share_correct) == (right, right / 9)
    assert found.gradient.shape == (layout.size,)
    assert CrossEntropy().sums(as_sequences(X, labels).whole(), model).gradient.shape == (0,)
    squares = SquaredError().sums(as_sequences(X, logits + 1.0).whole(), model)
    np.testing.assert_allclose(squares.losses, [4.5, 4.5])
    assert np.isnan(squares.correct)
    assert LossSums(2.0, np.array([1.0, 2.0]), np.nan, np.zeros(0)).loss == 3.0
    with pytest.raises(ValueError, match="the targets have 2 columns"):
        _label_numbers(np.zeros((3, 2)))


def test_a_variance_that_constraints_hold_has_the_degrees_of_all_clusters():
    """No part of it depends on the data: one less than there are clusters."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 9, 2))
    blocks = np.zeros((5, 3, 3))
    blocks[:, :2, :2] = np.einsum("qti,qtj->qij", root, root)
    blocks /= blocks.sum(axis=0)[0, 0] * 1.5
    adjusted = np.array([np.linalg.inv(np.linalg.cholesky(np.eye(3) - b)) for b in blocks])
    shares, found = degrees(np.eye(3), blocks, adjusted)
    assert (shares[2], found[2]) == (1.0, 4.0)
    assert np.all(found[:2] < 4.5)
    shares, found = degrees(np.eye(3)[:1], 0.0 * blocks, adjusted)
    assert (shares[0], found[0]) == (1.0, 4.0)


@pytest.mark.parametrize("together", [1, 7, 256])
@pytest.mark.parametrize("sizes", [[3], [3, 3, 3, 2, 2, 1], [5, 1, 1, 1, 1], [4] * 9])
def test_steps_that_come_together_have_as_many_segments_each(sizes, together, monkeypatch):
    monkeypatch.setattr(sensitivities, "ROWS_TOGETHER", together)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    found = list(_steps_together(starts))
    joined = [found[0][0]] + [row for bounds in found for row in bounds[1:]]
    assert joined == starts.tolist()
    for bounds in found:
        assert len(set(np.diff(bounds))) == 1
        # no more than needed
        assert bounds[-2] - bounds[0] < together
    for first, second in pairwise(found):
        same = first[-1] - first[-2] == second[1] - second[0]
        assert not same or first[-1] - first[0] >= together


# ------------------------------------------------------------------------------------ rounds


LAYOUT = Layout(2, 2, 2)


def sums(total, **options):
    return RoundSums(np.array([total, 0.0]), 10.0, np.diag([total, 0.0]), **options)


def rounds_of(estimator=None, layout=LAYOUT):
    X = np.zeros((2, 3, 2))
    source = Source(as_sequences(X, X))
    moment = SimpleNamespace(
        coordinates=SimpleNamespace(components=lambda model: model.input_weights)
    )
    return Rounds(layout, estimator or RECURRENCES["least-squares"], moment, None, SERIAL, source)


class Update(OutputsOnly):
    """A change of U by the identity."""

    def update(self, sums, model, free):
        zeros = np.zeros((2, 2))
        return WeightChange(np.eye(2), np.zeros(2), zeros, np.zeros(2), None)


@pytest.mark.parametrize("fails", [0, 1, 6, 7])
@pytest.mark.parametrize("how", ["explodes", "rises"])
def test_a_change_is_halved_seven_times_at_most(fails, how, monkeypatch):
    tried = []

    def evaluate(rounds, model, *, tensor=False, output_moment=None):
        tried.append((model.recurrent_weights[0, 0], tensor, output_moment[0, 0]))
        if len(tried) <= fails:
            if how == "explodes":
                raise ExplosionError(0, 0, np.inf)
            return sums(4.1)
        return sums(4.0)

    monkeypatch.setattr(module, "evaluate", evaluate)
    model = forward_network(2, 2, 2).replace(recurrent_weights=np.zeros((2, 2)))
    start = Iterate(model, sums(4.0, recurrence=sums(0.0)))
    found = sweep(rounds_of(Update()), start, tensor=True)
    n = min(fails + 1, 7)
    np.testing.assert_allclose([each[0] for each in tried], 0.5 ** np.arange(n))
    assert {each[1:] for each in tried} == {(True, 0.4)}
    assert (found is start) is (fails == 7)
    assert found is start or found.sums.total == 4.0


@pytest.mark.parametrize(("growth", "taken"), [(99.0, True), (101.0, False)])
@pytest.mark.parametrize("after", [3.9, 4.0])
def test_a_round_whose_components_grow_a_hundredfold_is_none(growth, taken, after, monkeypatch):
    model = forward_network(2, 2, 2)
    # components are A2_i (x) a_i^2
    larger = model.replace(output_weights=growth * model.output_weights)
    seen = []
    monkeypatch.setattr(module, "polished", lambda rounds, start: larger)
    monkeypatch.setattr(
        module, "evaluate", lambda *_, tensor=False, **__: seen.append(tensor) or sums(5.0)
    )
    monkeypatch.setattr(
        module, "sweep", lambda rounds, start, *, tensor=False: replace(start, sums=sums(after))
    )
    start = Iterate(model, sums(4.0, recurrence=sums(0.0), moment=sums(0.0)))
    found = residual_round(rounds_of(), start)
    assert (found is not start) is (taken and after < 4.0)
    assert seen == ([False] if taken else [])
    if found is not start:
        assert found.history == (("round", after / 2 / 10.0),)
    seen.clear()
    residual_round(rounds_of(), Iterate(model, sums(4.0, recurrence=sums(0.0))))
    assert seen[0] is True  # the tensor that is missing


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_the_last_sweep_of_a_start_takes_the_tensor(sweeps, monkeypatch):
    tensors, totals = [], iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: sums(4.0))

    def moved(rounds, start, *, tensor=False):
        tensors.append(tensor)
        return replace(start, sums=sums(next(totals)))

    monkeypatch.setattr(module, "sweep", moved)
    given = () if sweeps == 2 else (sweeps,)  # two by default
    found = start_rounds(rounds_of(), forward_network(2, 2, 2), *given)
    assert tensors == [False] * (sweeps - 1) + [True]
    labels = [label for label, _ in found.history]
    assert labels == ["first moment"] + ["recurrence"] * sweeps
    np.testing.assert_allclose(
        [value for _, value in found.history], np.array([4.0, 3.0, 2.0, 1.0])[: sweeps + 1] / 20.0
    )


def test_figures_of_a_round():
    found = sums(8.0)
    assert found.total == 8.0
    assert found.rms == pytest.approx(np.sqrt(8.0 / 10.0 / 2), rel=ROUNDING)
    given = rounds_of(layout=Layout(2, 2, 2, bias=False, direct=True))
    free = given.free
    assert (free.recurrent, free.bias, free.unit_bias, free.direct) == (True, False, False, True)
    assert free.ridge == 1e-10
    assert rounds_of(RECURRENCES["instrument"]).later().estimator.name == "least-squares"
    assert PlainRegression().name == "xreg"


# ----------------------------------------------------------------------------- score tests


def alternatives(**options):
    given = {
        "powers": (3, 1),
        "centre": np.array([0.5, -0.5]),
        "scale": np.array([2.0, 0.5]),
        "columns": np.eye(2)[:, :1],
        "outputs": True,
        "offset": True,
    }
    return Alternatives(**(given | options))


def test_powers_are_hermite_polynomials_held_within_three_deviations():
    z = np.array([[0.5, 0.2], [20.0, -9.0], [-1.5, -0.5]])
    at = SimpleNamespace(states=SimpleNamespace(z=z))
    found = alternatives().powers_of(at)
    u = np.clip((z - [0.5, -0.5]) / [2.0, 0.5], -3.0, 3.0)
    np.testing.assert_allclose(found[:, 0], u**3 - 3 * u, rtol=ROUNDING)
    np.testing.assert_allclose(found[:, 1], u, rtol=ROUNDING)
    fourth = alternatives(powers=(4,)).powers_of(at)
    np.testing.assert_allclose(fourth[:, 0], u**4 - 6 * u**2 + 3, rtol=1e-9)


def test_components_are_counted():
    assert alternatives().n_of(LAYOUT) == (4, 1 * (2 + 2), 2)
    assert alternatives(outputs=False, offset=False).n_of(LAYOUT) == (4, 2, 0)


@pytest.mark.parametrize(
    ("blocks", "starts"),
    [(1.0, [0, 4, 8, 12]), (0.5, [0, 8]), (0.3, [0, 12]), (2.0, [0, 2, 4, 6, 8, 10, 12, 14]),
     (9.0, list(range(16))), (3.0, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14])],
)  # fmt: skip
def test_blocks_begin_where_stretches_of_segments_do(blocks, starts):
    X = np.zeros((4, 4, 1))
    assert _block_starts(as_sequences(X, X).whole(), blocks).tolist() == starts


def test_blocks_of_segments_with_context_hold_as_many_rows_that_count():
    """Six rows of which the first and the last two are context: of three, two blocks."""
    batch = SimpleNamespace(
        starts=np.array([0, 6]),
        before=np.array([1, 1]),
        after=np.array([2, 2]),
        lengths=np.array([6, 6]),
    )
    assert _block_starts(batch, 2.0).tolist() == [0, 2, 6, 8]
    assert _block_starts(batch, 9.0).tolist() == [0, 2, 3, 6, 8, 9]


def test_scores_of_a_block_are_sums_of_those_of_its_sequences():
    model = forward_network(2, 2, 2, activation="tanh")
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2, 4, 5, 2))
    batch = as_sequences(X, Y).whole()
    one, half = (score_rows(batch, model, LAYOUT, alternatives(), n) for n in (1.0, 0.5))
    for name in ("weights", "others"):
        parts = getattr(one, name)
        np.testing.assert_allclose(
            getattr(half, name), parts[::2] + parts[1::2], rtol=1e-9, atol=1e-9
        )
    residuals = Y - model.predict(X)
    assert one.squares == pytest.approx(np.sum(residuals**2), rel=ROUNDING)
    assert one.n_rows == 20
    # the last two are those of an offset of the outputs
    np.testing.assert_allclose(one.others[:, -2:], residuals.sum(axis=1), rtol=1e-9)
    lagged = np.concatenate((np.zeros((4, 1, 1)), X[:, :-1, :1]), axis=1)
    np.testing.assert_allclose(one.others[:, -4:-2], (residuals * lagged).sum(axis=1), rtol=1e-9)

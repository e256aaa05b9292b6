"""When a search is near enough: what is left to gain, and either side of every limit."""

from functools import partial

import numpy as np
import pytest
from helpers.batches import SERIAL

from gloree.activations import get_activation
from gloree.engine import Source
from gloree.models import IORNN
from gloree.refinement import Layout, LevenbergMarquardt, RefinementStatus, SquaredError
from gloree.refinement import _levenberg_marquardt as module
from gloree.refinement._enough import Taken, has_kinks, in_variances, worth_of
from gloree.refinement._output_step import output_sums, with_best_outputs
from gloree.refinement._sensitivities import SquareSums
from gloree.sequences import as_sequences

LAYOUT = Layout(3, 2, 2)


def test_worth_is_what_a_linear_regression_gains_in_variances():
    rng = np.random.default_rng(0)
    J, r = rng.standard_normal((40, 3)), rng.standard_normal(40)
    fitted = J @ np.linalg.lstsq(J, r, rcond=None)[0]
    squares = SquareSums(20.0, np.array([r[:20] @ r[:20], r[20:] @ r[20:]]))
    found = worth_of(J.T @ J / 20.0, J.T @ r / 20.0, np.ones(3), squares)
    assert found == pytest.approx(fitted @ fitted / np.mean(r**2), rel=1e-7)
    assert in_variances(squares) == pytest.approx(np.mean(r**2) / 20.0, rel=1e-12)


@pytest.mark.parametrize(
    ("taken", "left", "steady"),
    [
        (Taken(10.0, 1000.0, 10.0), 0.1, True),
        (Taken(10.0, 1000.0, 9.0), 1.1, True),  # what the damping kept
        (Taken(10.0, 1000.0, 5.1), 5.0, True),
        (Taken(10.0, 1000.0, 4.9), 10.0, False),
        (Taken(10.0, 1000.0, 21.0), 42.0, False),
        (Taken(10.0, 34.0, 10.0), 2.94, True),
        (Taken(10.0, 33.0, 10.0), 3.03, False),
        (Taken(10.0, 0.0, 10.0), 10.0, False),
        (Taken(10.0, 5.0, 10.0), 10.0, False),
    ],
)
def test_what_a_step_leaves_to_gain(taken, left, steady):
    assert taken.left == pytest.approx(left, rel=0.02)
    assert taken.is_steady is steady


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        (Taken(10.0, 1000.0, 6.0), 0.1),  # what it lacks is that of kinks
        (Taken(10.0, 1000.0, 4.0), 4.0),
        (Taken(10.0, 1000.0, 0.5), 1.0),  # promised too much
        (Taken(10.0, 1000.0, 30.0), 30.0),
    ],
)
def test_what_a_step_across_kinks_leaves_to_gain(taken, left):
    assert taken.left_across_kinks == pytest.approx(left)


@pytest.mark.parametrize(
    ("name", "kinks"), [("relu", True), ("leaky_relu", True), ("tanh", False), ("linear", False)]
)
def test_units_linear_in_pieces_have_kinks(name, kinks):
    assert has_kinks(get_activation(name)) is kinks


def simulated(activation):
    rng = np.random.default_rng(0)
    A, U = rng.standard_normal((2, 3)), 0.3 * rng.standard_normal((2, 2))
    truth = IORNN(A, U, rng.standard_normal((2, 2)), [0.3, -0.2], [0.1, 0.2], activation=activation)
    X = rng.standard_normal((60, 8, 3))
    Y = truth.simulate(X, noise=0.1, random_state=rng)
    start = truth.replace(input_weights=A + 0.2 * rng.standard_normal(A.shape))
    return Source(as_sequences(X, Y)), start


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_enough_is_left_at_the_end_and_fewer_matrices_are_formed(activation, monkeypatch):
    source, start = simulated(activation)
    formed, original = [], module.normal_sums
    monkeypatch.setattr(
        module, "normal_sums", lambda *a, **k: formed.append(1) or original(*a, **k)
    )
    found, counts = [], []
    for enough in (None, 0.25):
        formed.clear()
        solver = LevenbergMarquardt(accelerated=False, enough=enough)
        found.append(solver.minimise(SquaredError(), start, LAYOUT, SERIAL, source))
        counts.append(len(formed))
    exact, near = found
    assert near.status is RefinementStatus.CONVERGED
    assert counts[1] < counts[0]
    variance = 2.0 * exact.final.loss / LAYOUT.n_outputs
    left = 2.0 * (near.final.loss - exact.final.loss) * exact.n_rows / variance
    assert left < 0.25


def test_output_weights_of_states_gone_astray_are_measured():
    """Of states of 1e20 a difference of sums would say that nothing is left."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 1, 3))
    astray = IORNN(
        1e20 * rng.standard_normal((2, 3)), None, rng.standard_normal((2, 2)), activation="relu"
    )
    source, seen = Source(as_sequences(X, rng.standard_normal((30, 1, 2)))), []

    def measure(model):
        seen.append(model)
        return SERIAL.run(partial(output_sums, model=model, layout=LAYOUT), source)

    before = measure(astray)
    found, squares, _ = with_best_outputs(
        astray, before, LAYOUT, np.ones(LAYOUT.size), 1e-12, measure
    )
    assert len(seen) == 2
    truly = measure(found).own
    np.testing.assert_allclose(squares.squares, truly.squares, rtol=1e-12)
    assert truly.mean > 0.1
    kept = with_best_outputs(astray, before, LAYOUT, np.ones(LAYOUT.size), 1e-12, lambda _: None)
    assert kept[0] is astray
    np.testing.assert_allclose(kept[1].squares, before.own.squares)

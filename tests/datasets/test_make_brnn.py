"""Simulated data of bidirectional networks."""

from __future__ import annotations

import numpy as np
import pytest

from gloree import datasets
from gloree.models import BRNN, IORNN, ExplosionError

# the canonical form changes scales of recurrent rows and columns by roundings only
ALGEBRA_TOLERANCE = 1e-12


@pytest.mark.parametrize(("n_hidden", "split"), [(4, (2, 2)), (5, (3, 2)), (1, (1, 0))])
def test_units_are_split_evenly_and_the_first_chain_has_the_odd_one(n_hidden, split):
    X, Y, truth, _ = datasets.make_rnn(6, 5, 4, n_hidden, 3, bidirectional=True, random_state=0)
    assert isinstance(truth, BRNN)
    assert (truth.n_forward, truth.n_backward) == split
    assert X.shape == (6, 5, 4)
    assert Y.shape == (6, 5, 3)


def test_truth_is_canonical_and_each_recurrence_has_the_norm_asked_for():
    truth = datasets.random_brnn(6, 4, 3, 2, recurrence_norm=0.2, bias=0.3, random_state=0)
    assert truth.canonical() == truth
    for name in ("forward_input_weights", "backward_input_weights"):
        np.testing.assert_allclose(np.linalg.norm(getattr(truth, name), axis=1), 1.0)
    for name in ("forward_recurrent_weights", "backward_recurrent_weights"):
        norm = np.linalg.norm(getattr(truth, name), 2)
        assert norm == pytest.approx(0.2, rel=ALGEBRA_TOLERANCE)
    assert truth.hidden_bias.any()


def test_outputs_are_predictions_and_noise():
    X, Y, truth, _ = datasets.make_rnn(
        50, 20, 4, 4, 3, bidirectional=True, noise=0.3, random_state=1
    )
    residual = (Y - truth.predict(X)).ravel()
    # standard error of a standard deviation: sigma / sqrt(2 n); four of them
    assert abs(residual.std() - 0.3) < 4 * 0.3 / np.sqrt(2 * residual.size)


def test_seeds_decide_everything():
    first = datasets.make_rnn(3, 5, 4, 4, 2, bidirectional=True, random_state=7)
    second = datasets.make_rnn(3, 5, 4, 4, 2, bidirectional=True, random_state=7)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert first[2] == second[2]
    assert isinstance(datasets.make_rnn(3, 5, 4, 4, 2, random_state=7)[2], IORNN)


def test_one_direction_may_be_empty_and_both_may_not():
    assert datasets.random_brnn(3, 0, 2, 1, random_state=0).n_forward == 0
    with pytest.raises(ValueError, match="expected a hidden unit in at least one"):
        datasets.random_brnn(3, 0, 0, 1, random_state=0)


def test_a_strong_recurrence_explodes_and_says_where():
    with pytest.raises(ExplosionError, match=r"sequence \d+ .* at step \d+"):
        datasets.make_rnn(50, 50, 4, 4, 2, recurrence_norm=3.0, bidirectional=True, random_state=0)

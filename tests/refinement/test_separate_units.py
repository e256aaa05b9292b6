"""J^T J of units without a recurrence, in one product, against sensitivities and differences."""

import numpy as np
import pytest
from helpers.batches import only_batch
from helpers.comparisons import assert_close
from helpers.derivatives import ALGEBRA, assert_derivatives
from helpers.generators import forward_network, ragged, two_way_network

from gloree.engine import Source
from gloree.refinement import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._sensitivities import _recurrent_sums
from gloree.refinement._separate_units import separate_sums, units_are_separate
from gloree.sequences import as_sequences

LENGTHS = (7, 3, 1, 5)


def case(two_way, **changes):
    """A network with a free recurrence of zero, and the batch of pieces with context."""
    if two_way:
        model = two_way_network(3, 2, 3, 2, recurrent=(False, False), **changes)
        layout = Layout(3, 5, 2, n_backward=2)
    else:
        model = forward_network(3, 4, 2, norm=0.0, **changes)
        layout = Layout(3, 4, 2)
    data = as_sequences(*ragged(3, 2, LENGTHS))
    return model, layout, only_batch(Source(data, segment=4, before=2, after=2)), data


@pytest.mark.parametrize("two_way", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "softplus", "quadratic"])
def test_blocks_of_separate_units_are_those_of_their_sensitivities(two_way, activation):
    model, layout, batch, data = case(two_way, activation=activation)
    at = Linearisation.of(batch, model, layout)
    assert units_are_separate(at)
    roots = np.linspace(0.5, 2.0, batch.n_rows)[:, None]
    metric = np.array([[2.0, 0.5], [0.5, 1.0]])
    given = (at, roots, at.leaving() * roots, metric, batch.counted_rows)
    for one, other in zip(separate_sums(*given), _recurrent_sums(*given), strict=True):
        assert_close(one, other, ALGEBRA)
    assert_derivatives(model, layout, batch, data)


def test_units_of_a_recurrence_or_of_free_coefficients_are_not_separate():
    model, layout, batch, _ = case(False, activation="tanh")
    U = np.zeros((4, 4))
    U[0, 1] = 1e-300
    moved = model.replace(recurrent_weights=U)
    assert not units_are_separate(Linearisation.of(batch, moved, layout))
    fixed = Layout(3, 4, 2, recurrent=False)
    assert units_are_separate(Linearisation.of(batch, model, fixed))

"""When starts that end alike say something about the class of networks."""

import numpy as np
import pytest
from helpers.generators import forward_network

from gloree.fitting._any_activation import Search
from gloree.fitting._attempts import Attempt
from gloree.fitting._lack_of_fit import LackOfFit

NOISE, CLEAR = LackOfFit(1e-5, 0.3), LackOfFit(0.16, 40.0)


def search(*ends):
    """Attempts of (squared error, lack of fit, whether the start was at random)."""
    model = forward_network(2, 2, 2, activation="tanh")
    attempts = tuple(
        Attempt("one", model, loss, lack, 5, at_random=at_random) for loss, lack, at_random in ends
    )
    return Search(None, None, attempts)


@pytest.mark.parametrize(
    "ends, agree",
    [
        ([], False),
        ([(1.0, NOISE, False)], False),
        ([(1.0, NOISE, False), (1.0 + 1e-5, NOISE, False)], True),
        ([(1.0, NOISE, False), (1.0 + 1e-3, NOISE, False)], False),
        # three starts of the same derivatives in a false optimum say nothing of the class
        ([(1.0, CLEAR, False)] * 3, False),
        ([(1.0, CLEAR, False)] * 3 + [(1.3, CLEAR, True)], False),
        ([(1.0, CLEAR, False), (1.0, CLEAR, True)], True),
        ([(1.0, CLEAR, True), (1.0, CLEAR, True)], True),
    ],
)
def test_starts_agree_on_the_class_if_one_of_them_has_nothing_in_common_with_the_others(
    ends, agree
):
    assert search(*ends).agree is agree


def test_few_rows_leave_nothing_clear():
    assert not LackOfFit(np.nan, np.nan).is_clear

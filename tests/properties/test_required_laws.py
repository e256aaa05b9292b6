"""What each function asks of a law: orders, edges, Hermite tensors, and digits of its scores."""

import warnings

import numpy as np
import pytest
from helpers.generators import forward_network

from gloree.chains import Capabilities, GaussianVAR, LawError
from gloree.moments import cross_moment, regression_moment
from gloree.recurrence import estimate
from gloree.score_functions import (
    check_law,
    check_score,
    joint_score,
    partial_score,
    window_score,
    window_score_covariance,
)


class Declared(GaussianVAR):
    """A Gaussian chain that declares something else."""

    declared = Capabilities(max_score_order=None, hermite=True, edges=True)
    known_digits = 1.0

    @property
    def capabilities(self):
        return self.declared

    @property
    def derivatives(self):
        raise AttributeError("derivatives")

    @property
    def condition(self):
        return self.known_digits


def law(order=None, hermite=True, edges=True, condition=1.0):
    found = Declared(0.3 * np.eye(2), np.eye(2))
    declared = Capabilities(max_score_order=order, hermite=hermite, edges=edges)
    object.__setattr__(found, "declared", declared)
    object.__setattr__(found, "known_digits", condition)
    return found


X = GaussianVAR(0.3 * np.eye(2), np.eye(2)).sample(60, 8, random_state=0)
MODEL = forward_network(2, 2, 2)
Y = MODEL.predict(X)

FUNCTIONS = {
    "partial score": (lambda law: partial_score(law, X), 1, {"edges", "digits"}),
    "partial score of order two": (lambda law: partial_score(law, X, 2), 2, {"edges", "digits"}),
    "joint score": (lambda law: joint_score(law, X, (1, 2)), 3, {"hermite", "edges", "digits"}),
    "window score": (lambda law: window_score(law, X, 2, 2), 2, {"hermite", "edges", "digits"}),
    "its covariance": (
        lambda law: window_score_covariance(law, 2), 1, {"hermite", "edges", "digits"}
    ),
    "cross moment": (lambda law: cross_moment(law, X, Y, 3), 3, {"edges", "digits"}),
    "regression": (
        lambda law: regression_moment(X, Y, 3, chain=law), 3, {"hermite", "digits"}
    ),
    "check of a score": (lambda law: check_score(X, chain=law), 2, set()),
    "check of a law": (lambda law: check_law(law, n_sequences=400, random_state=0), 2, set()),
    "recurrence": (lambda law: estimate(law, X, Y, MODEL, method="cross"), 3, {"edges"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_orders_are_those_of_the_tensors_that_are_taken(name):
    function, order, _ = FUNCTIONS[name]
    function(law(order))
    if order > 1:
        with pytest.raises(LawError, match=f"order {order}") as refused:
            function(law(order - 1))
        assert ("`check_law` asks" in str(refused.value)) is (name == "check of a law")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_edges_have_to_be_exact_where_they_enter(name):
    function, _, needs = FUNCTIONS[name]
    if "edges" in needs:
        with pytest.raises(LawError, match=r"first and last|edges"):
            function(law(edges=False))
    else:
        function(law(edges=False))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensors_have_to_be_hermite_or_to_come_from_derivatives(name):
    """This law has no derivatives; scores of order one need neither."""
    function, order, needs = FUNCTIONS[name]
    if order > 1 or "hermite" in needs:
        with pytest.raises(LawError, match="Hermite"):
            function(law(hermite=False))
    else:
        function(law(hermite=False))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores_of_few_digits_are_warned_of_where_they_are_the_result(name):
    function, _, needs = FUNCTIONS[name]
    if "digits" in needs:
        with pytest.warns(RuntimeWarning, match="digits"):
            function(law(condition=1e9))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            function(law(condition=1e9))

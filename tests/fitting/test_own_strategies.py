"""Objects of a user's own that are wrong are refused, by name, before they spoil a fit."""

from __future__ import annotations

import numpy as np
import pytest

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets
from gloree.moments import FirstMomentEstimator
from gloree.recurrence import LeastSquares, RecurrenceEstimator, WeightChange
from gloree.refinement import LBFGS, Loss, SquaredError

X, Y, _, _ = datasets.make_rnn(400, 10, 4, 2, 2, random_state=0)


def fit(**options):
    return SpectralRNNRegressor(2, random_state=0, engine="serial", **options).fit(X, Y)


def loss_of(rows, **fields):
    return type("Mine", (Loss,), {"name": "mine", "rows": rows, **fields})()


LOSSES = {
    "not finite": (lambda _, o, y: (0.5 * (y - o) ** 2 * np.nan, y - o), "is not finite"),
    "slope not finite": (lambda _, o, y: (0.5 * (y - o) ** 2, (y - o) * np.nan), "is not finite"),
    "wrong sign": (lambda _, o, y: (0.5 * (y - o) ** 2, o - y), "signal is not minus"),
    "swapped": (lambda _, o, y: (y - o, 0.5 * (y - o) ** 2), "signal is not minus"),
    "of another shape": (lambda _, o, y: (y - o, (y - o)[:, :1]), "a signal of shape"),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_whose_values_and_slopes_cannot_be_right_is_refused(kind):
    rows, message = LOSSES[kind]
    with pytest.raises(ValueError, match=message):
        fit(loss=loss_of(rows), refine=LBFGS())


def test_a_loss_that_returns_no_pair_is_refused():
    with pytest.raises(TypeError, match="must return \\(values, signal\\)"):
        fit(loss=loss_of(lambda _, o, y: None), refine=LBFGS())


def test_a_loss_with_a_kink_is_accepted():
    absolute = loss_of(lambda _, o, y: (np.abs(y - o), np.sign(y - o)))
    assert fit(loss=absolute, refine=LBFGS()).score(X, Y) > 0.9


def test_a_loss_that_only_claims_to_be_a_sum_of_squares_is_refused():
    absolute = loss_of(lambda _, o, y: (np.abs(y - o), np.sign(y - o)), least_squares=True)
    with pytest.raises(ValueError, match="Gauss-Newton cannot minimise `loss`"):
        fit(loss=absolute)


def test_a_squared_error_of_labels_is_refused():
    clf = SpectralRNNClassifier(2, random_state=0, loss=SquaredError(), recurrence=None)
    labels = np.digitize(Y[..., 0], np.quantile(Y[..., 0], [0.33, 0.67]))
    with pytest.raises(ValueError, match="needs targets like the outputs"):
        clf.fit(X, labels)


def test_a_protocol_without_its_method_is_refused():
    class Moment(FirstMomentEstimator):
        name = "mine"

        def n_features(self, n_directions, degree):
            return 3

    class Recurrence(RecurrenceEstimator):
        name = "mine"

        def sums(self, seen):
            return seen.linearised()

    with pytest.raises(TypeError, match=r"`moment` is Moment.*lacks `bind`"):
        fit(moment=Moment())
    with pytest.raises(TypeError, match=r"`recurrence` is Recurrence.*lacks `update`"):
        fit(recurrence=Recurrence())


class Dictionary(LeastSquares):
    def sums(self, seen):
        return {}


class Nothing(LeastSquares):
    def update(self, sums, model, free):
        return None


class TooWide(LeastSquares):
    def update(self, sums, model, free):
        right = super().update(sums, model, free)
        return WeightChange(
            right.recurrent, np.zeros(1), right.output, right.output_bias, right.direct
        )


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (Dictionary(), TypeError, "`sums` of Dictionary.. returned {}, expected a Sums"),
        (Nothing(), TypeError, "`update` of Nothing.. returned None, expected a WeightChange"),
        (TooWide(), ValueError, "`bias` of a WeightChange has shape"),
    ],
    ids=["sums", "update", "shape"],
)
def test_a_recurrence_estimator_that_returns_something_else_is_named(estimator, error, message):
    with pytest.raises(error, match=message):
        fit(recurrence=estimator)


def test_a_solver_that_returns_nothing_is_named():
    class Solver:
        name = "mine"

        def minimise(self, *arguments, **options):
            return None

    with pytest.raises(TypeError, match=r"`minimise` of .*returned None, expected a Solution"):
        fit(refine=Solver())


def test_linear_networks_refuse_objects_that_they_would_not_use():
    for options in ({"refine": LBFGS()}, {"recurrence": LeastSquares()}, {"loss": SquaredError()}):
        with pytest.raises(ValueError, match="activation='linear' uses neither"):
            fit(activation="linear", **options)

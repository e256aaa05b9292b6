"""A network is compared with the linear model on every part of the records in turn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.marks import first_of
from scipy.signal import lfilter

from gloree import IORNN, SystemIdentifier
from gloree.engine import Engine
from gloree.identification import (
    IdentificationProblem,
    IdentificationSettings,
    _cross_comparison,
    read_records,
)
from gloree.identification._budget import Budget
from gloree.identification._cross_comparison import _blocks, _fitted_without, cross_compare
from gloree.identification._folds import interleaved, whole_records
from gloree.identification._search import Search

LONG = 900  # seconds that nothing here needs


def searching(u, y, seconds=LONG):
    """A search over records that are read as `fit` reads them."""
    problem = IdentificationProblem.of(
        read_records(u, y), IdentificationSettings(), Engine("serial")
    )
    return Search(problem, problem.split(50), Budget(Engine("serial"), seconds), lambda text: None)


def network(unit="linear", *, gain=0.0):
    """y_t = direct u_t + gain f(gain u_t): direct weights and biases are still to be fitted."""
    return IORNN([[gain]], [[0.0]], [[gain]], direct_weights=[[0.0]], activation=unit)


def saturated(n, seed, noise):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n)
    return u, np.tanh(2.0 * u) + noise(rng, n)


def white(rng, n):
    return 0.1 * rng.standard_normal(n)


def slow(rng, n):
    e = lfilter([1.0], [1.0, -0.95], rng.standard_normal(n + 200))[200:]
    return 0.3 * e / e.std()


def test_fits_without_a_fold_are_least_squares_on_the_other_rows():
    u, y = saturated(600, 0, white)
    search = searching(u, y)
    records = search.problem.records
    folds = [fold[0] > 0 for fold in interleaved(records.lengths)]
    found = _fitted_without(search, network(), folds, LONG)
    one = np.column_stack((records.X, np.ones(600)))
    expected = np.full(600, np.nan)
    for fold in folds:
        weights = np.linalg.lstsq(one[~fold], records.Y[~fold], rcond=None)[0]
        expected[fold] = np.square(records.Y - one @ weights)[fold, 0]
    assert np.isnan(expected).sum() < 600 / 20
    np.testing.assert_allclose(found.squares, expected, rtol=1e-6, atol=1e-9)
    everything = np.linalg.lstsq(one, records.Y, rcond=None)[0]
    np.testing.assert_allclose(found.model.direct_weights[0], everything[0], rtol=1e-6)


def test_gains_are_means_of_logarithms_over_blocks():
    u, y = saturated(600, 1, white)
    search = searching(u, y)
    found = cross_compare(search, network(), network("tanh", gain=1.0))
    folds = interleaved(search.problem.records.lengths)
    rows = [fold[0] > 0 for fold in folds]
    squares = [
        _fitted_without(search, model, rows, LONG).squares
        for model in (network(), network("tanh", gain=1.0))
    ]
    d = []
    for number in range(1, 21):
        (fold,) = [fold[0] for fold in folds if number in fold[0]]
        small, large = (each[fold == number].mean() for each in squares)
        d.append(math.log(small / large))
    assert found.comparison.gain == pytest.approx(np.mean(d), rel=1e-12)
    assert found.comparison.n_rows == sum(each.sum() for each in rows)
    assert found.comparison.is_certain


def test_a_model_gains_nothing_over_itself():
    search = searching(*saturated(300, 2, white))
    found = cross_compare(search, network(), network())
    assert found.comparison.gain == 0.0
    assert not found.comparison.is_certain


@pytest.mark.parametrize("lengths", [[400, 90], [50, 60, 70, 80, 90]])
def test_blocks_have_numbers_of_their_own(lengths):
    folds = whole_records(np.array(lengths)) or interleaved(np.array(lengths))
    found = _blocks(folds)
    assert found.shape == (sum(lengths),)
    seen = {}
    for fold in folds:
        place = 0
        for record, part in enumerate(fold):
            for number in part:
                if number > 0:
                    assert seen.setdefault((record, number), found[place]) == found[place] > 0
                place += 1
    assert len(set(seen.values())) == len(seen) == len(set(found[found > 0]))


def test_many_rows_and_little_time_leave_it_to_the_rows_that_are_held_out(monkeypatch):
    data = saturated(300, 3, white)
    assert cross_compare(searching(*data, seconds=1e-9), network(), network("tanh")) is None
    monkeypatch.setattr(_cross_comparison, "CROSS_ROWS", 299)
    assert cross_compare(searching(*data), network(), network("tanh")) is None


def test_a_network_that_explodes_gains_nothing():
    search = searching(*saturated(300, 4, white))
    wild = IORNN([[1.0]], [[3.0]], [[1.0]], direct_weights=[[0.0]], activation="quadratic")
    found = cross_compare(search, network(), wild)
    assert found.comparison.gain == -math.inf
    assert not found.comparison.is_certain


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*too short to tell")
@pytest.mark.parametrize("seed", first_of(range(12)))
def test_a_network_kept_in_the_slow_noise_of_a_short_record_is_no_worse_on_new_inputs(seed):
    """36 of 177 rows are held out: one or two swings of the noise."""

    def system(u):
        return lfilter([0.0, 0.4, 0.3], [1.0, -0.6], u)

    def inputs(n, rng):
        return lfilter([1.0], [1.0, -0.9], rng.standard_normal(n))

    rng = np.random.default_rng(seed)
    u = inputs(177, rng)
    e = lfilter([1.0], [1.0, -1.5, 0.6], rng.standard_normal(377))[200:]
    y = system(u)
    est = SystemIdentifier(max_seconds=LONG, engine="serial")
    est.fit(u, y + 0.35 * y.std() * e / e.std())
    new = inputs(2000, np.random.default_rng(1000 + seed))
    errors = [
        np.sqrt(np.mean((np.ravel(model.predict(new[:, None])) - system(new)) ** 2))
        for model in (est.model_, est.linear_model_)
    ]
    assert errors[0] < 1.02 * errors[1]


@pytest.mark.slow
def test_a_saturation_is_found_in_slow_noise():
    u, y = saturated(400, 5, slow)
    est = SystemIdentifier(max_seconds=LONG, engine="serial").fit(u, y)
    assert est.report_.nonlinear

"""Fits drawn at random end in finite numbers or in an error of the library's own."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.random_fits import draw, fault

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier, datasets
from gloree.diagnostics import TooFewSamplesError

N_FITS = 10


@pytest.mark.slow
def test_random_fits_end_well():
    """See `helpers.random_fits.fault`; thousands are among the statistical tests."""
    ends = [fault(seed) for seed in range(N_FITS)]
    assert [text for text, _ in ends if text] == []
    # the draw is neither all valid nor all invalid
    models = sum(how.startswith("model") for _, how in ends)
    assert N_FITS / 8 < models < 7 * N_FITS / 8


def test_a_draw_is_the_same_each_time():
    first, again = draw(3), draw(3)
    assert first[-1] == again[-1]
    np.testing.assert_array_equal(np.concatenate(first[1]), np.concatenate(again[1]))


@pytest.fixture(scope="module")
def simulated():
    X, Y, _, _ = datasets.make_rnn(300, 10, 3, 2, 2, random_state=0)
    return X, Y


@pytest.mark.parametrize("lags", [11, 1000, 10**9])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_windows_longer_than_all_sequences_are_refused_unbuilt(lags, bidirectional, simulated):
    X, Y = simulated
    for est, outputs in (
        (SpectralRNNRegressor(2), Y),
        (SpectralRNNClassifier(2), Y.argmax(axis=2)),
    ):
        with pytest.raises(ValueError, match=rf"no sequence has {lags} steps.*lower `lags`"):
            est.set_params(lags=lags, bidirectional=bidirectional).fit(X, outputs)


@pytest.mark.parametrize("exponent", [25, 51, 100, 150, 200, 300])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_values_beyond_what_powers_of_them_allow_are_refused_by_name(exponent, name, simulated):
    data = dict(zip("XY", simulated, strict=True))
    data[name] = data[name] * 10.0**exponent
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=rf"^`{name}` holds values so large \(of the order"):
            SpectralRNNRegressor(2).fit(data["X"], data["Y"])
        record = [data[each][:, 0, :1] for each in "XY"]
        with pytest.raises(ValueError, match=rf"^`{'uy'['XY'.index(name)]}` holds values so large"):
            SystemIdentifier(n_nonlinear=0).fit(*record)
    if name == "X":
        with pytest.raises(ValueError, match=r"^`X` holds values so large"):
            SpectralRNNClassifier(2).fit(data["X"], data["Y"].argmax(axis=2))


@pytest.mark.parametrize("name", ["X", "Y"])
def test_values_whose_powers_vanish_are_refused_by_name(name, simulated):
    data = dict(zip("XY", simulated, strict=True))
    data[name] = data[name] * 1e-40
    with pytest.raises(ValueError, match=rf"^`{name}` holds values so small"):
        SpectralRNNRegressor(2).fit(data["X"], data["Y"])


def test_more_units_than_a_record_can_tell_of_are_refused():
    rng = np.random.default_rng(0)
    u, y = rng.standard_normal((2, 400))
    with pytest.raises(TooFewSamplesError, match="too few for `n_nonlinear`=50, with 2700"):
        SystemIdentifier(n_linear=1, n_nonlinear=50).fit(u, y)


def test_more_inputs_than_steps_can_tell_of_are_refused_before_windows_are_made(simulated):
    X, Y = simulated
    with pytest.raises(TooFewSamplesError, match=r"3000 steps for 1200 inputs .3 in each of the"):
        long = np.vstack(X), np.vstack(Y)
        SpectralRNNRegressor(2, lags=400).fit(*long)

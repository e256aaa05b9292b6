"""The test of residuals: its sums by plain regression, and what it sees and does not see."""

import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.comparisons import assert_close

from gloree import IORNN, SpectralRNNRegressor
from gloree.diagnostics import CertificateStatus
from gloree.engine import Engine, Source
from gloree.fitting import _lack_of_fit as module
from gloree.fitting._lack_of_fit import (
    FeatureSums,
    Frame,
    LackOfFit,
    feature_sums,
    lack_of_fit,
    statistic_of,
)
from gloree.sequences import as_sequences

ALGEBRA = 1e-10


def simulated(seed, activation="tanh", k=3, n=1500, n_steps=8):
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((k, k))
    A = rng.standard_normal((k, 5))
    truth = IORNN(
        A / np.linalg.norm(A, axis=1, keepdims=True),
        0.6 * U / np.linalg.norm(U, 2),
        rng.standard_normal((k, 4)),
        hidden_bias=0.5 * rng.standard_normal(k),
        activation=activation,
    )
    X = rng.standard_normal((n, n_steps, 5))
    return X, truth.simulate(X, noise=0.1, random_state=rng), truth


def test_sums_are_those_of_a_regression_row_by_row():
    X, Y, truth = simulated(0, n=6)
    frame = Frame(np.zeros(5), np.eye(5), np.zeros(3), np.ones(3), 5, recurrent=True)
    source = Source(as_sequences(X, Y))
    sums = Engine("serial").run(partial(feature_sums, model=truth, frame=frame), source)
    H = truth.hidden_states(X)
    R = Y - truth.predict(X)
    phi, r = [], []
    for x, h, e in zip(X, H, R, strict=True):
        for t in range(1, len(x)):
            z = np.concatenate([x[t], h[t - 1]])
            second = [z[i] * z[j] for i in range(8) for j in range(i, 8)]
            third = [
                x[t, i] * x[t, j] * x[t, m]
                for i in range(5) for j in range(i, 5) for m in range(j, 5)
            ]  # fmt: skip
            past = [x[t - lag] if lag <= t else np.zeros(5) for lag in range(1, 7)]
            past = [np.append(v, np.sum(v**2)) for v in past]
            phi.append(np.concatenate([[1.0], z, second, third, *past, e[t - 1]]))
            r.append(e[t])
    phi, r = np.array(phi), np.array(r)
    assert phi.shape[1] == frame.n_features + r.shape[1]
    assert_close(sums.gram, phi.T @ phi, ALGEBRA)
    assert_close(sums.cross.sum(axis=0), phi.T @ r, ALGEBRA)
    assert sums.squares == pytest.approx(np.sum(r**2))
    assert sums.n_rows == len(r)


def test_the_statistic_is_what_blocks_explain_of_each_other():
    """sum over k /= l of c_k^T G^-1 c_l, and its spread over the pairs; NaN of few rows."""
    rng = np.random.default_rng(1)
    p, q, blocks = 5, 2, 16
    phi = rng.standard_normal((blocks, 40, p))
    r = rng.standard_normal((blocks, 40, q)) * rng.uniform(0.5, 3.0, (blocks, 1, 1))
    gram, cross = np.einsum("kni,knj->ij", phi, phi), np.einsum("kni,kna->kia", phi, r)
    found = statistic_of(FeatureSums(640.0, gram, cross, float(np.sum(r**2)), 1e3, 640.0))
    pairs = [
        float(np.sum(cross[k] * np.linalg.solve(gram, cross[m])))
        for k in range(blocks) for m in range(blocks) if k != m
    ]  # fmt: skip
    assert found.share == pytest.approx(sum(pairs) / np.sum(r**2))
    spread = np.sqrt(2 * np.sum((np.array(pairs) - np.mean(pairs)) ** 2))
    assert found.score == pytest.approx(sum(pairs) / spread)
    assert found.detectable == pytest.approx(2.5 * spread / np.sum(r**2))
    few = statistic_of(FeatureSums(10.0, gram, cross, 1.0, 1e3, 10.0))
    assert np.isnan(few.share)
    assert few.detectable == np.inf


@pytest.mark.parametrize(("size", "nothing"), [(0.99e-10, True), (1.01e-10, False)])
def test_nothing_is_left_where_residuals_are_rounding_of_the_outputs(size, nothing):
    rng = np.random.default_rng(1)
    phi, r = rng.standard_normal((16, 40, 5)), size * rng.standard_normal((16, 40, 1))
    gram, cross = np.einsum("kni,knj->ij", phi, phi), np.einsum("kni,kna->kia", phi, r)
    outputs = float(np.sum(r**2)) / size**2
    found = statistic_of(FeatureSums(640.0, gram, cross, float(np.sum(r**2)), outputs, 640.0))
    assert (found.share == 0.0 and found.detectable == 0.0) is nothing


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_fit_of_noise_free_data_is_certified(activation):
    X, _, truth = simulated(4, n=200, activation=activation)
    est = SpectralRNNRegressor(3, activation=activation, engine="serial", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.fit(X, truth.predict(X))
    assert est.report_.certificate.status is CertificateStatus.CERTIFIED
    assert est.score(X, truth.predict(X)) > 1.0 - 1e-12


def test_rows_show_the_share_that_they_are_chosen_for():
    """2.5 standard deviations of T over the sum of squares, of unit noise and its features."""
    X, _, truth = simulated(3, n=4000)
    frame = Frame(np.zeros(5), np.eye(5), np.zeros(3), np.ones(3), 5, recurrent=True)
    n_rows = frame.rows_to_see(2e-3, 4)
    n = n_rows // 7 + 1  # the first of eight steps does not count
    noise = np.random.default_rng(0).standard_normal((n, 8, 4))
    source = Source(as_sequences(X[:n], truth.predict(X[:n]) + noise))
    sums = Engine("serial").run(partial(feature_sums, model=truth, frame=frame), source)
    assert sums.n_rows == pytest.approx(n_rows, abs=7)
    assert statistic_of(sums).detectable == pytest.approx(2e-3, rel=0.25)


def test_a_gram_matrix_of_a_third_of_the_rows_tells_the_same():
    """Of residuals with a part that features explain; within a tenth."""
    X, Y, truth = simulated(5, n=3000)
    frame = Frame(np.zeros(5), np.eye(5), np.zeros(3), np.ones(3), 5, recurrent=True)
    source, found = Source(as_sequences(X, Y + 0.02 * X[:, :, :1] ** 2)), []
    for every in (1, 3):
        function = partial(feature_sums, model=truth, frame=frame, gram_every=every)
        sums = Engine("serial").run(function, source)
        assert sums.gram_rows == pytest.approx(sums.n_rows / every, rel=0.01)
        found.append(statistic_of(sums))
    whole, part = found
    assert whole.is_clear
    assert part.share == pytest.approx(whole.share, rel=0.1)
    assert part.score == pytest.approx(whole.score, rel=0.1)


@pytest.mark.parametrize("sizes", [(1e-3, 1e-4), (1e-4,)])
def test_a_test_that_saw_too_little_is_taken_again_with_more_rows(sizes, monkeypatch):
    """Shares that would have been seen of 1e-3: with twice the rows and more, of 1e-4: as it is."""
    asked, given = [], iter(sizes)

    def tested(*arguments, whole=False):
        asked.append((arguments[-1], whole))
        return LackOfFit(next(given) / 2.5, 1.0)

    monkeypatch.setattr(module, "_tested", tested)
    monkeypatch.setattr(Frame, "of", lambda *_: SimpleNamespace(rows_to_see=lambda *_: 1000))
    inputs = SimpleNamespace(inliers=SimpleNamespace(subset=lambda n: None))
    found = lack_of_fit(SimpleNamespace(n_outputs=1), inputs, None, None)
    assert found.detectable == pytest.approx(sizes[-1])
    assert asked == [(1000, False), (2500, True)][: len(sizes)]


@pytest.mark.parametrize("seed", range(4))
def test_residuals_of_the_truth_are_chance_whatever_their_sizes(seed):
    """Noise whose size differs from sequence to sequence; four standard deviations of chance."""
    X, Y, truth = simulated(seed, n=1200)
    rng = np.random.default_rng(seed)
    noise = np.exp(rng.standard_normal((1200, 1, 1))) * rng.standard_normal(Y.shape)
    frame = Frame(np.zeros(5), np.eye(5), np.zeros(3), np.ones(3), 5, recurrent=True)
    source = Source(as_sequences(X, truth.predict(X) + noise))
    sums = Engine("serial").run(partial(feature_sums, model=truth, frame=frame), source)
    assert abs(statistic_of(sums).score) < 4.0


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize(
    "data, options, certified",
    [
        ("tanh", {}, True),
        ("tanh", {"n_hidden": 2}, False),
        ("relu", {"activation": "tanh"}, False),
        pytest.param("tanh", {"activation": "softplus"}, False, marks=pytest.mark.slow),
    ],
    ids=["right", "a unit too few", "ReLU as tanh", "tanh as softplus"],
)
def test_the_certificate_is_for_the_right_network_alone(data, options, certified):
    X, Y, _ = simulated(1, data, n=7500 if certified else 3000)
    settings = {"n_hidden": 3, "activation": data, "random_state": 0, **options}
    found = SpectralRNNRegressor(**settings).fit(X, Y).report_.certificate
    assert (found.status.name == "CERTIFIED") is certified
    if not certified:
        assert found.share > 0.01
    assert str(found).startswith(found.status.name)

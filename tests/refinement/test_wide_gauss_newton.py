"""Gauss-Newton in the span of the units: the same minimum as with the matrix of all weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import OutlierWarning
from gloree.engine import Engine, Source
from gloree.estimators import _refine, _state
from gloree.moments import Whitening, _plan
from gloree.refinement import Layout, RefinementStatus, gauss_newton, wide_gauss_newton
from gloree.refinement._gauss_newton import gradient_pass, hessian_pass
from gloree.refinement._wide import OUTSIDE, Span, input_parameters
from gloree.sequences import as_sequences

SERIAL = Engine("serial")
SIZES = (30, 3, 4)
NAMES = ("input_weights", "recurrent_weights", "output_weights")


def problem(seed=0, bidirectional=False, direct=False, laplace=False):
    rng = np.random.default_rng(seed)
    X, Y, truth, _ = datasets.make_rnn(
        300, 12, *SIZES, bidirectional=bidirectional, random_state=seed
    )
    if laplace:
        X = rng.laplace(size=X.shape) / np.sqrt(2)
        Y = truth.predict(X)
        Y += 0.1 * Y.std() * rng.standard_normal(Y.shape)
    if direct:
        D = 0.3 * rng.standard_normal((SIZES[0], SIZES[2]))
        Y = Y + X @ D
        truth = truth.replace(direct_weights=D)
    start = truth.replace(
        input_weights=truth.input_weights
        + 0.03 * rng.standard_normal((SIZES[1], SIZES[0])) * (truth.input_weights != 0),
        output_weights=1.02 * truth.output_weights,
    )
    layout = Layout(*SIZES, direct=direct, n_backward=truth.n_backward if bidirectional else None)
    covariance = np.cov(X.reshape(-1, SIZES[0]).T)
    whitening = Whitening.from_covariance(np.zeros(SIZES[0]), covariance)
    return start, layout, Source(as_sequences(X, Y), batch_size=500), whitening


CASES = [{}, {"bidirectional": True}, {"direct": True}, {"laplace": True}]


@pytest.mark.parametrize("case", CASES, ids=lambda case: next(iter(case), "plain"))
def test_minimum_is_that_of_gauss_newton_on_all_weights(case):
    start, layout, source, whitening = problem(**case)
    full = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    wide = wide_gauss_newton(start, layout, SERIAL, source, whitening, to_convergence=True)
    assert wide.status is RefinementStatus.CONVERGED
    assert wide.squares.sum() == pytest.approx(full.squares.sum(), rel=1e-9)
    differences = metrics.weight_errors(wide.model, full.model)
    assert max(value for name, value in differences.items() if "bias" not in name) < 1e-4


def test_efficient_stop_is_within_a_fraction_of_the_statistical_error():
    start, layout, source, whitening = problem(1)
    full = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    wide = wide_gauss_newton(start, layout, SERIAL, source, whitening)
    assert wide.status is RefinementStatus.EFFICIENT
    # the whole fit gains about one noise variance for each weight
    gained = full.squares.sum() / full.n_rows / SIZES[2] * layout.size
    assert wide.squares.sum() - full.squares.sum() < 0.1 * gained


@pytest.mark.parametrize("bidirectional", [False, True])
def test_projected_network_gives_the_same_outputs(bidirectional):
    start, _, source, whitening = problem(2, bidirectional=bidirectional)
    span = Span.of(start, whitening, np.random.default_rng(0))
    assert span.basis.shape == (SIZES[0], SIZES[1] + OUTSIDE)
    np.testing.assert_allclose(span.basis.T @ span.basis, np.eye(SIZES[1] + OUTSIDE), atol=1e-12)
    small = span.project(start)
    batch = span.seen(source).read(source.tables()[0])
    given = source.read(source.tables()[0])
    expected = start.predict(given.X, lengths=given.lengths)
    np.testing.assert_allclose(
        small.predict(batch.X, lengths=batch.lengths), expected, rtol=0, atol=1e-10
    )


def test_step_goes_down_the_exact_gradient_in_every_weight():
    """The matrix is positive definite: alone in any block, the step agrees with the gradient."""
    start, layout, source, whitening = problem(3)
    current = gradient_pass(start, layout, SERIAL, source)
    span = Span.of(start, whitening, np.random.default_rng(0))
    small = span.project(start)
    reduced = replace(layout, n_inputs=span.basis.shape[1])
    hessian = hessian_pass(small, reduced, SERIAL, span.seen(source), current)
    step, inside, outside = span.step(
        layout, reduced, small, hessian.hessian, current.gradient, 1e-9
    )
    assert outside > 0
    assert step @ current.gradient > 0
    places = input_parameters(layout)
    assert places.shape == (SIZES[1], SIZES[0])
    # weights that no input meets move as in the projected network
    for name in ("recurrent_weights", "output_weights", "hidden_bias", "output_bias"):
        np.testing.assert_array_equal(step[layout.indices[name]], inside[reduced.indices[name]])
    error = [
        gradient_pass(layout.move(start, t * step), layout, SERIAL, source).squares.sum()
        for t in (1e-4, -1e-4)
    ]
    slope = (error[0] - error[1]) / 2e-4
    assert slope == pytest.approx(-2 * step @ current.gradient, rel=1e-5)


def test_a_fit_with_very_many_inputs_is_as_good_as_one_with_the_whole_matrix(monkeypatch):
    X, Y, truth, _ = datasets.make_rnn(2000, 10, 40, 3, 4, random_state=5)
    monkeypatch.setattr(_plan, "MAX_FEATURES", 300)
    whole = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    assert whole.report_.standard_errors
    monkeypatch.setattr(_state, "WIDE", 30)
    monkeypatch.setattr(_refine, "MOST_WEIGHTS", 100)
    wide = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    assert wide.chain_ is None
    assert not wide.report_.standard_errors
    assert "in the span of the units" in str(wide.report_)
    for name in NAMES:
        errors = [metrics.weight_errors(est.model_, truth)[name] for est in (whole, wide)]
        assert errors[1] < 1.05 * errors[0]


def test_wild_segments_are_tried_and_never_left_out_silently(monkeypatch):
    X, Y, truth, _ = datasets.make_rnn(2000, 10, 40, 3, 4, random_state=6)
    noise = Y[:7] - truth.predict(X[:7])
    X[:7] *= 3.0
    Y[:7] = truth.predict(X[:7]) + noise
    monkeypatch.setattr(_plan, "MAX_FEATURES", 300)
    monkeypatch.setattr(_state, "WIDE", 30)
    monkeypatch.setattr(_refine, "MOST_WEIGHTS", 100)
    seen = []
    plain = _refine.wide_gauss_newton

    def watched(model, *, source, **given):
        seen.append(source.skipped)
        return plain(model, source=source, **given)

    monkeypatch.setattr(_refine, "wide_gauss_newton", watched)
    # inputs three times as large are no Gaussian ones, and the projected matrix is not right then
    with pytest.warns(OutlierWarning, match="segments of largest outputs were left out"):
        est = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    assert max(metrics.weight_errors(est.model_, truth)[name] for name in NAMES) < 0.02
    assert seen[0] is not None and seen[0].size >= 5
    assert seen[-1] is None

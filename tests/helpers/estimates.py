"""Fits of the regressor, and the least-squares estimates that they are measured by."""

from gloree import Engine, SpectralRNNRegressor, datasets
from gloree.engine import Source
from gloree.refinement import GaussNewton, Layout, SquaredError
from gloree.sequences import as_sequences

NOISE = 0.1
"""Standard deviation of the noise of `simulated`."""

NOISE_TOLERANCE = 0.03
"""The standard error of an RMS of its 10,000 residuals is 0.7%: four of them."""

INPUT_WEIGHTS, RECURRENCE = 0.05, 0.1
"""Relative errors of weights: least squares leaves .012 and .027 of `simulated`; four of these."""

FEW_WEIGHTS = 0.02
"""The same without a recurrence or biases, where least squares leaves .007: three of these."""


def simulated():
    """Outputs of a quadratic network of 6 inputs, 3 units and 3 outputs, with noise."""
    return datasets.make_rnn(1000, 10, 6, 3, 3, noise=NOISE, random_state=1)


def regressor(n_hidden=3, **options):
    """A seeded regressor that runs in this thread."""
    return SpectralRNNRegressor(n_hidden, **{"random_state": 0, "engine": "serial", **options})


def least_squares(X, Y, truth, engine="serial", **free):
    """Solution of least squares, reached from the truth; `free` as of `Layout`."""
    layout = Layout(truth.n_inputs, truth.n_hidden, truth.n_outputs, **free)
    solver, source = GaussNewton(to_convergence=True), Source(as_sequences(X, Y))
    return solver.minimise(SquaredError(), truth, layout, Engine(engine), source)


def smallest_loss(X, Y, truth, engine="serial", **free):
    """Mean squared error of `least_squares`."""
    best = least_squares(X, Y, truth, engine, **free)
    return float(best.squares.sum()) / best.n_rows

"""Fits of the regressor, and the least-squares estimates that they are measured by."""

from gloree import Engine, SpectralRNNRegressor, datasets
from gloree.engine import Source
from gloree.refinement import GaussNewton, Layout, SquaredError
from gloree.sequences import as_sequences

NOISE = 0.1
"""Standard deviation of the noise of `simulated`."""

NOISE_TOLERANCE = 0.03
"""The standard error of an RMS of its 10,000 residuals is 0.7%: four of them."""


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

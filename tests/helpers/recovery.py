"""The first stage of a fit from a moment in closed form, and errors of all weights."""

from math import factorial

import numpy as np

from gloree.decomposition import cp_tensor, decompose
from gloree.metrics import weight_errors
from gloree.moments import score_coordinates
from gloree.recurrence import InstrumentSums
from gloree.refinement import Layout, first_model
from gloree.sequences import as_sequences
from gloree.states import run_states


def first_stage(truth, chain, Y, degree, seed):
    """Decomposition and units of T = l! c_l sum_i A2_i (x) a_i^(x)l, in score coordinates."""
    coordinates = score_coordinates(chain.precision_blocks(0)[0])
    loadings = factorial(degree) * truth.output_weights
    found = decompose(
        cp_tensor(loadings, coordinates.components(truth), degree),
        truth.n_hidden,
        random_state=seed,
    )
    sizes = coordinates.to_inputs.shape[1], truth.n_hidden, truth.n_outputs
    layout = Layout(*sizes, bias=False)
    return found, first_model(found, coordinates, truth.activation, Y.mean(axis=(0, 1)), layout)


def exact_instruments(truth, X):
    """Instrument sums of the true states, E[(z - z^) g] and E[g g^T] with z^ = A1 x.

    The states are those of a sample: the identity for U and b holds for any average over them.
    """
    batch = as_sequences(X).whole()
    states = run_states(truth, batch)
    start = truth.replace(recurrent_weights=None, hidden_bias=None)
    difference = states.z - run_states(start, batch).z
    known = np.column_stack((states.previous, np.ones(batch.n_rows)))
    return start, InstrumentSums(float(batch.n_rows), difference.T @ known, known.T @ known)


def assert_recovered(model, truth, tolerance, names=None):
    """Relative errors of the weights (all, or these) are within `tolerance`."""
    errors = weight_errors(model, truth)
    names = errors if names is None else names
    assert {name: errors[name] for name in names if errors[name] > tolerance} == {}

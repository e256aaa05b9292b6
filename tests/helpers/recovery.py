"""The first stage of a fit from a moment in closed form, and errors of all weights."""

from math import factorial

import numpy as np

from gloree.decomposition import cp_tensor, decompose
from gloree.metrics import weight_errors
from gloree.models import BRNN
from gloree.moments import score_coordinates
from gloree.recurrence import InstrumentSums, instrument_update
from gloree.refinement import Layout, first_model
from gloree.sequences import as_sequences
from gloree.states import run_states
from helpers.generators import with_biases


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
    return start, _instruments(states.z - run_states(start, batch).z, states.previous)


def instrument_sweeps(truth, X, n_sweeps, until=0.0):
    """Models of sweeps with their own states as instruments, and errors of (U, b) against |U|.

    Pairs of both, to the first error below `until`.
    """
    batch = as_sequences(X).whole()
    z, n_forward = run_states(truth, batch).z, truth.n_forward if isinstance(truth, BRNN) else None
    model = truth.replace(recurrent_weights=None, hidden_bias=None)
    sweeps = []
    for _ in range(n_sweeps):
        states = run_states(model, batch)
        sums = _instruments(z - states.z, states.previous)
        dU, db = instrument_update(sums, ridge=0.0, n_forward=n_forward)
        U, b = model.recurrent_weights + dU, model.hidden_bias + db
        model = model.replace(recurrent_weights=U, hidden_bias=b)
        gap = np.column_stack((U - truth.recurrent_weights, b - truth.hidden_bias))
        sweeps.append((model, np.linalg.norm(gap) / np.linalg.norm(truth.recurrent_weights)))
        if sweeps[-1][1] < until:
            break
    return sweeps


def _instruments(difference, entering):
    known = np.column_stack((entering, np.ones(len(entering))))
    return InstrumentSums(float(len(known)), difference.T @ known, known.T @ known)


def calmed(truth, seed):
    """The network with hidden biases, and a recurrence that is calm enough for sweeps."""
    # heavier tails contract less
    calm = 1.0 if truth.activation.degree == 2 else 0.3
    return with_biases(truth.replace(recurrent_weights=calm * truth.recurrent_weights), seed)


def assert_recovered(model, truth, tolerance, names=None):
    """Relative errors of the weights (all, or these) are within `tolerance`."""
    errors = weight_errors(model, truth)
    names = errors if names is None else names
    assert {name: errors[name] for name in names if errors[name] > tolerance} == {}

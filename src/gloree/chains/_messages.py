"""Forward and backward messages of a hidden chain: what the steps say of its states."""

from __future__ import annotations

import numpy as np

from gloree.sequences import Array, Packing

SMALLEST = 1e-300
"""Probability that takes the place of zero where the recursion runs on probabilities."""

RARE = 1e-250
"""Transitions as rare as this, or impossible, keep what is improbable now: it may be certain later,
and the recursion runs on logarithms."""


def messages(
    emissions: Array, packing: Packing, start: Array, transition: Array
) -> tuple[Array, Array, Array]:
    """Logs of the forward and backward messages, normalised, and of p(x_t | x_1, .., x_{t-1}).

    Parameters
    ----------
    emissions : ndarray of shape (n_rows, n_states)
        Log-density of every row in each state, packed.
    packing : Packing
        Of the rows.
    start : ndarray of shape (n_states,)
        Probabilities of the first state.
    transition : ndarray of shape (n_states, n_states)

    Returns
    -------
    tuple of ndarray
        Of shapes (n_rows, n_states), (n_rows, n_states) and (n_rows,), packed.

    Notes
    -----
    Where every transition has a probability above 1e-250, a state that a step makes less likely
    than 1e-300 has no part in anything after it, and the recursion runs on probabilities, each
    step divided by its largest density; else on logarithms. Time O(n_rows n_states^2).
    """
    largest = emissions.max(axis=1, keepdims=True)
    emissions = np.where(np.isneginf(largest), 0.0, emissions)  # so far out that nothing is told
    run = _of_probabilities if transition.min() > RARE else _of_logarithms
    relative = emissions - np.where(np.isneginf(largest), 0.0, largest)
    forward, backward, norms = run(relative, packing, start, transition)
    return forward, backward, norms + largest[:, 0]


def _of_probabilities(
    relative: Array, packing: Packing, start: Array, transition: Array
) -> tuple[Array, Array, Array]:
    likely, bounds = np.exp(relative), packing.step_starts
    forward, backward = np.empty_like(likely), np.ones_like(likely)
    norms = np.empty((likely.shape[0], 1))
    for t in range(packing.n_steps):
        now = slice(bounds[t], bounds[t + 1])
        prior: Array = start
        if t:
            prior = forward[bounds[t - 1] : bounds[t - 1] + bounds[t + 1] - bounds[t]] @ transition
        joint = np.maximum(prior * likely[now], SMALLEST)
        norms[now] = joint.sum(axis=1, keepdims=True)
        forward[now] = joint / norms[now]
    for t in range(packing.n_steps - 2, -1, -1):
        ahead = slice(bounds[t + 1], bounds[t + 2])
        message = np.maximum((backward[ahead] * likely[ahead]) @ transition.T, SMALLEST)
        message /= message.max(axis=1, keepdims=True)
        backward[bounds[t] : bounds[t] + bounds[t + 2] - bounds[t + 1]] = message
    return np.log(forward), np.log(backward), np.log(norms)[:, 0]


def _of_logarithms(
    relative: Array, packing: Packing, start: Array, transition: Array
) -> tuple[Array, Array, Array]:
    with np.errstate(divide="ignore"):
        log_start, log_T = np.log(start), np.log(transition)
    bounds = packing.step_starts
    forward, backward = np.empty_like(relative), np.zeros_like(relative)
    norms = np.empty(relative.shape[0])
    for t in range(packing.n_steps):
        now = slice(bounds[t], bounds[t + 1])
        prior: Array = log_start
        if t:
            before = forward[bounds[t - 1] : bounds[t - 1] + bounds[t + 1] - bounds[t]]
            prior = _log_product(before, log_T)
        joint = prior + relative[now]
        norms[now] = np.logaddexp.reduce(joint, axis=1)
        forward[now] = joint - norms[now, np.newaxis]
    for t in range(packing.n_steps - 2, -1, -1):
        ahead = slice(bounds[t + 1], bounds[t + 2])
        message = _log_product(backward[ahead] + relative[ahead], log_T.T)
        message -= message.max(axis=1, keepdims=True)
        backward[bounds[t] : bounds[t] + bounds[t + 2] - bounds[t + 1]] = message
    return forward, backward, norms


def _log_product(logs: Array, log_matrix: Array) -> Array:
    """Logarithm of exp(logs) @ exp(log_matrix)."""
    return np.asarray(
        np.logaddexp.reduce(logs[:, :, np.newaxis] + log_matrix, axis=1), dtype=np.float64
    )

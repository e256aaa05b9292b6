"""States at rest: where a network stays at a constant input, and whether it comes back there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gloree.models._recursion import Recursion
from gloree.sequences import Array

if TYPE_CHECKING:
    from gloree.models._network import Network

LEADS = (100, 1_000, 10_000)
"""Steps at the constant input, from zero, before Newton's method: of several equilibria it should
find the one that the network goes to. More steps follow only where fewer have failed."""

NEWTON_STEPS, HALVINGS = 60, 30  # at most; steps are halved until they make the residual smaller
AGREEMENT = 1e-11
"""Residual, relative to the terms of a step, of what counts as an equilibrium."""

LARGEST_MODULUS = 1.0 - 1e-10
"""Modulus of the eigenvalues from which on a state is not at rest: integrators, and unstable."""


class EquilibriumError(ArithmeticError, ValueError):
    """A network has no (stable) state at rest at some constant input."""


@dataclass(frozen=True)
class Equilibria:
    """Fixed points of a network at constant inputs.

    Attributes
    ----------
    states : ndarray of shape (n, n_state)
        Where none was found the last guess.
    residual : ndarray of shape (n,)
        Largest |f(d + U h) - h|, relative to the terms of a step; 0 up to rounding.
    modulus : ndarray of shape (n,)
        Largest modulus of the eigenvalues of diag(f'(z)) U; below 1 the state is stable.
    """

    states: Array
    residual: Array
    modulus: Array

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether the network rests there, and returns after a small disturbance."""
        return (self.residual <= AGREEMENT) & (self.modulus < LARGEST_MODULUS)

    def raise_first(self, inputs: Array) -> None:
        """Raise an EquilibriumError for the first input that has none."""
        if self.found.all():
            return
        row = int(np.flatnonzero(~self.found)[0])
        where = f"the input {np.array2string(inputs[row], precision=4, threshold=6)}"
        modulus = float(self.modulus[row])
        if self.residual[row] > AGREEMENT:
            what = f"no equilibrium was found at {where}: the state goes on changing"
        elif abs(modulus - 1.0) <= 1e-6:
            what = (
                f"there is no equilibrium that {where} determines: an eigenvalue of modulus "
                f"{modulus:.8g} integrates, or never fades"
            )
        else:
            what = f"the equilibrium at {where} is unstable (eigenvalue of modulus {modulus:.4g})"
        raise EquilibriumError(f"{what}. Give a `state`, start from rest, or estimate the state")


def find_equilibria(model: Network, inputs: Array) -> Equilibria:
    """Solve h = f(A1 x + U h + b) for each row x of `inputs`, (n, n_inputs).

    Newton's method with halved steps, from where the network is after a while at the constant
    input. For linear units the first step is exact. O(n n_hidden^3) time.
    """
    chain = model.recursions[0]
    past = np.tile(inputs, model.lags)
    drive = past @ chain.input_weights.T + chain.hidden_bias
    states = np.zeros_like(drive)
    residual = np.full(inputs.shape[0], np.inf)
    modulus = np.full(inputs.shape[0], np.inf)
    with np.errstate(all="ignore"):
        if drive.shape[1] == 0:
            residual[:], modulus[:] = 0.0, 0.0
        for steps in LEADS:
            rows = np.flatnonzero(~((residual <= AGREEMENT) & (modulus < LARGEST_MODULUS)))
            if rows.size == 0 or (steps > LEADS[0] and model.is_linear):
                break
            lead = 0 if model.is_linear else steps
            guess = _walked(chain, drive[rows], lead)
            states[rows], residual[rows], modulus[rows] = _newton(chain, drive[rows], guess)
    kept = (model.lags - 1) * model.n_inputs
    return Equilibria(np.column_stack((states, past[:, :kept])), residual, modulus)


def _walked(chain: Recursion, drive: Array, n_steps: int) -> Array:
    """States after so many steps from zero; zero again where they ran away."""
    state, z = np.zeros_like(drive), np.empty_like(drive)
    transposed = np.ascontiguousarray(chain.recurrent_weights.T)
    evaluate = chain.activation.evaluator()
    for _ in range(n_steps):
        np.dot(state, transposed, out=z)
        z += drive
        evaluate(z, state)
    sound = np.all(np.isfinite(state), axis=1, keepdims=True)
    return np.where(sound, state, 0.0)


def _newton(chain: Recursion, drive: Array, state: Array) -> tuple[Array, Array, Array]:
    """Fixed points, their residuals, and the moduli of the eigenvalues there."""
    U, f = chain.recurrent_weights, chain.activation
    identity = np.eye(U.shape[0])
    active = np.arange(drive.shape[0])
    for _ in range(NEWTON_STEPS):
        d, h = drive[active], state[active]
        value, slope = f.value_and_derivative(d + h @ U.T)
        error = value - h
        step = _solved(identity - slope[:, :, np.newaxis] * U, error)
        size = np.abs(error).max(axis=1)
        moved = np.zeros(active.shape[0], dtype=bool)
        length = 1.0
        for _ in range(HALVINGS):
            trial = h + length * step
            shorter = np.abs(f(d + trial @ U.T) - trial).max(axis=1) < size
            fresh = shorter & ~moved
            state[active[fresh]] = trial[fresh]
            moved |= shorter
            if moved.all():
                break
            length /= 2.0
        active = active[moved]
        if active.size == 0:
            break
    value, slope = f.value_and_derivative(drive + state @ U.T)
    terms = np.abs(state) + np.abs(slope) * (np.abs(drive) + np.abs(state) @ np.abs(U).T)
    residual = np.abs(value - state) / np.where(terms > 0.0, terms, 1.0)
    residual = np.where(np.isfinite(residual), residual, np.inf).max(axis=1)
    jacobian = slope[:, :, np.newaxis] * U
    sound = np.all(np.isfinite(jacobian), axis=(1, 2), keepdims=True)
    eigenvalues = np.linalg.eigvals(np.where(sound, jacobian, 0.0))
    modulus = np.where(sound[:, 0, 0], np.abs(eigenvalues).max(axis=1), np.inf)
    return state, residual, modulus


def _solved(matrices: Array, right: Array) -> Array:
    """Solutions of many small systems; of least norm if one of them is singular."""
    sound = np.all(np.isfinite(matrices), axis=(1, 2)) & np.all(np.isfinite(right), axis=1)
    steps = np.zeros_like(right)
    left, right = matrices[sound], right[sound, :, np.newaxis]
    try:
        steps[sound] = np.linalg.solve(left, right)[..., 0]
    except np.linalg.LinAlgError:
        steps[sound] = (np.linalg.pinv(left) @ right)[..., 0]
    return steps

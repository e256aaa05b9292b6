"""Initial states as weights: a column of the inputs that is 1 at the first row of a record.

A network starts from h_0 = 0. With one more input, the indicator s_t of a record's first row, its
weights e enter where U h_0 would: z_1 = A1 u_1 + e + b, so that e = U h_0 makes the start at h_0,
and a free e is a free start. Records have a column each where they are few. Many share the columns
s_t (u_1, 1), whose weights are those of the equilibrium of the first input, U h(u_1), which is
affine in u_1 for linear states; then the first rows of a record do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gloree.models import IORNN, find_equilibria
from gloree.sequences import Array, Sequences

REACHED = 1e-6  # of what enters at the first row, that states may miss
MOST_OWN = 8  # records that have columns of their own
MOST_FITTED = 200  # records whose equilibria make the weights of shared columns
FAR_OFF = 1e3
"""An equilibrium with larger states is none that a record on this scale starts from."""


@dataclass(frozen=True)
class Starts:
    """How the records of a fit start: `first_inputs` (n_records, n_inputs), and their columns."""

    first_inputs: Array

    @classmethod
    def of(cls, records: Sequences) -> Starts:
        """Starts of records."""
        return cls(np.asarray(records.X[records.starts[:-1]], dtype=np.float64))

    @property
    def own(self) -> bool:
        """Whether every record has a column of its own."""
        return bool(self.first_inputs.shape[0] <= MOST_OWN)

    @property
    def n_columns(self) -> int:
        """Columns that records gain."""
        n_records, n_inputs = self.first_inputs.shape
        return int(n_records if self.own else n_inputs + 1)

    @property
    def _values(self) -> Array:
        """Values of the columns at the first row of each record, (n_records, n_columns)."""
        n_records = self.first_inputs.shape[0]
        if self.own:
            return np.eye(n_records)
        return np.column_stack((self.first_inputs, np.ones(n_records)))

    def with_columns(self, records: Sequences) -> Sequences:
        """Records with the columns beside their inputs."""
        columns = np.zeros((records.n_rows, self.n_columns))
        columns[records.starts[:-1]] = self._values
        return replace(records, X=np.hstack((records.X, columns)), input_names=None)

    def extended(self, model: IORNN, states: Array | None = None) -> IORNN:
        """Network that sees the columns, started from `states`, (n_records, n_hidden).

        By default every record starts at the equilibrium of its first input.
        """
        if self.own:
            some = slice(None)
        else:
            some = slice(None, None, -(-self.first_inputs.shape[0] // MOST_FITTED))
        if states is None:
            states = equilibria(model, self.first_inputs[some])
        elif not self.own:
            states = states[some]
        entering = states @ model.recurrent_weights.T
        weights = np.linalg.lstsq(self._values[some], entering, rcond=1e-9)[0].T
        assert model.direct_weights is not None
        nothing = np.zeros((self.n_columns, model.n_outputs))
        return model.replace(
            input_weights=np.hstack((model.input_weights, weights)),
            direct_weights=np.vstack((model.direct_weights, nothing)),
        )

    def reduced(self, model: IORNN) -> IORNN:
        """Undo `extended`: the network alone."""
        d = self.first_inputs.shape[1]
        assert model.direct_weights is not None
        return model.replace(
            input_weights=model.input_weights[:, :d], direct_weights=model.direct_weights[:d]
        )

    def states(self, model: IORNN) -> Array:
        """Initial states h_0 (n_records, n_hidden) of a network with columns: U h_0 = e."""
        entering = self._entering(model)
        return np.asarray(np.linalg.lstsq(model.recurrent_weights, entering.T, rcond=1e-9)[0].T)

    def are_states(self, model: IORNN) -> bool:
        """Whether what the columns add is U h_0 of some states h_0: U may be singular."""
        entering = self._entering(model)
        missed = self.states(model) @ model.recurrent_weights.T - entering
        return bool(np.linalg.norm(missed) <= REACHED * np.linalg.norm(entering))

    def _entering(self, model: IORNN) -> Array:
        """What the columns add to the units at the first row, e, (n_records, n_hidden)."""
        d = self.first_inputs.shape[1]
        return np.asarray(self._values @ model.input_weights[:, d:].T)


def equilibria(model: IORNN, inputs: Array) -> Array:
    """States at rest at each row of inputs, (n, n_hidden).

    Where there are none within reach (integrators, networks that oscillate) the last guess stays,
    or zero if it is far off: a start for a search, no claim.
    """
    states = find_equilibria(model, inputs).states
    with np.errstate(invalid="ignore"):
        sound = (np.abs(states) < FAR_OFF).all(axis=1, keepdims=True)
    return np.where(sound, states, 0.0)

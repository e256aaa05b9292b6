"""Records in units of their own means and standard deviations, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.models import IORNN
from gloree.sequences import Array, Sequences


@dataclass(frozen=True)
class Scaling:
    """Means and standard deviations of inputs and outputs, each of shape (n_channels,)."""

    input_mean: Array
    input_size: Array
    output_mean: Array
    output_size: Array

    @classmethod
    def of(cls, data: Sequences) -> Scaling:
        """Mean and standard deviation of every channel.

        Raises
        ------
        ValueError
            If a channel is constant.
        """
        u, y = _as_floats(data)
        for name, values, remedy in (
            ("u", u, "a constant input excites nothing, leave it out"),
            ("y", y, "there is nothing to fit"),
        ):
            spread = values.std(axis=0)
            constant = np.flatnonzero(spread <= 1e-13 * np.abs(values).max(axis=0))
            if constant.size:
                channels = ", ".join(map(str, constant[:10]))
                raise ValueError(f"`{name}` is constant in column(s) {channels}: {remedy}")
        return cls(u.mean(axis=0), u.std(axis=0), y.mean(axis=0), y.std(axis=0))

    def apply(self, data: Sequences) -> Sequences:
        """Return a scaled copy of the records.

        They are scaled once rather than as they are read: the searches read a record some hundred
        times, and scaling adds up to a tenth to a pass over the errors (three inputs and outputs,
        four units). The copy is no larger than the segments of a long record that a pass has in
        memory at once.
        """
        u, y = _as_floats(data)
        return Sequences(
            (u - self.input_mean) / self.input_size,
            (y - self.output_mean) / self.output_size,
            data.lengths,
            data.form,
        )

    def undo(self, model: IORNN) -> IORNN:
        """Return the network on records as they were given."""
        A1 = model.input_weights / self.input_size
        direct = model.direct_weights
        assert direct is not None
        direct = direct / self.input_size[:, None] * self.output_size
        bias = model.output_bias * self.output_size + self.output_mean
        return model.replace(
            input_weights=A1,
            hidden_bias=model.hidden_bias - A1 @ self.input_mean,
            output_weights=model.output_weights * self.output_size,
            output_bias=bias - self.input_mean @ direct,
            direct_weights=direct,
        )


def _as_floats(data: Sequences) -> tuple[Array, Array]:
    return np.asarray(data.X, dtype=np.float64), np.asarray(data.Y, dtype=np.float64)

"""Records in units of their own means and sizes, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.models import IORNN
from gloree.sequences import Array, Sequences


@dataclass(frozen=True)
class Scaling:
    """Means and sizes of inputs and outputs, and the way back to data as given."""

    u_mean: Array
    u_size: Array
    y_mean: Array
    y_size: Array

    @classmethod
    def of(cls, data: Sequences) -> Scaling:
        """Mean and standard deviation of every column."""
        u, y = np.asarray(data.X, dtype=np.float64), np.asarray(data.Y, dtype=np.float64)
        for name, values in (("u", u), ("y", y)):
            spread = values.std(axis=0)
            constant = np.flatnonzero(spread <= 1e-13 * np.abs(values).max(axis=0))
            if constant.size:
                raise ValueError(
                    f"`{name}` is constant in column(s) {', '.join(map(str, constant[:10]))}: "
                    + (
                        "a constant input excites nothing, leave it out"
                        if name == "u"
                        else "there is nothing to fit"
                    )
                )
        return cls(u.mean(axis=0), u.std(axis=0), y.mean(axis=0), y.std(axis=0))

    def undo(self, model: IORNN) -> IORNN:
        """Return the network on data as given."""
        A1 = model.input_weights / self.u_size
        direct = model.direct_weights
        assert direct is not None
        direct = direct / self.u_size[:, None] * self.y_size
        return model.replace(
            input_weights=A1,
            hidden_bias=model.hidden_bias - A1 @ self.u_mean,
            output_weights=model.output_weights * self.y_size,
            output_bias=model.output_bias * self.y_size + self.y_mean - self.u_mean @ direct,
            direct_weights=direct,
        )

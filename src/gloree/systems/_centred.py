r"""A network in inputs of mean zero and size one: derivatives along records are taken there.

Derivatives in A1 hold the inputs, those in b ones: with inputs far from zero the two are alike but
for rounding, and what data tell of their difference is lost in it. With inputs
u = m + s v the same network has

.. math:: A_1 s, \qquad b + A_1 m, \qquad c + D^T m, \qquad s D

in the place of A1, b, c and D, and changes of the weights go back by the same linear relation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._brief import Brief
from gloree.models import IORNN
from gloree.refinement import Layout
from gloree.sequences import Array


@dataclass(frozen=True)
class Centred(Brief):
    """Mean and size of the columns of windows of inputs, (n_columns,) each."""

    mean: Array
    size: Array

    @classmethod
    def of(cls, model: IORNN, X: Array) -> Centred:
        """Those of inputs X, (n_rows, n_inputs)."""
        mean = X.mean(axis=0)
        size = (X - mean).std(axis=0)
        size = np.where(size > 0.0, size, 1.0)
        return cls(np.tile(mean, model.lags), np.tile(size, model.lags))

    def windows(self, windows: Array) -> Array:
        """Windows of the inputs in these units."""
        return (windows - self.mean) / self.size

    def model(self, model: IORNN) -> IORNN:
        """The network that does the same in these units."""
        A1, D = model.input_weights, model.direct_weights
        moved = model.replace(
            input_weights=A1 * self.size, hidden_bias=model.hidden_bias + A1 @ self.mean
        )
        if D is None:
            return moved
        return moved.replace(
            direct_weights=D * self.size[:, None], output_bias=model.output_bias + self.mean @ D
        )

    def restored(self, layout: Layout, changes: Array) -> Array:
        """Changes of the weights in the units of the inputs, (n_weights, n), from those in these.

        dA1 / s and db - dA1 m / s; dD / s and dc - dD^T m / s.
        """
        places, found = layout.indices, np.array(changes)
        for weights, bias, axis in (
            ("input_weights", "hidden_bias", 1),
            ("direct_weights", "output_bias", 0),
        ):
            if weights == "direct_weights" and not layout.direct:
                continue
            at = np.moveaxis(places[weights], axis, -1)  # (units or outputs, n_columns)
            found[at] = changes[at] / self.size[:, None]
            found[places[bias]] -= np.einsum("ucn,c->un", found[at], self.mean)
        return found

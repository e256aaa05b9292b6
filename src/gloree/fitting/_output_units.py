r"""Outputs as passes see them: each in units of its spread, and mixed once their noise is known.

Rows :math:`\tilde y = (y / s) K` with the scales s and a matrix K. Least squares of them is least
squares of y in the metric :math:`G = S^{-1} K K^T S^{-1}`, with S = diag(s), and the network of
:math:`\tilde y` has output weights :math:`\tilde A_2 = A_2 S^{-1} K`, offsets and a direct path
alike. So no pass has to know of a metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gloree._arrays import like
from gloree.models import Network
from gloree.sequences import Array

VARIES = 1e-14
"""Spread of an output, relative to its mean, below which the mean is its unit: it is constant."""


@dataclass(frozen=True)
class OutputUnits:
    """Scales s of the outputs, (n_outputs,), and what mixes them, K of shape (n_outputs,) * 2."""

    scale: Array
    mixing: Array | None = None

    @property
    def n_outputs(self) -> int:
        """Columns of the outputs."""
        return int(self.scale.shape[0])

    def __call__(self, values: Array, /) -> Array:
        """Outputs as passes see them, (n_rows, n_outputs), of outputs as given."""
        scaled: Array = values / like(values, self.scale)
        return scaled if self.mixing is None else scaled @ like(values, self.mixing)

    @cached_property
    def to_given(self) -> Array:
        """Matrix B with y = y~ B, (n_outputs, n_outputs)."""
        if self.mixing is None:
            return np.diag(self.scale)
        return np.linalg.inv(self.mixing) * self.scale

    @property
    def metric(self) -> Array:
        """Metric G of the outputs as given, (n_outputs, n_outputs)."""
        root = np.eye(self.n_outputs) if self.mixing is None else self.mixing
        return (root @ root.T) / np.outer(self.scale, self.scale)

    def mixed(self, factor: Array) -> OutputUnits:
        """The same with outputs multiplied by a matrix once more."""
        return replace(self, mixing=factor if self.mixing is None else self.mixing @ factor)

    def given(self, values: Array) -> Array:
        """Rows of outputs (weights, offsets) as given, of rows (.., n_outputs) as passes see."""
        return values * self.scale if self.mixing is None else values @ self.to_given

    def seen(self, values: Array) -> Array:
        """Rows of outputs (weights, offsets) as passes see them, of rows as given."""
        return self(values)

    def given_model(self, model: Network) -> Network:
        """Network of the outputs as given, of one of those that passes see."""
        return _with_outputs(model, self.given)

    def seen_model(self, model: Network) -> Network:
        """Network of the outputs that passes see, of one of those as given."""
        return _with_outputs(model, self.seen)


def with_mixed_outputs(model: Network, factor: Array) -> Network:
    """Network whose outputs are those of another one times a matrix."""
    return _with_outputs(model, lambda rows: rows @ factor)


def _with_outputs(model: Network, change: Callable[[Array], Array]) -> Network:
    direct = model.direct_weights
    return model.replace(
        output_weights=change(model.output_weights),
        output_bias=change(model.output_bias),
        direct_weights=None if direct is None else change(direct),
    )


def units_of_outputs(std: Array, mean: Array) -> OutputUnits:
    """Units in which all outputs spread by one; powers of two of an output are exact."""
    size = np.abs(mean)
    scale = np.where(std > VARIES * size, std, size)
    return OutputUnits(np.where(scale > 0, scale, 1.0))

"""A statistic that shows in which order, and in which groups, batches were merged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rounded:
    """Floating-point sums, which depend on the order, beside the order itself."""

    rows: tuple[float, ...]
    total: float

    def merge(self, other):
        return Rounded(self.rows + other.rows, self.total + other.total)


def rounded(batch):
    values = batch.X[batch.counted, 0] * 10.0 ** (batch.sequence[0] % 17 - 8)
    return Rounded(tuple(batch.X[batch.counted, 0]), float(values.sum()))

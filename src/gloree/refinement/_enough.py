"""When a search by damped steps is near enough: what is left to gain, in noise variances.

The undamped step of the model J^T J of the squared error gains g^T (J^T J)^{-1} g at most, whatever
the damping still is. Near the optimum each step gains a fraction of what the one before gained, and
what is left after a step is that fraction once more, and what its damping kept it from. So the last
step needs no J^T J after it, and one that has done as expected needs none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from gloree.activations import Activation
from gloree.refinement._damping import damped_step
from gloree.refinement._sensitivities import SquareSums
from gloree.sequences import Array

UNDAMPED = 1e-8
"""Damping up to which the predicted gain of a step is all that is left to gain."""

RENEWED = 0.3
"""Part of what the step before was to gain: J^T J is formed anew before a step that is to gain
more, and kept for another step that is to gain less. Along a curved valley an old one promises
much, and holds little."""

PROMISED = 10.0
"""Times as much as a step across kinks gains that it may have been promised to."""

STEADY = 0.1
"""Part of what the step before was to gain, up to which gains fall fast: J^T J may grow old."""


def worth_of(H: Array, g: Array, scale: Array, squares: SquareSums) -> float:
    """Predicted gain of an undamped step in the sum of squares, in variances of a residual.

    H and g are J^T J and J^T r per row.
    """
    step = damped_step(H, g, scale, UNDAMPED)
    gain = float(2.0 * step @ g - step @ H @ step)
    return gain / in_variances(squares)


def in_variances(squares: SquareSums) -> float:
    """Squared error per row that is one variance of a residual in the sum of squares."""
    return float(max(squares.mean / (squares.n_rows * squares.squares.shape[0]), 1e-300))


def has_kinks(f: Activation) -> bool:
    """Whether f is linear in pieces: across its kinks no step gains what J^T J predicts."""
    return not f.is_polynomial and f.homogeneity == 1


@dataclass(frozen=True)
class Taken:
    """A step that was to gain `worth`, the one before it `before` (zero if unknown), and `fell`."""

    worth: float
    before: float
    fell: float

    @property
    def as_expected(self) -> bool:
        """Whether the squared error fell by about as much as it was to."""
        return 0.5 * self.worth < self.fell < 2.0 * self.worth

    @property
    def pace(self) -> float:
        """Part of the gain that the next step is expected to have."""
        return min(self.worth / self.before, 1.0) if self.before > 0.0 else 1.0

    @property
    def left(self) -> float:
        """What is left to gain; all that it was to gain where it did not do as expected."""
        if not self.as_expected:
            return max(self.worth, 2.0 * self.fell)
        return self.worth * self.pace + max(self.worth - self.fell, 0.0)

    @property
    def left_across_kinks(self) -> float:
        """The same of units that are linear in pieces, whose steps gain less than promised.

        The next ones gain about as much; but a step may gain little because it was damped.
        """
        if self.as_expected:
            return self.worth * self.pace
        return min(self.left, max(self.fell, self.worth / PROMISED))

    @property
    def is_steady(self) -> bool:
        """Whether the J^T J that it was made with is good for another step."""
        return self.as_expected and self.pace <= RENEWED

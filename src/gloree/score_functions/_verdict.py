"""The result of a check of Stein's identity: numbers, thresholds, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gloree._brief import Brief
from gloree._html import html_page, html_table
from gloree.sequences import Array

FINE = 0.3
"""Stein defect below which fits with the score converged in 19 of 19 studied cases."""

DOUBTFUL = 0.45
"""Stein defect above which none of 58 converged (between the two: 8 of 9)."""

CONTRACTS = 0.75
"""Radius below which rounds with a score of large defect still shrink errors at a useful rate."""

Status = Literal["fine", "doubtful", "fails", "undecided"]

VERDICTS: dict[Status, str] = {
    "fine": "fine: the score fits these inputs; score moments and residual rounds may be used",
    "doubtful": f"doubtful: the defect is above {FINE}, though rounds with this score should still "
    "contract; prefer the regression moment (moment='regression')",
    "fails": "fails: the inputs do not follow this law, and moments taken with its score are "
    "biased however much data there is. Use the regression moment (moment='regression'), or the "
    "true score if the law is known",
}
"""What to do, by status; only "undecided" depends on figures."""


@dataclass(frozen=True)
class EdgeCheck(Brief):
    """Mean and second moment of the score over the steps of one boundary type.

    Attributes
    ----------
    name : str
        Which steps: "interior", "first", "last", ..
    n_steps : int
    mean : ndarray of shape (n_inputs,)
        Mean of s; expected zero.
    covariance : ndarray of shape (n_inputs, n_inputs)
        Mean of s s^T.
    expected : ndarray of shape (n_inputs, n_inputs)
        K of the chain.
    """

    name: str
    n_steps: int
    mean: Array
    covariance: Array
    expected: Array

    @property
    def mean_deviation(self) -> float:
        """Largest mean, in standard errors of independent steps."""
        error = np.sqrt(np.diag(self.expected) / self.n_steps)
        return float(np.abs(self.mean / error).max())

    @property
    def covariance_deviation(self) -> float:
        """|E[s s^T] - K| / |K|."""
        difference = self.covariance - self.expected
        return float(np.linalg.norm(difference) / np.linalg.norm(self.expected))

    @property
    def covariance_noise(self) -> float:
        """What `covariance_deviation` would be by chance, for independent Gaussian steps."""
        squared = np.trace(self.expected) ** 2 + np.linalg.norm(self.expected) ** 2
        return float(np.sqrt(squared / self.n_steps) / np.linalg.norm(self.expected))


@dataclass(frozen=True)
class NeighbourDefect(Brief):
    """Covariance of S_2 with squares of the step before or after, over that with its own step.

    Or what a mean of the score adds to that with the step itself, over the same.

    Attributes
    ----------
    defect : float
        The larger one, noise taken off; expected zero.
    error : float
        Standard error of it.
    noise : float
        What it would be from noise alone.
    """

    defect: float
    error: float
    noise: float

    @property
    def is_large(self) -> bool:
        """Whether it is above the limit by more than two standard errors."""
        return self.defect - 2 * self.error > DOUBTFUL

    @classmethod
    def largest(cls, found: Sequence[NeighbourDefect | None]) -> NeighbourDefect | None:
        """Return the one of largest defect, or None if there is none."""
        known = [each for each in found if each is not None]
        return max(known, key=lambda each: each.defect) if known else None


@dataclass(frozen=True)
class ScoreCheck(Brief):
    """Whether the score of a law fits inputs: the result of `check_score`; print it for a table.

    Attributes
    ----------
    status : {"fine", "doubtful", "fails", "undecided"}
        The verdict; "undecided" when there are too few steps to tell.
    defect : float
        Stein defect |Q - C| / |C| with the contribution of sampling noise taken off.
    defect_raw : float
        The same with the noise left in; near `noise_floor` if the score is right.
    defect_error : float
        Standard error of `defect_raw`.
    noise_floor : float
        Root mean square of the sampling error of Q, relative to |C|.
    radius : float
        rho, spectral radius of I - Q C^-1: residual rounds with the score contract below 1.
    radius_error, radius_noise : float
        Its standard error, and about the value it would have from noise alone.
    n_steps, n_inputs, n_checked, n_groups : int
        Sizes of the data, whitened coordinates checked, and groups of the jackknife.
    edges : tuple of EdgeCheck
        One for each boundary type.
    input_slope : ndarray of shape (n_inputs, n_inputs)
        E[s (x - E x)^T]; expected the identity.
    chain : str
        The chain checked.
    neighbours : NeighbourDefect or None
        Whether the score is uncorrelated with squares of the steps before and after; None if that
        was not looked at.
    mean : NeighbourDefect or None
        What the mean of the score, expected zero, adds to Cov(S_2, x), on the same scale: that of a
        law about another mean than that of the inputs.
    slope, second : NeighbourDefect or None
        |E[s x^T] - 1| / |1|, and the mean of S_2 over E[s s^T], of a law that was given; None for a
        fitted one, where least squares makes them right.
    """

    status: Status
    defect: float
    defect_raw: float
    defect_error: float
    noise_floor: float
    radius: float
    radius_error: float
    radius_noise: float
    n_steps: int
    n_inputs: int
    n_checked: int
    n_groups: int
    edges: tuple[EdgeCheck, ...]
    input_slope: Array
    chain: str
    neighbours: NeighbourDefect | None = None
    mean: NeighbourDefect | None = None
    slope: NeighbourDefect | None = None
    second: NeighbourDefect | None = None

    @property
    def lower_orders(self) -> tuple[NeighbourDefect | None, ...]:
        """Defects of the identities of the lowest orders."""
        return self.mean, self.slope, self.second

    @property
    def verdict(self) -> str:
        """The verdict in words, with what to do."""
        if self.status == "undecided":
            parts = [part.noise for part in (self.neighbours, *self.lower_orders) if part]
            noise = max(self.noise_floor, *parts, 0.0)
            needed = self.n_steps * (noise / (FINE / 2)) ** 2
            return (
                f"undecided: the noise floor {noise:.2f} hides defects below {FINE}; "
                f"about {_round_up(needed):,} steps would settle it. Until then use the "
                f"regression moment (moment='regression')"
            )
        return VERDICTS[self.status]

    def _beside(self) -> list[str]:
        names = ("with steps beside", "mean of the score", "E[s x^T] - 1     ", "mean of S_2      ")
        parts = zip(names, (self.neighbours, *self.lower_orders), strict=True)
        return [
            f"  {name}   {part.defect:6.3f} +- {part.error:.3f}   "
            f"(0 expected; floor {part.noise:.3f})"
            for name, part in parts
            if part is not None
        ]

    def __str__(self) -> str:
        checked = "" if self.n_checked == self.n_inputs else f" ({self.n_checked} of them checked)"
        slope = np.linalg.norm(self.input_slope - np.eye(self.n_inputs)) / np.sqrt(self.n_inputs)
        lines = [
            f"Stein's identity for {self.chain}",
            f"  {self.n_steps:,} steps, {self.n_inputs} inputs{checked}, {self.n_groups} groups",
            f"  Stein defect        {self.defect:6.3f} +- {self.defect_error:.3f}   "
            f"(< {FINE} fine, > {DOUBTFUL} fails; {self.defect_raw:.3f} with sampling noise, "
            f"floor {self.noise_floor:.3f})",
            f"  rho(I - Q C^-1)     {self.radius:6.3f} +- {self.radius_error:.3f}   "
            f"(< 1 needed; about {self.radius_noise:.3f} from noise alone)",
            *self._beside(),
            "  score by boundary type     steps   |mean| in s.e.   |E[ss^T] - K|/|K| (by chance)",
        ]
        for edge in self.edges:
            blind = "  blind" if edge.name == "interior" else ""
            lines.append(
                f"    {edge.name:18s} {edge.n_steps:11,d}   {edge.mean_deviation:14.1f}   "
                f"{edge.covariance_deviation:14.3f} ({edge.covariance_noise:.3f}){blind}"
            )
        lines += [
            f"    |E[s x^T] - I|/|I|   {slope:.3f}  blind",
            "  blind: least squares makes these right for any inputs; they say nothing of the law",
            f"  verdict: {self.verdict}",
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, and the two figures that it rests on."""
        rows = [
            ("Stein defect", f"{self.defect:.3f} ± {self.defect_error:.3f}", f"below {FINE}"),
            ("rho(I - Q C^-1)", f"{self.radius:.3f} ± {self.radius_error:.3f}", "below 1"),
        ]
        steps = f"{self.n_steps:,} steps, {self.n_inputs} inputs"
        table = html_table((steps, "found", "should be"), rows)
        return html_page(f"Stein's identity for {self.chain}", self.verdict, table)


def judge(
    excess: float,
    error: float,
    noise: float,
    radius: float,
    radius_error: float,
    *others: NeighbourDefect | None,
) -> Status:
    """Turn the defect (noise taken off), its error, the noise floor and rho into a verdict.

    The defect with neighbours and that of the mean are on the same scale, and make moments wrong in
    the same measure.
    """
    # Light tails push the defect past its limit where few inputs make |C| small, and yet
    # contract: all studied laws that failed had a radius well above 1.
    contracts = radius + 2 * radius_error < CONTRACTS
    known = [each for each in others if each is not None]
    if (excess - 2 * error > DOUBTFUL and not contracts) or any(each.is_large for each in known):
        return "fails"
    if max(noise, *(each.noise for each in known), 0.0) > FINE:
        return "undecided"
    if radius >= 1 or (excess > DOUBTFUL and not contracts):
        return "fails"
    return "doubtful" if max(excess, *(each.defect for each in known), 0.0) > FINE else "fine"


def judge_alone(
    excess: float, error: float, noise: float, *others: NeighbourDefect | None
) -> Status:
    """Turn the defect and its noise into a verdict where there is no rho."""
    known = [each for each in others if each is not None]
    if excess - 2 * error > DOUBTFUL or (noise <= FINE and excess > DOUBTFUL):
        return "fails"
    if any(each.is_large for each in known):
        return "fails"
    if max(noise, *(each.noise for each in known), 0.0) > FINE:
        return "undecided"
    return "doubtful" if max(excess, *(each.defect for each in known), 0.0) > FINE else "fine"


def _round_up(number: float) -> int:
    """Two significant digits, upwards."""
    unit = int(10 ** max(np.floor(np.log10(max(number, 1.0))) - 1, 0))
    return int(np.ceil(number / unit)) * unit

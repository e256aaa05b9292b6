"""What a fit found out about the class of networks that it was given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpecificationTest:
    """Score test of a part that a network may lack.

    Attributes
    ----------
    statistic, df : float
        A chi square with so many (fractional) degrees of freedom under the null.
    p_value : float
        Uniform where the class of networks is right; NaN where nothing could be tested.
    n_components : int
        Terms that were tried.
    n_blocks : int
        Independent stretches of data behind it.
    gain : float
        Largest part of the squared error that one of the terms would save, to first order.
    """

    statistic: float
    df: float
    p_value: float
    n_components: int
    n_blocks: int
    gain: float

    def __str__(self) -> str:
        return f"chi square {self.statistic:.1f} on {self.df:.1f} df, p = {self.p_value:.2g}"

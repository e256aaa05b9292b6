"""A second attempt from a linear model of more states, in the time that is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gloree.identification._budget import Budget
from gloree.identification._comparison import compare
from gloree.identification._linear import LinearFit, with_more_states
from gloree.identification._nonlinearity import find_nonlinearity
from gloree.identification._problem import IdentificationProblem
from gloree.identification._ranking import Origin, rank_starts
from gloree.identification._refinement import RefinedLinear, RefinedNetwork, refine_network

MORE_GAIN = 0.8
"""Ratio of held-out errors below which the network with more states is taken: of few rows more
states fit what does not repeat, and a small gain is often no more than that."""

LEAST_TIME = 0.2  # share of the time that must be left for it
SPARED = 0.1  # share of the time that it leaves for the last steps on all rows


@dataclass(frozen=True)
class Attempt:
    """What a network was made of, and the network; `detail` says what became of another one."""

    origin: Origin
    network: RefinedNetwork
    detail: str = ""


def try_more_states(
    first: Attempt,
    problem: IdentificationProblem,
    fit: LinearFit,
    linear: RefinedLinear,
    budget: Budget,
    plenty: bool = False,
) -> Attempt:
    """Go through all stages once more from two states more; the better network is returned.

    Of few rows a linear model of least order is the better one, and too small for what a
    nonlinearity adds. `fit` is the linear model, `linear` the refined one that networks must beat.
    Of `plenty` of rows any gain on held-out ones counts, if it is certain.
    """
    search = first.origin.search
    with budget.sparing(SPARED):
        larger = with_more_states(problem, fit, budget)
        if larger is fit:
            return replace(first, detail="the data support no more states")
        moments = find_nonlinearity(larger.delayed(problem), larger, budget)
        if not moments.unit_counts:
            return replace(first, detail=moments.detail)
        origin = Origin.of(replace(search, split=larger.split), larger, moments)
        network = refine_network(origin, rank_starts(origin, budget), linear)
    before = first.network
    if network.nonlinear and plenty:
        rows = search.split.held_out
        better = compare(search.problem, rows, before.model, network.model).is_certain
    else:
        better = (
            network.nonlinear
            and network.error < MORE_GAIN * before.error
            and network.training_error < before.training_error
        )
    detail = f"{larger.order} states, {network.detail}: {'taken' if better else 'not taken'}"
    return Attempt(origin, network, detail) if better else replace(first, detail=detail)

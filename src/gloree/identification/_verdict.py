"""Whether a network is kept, or the linear model: what is asked of it, and why it was refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gloree.identification._comparison import NOTHING_LEFT, compare
from gloree.identification._cross_comparison import cross_compare
from gloree.identification._forgetting import remembers
from gloree.identification._search import Search
from gloree.models import IORNN

WORTH = 0.9
"""A network is kept if its error on rows that are left out is below this share of that of the
linear model. Beyond the range of the records, or when they drift, a nonlinearity costs more than it
gains here."""

REMEMBERING_WORTH = 0.5
"""The same for a network that does not forget the state it started in (see `remembers`)."""


@dataclass(frozen=True)
class Verdict:
    """Why a network is refused, in words, or nothing where it is kept.

    `error` and `training_error` are its errors on held-out and on training rows, `standard_errors`
    is its gain over the linear model, `whole` the network after steps on all rows, where it was
    cross-validated.
    """

    note: str
    error: float
    training_error: float
    standard_errors: float
    whole: IORNN | None = None


def judge_network(
    search: Search, linear: IORNN, model: IORNN, *, sound: bool = True, lost: bool = False
) -> Verdict:
    """Ask of a network that it is better on rows it was not fitted to, certainly and by a margin.

    Few rows are left out in turn (`cross_compare`), of many those that are held out tell. A network
    that is not `sound` explodes near the records; one that is `lost` runs astray from its start.
    """
    problem, split = search.problem, search.split
    before, after = (
        [problem.error(each, rows) for rows in (split.held_out, split.training)]
        for each in (linear, model)
    )
    crossed = cross_compare(search, linear, model)
    if crossed is not None:
        compared = crossed.comparison
        ratio = math.exp(-compared.gain / 2.0)
    else:
        compared = compare(problem, split.held_out, linear, model)
        ratio = after[0] / max(before[0], NOTHING_LEFT)
    stays = remembers(problem, model, linear)
    worth = REMEMBERING_WORTH if stays else WORTH
    note = ""
    if not sound:
        note = "polynomials explode on inputs a little larger than these: the linear model was kept"
    elif not compared.is_certain:
        note = (
            f"the nonlinearity is not worth having: its gain over the linear model is within what "
            f"{compared.n_rows:,} held-out samples, as good as {compared.n_independent:,.0f} "
            f"independent ones, can tell, and the linear model was kept"
        )
    elif lost:
        note = (
            "the network does not forget the state it started in: from the states that the inputs "
            "make likely its runs end farther from the outputs than those of the linear model, "
            "which was kept"
        )
    elif not (ratio < worth and after[1] < before[1]):
        note = (
            f"the nonlinearity is not worth having: the errors on held-out and on training rows "
            f"are not both lower than those of the linear model, by {100 * (1 - worth):.0f} % of "
            f"the first, and the linear model was kept"
        )
        if stays:
            note += (
                ". So much is asked of a network that does not forget the state it started in: "
                "new inputs may lead it to an answer that no row of the records has checked"
            )
    standard_errors = compared.gain / max(compared.error, 1e-300)
    whole = None if crossed is None else crossed.model
    return Verdict(note, after[0], after[1], standard_errors, whole)

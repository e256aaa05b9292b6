"""What a search for least squares sums in its passes: derivatives and curvature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import like
from gloree._sums import Sums
from gloree.engine import Selection
from gloree.models import Network
from gloree.refinement._curvature import Strata
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    gradient_sums,
    hessian_sums,
)
from gloree.sequences import Array, Batch
from gloree.states import residual_rows, without_context


@dataclass(frozen=True)
class NormalSums(Sums):
    """J^T r and J^T J of one pass."""

    gradient: GradientSums = field(metadata={"nested": True})
    hessian: HessianSums = field(metadata={"nested": True})


def normal_sums(batch: Batch, model: Network, layout: Layout) -> NormalSums:
    """Sums of one batch: the gradient by the adjoint, J^T J by forward sensitivities."""
    at = Linearisation.of(batch, model, layout)
    return NormalSums(
        gradient_sums(batch, model, layout, at=at), hessian_sums(batch, model, layout, at=at)
    )


@dataclass(frozen=True)
class CurvedSums(Sums):
    """J^T of the second differences of the predictions along a step, with the sign of -y^."""

    n_rows: float
    gradient: Array = field(repr=False)


def curved_sums(
    batch: Batch,
    model: Network,
    layout: Layout,
    ahead: Network,
    behind: Network,
    strata: Strata | None = None,
) -> CurvedSums:
    r"""Sums of one batch for how the predictions curve between two models around one.

    .. math::
        J^T \big( r(\theta + h s) - 2 r(\theta) + r(\theta - h s) \big)
            = -h^2 J^T \hat y_{ss} + O(h^4),
        \qquad r = y - \hat y

    Three forward passes and the adjoint. Rows count with the weights of their `strata`, if given.
    """
    at = Linearisation.of(batch, model, layout)
    signal = -2.0 * at.residuals()
    for other in (ahead, behind):
        signal += without_context(batch, residual_rows(other, batch))
    if strata is not None:
        signal *= like(signal, np.repeat(strata.weights_of(batch), batch.lengths)[:, None])
    return CurvedSums(float(batch.n_counted), at.pulled_back(signal))


def counted_along(data: Selection, held_out: Selection) -> NDArray[np.bool_] | None:
    """Rows that count in `held_out`, if its segments are all among those of `data`."""
    seen, wanted = data.as_subset(), held_out.as_subset()
    counting = wanted.source.counting
    if counting is None or seen.source.counting is None or seen.data is not wanted.data:
        return None
    places = [segments.context_start.tolist() for segments in (seen.segments, wanted.segments)]
    same = seen.source.segment == wanted.source.segment
    return counting if same and set(places[1]) <= set(places[0]) else None

"""Held-out data that stop a search early."""

from __future__ import annotations

import numpy as np

from gloree.engine import Selection, Subset

HELD_OUT = 10
"""Every so manieth segment is held out for early stopping."""


def split_held_out(selection: Selection) -> tuple[Subset, Subset]:
    """Batches without, and of, every tenth segment.

    Raises
    ------
    ValueError
        If there is only one segment.
    """
    whole = selection.as_subset()
    total = whole.n_visited
    if total < 2:
        raise ValueError(
            "one segment cannot be split into training and held-out data: give more sequences"
        )
    every = min(HELD_OUT, total)
    training, held_out, count = [], [], 0
    for segments in whole.batches:
        chosen = (count + np.arange(len(segments))) % every == every - 1
        count += len(segments)
        if not chosen.all():
            training.append(segments[~chosen])
        if chosen.any():
            held_out.append(segments[chosen])
    return Subset(whole.source, training), Subset(whole.source, held_out)

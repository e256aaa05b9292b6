"""Parts of what a pass runs over, for estimates that are compared with each other."""

from __future__ import annotations

from gloree.engine._batching import every
from gloree.engine._source import Selection, Subset


def every_nth(selection: Selection, stride: int) -> Subset:
    """Every so many of the segments."""
    whole = selection.as_subset()
    return Subset(whole.source, list(every(whole.batches, stride)))


def split_after(selection: Selection, n_segments: int) -> tuple[Subset, Subset]:
    """Split after so many segments; a batch across the cut becomes two."""
    whole = selection.as_subset()
    first, second = [], []
    for segments in whole.batches:
        place = min(max(n_segments, 0), len(segments))
        first.append(segments[:place])
        second.append(segments[place:])
        n_segments -= len(segments)
    first, second = ([each for each in part if len(each)] for part in (first, second))
    return Subset(whole.source, first), Subset(whole.source, second)


def halves(selection: Selection, *, keep: bool = False) -> tuple[Subset, Subset]:
    """Split into two halves of alternate segments, for noise estimates.

    Raises
    ------
    ValueError
        If there is only one segment.
    """
    whole = selection.as_subset()
    if whole.n_visited < 2:
        raise ValueError("one segment cannot be split into halves: cut the data into more")
    first, second, parity = [], [], 0
    for segments in whole.batches:
        first.append(segments[parity::2])
        second.append(segments[1 - parity :: 2])
        parity = (parity + len(segments)) % 2
    first, second = ([each for each in part if len(each)] for part in (first, second))
    return Subset(whole.source, first, keep), Subset(whole.source, second, keep)

"""One way to run a pass: map a pure function over batches of the data and merge the results.

A *pass function* takes a `Batch` and returns a mergeable statistic: an object with
``merge(other)``. Batches are merged strictly in the order of the data, whatever finishes first, so
every engine gives bit-equal results for the same batches.
"""

from __future__ import annotations

import difflib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from gloree.models import joint_windows, lag_windows
from gloree.sequences import Array, Batch, IntArray, Sequences, split_evenly, spread_over

EngineName = Literal["serial", "threads"]


class Mergeable(Protocol):
    """A statistic that sums over batches."""

    def merge(self, other: object, /) -> object:
        """Return the statistic of both batches together."""


Statistic = TypeVar("Statistic", bound=Mergeable)


@dataclass(frozen=True)
class Source:
    """The data of a fit and how they are cut: the same batches in every pass.

    Attributes
    ----------
    data : Sequences
    batch_size : int
        Rows that count in a batch, about.
    segment : int or None
        Sequences longer than this are cut into pieces of at most that many rows.
    before, after : int
        Rows of context on either side of a piece.
    lags : int
        Inputs become windows [x_t, x_{t-1}, .., x_{t-lags+1}]; the first lags - 1 steps of a
        sequence, whose windows reach before its start, are context.
    both_ways : bool
        Windows look ahead too, [.., x_{t+1}, .., x_{t+lags-1}], for bidirectional networks; all
        steps count then, with zeros beyond the ends.
    centre : ndarray of shape (n_columns,) or None
        Subtracted from the inputs (from the windows, if `lags` > 1).
    skipped : ndarray of int or None
        First counted rows of segments to leave out.
    """

    data: Sequences
    batch_size: int = 2**14
    segment: int | None = None
    before: int = 0
    after: int = 0
    lags: int = 1
    both_ways: bool = False
    centre: Array | None = None
    skipped: IntArray | None = None

    def __post_init__(self) -> None:
        if self.segment is not None and self.before < self.lags - 1:
            raise ValueError("`before` must reach the `lags` of a window")
        if self.segment is not None and self.both_ways and self.after < self.lags - 1:
            raise ValueError("`after` must reach the `lags` of a window")

    def tables(self) -> list[IntArray]:
        """Segment tables of all batches (see `Sequences.segments`)."""
        tables = self.data.segments(
            batch_size=self.batch_size, segment=self.segment, before=self.before, after=self.after
        )
        if self.skipped is None:
            return tables
        kept = [table[~np.isin(table[:, 2], self.skipped)] for table in tables]
        return [table for table in kept if table.shape[0]]

    def read(self, table: IntArray) -> Batch:
        """Read one batch."""
        batch = self.data.batch(table)
        if self.lags > 1 and self.both_ways:
            windows = joint_windows(batch.X, batch.local, batch.local_after, self.lags)
            batch = replace(batch, X=windows)
        elif self.lags > 1:
            incomplete = np.minimum(self.lags - 1 - batch.first_step, batch.lengths - batch.after)
            batch = replace(
                batch,
                X=lag_windows(batch.X, batch.local, self.lags),
                before=np.maximum(batch.before, np.maximum(incomplete, 0)),
            )
        return batch if self.centre is None else replace(batch, X=batch.X - self.centre)

    def subset(self, n_rows: int) -> list[IntArray]:
        """Batches of every m-th segment, about `n_rows` rows in all, spread over the data.

        The batches are of equal size, at least four where there are as many segments, so that no
        worker waits for the last one.
        """
        table = np.concatenate(self.tables())
        rows = table[:, 3] - table[:, 2]
        total = int(rows.sum())
        if n_rows >= total:
            return self.tables()
        wanted = max(1, round(table.shape[0] * n_rows / total))
        chosen = table[spread_over(table.shape[0], wanted)]
        n_batches = max(4, -(-n_rows // self.batch_size))
        return split_evenly(chosen, n_batches)


def halves(tables: list[IntArray]) -> tuple[list[IntArray], list[IntArray]]:
    """Split batches into two halves of alternate segments, for noise estimates.

    Raises
    ------
    ValueError
        If there is only one segment.
    """
    if sum(table.shape[0] for table in tables) < 2:
        raise ValueError("one segment cannot be split into halves: cut the data into more")
    first, second, parity = [], [], 0
    for table in tables:
        first.append(table[parity::2])
        second.append(table[1 - parity :: 2])
        parity = (parity + table.shape[0]) % 2
    first = [table for table in first if table.shape[0]]
    second = [table for table in second if table.shape[0]]
    return first, second


def split_tables(tables: list[IntArray], n_segments: int) -> tuple[list[IntArray], list[IntArray]]:
    """Split batches after so many segments; a batch across the cut becomes two."""
    first, second = [], []
    for table in tables:
        cut = min(max(n_segments, 0), table.shape[0])
        first.append(table[:cut])
        second.append(table[cut:])
        n_segments -= table.shape[0]
    first, second = ([table for table in part if table.shape[0]] for part in (first, second))
    return first, second


@dataclass(frozen=True)
class Engine:
    """How passes run.

    Parameters
    ----------
    name : {"threads", "serial"}
        "threads" maps batches over a pool of threads, each with one BLAS thread; "serial" leaves
        the cores to BLAS.
    n_workers : int or None
        Threads of the pool; None takes one for each core.
    verbose : int
        From 2 on, a progress bar for each pass.
    """

    name: EngineName = "threads"
    n_workers: int | None = None
    verbose: int = 0

    def small_matrices(self) -> AbstractContextManager[object]:
        """Context for the algebra between passes: one BLAS thread.

        The matrices there are small, and threads of BLAS that wait for each other cost more than
        they gain.
        """
        limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
        return limits

    def run(
        self,
        function: Callable[[Batch], Statistic],
        source: Source,
        *,
        label: str = "pass",
        tables: list[IntArray] | None = None,
    ) -> Statistic:
        """Run one pass.

        Parameters
        ----------
        function : callable
            Batch to statistic. It must not change anything outside itself.
        source : Source
            Data and how they are cut.
        label : str
            Name shown beside the progress bar.
        tables : list of ndarray, optional
            The batches to visit; all of the source by default.

        Returns
        -------
        statistic
            The statistics of all batches, merged in the order of the data.

        Notes
        -----
        At most two batches for each worker are in memory at once.
        """
        chosen = source.tables() if tables is None else tables
        merged: Statistic | None = None
        progress = tqdm(
            self._map(function, source, chosen),
            total=len(chosen),
            desc=label,
            disable=self.verbose < 2,
            leave=False,
        )
        for part in progress:
            merged = part if merged is None else merged.merge(part)  # type: ignore[assignment]
        if merged is None:
            raise ValueError("a pass over no batches: the data are empty")
        return merged

    def _map(
        self, function: Callable[[Batch], Statistic], source: Source, tables: list[IntArray]
    ) -> Iterator[Statistic]:
        n_workers = self.n_workers or os.cpu_count() or 1
        if self.name == "serial" or n_workers == 1 or len(tables) == 1:
            threads = n_workers if self.name == "serial" else 1
            with threadpool_limits(limits=threads, user_api="blas"):
                for table in tables:
                    yield function(source.read(table))
            return

        def work(table: IntArray) -> Statistic:
            return function(source.read(table))

        with (
            threadpool_limits(limits=1, user_api="blas"),
            ThreadPoolExecutor(max_workers=n_workers) as pool,
        ):
            waiting: deque[Future[Statistic]] = deque()
            for table in tables:
                waiting.append(pool.submit(work, table))
                if len(waiting) > n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def get_engine(engine: object, *, verbose: int = 0) -> Engine:
    """Resolve the `engine` argument of an estimator.

    Parameters
    ----------
    engine : None, "threads", "serial" or Engine
        None means threads.
    verbose : int
        Passed on to an engine made here.

    Returns
    -------
    Engine
    """
    if isinstance(engine, Engine):
        return engine
    if engine is None or engine == "threads":
        return Engine("threads", verbose=verbose)
    if engine == "serial":
        return Engine("serial", verbose=verbose)
    close = difflib.get_close_matches(str(engine), ["threads", "serial"], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"`engine` must be None, 'threads', 'serial' or an Engine, got {engine!r}{hint}"
    )

"""One way to run a pass: map a pure function over batches of the data and merge the results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain, islice
from typing import Any, Literal, Protocol, TypeVar

from threadpoolctl import ThreadpoolController
from tqdm.auto import tqdm

from gloree._arrays import copied, is_tensor
from gloree._cores import n_cores
from gloree._sums import MergeError
from gloree.engine._checkpoint import Checkpoint
from gloree.engine._source import Source
from gloree.engine._subset import Subset
from gloree.models import ExplosionError
from gloree.sequences import Batch, Data, IntArray, Part, walk

EngineName = Literal["serial", "threads", "dask"]

SHORT = 0.03
"""Seconds of work below which threads that wait for each other cost more than they gain."""


@cache
def _libraries() -> ThreadpoolController:
    """Thread pools of the libraries that are loaded; to look for them takes milliseconds."""
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[object]:
    """Context in which BLAS has one thread."""
    limits: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limits


class Mergeable(Protocol):
    """A statistic that sums over batches."""

    def merge(self, other: object, /) -> object:
        """Return the statistic of both batches together."""


Statistic = TypeVar("Statistic", bound=Mergeable)
Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Gathered:
    """Things in the order of the data, which merge by standing one after another."""

    items: list[Any]

    def merge(self, other: object) -> Gathered:
        """Return the things of both."""
        if not isinstance(other, Gathered):
            raise MergeError(f"cannot merge Gathered with {type(other).__name__}")
        return Gathered(self.items + other.items)


class Clock:
    """Seconds since it was made, for a search that ends with its time.

    With a checkpoint the readings are on file among the passes: a fit that goes on is handed them
    with these, decides by them what the interrupted one decided, and counts on from the last.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._begin = time.perf_counter()

    def __call__(self) -> float:
        """Seconds."""
        seconds = self._engine.recall("clock", lambda: time.perf_counter() - self._begin)
        self._begin = time.perf_counter() - seconds
        return seconds


class Merger:
    """Merges statistics in order: those of a group first, then the groups.

    The order, and so the rounding, is the same whoever sums a group.
    """

    def __init__(self) -> None:
        self._total: Any = None
        self._group: Any = None
        self._current: int | None = None

    def add(self, group: int, statistic: Any) -> None:
        """Add the statistic of the next batch, or of a whole group."""
        if group == self._current:
            self._group = self._group.merge(statistic)
            return
        self._close()
        self._current, self._group = group, statistic

    def _close(self) -> None:
        if self._current is not None:
            self._total = self._group if self._total is None else self._total.merge(self._group)

    @property
    def any(self) -> bool:
        """Whether there was anything to merge."""
        return self._current is not None

    def result(self) -> Any:
        """Everything merged."""
        self._close()
        if self._total is None:
            raise ValueError("a pass over no batches: the data are empty")
        return self._total


def merged(each: Iterable[tuple[int, Any]]) -> Any:
    """Everything merged, of pairs of a group and a statistic in the order of the data."""
    merger = Merger()
    for group, statistic in each:
        merger.add(group, statistic)
    return merger.result()


@dataclass(frozen=True)
class Engine:
    """How passes run.

    Parameters
    ----------
    name : {"threads", "serial"}
        "threads" maps batches over a pool of threads; "serial" takes one after the other, as both
        do with tensors. Either way BLAS has one thread: how it splits a product would show in the
        last bits.
    n_workers : int or None
        Threads of the pool; None takes one for each core it may use, and no pool for a pass that
        will take less than `SHORT` seconds, judging by the first batch of the first pass of its
        kind.
    verbose : int
        From 2 on, a progress bar for each pass.
    checkpoint : Checkpoint, optional
        Where results of passes are kept, and taken from where they are on file.
    """

    name: EngineName = "threads"
    n_workers: int | None = None
    verbose: int = 0
    checkpoint: Checkpoint | None = None
    _paces: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def small_matrices(self) -> AbstractContextManager[object]:
        """Context for the algebra between passes: one BLAS thread.

        The matrices there are small, and threads of BLAS that wait for each other cost more than
        they gain.
        """
        return one_blas_thread()

    def look(self, data: Data) -> None:
        """Take the first look at data that need one."""
        data.look(verbose=self.verbose)

    def run(
        self,
        function: Callable[[Batch], Statistic],
        source: Source | Subset,
        *,
        label: str = "pass",
        tables: list[IntArray] | None = None,
    ) -> Statistic:
        """Run one pass.

        Parameters
        ----------
        function : callable
            Batch to statistic. It must not change anything outside itself.
        source : Source or Subset
            Data and how they are cut; or some of their batches.
        label : str
            Name shown beside the progress bar.
        tables : list of ndarray, optional
            The batches of a source to visit; all of it by default.

        Returns
        -------
        statistic
            The statistics of all batches, merged in the order of the data.

        Notes
        -----
        At most two batches for each worker are in memory at once.
        """
        if not isinstance(source, Subset):
            compute = partial(self._summed, function, source, label, tables)
        elif self._holds(source):
            compute = partial(self._of_held, function, source, label)
        else:
            compute = partial(self._summed, function, source.source, label, source.tables)
        return self.recall(label, compute)

    def recall(self, label: str, compute: Callable[[], Result]) -> Result:
        """Result of a pass, or of a computation between passes: from the checkpoint if it is there.

        Parameters
        ----------
        label : str
        compute : callable
            Finds the result, or raises `ExplosionError`, where it is not on file.
        """
        if self.checkpoint is None:
            return compute()
        found, result = self.checkpoint.take(label)
        if not found:
            try:
                result = compute()
            except ExplosionError as error:
                # part of the search for a step: it has to explode again
                result = error
            self.checkpoint.append(label, result)
        if isinstance(result, ExplosionError):
            raise result
        known: Result = result
        return known

    def gather(
        self, function: Callable[[Batch], Item], source: Source, tables: list[IntArray]
    ) -> list[Item]:
        """Keep what a function makes of some batches, for sums that are taken over it many times.

        It does not go to the checkpoint; the sums (see `add_up`) are cheap to take again.
        """
        keep = partial(_gathered, function=function)
        return self._summed(keep, source, "rows", tables).items

    def add_up(self, function: Callable[[Item], Statistic], items: Sequence[Item]) -> Statistic:
        """Sum a function of things that are at hand, such as what `gather` kept, in their order."""
        each = self._spread(function, items, len(items), "sums of rows at hand")
        total: Statistic = merged((0, statistic) for statistic in each)
        return total

    def _holds(self, subset: Subset) -> bool:
        """Whether rows of a subset are kept in the memory of this process."""
        return subset.is_small

    def _read(self, subset: Subset) -> list[tuple[int, Batch]]:
        """Batches of a subset, and their groups."""
        return list(self._each(as_read, subset.source, "rows", subset.tables))

    def _of_held(
        self, function: Callable[[Batch], Statistic], subset: Subset, label: str
    ) -> Statistic:
        """Sum over rows that are kept, as over those of the data: the same to the last bit."""
        held = subset.held(self._read)
        groups, batches = zip(*held, strict=True)
        alone = is_tensor(batches[0].X)
        each = self._spread(function, batches, len(batches), label, alone=alone)
        total: Statistic = merged(zip(groups, each, strict=True))
        return total

    def _summed(
        self,
        function: Callable[[Batch], Statistic],
        source: Source,
        label: str,
        tables: list[IntArray] | None,
    ) -> Statistic:
        """Map and merge."""
        total: Statistic = merged(self._each(function, source, label, tables))
        return total

    def _each(
        self,
        function: Callable[[Batch], Result],
        source: Source,
        label: str,
        tables: list[IntArray] | None,
    ) -> Iterator[tuple[int, Result]]:
        """Results of a function, and their groups, in order; with a progress bar."""
        total = source.n_batches if tables is None else len(tables)
        with tqdm(total=total, desc=label, disable=self.verbose < 2, leave=False) as bar:
            for group, n_batches, result in self._map(function, source, tables, total, label):
                yield group, result
                bar.update(n_batches)

    def _map(
        self,
        function: Callable[[Batch], Result],
        source: Source,
        tables: list[IntArray] | None,
        total: int,
        label: str,
    ) -> Iterator[tuple[int, int, Result]]:
        """Group, number of batches and their sum, in order; of `total` batches, about."""
        chosen = source.each() if tables is None else tables
        reading, steps = source.reading, walk(source.data, chosen)

        def work(step: tuple[int, Part, IntArray]) -> tuple[int, int, Result]:
            group, part, table = step
            return group, 1, function(reading(part, table))

        ahead = list(islice(steps, 1))
        # PyTorch spreads the work on a tensor itself
        alone = bool(ahead) and is_tensor(ahead[0][1].X)
        yield from self._spread(work, chain(ahead, steps), total, label, alone=alone)

    def _spread(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        total: int,
        label: str,
        *,
        alone: bool = False,
    ) -> Iterator[Result]:
        """Results of a function in the order of the items, on the pool if that is worth it."""
        n_workers = self.n_workers or n_cores()
        alone = alone or self.name == "serial" or n_workers == 1 or total <= 1
        given = iter(items)
        if not alone and self.n_workers is None:
            if label not in self._paces:
                begin = time.perf_counter()
                with one_blas_thread():
                    yield from map(function, islice(given, 1))
                self._paces[label] = time.perf_counter() - begin
            alone = total * self._paces[label] < SHORT
        if alone:
            with one_blas_thread():
                yield from map(function, given)
            return
        with (
            one_blas_thread(),
            ThreadPoolExecutor(max_workers=n_workers) as pool,
        ):
            waiting: deque[Future[Result]] = deque()
            for item in given:
                waiting.append(pool.submit(function, item))
                if len(waiting) > n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def as_read(batch: Batch) -> Batch:
    """Map of a pass that keeps its batches: copies, or a view would keep all of its part."""
    outputs = None if batch.Y is None else copied(batch.Y)
    return replace(batch, X=copied(batch.X), Y=outputs)


def _gathered(batch: Batch, function: Callable[[Batch], Any]) -> Gathered:
    return Gathered([function(batch)])

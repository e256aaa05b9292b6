"""One way to run a pass: map a pure function over batches of the data and merge the results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Generic, Literal, Protocol, TypeVar, cast, get_args

from threadpoolctl import ThreadpoolController
from tqdm.auto import tqdm

from gloree._arrays import copied, is_tensor
from gloree._cores import n_cores
from gloree._parameters import check_integer, optional_integer
from gloree._sums import MergeError
from gloree.engine._checkpoint import Checkpoint
from gloree.engine._failure import PassFailure
from gloree.engine._source import Selection, Subset
from gloree.sequences import Batch, Data, Part, Segments, walk

EngineName = Literal["serial", "threads", "dask"]

SHORT = 0.03
"""Seconds of work below which threads that wait for each other cost more than they gain."""


@cache
def _libraries() -> ThreadpoolController:
    """Thread pools of the libraries that are loaded; finding them takes milliseconds."""
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
class Collection(Generic[Item]):
    """Items in the order of the data, which merge by standing one after another."""

    items: list[Item]

    def merge(self, other: object) -> Collection[Item]:
        """Return the items of both."""
        if not isinstance(other, Collection):
            raise MergeError(f"cannot merge Collection with {type(other).__name__}")
        return Collection(self.items + other.items)


class Clock:
    """Seconds since it was made, for a search that ends with its time.

    With a checkpoint its times are on file among the passes: a resumed fit is handed them
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


def merge_all(each: Iterable[tuple[int, Statistic]]) -> Statistic | None:
    """Everything merged, of pairs of a group and a statistic in the order of the data.

    Statistics of a group join first, then the groups: the order, and so the rounding, is the same
    whoever sums a group. None if there is nothing.
    """
    total: Statistic | None = None
    for _, group in groupby(each, key=itemgetter(0)):
        summed = reduce(_merge, (statistic for _, statistic in group))
        total = summed if total is None else _merge(total, summed)
    return total


def merged(each: Iterable[tuple[int, Statistic]]) -> Statistic:
    """The same of data that are not empty."""
    total = merge_all(each)
    if total is None:
        raise ValueError("a pass over no batches: the data are empty")
    return total


def _merge(first: Statistic, second: Statistic) -> Statistic:
    return cast(Statistic, first.merge(second))


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

    Raises
    ------
    ValueError, TypeError
        If the name is another one, or a number is too small or no integer.

    Examples
    --------
    >>> from gloree import Engine, SpectralRNNRegressor, datasets
    >>> X, Y, truth, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    >>> est = SpectralRNNRegressor(2, engine=Engine("threads", n_workers=2), random_state=0)
    >>> est.fit(X, Y).model_
    IORNN(n_inputs=4, n_hidden=2, n_outputs=2, activation='quadratic')
    """

    name: EngineName = "threads"
    n_workers: int | None = None
    verbose: int = 0
    checkpoint: Checkpoint | None = None
    _paces: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.name not in get_args(EngineName) or (self.name == "dask" and type(self) is Engine):
            raise ValueError(
                f"`name` must be 'threads' or 'serial', got {self.name!r:.100}: for Dask give "
                f"engine='dask', a client, or a `DaskEngine`"
            )
        optional_integer("n_workers", self.n_workers, 1)
        check_integer("verbose", self.verbose, 0)

    def small_matrices(self) -> AbstractContextManager[object]:
        """Context for the algebra between passes: one BLAS thread.

        The matrices there are small, and threads of BLAS that wait for each other cost more than
        they gain.
        """
        return one_blas_thread()

    def scan(self, data: Data) -> None:
        """Scan data whose sizes are not known yet."""
        data.scan(verbose=self.verbose)

    def run(
        self,
        function: Callable[[Batch], Statistic],
        data: Selection,
        *,
        label: str = "pass",
    ) -> Statistic:
        """Run one pass.

        Parameters
        ----------
        function : callable
            Batch to statistic. It must not change anything outside itself.
        data : Source or Subset
            What the pass runs over: all batches of a source, or some of them.
        label : str
            Name shown beside the progress bar.

        Returns
        -------
        statistic
            The statistics of all batches, merged in the order of the data.

        Notes
        -----
        At most two batches for each worker are in memory at once.
        """
        if isinstance(data, Subset) and self._keeps(data):
            return self.recall(label, partial(self._sum_kept, function, data, label))
        return self.recall(label, partial(self._sum, function, data, label))

    def recall(self, label: str, compute: Callable[[], Result]) -> Result:
        """Result of a pass, or of a computation between passes: from the checkpoint if it is there.

        Parameters
        ----------
        label : str
        compute : callable
            Finds the result, or raises `PassFailure`, where it is not on file.
        """
        if self.checkpoint is None:
            return compute()
        found, result = self.checkpoint.take(label)
        if not found:
            try:
                result = compute()
            except PassFailure as failure:
                # part of the search for a step: it has to fail again
                result = failure
            self.checkpoint.append(label, result)
        if isinstance(result, PassFailure):
            raise result
        return cast(Result, result)

    def collect(self, function: Callable[[Batch], Item], data: Selection) -> list[Item]:
        """Keep what a function makes of each batch, for sums that are taken over it many times.

        It does not go to the checkpoint; the sums (see `add_up`) are cheap to take again.
        """
        return self._sum(partial(_collected, function=function), data, "rows").items

    def add_up(self, function: Callable[[Item], Statistic], items: Sequence[Item]) -> Statistic:
        """Sum a function of items in memory, such as what `collect` kept, in their order."""
        each = self._spread(function, items, len(items), "sums of rows in memory")
        return merged((0, statistic) for statistic in each)

    def _keeps(self, subset: Subset) -> bool:
        """Whether rows of a subset are kept in memory."""
        return subset.is_kept

    def _read(self, subset: Subset) -> list[tuple[int, Batch]]:
        """Batches of a subset, and their groups."""
        return list(self._each(copied_batch, subset, "rows"))

    def _sum_kept(
        self, function: Callable[[Batch], Statistic], subset: Subset, label: str
    ) -> Statistic:
        """Sum over rows that are kept, as over those of the data: the same to the last bit."""
        groups, batches = zip(*subset.kept_rows(self._read), strict=True)
        alone = is_tensor(batches[0].X)
        each = self._spread(function, batches, len(batches), label, alone=alone)
        return merged(zip(groups, each, strict=True))

    def _sum(
        self, function: Callable[[Batch], Statistic], selection: Selection, label: str
    ) -> Statistic:
        """Map and merge."""
        return merged(self._each(function, selection, label))

    def _each(
        self, function: Callable[[Batch], Result], selection: Selection, label: str
    ) -> Iterator[tuple[int, Result]]:
        """Results of a function, and their groups, in order; with a progress bar."""
        shown = self.verbose >= 2
        with tqdm(total=selection.n_batches, desc=label, disable=not shown, leave=False) as bar:
            for group, n_batches, result in self._map(function, selection, label):
                yield group, result
                bar.update(n_batches)

    def _map(
        self, function: Callable[[Batch], Result], selection: Selection, label: str
    ) -> Iterator[tuple[int, int, Result]]:
        """Group, number of batches and their sum, in order."""
        transform, steps = selection.transform, walk(selection.data, selection.iter_batches())

        def work(step: tuple[int, Part, Segments]) -> tuple[int, int, Result]:
            group, part, segments = step
            return group, 1, function(transform(part.batch(segments)))

        ahead = list(islice(steps, 1))
        # PyTorch spreads the work on a tensor itself
        alone = bool(ahead) and is_tensor(ahead[0][1].X)
        yield from self._spread(work, chain(ahead, steps), selection.n_batches, label, alone=alone)

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


def copied_batch(batch: Batch) -> Batch:
    """Map of a pass that keeps its batches: copies, or a view would keep all of its part."""
    outputs = None if batch.Y is None else copied(batch.Y)
    return replace(batch, X=copied(batch.X), Y=outputs)


def _collected(batch: Batch, function: Callable[[Batch], Item]) -> Collection[Item]:
    return Collection([function(batch)])

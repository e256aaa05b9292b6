"""What a fit will cost, from shapes alone and before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from gloree._cores import n_cores
from gloree._monomials import BLOCK_ENTRIES
from gloree._parameters import check_flag, check_integer, optional_integer
from gloree.moments._estimators import FIRST_MOMENTS, UNION_ROWS, FirstMomentEstimator

MAX_FEATURES = 1000
"""Features up to which a regression moment is the default."""

FIRST_ROWS, ROWS_PER_FEATURE = 8_000, 40
"""Rows of the subsample behind a first moment, and rows for each feature, at least."""

SCORE_ROWS = 3
"""Rows for each feature of a plain regression, below which "auto" takes the score moment."""

MAX_ENTRIES = 50 * MAX_FEATURES
"""Different entries of the score tensors of a score moment, at most."""

DEFAULT_BATCH_ROWS = 2**13
"""Rows of a batch, at least, where the data are many."""

BATCH_NUMBERS = 2**21
"""Numbers in the inputs of a batch, at most: the allocator reuses blocks of up to 16 MiB, and asks
the system for fresh pages for larger ones."""

LEAST_BATCH_ROWS = 2**11
"""Rows of a batch nevertheless: each step in time of the recurrence is a call."""

SMALLEST_BATCH = 256
"""Rows of a batch below which a memory limit is refused."""

BASE_BYTES = 2**22
"""What Python, its allocator and a report take for any fit."""

SEGMENT_BYTES = 200
"""What it takes to list a segment: its rows, its place, and copies of both where some are chosen
(150 to 180 bytes were measured)."""

KEPT_BYTES = 2**25
"""Rows of the start that are kept in memory, at most."""

SPARE_GRAMS, SPARE_HESSIANS = 8, 4
"""Matrices of the size of the sums beside those of the workers: the total, and what solving takes
(LAPACK's work areas, factors, scaled copies)."""

MOST_WEIGHTS, MOST_ROW_BYTES = 1500, 2**30
"""Weights up to which J^T J is formed, and what is kept in its place beyond, at most."""


class MemoryLimitError(MemoryError):
    """A pass would need more memory than the limit set."""


@dataclass(frozen=True)
class MomentPlan:
    """Cost and memory of a fit's passes.

    Attributes
    ----------
    n_rows, n_inputs, n_outputs, degree : int
    estimator : FirstMomentEstimator
    n_directions : int
        Directions in which the first moment is taken: n_inputs, unless a range finder comes first.
    n_features : int
        Features (regression) or different entries of a score tensor.
    first_rows : int
        Rows behind the first moment, where its decomposition is accepted.
    batch_size : int
        Rows of a batch.
    gigaflops : float
        Multiplications and additions of the first moment, in 10^9.
    batch_bytes, sum_bytes : int
        Memory of the batches in flight, and of the sums with what solving for them takes.
    row_bytes : int
        Memory of the rows that are kept for the first stages; more are read in every pass.
    other_bytes : int
        Memory of the segments' list, of parts of the data that are read, and of the rest.
    """

    n_rows: int
    n_inputs: int
    n_outputs: int
    degree: int
    estimator: FirstMomentEstimator
    n_directions: int
    n_features: int
    first_rows: int
    batch_size: int
    gigaflops: float
    batch_bytes: int
    sum_bytes: int
    row_bytes: int = 0
    other_bytes: int = 0

    @property
    def moment(self) -> str:
        """Name of the first moment."""
        return self.estimator.name

    @property
    def total_bytes(self) -> int:
        """Peak memory beside the data."""
        return self.batch_bytes + self.sum_bytes + self.row_bytes + self.other_bytes

    def __str__(self) -> str:
        reduced = ""
        if self.n_directions < self.n_inputs:
            reduced = f", on {self.n_directions} directions found first"
        return (
            f"first moment `{self.moment}` of order {self.degree}{reduced}: {self.n_features:,} "
            f"features from {self.first_rows:,} of {self.n_rows:,} steps, "
            f"{self.gigaflops:.2g} GFLOP; batches of {self.batch_size:,} steps; memory beside the "
            f"data {self.total_bytes / 2**20:.1f} MiB (batches {self.batch_bytes / 2**20:.1f}, "
            f"sums {self.sum_bytes / 2**20:.1f}, rows {self.row_bytes / 2**20:.1f}, "
            f"other {self.other_bytes / 2**20:.1f})"
        )


def plan(
    n_rows: int,
    n_inputs: int,
    n_outputs: int,
    *,
    n_hidden: int = 10,
    degree: int = 2,
    moment: str | FirstMomentEstimator = "auto",
    score: bool = True,
    n_workers: int | None = None,
    batch_size: int | None = None,
    memory_limit: int | None = None,
    n_segments: int = 0,
    beside: int = 0,
) -> MomentPlan:
    """Plan the first moment: which features, how many rows, how much memory.

    Parameters
    ----------
    n_rows, n_inputs, n_outputs, n_hidden, degree : int
        Shapes of the data and of the network; the order of the moment, l.
    moment : {"auto", "regression", "score", "xreg", "union"} or FirstMomentEstimator
        "regression" chooses ``xreg`` or ``union`` by the sizes, "auto" among all three.
    score : bool, default True
        Whether there is an input law with scores, which ``union`` features need.
    n_workers : int, optional
        Batches in flight; the number of cores by default.
    batch_size : int, optional
        Rows of a batch; by default a twentieth of the data, between 8,192 and 32,768, but about two
        million inputs at most, and fewer where `memory_limit` asks for it.
    memory_limit : int, optional
        Bytes that the fit may take beside data in memory: batches, sums, rows that are kept, and
        everything else.
    n_segments : int, default 0
        Sequences, or pieces of long ones.
    beside : int, default 0
        Bytes that are taken besides: parts of data that are read, a readout.

    Raises
    ------
    MemoryLimitError
        If the limit cannot be kept.
    ValueError
        If `moment` is not one of these, or a score moment has too many entries.
    ValueError, TypeError
        If a size is below 1 (a number of segments or bytes below 0), or no integer.

    Notes
    -----
    Where a regression moment of all inputs would have more than `MAX_FEATURES` features, it is
    taken in the 2 n_hidden + 10 directions that the range finder keeps (inputs that depend on their
    past add directions of earlier steps to those of the units), or in fewer, but no fewer than
    n_hidden + 2, if these have too many as well. See :ref:`theory-range`.

    Examples
    --------
    >>> from gloree.moments import plan
    >>> plan(200_000, 20, 10).moment
    'union'
    """
    sizes = {"n_rows": n_rows, "n_inputs": n_inputs, "n_outputs": n_outputs, "n_hidden": n_hidden}
    for name, value in {**sizes, "degree": degree}.items():
        check_integer(name, value, 1)
    for name, value in {"n_segments": n_segments, "beside": beside}.items():
        check_integer(name, value, 0)
    limits = {"n_workers": n_workers, "batch_size": batch_size, "memory_limit": memory_limit}
    for name, limit in limits.items():
        optional_integer(name, limit, 1)
    check_flag("score", score)
    estimator, directions = _choose(n_rows, n_inputs, n_hidden, degree, moment, score=score)
    size = estimator.n_features(directions, degree)
    gram = size if estimator.regression else 0
    enough = max(FIRST_ROWS, ROWS_PER_FEATURE * size)
    first_rows = min(n_rows, enough) if estimator.regression else n_rows
    workers = n_workers or n_cores()
    row_bytes = 8 * (2 * n_inputs + 3 * n_outputs + 6 * n_hidden + 8)
    n_weights = n_hidden * (n_inputs + n_hidden + n_outputs + 1) + n_outputs * (n_inputs + 1)
    formed = n_weights <= MOST_WEIGHTS
    sums = max(
        8 * size * ((gram or 4) + n_outputs) * (workers + SPARE_GRAMS),
        8 * n_weights**2 * (workers + SPARE_HESSIANS) if formed else 0,
        # windows of two steps, where there is a law
        8 * n_inputs**2 * (4 if score else 1) * (workers + SPARE_HESSIANS),
    )
    blocks = 8 * BLOCK_ENTRIES * 2 * workers
    other = BASE_BYTES + SEGMENT_BYTES * n_segments + beside
    if not formed:
        other += min(MOST_ROW_BYTES, n_rows * row_bytes) + 8 * n_weights * (workers + 40)
    fixed = sums + blocks + other
    kept = min(KEPT_BYTES, 8 * n_rows * (n_inputs + n_outputs))
    rows = max(DEFAULT_BATCH_ROWS, min(n_rows // 20, 4 * DEFAULT_BATCH_ROWS))
    rows = min(rows, max(BATCH_NUMBERS // n_inputs, LEAST_BATCH_ROWS))
    rows = rows if batch_size is None else batch_size
    smallest = min(SMALLEST_BATCH if batch_size is None else batch_size, n_rows)
    if memory_limit is not None:
        spare = memory_limit - fixed - (workers + 1) * row_bytes * smallest
        if spare < 0:
            needed = memory_limit - spare
            raise MemoryLimitError(
                f"`memory_limit`={memory_limit:,} bytes: this fit needs at least {needed:,} "
                f"({size:,} features take {sums + blocks:,}, {n_segments:,} segments and parts of "
                f"the data {other:,}); raise the limit, lower `batch_size` or n_workers, or use "
                f"fewer inputs"
            )
        kept = min(kept, spare // 4)
        if batch_size is None:
            rows = min(rows, smallest + (spare - kept) // ((workers + 1) * row_bytes))
    rows = max(1, min(rows, n_rows))
    return MomentPlan(
        *(n_rows, n_inputs, n_outputs, degree, estimator, directions, size, first_rows, rows),
        gigaflops=first_rows * size * (n_outputs * 2 + gram) / 1e9,
        batch_bytes=(workers + 1) * row_bytes * rows + blocks,
        sum_bytes=sums,
        row_bytes=kept,
        other_bytes=other,
    )


def _choose(
    n_rows: int,
    n_inputs: int,
    n_hidden: int,
    degree: int,
    moment: str | FirstMomentEstimator,
    *,
    score: bool,
) -> tuple[FirstMomentEstimator, int]:
    """First moment, and how many directions of the inputs it is taken along."""
    if isinstance(moment, str) and moment not in ("auto", "regression", *FIRST_MOMENTS):
        names = ", ".join(map(repr, ("auto", "regression", *FIRST_MOMENTS)))
        raise ValueError(f"`moment` must be one of {names} or an estimator, got {moment!r}")
    named = FIRST_MOMENTS.get(moment) if isinstance(moment, str) else moment
    if named is not None and not named.regression:
        entries = named.n_features(n_inputs, degree)
        if entries > MAX_ENTRIES:
            raise ValueError(
                f"moment={named.name!r} of order {degree} has {entries:,} entries for {n_inputs} "
                f"inputs: use `moment`='regression', which finds the directions of the units first"
            )
        return named, n_inputs
    plain, union = FIRST_MOMENTS["xreg"], FIRST_MOMENTS["union"]
    chosen = plain if named is None else named
    directions = n_inputs
    if chosen.n_features(directions, degree) > MAX_FEATURES:
        # each direction is a feature at least
        directions = min(n_inputs, 2 * n_hidden + 10, max(MAX_FEATURES, n_hidden + 2))
        while chosen.n_features(directions, degree) > MAX_FEATURES and directions > n_hidden + 2:
            directions -= 1
    if named is not None or not score or directions < n_inputs:
        return chosen, directions
    size = plain.n_features(n_inputs, degree)
    if moment == "auto" and (n_rows < SCORE_ROWS * size or size > MAX_FEATURES):
        return FIRST_MOMENTS["score"], n_inputs
    features = union.n_features(n_inputs, degree)
    enough = n_rows >= UNION_ROWS * features
    return union if enough and features <= MAX_FEATURES else plain, n_inputs

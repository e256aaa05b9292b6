"""Files of a directory, each a part of the data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from gloree._archives import read_archive
from gloree._mapped import SourceError, Stamp, map_array
from gloree.sequences import Part, Sequences
from gloree.sources._parts import (
    Parts,
    Summary,
    part_of_values,
    require_same,
    summarise,
)

KEYS = ("X", "Y", "lengths")

Mark: TypeAlias = tuple[object, ...]
"""What tells the content of a shard: checksums of the arrays of an archive, which were compared
when they were read, or stamps of files that are mapped."""

AT_ONCE = 3
"""Files that the scan has in memory at once: as many as a pass."""

SETTLED, COARSELY_SETTLED = 0.05, 2.5
"""Seconds after which another change of a file has another time; many, where times are in whole
seconds. A file that was written to just before the scan is compared by its content in each pass."""


@dataclass(frozen=True)
class Shard:
    """One file of arrays, with `paths` {"npz": path}, or a file for each of X, Y and lengths."""

    name: str
    paths: dict[str, Path]

    def read(self, known: Mark = ()) -> tuple[Sequences, Mark]:
        """Read and check everything, and what tells it; ``.npy`` files are mapped, not read.

        Whether values are finite is not checked again where the content is `known`.
        """
        try:
            names, values, mark = self._arrays()
        except Exception as error:  # whatever the system makes of what such a file claims
            raise SourceError(f"{self.name}: cannot be read ({error})") from error
        if not {"X", "Y"} <= values.keys() and not {"X"} <= set(names) <= {"X", "lengths"}:
            raise SourceError(
                f"{self.name}: holds {sorted(names) or 'nothing'}, expected arrays X and Y (and "
                f"lengths, for sequences one after another)"
            )
        parts = (values["X"], values.get("Y"))
        data = part_of_values(
            self.name,
            (*parts, values["lengths"]) if "lengths" in values else parts,
            check_finite=not mark or mark != known,
        )
        return data, mark

    def _arrays(self) -> tuple[list[str], Mapping[str, object], Mark]:
        """Names of all arrays that there are, those that are wanted, and what tells them."""
        if "npz" in self.paths:
            found = read_archive(self.paths["npz"], KEYS, others=True)
            return found.names, found.arrays, tuple(sorted(found.codes.items()))
        mapped = {key: map_array(path) for key, path in self.paths.items()}
        stamps = [each.mapped.stamp for each in mapped.values() if each.mapped is not None]
        settled = len(stamps) == len(mapped) and all(map(_is_settled, stamps))
        return list(self.paths), mapped, tuple(stamps) if settled else ()


def _is_settled(stamp: Stamp) -> bool:
    """Whether another change of this file will have another time."""
    changed = max(stamp[2:])
    coarse = changed % 10**9 == 0
    return time.time() - changed / 1e9 > (COARSELY_SETTLED if coarse else SETTLED)


@dataclass(frozen=True)
class SeenShard:
    """A shard as the scan has found it: what tells its files, the checksum of its values."""

    shard: Shard
    mark: Mark
    checksum: int

    def read(self) -> Sequences:
        """Read it again; its values are compared only if they are not known by their mark."""
        data, mark = self.shard.read(known=self.mark)
        if mark and mark == self.mark:
            return data
        return require_same(self.shard.name, data, self.checksum)


class Shards(Parts):
    """Data in the files of a directory (see `gloree.sources.shards`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._marks: list[Mark] = []

    @cached_property
    def shards(self) -> list[Shard]:
        """The files, by name."""
        if not self.directory.is_dir():
            raise SourceError(f"{self.directory} is not a directory")
        found = [Shard(path.name, {"npz": path}) for path in self.directory.glob("*.npz")]
        together: dict[str, dict[str, Path]] = {}
        for key in KEYS:
            for path in self.directory.glob(f"*.{key}.npy"):
                together.setdefault(path.name[: -len(f".{key}.npy")], {})[key] = path
        found += [Shard(f"{stem}.*.npy", paths) for stem, paths in together.items()]
        if not found:
            raise SourceError(
                f"{self.directory} holds no shards: expected files NAME.npz with arrays X and Y, "
                f"or pairs NAME.X.npy and NAME.Y.npy"
            )
        return sorted(found, key=lambda shard: shard.name)

    @property
    def n_parts(self) -> int:
        """Files."""
        return len(self.shards)

    def scan_parts(self) -> Iterator[Summary]:
        """Scan every file, a few at a time: checks and checksums take longer than to read."""
        self._marks = []
        pool = ThreadPoolExecutor(max_workers=AT_ONCE)
        try:
            for summary, mark in pool.map(self._scan, range(self.n_parts)):
                self._marks.append(mark)
                yield summary
        finally:
            pool.shutdown(cancel_futures=True)

    def _scan(self, index: int) -> tuple[Summary, Mark]:
        shard = self.shards[index]
        data, mark = shard.read()
        return summarise(shard.name, data, first=index == 0), mark

    def open(self, index: int) -> Part:
        """Read one file."""
        return Part.of(self.remote(index).read(), *self.place(index))

    def remote(self, index: int) -> SeenShard:
        """Where to read a file from."""
        checksum = self.part_checksum(index)
        return SeenShard(self.shards[index], self._marks[index], checksum)

    def require_unchanged(self, before: int | None) -> None:
        """Compare files that are mapped: what is written through a map may leave no time behind."""
        for index, shard in enumerate(self.shards):
            if "npz" not in shard.paths:
                require_same(shard.name, shard.read()[0], self.part_checksum(index))

    def __str__(self) -> str:
        return f"the directory {self.directory}"


def shards(directory: str | Path) -> Shards:
    """Data kept in the files of a directory: one part of the data each.

    Parameters
    ----------
    directory : str or Path
        Files ``NAME.npz`` with arrays ``X`` and ``Y``, or pairs ``NAME.X.npy`` and ``NAME.Y.npy``
        (mapped into memory, not read at once); for `predict`, ``X`` alone will do. X and Y have
        any of the forms of `gloree.sequences.as_sequences`; ``lengths`` beside them
        separates sequences that stand one after another. Shards are visited in the order of their
        names, and no sequence continues from one shard to the next.

    Returns
    -------
    Shards
        To give to `fit` in place of X, without a Y.

    Raises
    ------
    SourceError
        When the data are scanned: a shard is missing an array, empty, of other columns
        than the first, or holds values that are not finite. The message names the shard and row.

    Notes
    -----
    In memory are the shard that is read and those whose batches are under way: three, or one for
    each worker where a shard is one batch. A fit passes over all shards some ten to thirty times,
    and a shard that is not the same each time is an error: files that have been written to since
    are compared by checksums.

    Examples
    --------
    >>> from gloree import SpectralRNNRegressor, sources
    >>> est = SpectralRNNRegressor(4).fit(sources.shards("measurements"))  # doctest: +SKIP
    """
    # workers may be at home in another directory
    return Shards(Path(directory).absolute())

"""Files of a directory, each a part of the data."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gloree.sequences import Part, Sequences
from gloree.sources._parts import (
    Parts,
    SourceError,
    Summary,
    part_of_values,
    require_same,
    summarise,
)

KEYS = ("X", "Y", "lengths")

MAGIC = b"\x93NUMPY"
"""How a file of a single array begins."""

Stamp: TypeAlias = tuple[tuple[int, int], ...]

AT_ONCE = 3
"""Files that the scan has in memory at once: as many as a pass."""


@dataclass(frozen=True)
class Shard:
    """One file of arrays, with `paths` {"npz": path}, or a file for each of X, Y and lengths."""

    name: str
    paths: dict[str, Path]

    @property
    def stamp(self) -> Stamp:
        """Size and time of the last change of each file."""
        found = (path.stat() for path in self.paths.values())
        return tuple((each.st_size, each.st_mtime_ns) for each in found)

    def read(self, *, check_finite: bool = True) -> Sequences:
        """Read and check everything; ``.npy`` files are mapped, not read at once."""
        try:
            names, values = self._arrays()
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise SourceError(f"{self.name}: cannot be read ({error})") from error
        if not {"X", "Y"} <= values.keys() and not {"X"} <= set(names) <= {"X", "lengths"}:
            raise SourceError(
                f"{self.name}: holds {sorted(names) or 'nothing'}, expected arrays X and Y (and "
                f"lengths, for sequences one after another)"
            )
        parts = (values["X"], values.get("Y"))
        return part_of_values(
            self.name,
            (*parts, values["lengths"]) if "lengths" in values else parts,
            check_finite=check_finite,
        )

    def _arrays(self) -> tuple[list[str], dict[str, object]]:
        """Names of all arrays that there are, and those that are wanted."""
        if "npz" in self.paths:
            with open(self.paths["npz"], "rb") as handle:
                single = handle.read(len(MAGIC)) == MAGIC
                if not single and not zipfile.is_zipfile(handle):
                    raise ValueError("no archive of arrays, or only a part of one")
                handle.seek(0)
                file = np.load(handle, allow_pickle=False)
                if isinstance(file, np.ndarray):
                    raise ValueError("one array, expected an archive of several")
                return file.files, {key: file[key] for key in KEYS if key in file.files}
        return list(self.paths), {
            key: np.load(path, mmap_mode="r", allow_pickle=False)
            for key, path in self.paths.items()
        }


@dataclass(frozen=True)
class SeenShard:
    """A shard as the scan has found it: the stamp of its files, the checksum of its values."""

    shard: Shard
    stamp: Stamp
    checksum: int

    def read(self) -> Sequences:
        """Read it again; its values are compared only if its files have been written to."""
        try:
            untouched = self.shard.stamp == self.stamp
        except OSError as error:
            raise SourceError(f"{self.shard.name}: cannot be read ({error})") from error
        data = self.shard.read(check_finite=not untouched)
        return data if untouched else require_same(self.shard.name, data, self.checksum)


class Shards(Parts):
    """Data in the files of a directory (see `gloree.sources.shards`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stamps: list[Stamp] = []

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
        self._stamps = []
        pool = ThreadPoolExecutor(max_workers=AT_ONCE)
        try:
            for summary, stamp in pool.map(self._scan, range(self.n_parts)):
                self._stamps.append(stamp)
                yield summary
        finally:
            pool.shutdown(cancel_futures=True)

    def _scan(self, index: int) -> tuple[Summary, Stamp]:
        shard = self.shards[index]
        # of the file as it is before it is read: one that changes meanwhile is compared later
        stamp = shard.stamp
        return summarise(shard.name, shard.read(), first=index == 0), stamp

    def open(self, index: int) -> Part:
        """Read one file."""
        return Part.of(self.remote(index).read(), *self.place(index))

    def remote(self, index: int) -> SeenShard:
        """Where to read a file from."""
        checksum = self.part_checksum(index)
        return SeenShard(self.shards[index], self._stamps[index], checksum)

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

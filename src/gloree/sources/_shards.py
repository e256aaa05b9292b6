"""Files of a directory, each a part of the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gloree.sequences import Part, Sequences
from gloree.sources._parts import Parts, SourceError, Summary, part_of_values, summarise


@dataclass(frozen=True)
class Shard:
    """One file of arrays X, Y (and lengths), or a file for each of them.

    Attributes
    ----------
    name : str
    paths : dict of str to Path
        Either {"npz": path}, or the paths of "X", "Y" and, if there is one, "lengths".
    """

    name: str
    paths: dict[str, Path]

    def read(self) -> Sequences:
        """Read and check everything; ``.npy`` files are mapped, not read at once."""
        try:
            values = self._arrays()
        except (OSError, ValueError, EOFError) as error:
            raise SourceError(f"{self.name}: cannot be read ({error})") from error
        missing = [key for key in ("X", "Y") if key not in values]
        if missing:
            raise SourceError(
                f"{self.name}: holds {sorted(values) or 'nothing'}, expected arrays X and Y (and "
                f"lengths, for sequences one after another)"
            )
        parts = (values["X"], values["Y"])
        return part_of_values(
            self.name, (*parts, values["lengths"]) if "lengths" in values else parts
        )

    def _arrays(self) -> dict[str, Any]:
        if "npz" in self.paths:
            with np.load(self.paths["npz"], allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        return {
            key: np.load(path, mmap_mode="r", allow_pickle=False)
            for key, path in self.paths.items()
        }

    def look(self) -> Summary:
        """What a first look tells."""
        return summarise(self.name, self.read())


class Shards(Parts):
    """Data in the files of a directory (see `gloree.sources.shards`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def shards(self) -> list[Shard]:
        """The files, by name."""
        if not self.directory.is_dir():
            raise SourceError(f"{self.directory} is not a directory")
        found = [Shard(path.name, {"npz": path}) for path in self.directory.glob("*.npz")]
        for path in self.directory.glob("*.X.npy"):
            stem = path.name[: -len(".X.npy")]
            paths = {"X": path}
            for key in ("Y", "lengths"):
                other = path.with_name(f"{stem}.{key}.npy")
                if other.exists():
                    paths[key] = other
            found.append(Shard(f"{stem}.*.npy", paths))
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

    def looks(self) -> Iterator[Summary]:
        """Look at every file."""
        for shard in self.shards:
            yield shard.look()

    def open(self, index: int) -> Part:
        """Read one file."""
        data = _same_size(self.shards[index].read(), self.summaries[index])
        return Part.of(data, *self.place(index))

    def remote(self, index: int) -> Shard:
        """Where to read a file from."""
        return self.shards[index]

    def __str__(self) -> str:
        return f"the directory {self.directory}"


def _same_size(data: Sequences, summary: Summary) -> Sequences:
    if not np.array_equal(data.lengths, summary.lengths) or data.n_inputs != summary.n_inputs:
        raise SourceError(
            f"{summary.name}: its shape has changed since the first pass; files must stay as "
            f"they are during a fit"
        )
    return data


def shards(directory: str | Path) -> Shards:
    """Data kept in the files of a directory: one part of the data each.

    Parameters
    ----------
    directory : str or Path
        Files ``NAME.npz`` with arrays ``X`` and ``Y``, or pairs ``NAME.X.npy`` and ``NAME.Y.npy``
        (mapped into memory, not read at once). X and Y have any of the forms of
        `gloree.sequences.as_sequences`; ``lengths`` beside them tells sequences apart that stand
        one after another. Shards are visited in the order of their names, and no sequence goes on
        from one shard to the next.

    Returns
    -------
    Shards
        To give to `fit` in place of X, without a Y.

    Raises
    ------
    SourceError
        When the data are first looked at: a shard is missing an array, empty, of other columns
        than the first, or holds values that are not finite. The message names the shard and row.

    Notes
    -----
    At most three shards are in memory at once, and batches of them. A fit passes over all shards
    some ten to thirty times.

    Examples
    --------
    >>> from gloree import SpectralRNNRegressor, sources
    >>> est = SpectralRNNRegressor(4).fit(sources.shards("measurements"))  # doctest: +SKIP
    """
    return Shards(Path(directory))

"""The base of mergeable statistics: frozen dataclasses whose arrays add.

A statistic is a commutative monoid: `merge` adds the sums, reading never changes them, and
merging statistics of different kinds is a typed error that names the field.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Self = TypeVar("Self", bound="Sums")


class MergeError(TypeError):
    """Two statistics that do not describe the same thing were merged."""


@dataclass(frozen=True)
class Sums:
    """Sums over rows. Fields of dtype float arrays or numbers add; others must be equal."""

    def merge(self: Self, other: object) -> Self:
        """Return the statistic of both data sets together.

        Raises
        ------
        MergeError
            If `other` is of another type, or a field differs in shape or in a setting.
        """
        if type(other) is not type(self):
            raise MergeError(f"cannot merge {type(self).__name__} with {type(other).__name__}")
        merged: dict[str, Any] = {}
        for entry in fields(self):
            if not entry.init:
                continue
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            if entry.metadata.get("setting", False):
                if not _same(mine, theirs):
                    raise MergeError(
                        f"cannot merge {type(self).__name__}: `{entry.name}` differs "
                        f"({_brief(mine)} against {_brief(theirs)})"
                    )
                merged[entry.name] = mine
            elif entry.metadata.get("nested", False):
                if (mine is None) != (theirs is None):
                    raise MergeError(
                        f"cannot merge {type(self).__name__}: only one side has `{entry.name}`"
                    )
                merged[entry.name] = None if mine is None else mine.merge(theirs)
            elif entry.metadata.get("concatenate", False):
                merged[entry.name] = np.concatenate((mine, theirs))
            else:
                if np.shape(mine) != np.shape(theirs):
                    raise MergeError(
                        f"cannot merge {type(self).__name__}: `{entry.name}` has shape "
                        f"{np.shape(mine)} against {np.shape(theirs)}"
                    )
                merged[entry.name] = mine + theirs
        return type(self)(**merged)


@dataclass(frozen=True)
class Largest(Sums):
    """Segments with the largest values of something, at most `limit` of them.

    Attributes
    ----------
    values : ndarray of shape (n_kept,)
    tables : ndarray of shape (n_kept, 5)
        Their rows (see `gloree.sequences.Cut`), in the order of the data.
    limit : int or None
        None keeps all.
    """

    values: NDArray[np.float64] = field(metadata={"concatenate": True})
    tables: NDArray[np.int64] = field(metadata={"concatenate": True})
    limit: int | None = field(default=None, metadata={"setting": True})

    @classmethod
    def of(
        cls, values: NDArray[np.float64], tables: NDArray[np.int64], limit: int | None
    ) -> Largest:
        """Keep the largest values; of equal ones, those that come first."""
        if limit is None or values.shape[0] <= limit:
            return cls(values, tables, limit)
        kept = np.sort(np.argsort(-values, kind="stable")[:limit])
        return cls(values[kept], tables[kept], limit)

    def merge(self, other: object) -> Largest:
        """Return the largest values of both."""
        both = super().merge(other)
        return Largest.of(both.values, both.tables, both.limit)


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
        return mine is theirs or bool(np.array_equal(mine, theirs))
    return bool(mine == theirs)


def _brief(value: Any) -> str:
    return f"array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)

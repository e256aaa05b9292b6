"""The base of mergeable statistics: frozen dataclasses whose arrays add.

A statistic is a commutative monoid: `merge` adds the sums, reading never changes them, and
merging statistics of different types is a typed error that names the field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np

from gloree._brief import Brief

Self = TypeVar("Self", bound="Sums")
Kind = TypeVar("Kind")


class MergeError(TypeError):
    """Two statistics that do not describe the same thing were merged."""


@dataclass(frozen=True)
class Sums(Brief):
    """Sums over rows, fields of which are arrays, numbers, strings, None or other statistics.

    Arrays and numbers add, unless the metadata of a field say otherwise: a ``setting`` must be
    equal on both sides, what is ``nested`` merges, and arrays to ``concatenate`` are joined.

    Attributes
    ----------
    known : dict of str to type
        All statistics by qualified name: those that a checkpoint may hold.
    """

    known: ClassVar[dict[str, type[Sums]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Sums.known[cls.qualified_name()] = cls

    @classmethod
    def qualified_name(cls) -> str:
        """Name by which a checkpoint finds the class."""
        return f"{cls.__module__}.{cls.__qualname__}"

    @np.errstate(over="ignore", invalid="ignore")
    def merge(self: Self, other: object) -> Self:
        """Return the statistic of both data sets together; sums that overflow are infinite.

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


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
        return mine is theirs or np.array_equal(np.asarray(mine), np.asarray(theirs))
    return bool(mine == theirs)


def _brief(value: object) -> str:
    return f"array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)


def required(value: object, kind: type[Kind], what: str) -> Kind:
    """Value that an object of the user returned, if it is of the kind; else a TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{what} returned {value!r:.100}, expected a {kind.__name__}")
    return value

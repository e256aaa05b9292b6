"""Failures of a pass that a fit reckons with."""

from __future__ import annotations

from typing import ClassVar


class PassFailure(Exception):
    """A pass that failed in a way which is part of the search, such as too long a step.

    A pass function may raise it. It is kept in a checkpoint like the result of a pass, and raised
    again by a fit that goes on from there. Its arguments are numbers, strings or None, and make an
    equal one.
    """

    _known: ClassVar[dict[str, type[PassFailure]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        PassFailure._known[cls.__name__] = cls

    def record(self) -> dict[str, object]:
        """What JSON can hold of it."""
        return {"failure": type(self).__name__, "arguments": list(self.args)}

    @staticmethod
    def is_record(value: object) -> bool:
        """Whether this is what `record` gives."""
        return isinstance(value, dict) and value.keys() == {"failure", "arguments"}

    @staticmethod
    def from_record(record: dict[str, object]) -> PassFailure:
        """Undo `record`."""
        name, arguments = record["failure"], record["arguments"]
        assert isinstance(name, str)
        assert isinstance(arguments, list)
        return PassFailure._known[name](*arguments)

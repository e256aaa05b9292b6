"""Failures of a pass that a fit reckons with."""

from __future__ import annotations

from typing import ClassVar


class PassFailure(Exception):
    """A pass that failed in a way which is part of the search, such as too long a step.

    A pass function may raise it. A checkpoint keeps it like the result of a pass, and a resumed
    fit raises it again. Its arguments are numbers, strings or None, and make an equal one.

    Attributes
    ----------
    known : dict of str to type
        All failures by name: those that a checkpoint may hold.
    """

    known: ClassVar[dict[str, type[PassFailure]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        PassFailure.known[cls.__name__] = cls

"""Stages of a fit: timed, shown on a progress bar, and listed for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from tqdm.auto import tqdm

from gloree.diagnostics import Stage


class Described(Protocol):
    """What a stage returns."""

    @property
    def detail(self) -> str:
        """Outcome in words and figures."""


Value = TypeVar("Value", bound=Described)


class StageRunner:
    """Runs the stages of one fit, which know nothing of it: they take and return values."""

    def __init__(self, bar: tqdm[None]) -> None:
        self._bar = bar
        self._done: list[Stage] = []
        self.current = ""

    def run(self, name: str, function: Callable[..., Value], *arguments: object) -> Value:
        """Call a stage, and note what it took."""
        self.current = name
        self._bar.set_description(name)
        begin = time.perf_counter()
        value = function(*arguments)
        self._done.append(Stage(name, time.perf_counter() - begin, value.detail))
        self._bar.update(1)
        return value

    def show(self, text: str) -> None:
        """Show on the bar how far a long stage has come."""
        self._bar.set_postfix_str(text)

    @property
    def done(self) -> tuple[Stage, ...]:
        """Stages that have ended."""
        return tuple(self._done)


@contextmanager
def stage_runner(total: int, verbose: int) -> Iterator[StageRunner]:
    """Open a runner for so many stages; its bar is shown from verbose=1 on."""
    with tqdm(total=total, desc="fit", disable=verbose < 1, leave=False) as bar:
        yield StageRunner(bar)

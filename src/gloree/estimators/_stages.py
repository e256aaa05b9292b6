"""Stages of a fit: timed, shown on its progress bar, kept in its report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gloree.diagnostics import FitReport, Stage


class Stages:
    """What the fits have in common: a report and a progress bar."""

    report: FitReport
    bar: Any

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; the list takes its outcome."""
        detail: list[str] = []
        begin = time.perf_counter()
        if self.bar is not None:
            self.bar.set_description(name)
        yield detail
        self.report.stages.append(Stage(name, time.perf_counter() - begin, "; ".join(detail)))
        if self.bar is not None:
            self.bar.update(1)

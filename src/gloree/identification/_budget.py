"""Time and interrupts of an identification: one object that every search looks at."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gloree.engine import Clock, Engine


class Budget:
    """Seconds that are left: of `max_seconds`, or none after a keyboard interrupt.

    Time is a limit, and nothing else: how much is tried and how many steps are taken is counted, so
    that two identifications with time to spare are equal.
    """

    def __init__(self, engine: Engine, max_seconds: float) -> None:
        self._clock = Clock(engine)
        self.max_seconds = max_seconds
        self.resumes = engine.checkpoint is not None
        self.interrupted = False
        self.ran_out = False

    def clock(self) -> float:
        """Seconds since the beginning; infinite after an interrupt, for what compares them."""
        return math.inf if self.interrupted else self._clock()

    def left(self) -> float:
        """Seconds that are left; 0 when it is over."""
        seconds = max(self.max_seconds - self.clock(), 0.0)
        self.ran_out |= seconds == 0.0 and not self.interrupted
        return seconds

    @property
    def is_over(self) -> bool:
        """Whether nothing more should begin."""
        return self.left() <= 0.0

    @contextmanager
    def sparing(self, share: float) -> Iterator[None]:
        """Keep a share of all of the time for what comes after."""
        kept = share * self.max_seconds
        self.max_seconds -= kept
        try:
            yield
        finally:
            self.max_seconds += kept

    def interrupt(self) -> None:
        """Note a keyboard interrupt, or raise it again where a checkpoint lets the fit go on."""
        if self.resumes:
            raise KeyboardInterrupt
        self.interrupted = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take a keyboard interrupt for the end of the time; a second one is raised as usual.

        So searches end with what they have, wherever they are. Where a checkpoint lets the fit go
        on, in threads that no signal reaches, and beside a handler of the caller's, nothing is
        changed.
        """
        ours = (
            not self.resumes
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if not ours:
            yield
            return

        def noted(number: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        signal.signal(signal.SIGINT, noted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

"""Time and interrupts of an identification: one object that every search looks at."""

from __future__ import annotations

from collections.abc import Callable

from gloree.engine import Clock, Engine


class Budget:
    """Seconds that are left: of `max_seconds`, or none after a keyboard interrupt.

    Time is a limit, and nothing else: how much is tried and how many steps are taken is counted, so
    that two identifications with time to spare are equal.
    """

    def __init__(self, engine: Engine, max_seconds: float) -> None:
        self.clock: Callable[[], float] = Clock(engine)
        self.max_seconds = max_seconds
        self.resumes = engine.checkpoint is not None
        self.interrupted = False
        self.ran_out = False

    def left(self) -> float:
        """Seconds that are left; 0 when it is over."""
        seconds = 0.0 if self.interrupted else max(self.max_seconds - self.clock(), 0.0)
        self.ran_out |= seconds == 0.0 and not self.interrupted
        return seconds

    @property
    def is_over(self) -> bool:
        """Whether nothing more should begin."""
        return self.left() <= 0.0

    def interrupt(self) -> None:
        """Note a keyboard interrupt, or raise it again where a checkpoint lets the fit go on."""
        if self.resumes:
            raise KeyboardInterrupt
        self.interrupted = True

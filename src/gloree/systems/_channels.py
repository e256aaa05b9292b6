"""Names and units of a system's inputs and outputs, and its sampling time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

_WITH_UNIT = re.compile(r"\s*(?P<name>.*\S)\s*[\[(](?P<unit>[^\[\]()]+)[\])]\s*")
"""A name followed by its unit: "speed (m/s)" or "speed [m/s]"."""


@dataclass(frozen=True)
class Channels:
    """Names and units of inputs and outputs, and the time between two samples.

    Parameters
    ----------
    input_names, output_names : tuple of str
    input_units, output_units : tuple of str
        "" where there is no unit; () stands for none at all.
    dt : float or None, default None
        Seconds between two samples; None counts time in samples.

    Raises
    ------
    ValueError
        If there are more or fewer units than names, or `dt` is not a positive number.

    Examples
    --------
    >>> from gloree.systems import Channels
    >>> channels = Channels.of(["valve (%)"], ["level [m]"], dt=0.1)
    >>> channels.label_of_input(0), channels.label_of_output(0), channels.frequency_unit
    ('valve (%)', 'level (m)', 'Hz')
    >>> Channels.numbered(1, 2).output_names
    ('y0', 'y1')
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_units: tuple[str, ...] = ()
    output_units: tuple[str, ...] = ()
    dt: float | None = None

    def __post_init__(self) -> None:
        for side in ("input", "output"):
            names, units = getattr(self, f"{side}_names"), getattr(self, f"{side}_units")
            if not units:
                object.__setattr__(self, f"{side}_units", ("",) * len(names))
            elif len(units) != len(names):
                raise ValueError(
                    f"`{side}_units` has {len(units)} entries, expected one for each of the "
                    f"{len(names)} {side}s"
                )
        object.__setattr__(self, "dt", sampling_time(self.dt))

    @classmethod
    def of(
        cls, inputs: Iterable[str], outputs: Iterable[str], *, dt: float | None = None
    ) -> Channels:
        """Channels from column names, which may end with a unit in brackets."""
        sides = [[_split(name) for name in names] for names in (inputs, outputs)]
        (u, u_units), (y, y_units) = (
            (tuple(name for name, _ in side), tuple(unit for _, unit in side)) for side in sides
        )
        return cls(u, y, u_units, y_units, dt)

    @classmethod
    def numbered(cls, n_inputs: int, n_outputs: int, *, dt: float | None = None) -> Channels:
        """Channels without names: u0, u1, ... and y0, y1, ..."""
        names = [tuple(f"{c}{i}" for i in range(n)) for c, n in (("u", n_inputs), ("y", n_outputs))]
        return cls(names[0], names[1], dt=dt)

    def label_of_input(self, number: int) -> str:
        """Name of an input with its unit."""
        return _labelled(self.input_names[number], self.input_units[number])

    def label_of_output(self, number: int) -> str:
        """Name of an output with its unit."""
        return _labelled(self.output_names[number], self.output_units[number])

    def path(self, output: int, input: int) -> str:
        """Name of the path from an input to an output."""
        return f"{self.input_names[input]} → {self.output_names[output]}"

    @property
    def step(self) -> float:
        """Time between two samples in the unit of time."""
        return 1.0 if self.dt is None else self.dt

    @property
    def time_unit(self) -> str:
        """Seconds, or samples without `dt`."""
        return "samples" if self.dt is None else "s"

    @property
    def frequency_unit(self) -> str:
        """Hertz, or cycles per sample without `dt`."""
        return "cycles per sample" if self.dt is None else "Hz"


def sampling_time(dt: object) -> float | None:
    """Give None or a positive number; anything else raises a TypeError or ValueError."""
    if dt is None:
        return None
    if isinstance(dt, bool) or not isinstance(dt, (int, float)):
        try:
            dt = float(dt) if not isinstance(dt, (bool, str)) else None  # type: ignore[arg-type]
        except (TypeError, ValueError):
            dt = None
        if dt is None:
            raise TypeError("`dt` must be a number of seconds between two samples, or None")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"`dt` is {dt!r}, expected a positive number of seconds, or None")
    return float(dt)


def _split(name: str) -> tuple[str, str]:
    found = _WITH_UNIT.fullmatch(str(name))
    return (found["name"], found["unit"].strip()) if found else (str(name), "")


def _labelled(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name

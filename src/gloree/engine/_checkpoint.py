"""Checkpoints: what the passes of a fit have found, so that an interrupted fit can be resumed.

Between passes a fit is a deterministic function of what they return, so a file of those results,
in order, is all that has to be kept: a fit that is started again is handed them one by one, as
fast as they are read, and continues with its data where they end.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloree._archives import require_file
from gloree._storage import replaced_file
from gloree._version import __version__
from gloree.engine._records import RecordError, from_bytes, to_bytes

MAGIC = b"gloree checkpoint 2\n"
_PICKLED = b"gloree checkpoint 1\n"
_HEAD = struct.Struct("<QI")


class CheckpointError(OSError, ValueError):
    """A checkpoint that belongs to another fit, cannot be read, or cannot be written."""


class Checkpoint:
    """File of the results of passes, in order.

    Parameters
    ----------
    path : str or Path
        Made if it does not exist.
    identity : dict
        What the fit is determined by: data and settings. A file of another fit is refused.
    start : dict
        What else the fit starts from (the state of the random numbers): kept on the first run,
        and handed back by later ones.

    Attributes
    ----------
    start : dict
    n_passes : int
        Results on file.

    Raises
    ------
    CheckpointError
        If the file belongs to other data, other settings or another version.

    Notes
    -----
    Results are appended one at a time, each with its length and a checksum: a write that is cut
    short, by a full disk or a loss of power, costs that result and none before it. A file holds
    arrays and JSON; nothing is executed when it is read.
    """

    def __init__(
        self, path: str | Path, identity: Mapping[str, object], start: Mapping[str, object]
    ) -> None:
        self.path = Path(path)
        self.start: Mapping[str, Any] = start
        self._waiting: deque[bytes] = deque()
        self._end = 0
        self.n_passes = 0
        identity = {"version": __version__, **identity}
        try:
            content = b""
            if self.path.exists():
                # a pipe would be waited for
                require_file(self.path)
                content = self.path.read_bytes()
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint {self.path} cannot be read: {error}. Give the path of a file"
            ) from error
        if content:
            self._load(content, identity)
        else:
            self._write(
                MAGIC + self._framed("its start", (identity, dict(start))),
                "at its start",
                "make room, or give the path of a file in a folder that can be written to",
            )

    def _load(self, content: bytes, identity: Mapping[str, object]) -> None:
        if content.startswith(_PICKLED):
            raise CheckpointError(
                f"{self.path} is a checkpoint of gloree 0.1.0, which this version does not read: "
                f"finish its fit with that version, or remove it to begin anew"
            )
        if not content.startswith(MAGIC):
            raise CheckpointError(
                f"{self.path} is no checkpoint of this library: give another path, or remove it"
            )
        place = len(MAGIC)
        while place + _HEAD.size <= len(content):
            size, code = _HEAD.unpack_from(content, place)
            payload = content[place + _HEAD.size : place + _HEAD.size + size]
            # a loss of power may leave zeros behind the last record
            if size == 0 or len(payload) < size or zlib.crc32(payload) != code:
                break
            self._waiting.append(payload)
            place += _HEAD.size + size
        if not self._waiting:
            raise CheckpointError(f"{self.path} is damaged at its start: remove it to begin anew")
        theirs, start = self._pair(self._waiting.popleft())
        if not isinstance(theirs, dict) or not isinstance(start, dict):
            raise self._damaged("its start is no pair of dictionaries")
        for name, value in identity.items():
            if theirs.get(name) != value:
                raise CheckpointError(
                    f"{self.path} belongs to another fit: {name} is {theirs.get(name)!r} there and "
                    f"{value!r} here. Give another path, or remove the file to begin anew"
                )
        self.start = start
        self.n_passes, self._end = len(self._waiting), place

    def take(self, label: str) -> tuple[bool, object]:
        """Give the next result on file, if there is one.

        Returns
        -------
        found : bool
        result
            A statistic, or the `PassFailure` that the pass raised.

        Raises
        ------
        CheckpointError
            If it is the result of a pass of another label, or cannot be read.
        """
        if not self._waiting:
            return False, None
        known, result = self._pair(self._waiting.popleft())
        if known != label:
            raise CheckpointError(
                f"{self.path}: its next pass is {known!r}, this fit's is {label!r}. It comes from "
                f"another fit, or from another machine whose rounding led elsewhere: remove it to "
                f"begin anew"
            )
        return True, result

    def append(self, label: str, result: object) -> None:
        """Add the result of a pass, or how it failed.

        Raises
        ------
        CheckpointError
            If the file cannot be written, or the result is nothing that it can hold.
        """
        self._write(
            self._framed(f"the result of pass {label!r}", (label, result)),
            f"after pass {self.n_passes + 1} ({label!r})",
            f"the {self.n_passes} passes before are safe; make room, and call fit again with the "
            f"same checkpoint",
        )
        self.n_passes += 1

    def _framed(self, what: str, value: tuple[object, object]) -> bytes:
        try:
            payload = to_bytes(value)
        except RecordError as error:
            raise CheckpointError(
                f"the checkpoint {self.path} cannot hold {what}: it holds {error}. A checkpoint "
                f"keeps numbers, strings, arrays of numbers, and statistics that are dataclasses "
                f"derived from gloree.engine.Sums: derive yours from it, or fit without a "
                f"checkpoint"
            ) from error
        return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload

    def _pair(self, payload: bytes) -> tuple[object, object]:
        """Both elements of a record."""
        try:
            value = from_bytes(payload)
        except RecordError as error:
            raise self._damaged(str(error)) from error
        if not isinstance(value, tuple) or len(value) != 2:
            raise self._damaged("a record is no pair")
        return value

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} cannot be read ({why}): import the modules of the statistics that it "
            f"holds first, or remove it to begin anew"
        )

    def _write(self, content: bytes, when: str, advice: str) -> None:
        try:
            if self._end:
                self._append(content)
            else:
                with replaced_file(self.path) as file:
                    file.write(content)
        except OSError as error:
            with contextlib.suppress(OSError):
                if self._end:
                    os.truncate(self.path, self._end)
            raise CheckpointError(
                f"the checkpoint {self.path} could not be written {when} ({error}): {advice}"
            ) from error
        self._end += len(content)

    def _append(self, content: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.seek(self._end)
            file.truncate()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

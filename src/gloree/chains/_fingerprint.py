"""What input laws are told apart by."""

from __future__ import annotations

import zlib
from dataclasses import fields, is_dataclass
from functools import cached_property, partial
from types import CodeType, FunctionType, MethodType

import numpy as np

from gloree._arrays import to_host
from gloree.chains._base import named


def fingerprint(law: object) -> str:
    """Identify an input law by its representation and a checksum of its attributes.

    Laws with equal attributes have the same fingerprint in every process. Derived attributes
    (`functools.cached_property`) do not count.

    Examples
    --------
    >>> from gloree.chains import GaussianVAR, fingerprint
    >>> fingerprint(GaussianVAR([[0.5]], [[1.0]])) == fingerprint(GaussianVAR([[0.5]], [[1.0]]))
    True
    """
    return f"{named(law)} of checksum {_checksum(law, 0)}"


def _checksum(value: object, code: int, above: frozenset[int] = frozenset()) -> int:
    """Checksum over arrays, containers and the attributes of objects, continued from `code`.

    `above` are the functions that this value was found in: one may call itself.
    """
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(to_host(value))
        code = zlib.crc32(f"{array.dtype.str} {array.shape}".encode(), code)
        return zlib.crc32(array.tobytes(), code)
    own = getattr(value, "fingerprint", None)
    if isinstance(own, str):  # computed once, where there is much to read
        return zlib.crc32(own.encode(), code)
    parts: dict[object, object] = {}
    if isinstance(value, FunctionType):
        # what a function does, and what it holds; its representation has an address
        code = zlib.crc32(repr(_instructions(value.__code__)).encode(), code)
        if id(value) in above:
            return code
        above |= {id(value)}
        parts.update(enumerate(_held(value)))
        if not parts:
            return code
    elif isinstance(value, MethodType):
        parts.update(enumerate((value.__func__, value.__self__)))
    elif isinstance(value, partial):
        parts.update(enumerate((value.func, value.args, value.keywords)))
    elif isinstance(value, (list, tuple)):
        parts.update(enumerate(value))
    elif isinstance(value, dict):
        parts.update(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts.update((f.name, getattr(value, f.name)) for f in fields(value))
    elif not isinstance(value, type):
        attributes = getattr(value, "__dict__", {}).items()
        parts.update((n, v) for n, v in attributes if not _is_derived(value, n))
    if not parts:
        return zlib.crc32(repr(value).encode(), code)
    code = zlib.crc32(type(value).__qualname__.encode(), code)
    for name, part in parts.items():
        code = _checksum(part, zlib.crc32(repr(name).encode(), code), above)
    return code


def _instructions(code: CodeType) -> tuple[object, ...]:
    """What a function does: its instructions, and the names and constants that they refer to."""
    constants = [_instructions(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return code.co_code.hex(), code.co_names, constants


def _names(code: CodeType) -> list[str]:
    """Names that a function looks up, functions inside it included."""
    inside = [name for c in code.co_consts if isinstance(c, CodeType) for name in _names(c)]
    return [*code.co_names, *inside]


def _held(function: FunctionType) -> list[object]:
    """What a function looks up: of its closure, its module (no other functions) and defaults."""
    known = function.__globals__
    found = [known[name] for name in _names(function.__code__) if name in known]
    own = [
        each
        for each in found
        if isinstance(each, (int, float))
        or hasattr(each, "__array__")
        or (isinstance(each, FunctionType) and each.__globals__ is known)
    ]
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    return [*cells, *own, *defaults]


def _is_derived(value: object, name: str) -> bool:
    return isinstance(getattr(type(value), name, None), cached_property)

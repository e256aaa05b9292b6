"""Values as bytes, and back, without executing anything: a JSON text and raw arrays.

A record is the length of its JSON text (4 bytes), the text, and the bytes of its arrays one after
another. The text holds the value as a tree, in which a number, a string or None stands for itself,
a list for a list, and an object with a single key for everything else: {"array": 2} is the third
array, {"Sums": [name, fields]} a statistic. Beside the tree it lists type, shape and order of every
array, which must fit the bytes that there are.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gloree._sums import Sums
from gloree.engine._failure import PassFailure

NUMERIC = "biufc"
"""Types of arrays that a record may hold, by `numpy.dtype.kind`: none whose values are objects."""

_KINDS = (
    np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64
)  # fmt: skip
BIT_GENERATORS: Mapping[str, type[np.random.BitGenerator]] = {
    kind.__name__: kind for kind in _KINDS
}

_LENGTH = struct.Struct("<I")


class RecordError(ValueError):
    """A value that no record can hold, or bytes that are no record."""


def to_bytes(value: object) -> bytes:
    """Record of a value.

    Parameters
    ----------
    value : None, bool, int, float, str, NumPy scalar or array of numbers, Sums, PassFailure, \
numpy.random.Generator, or list, tuple or dict (with keys that are strings) of these

    Raises
    ------
    RecordError
        If it is or holds anything else, naming the type.
    """
    arrays: list[NDArray[np.generic]] = []
    tree = _tree(value, arrays)
    described = [(array.dtype.str, array.shape, _order(array)) for array in arrays]
    text = json.dumps({"value": tree, "arrays": described}).encode()
    content = [array.tobytes(order=_order(array)) for array in arrays]
    return b"".join((_LENGTH.pack(len(text)), text, *content))


def from_bytes(record: bytes) -> object:
    """Value of a record.

    Raises
    ------
    RecordError
        If the bytes are not what `to_bytes` gives, or hold a statistic or failure whose class has
        not been imported.
    """
    try:
        (size,) = _LENGTH.unpack_from(record)
        text = json.loads(record[_LENGTH.size : _LENGTH.size + size])
        arrays = _arrays(text["arrays"], memoryview(record)[_LENGTH.size + size :])
        return _value(text["value"], arrays)
    except RecordError:
        raise
    except Exception as error:  # whatever a constructor makes of values that it did not expect
        raise RecordError(f"{type(error).__name__}: {error}") from error


def _order(array: NDArray[np.generic]) -> Literal["C", "F"]:
    """Order of the bytes: products of arrays in another order have other last bits."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _tree(value: object, arrays: list[NDArray[np.generic]]) -> object:
    """JSON form of a value; its arrays are appended to `arrays`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in NUMERIC:
        arrays.append(np.asarray(value))
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(arrays) - 1}
    if type(value) is list:
        return [_tree(each, arrays) for each in value]
    if type(value) is tuple:
        return {"tuple": [_tree(each, arrays) for each in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _tree(each, arrays) for key, each in value.items()}}
    if isinstance(value, Sums):
        content = {
            each.name: _tree(getattr(value, each.name), arrays)
            for each in fields(value)
            if each.init
        }
        return {"Sums": [type(value).qualified_name(), content]}
    if isinstance(value, PassFailure):
        return {"PassFailure": [type(value).__name__, _tree(list(value.args), arrays)]}
    if isinstance(value, np.random.Generator):
        return {"Generator": _tree(_generator_parts(value), arrays)}
    raise RecordError(f"a value of type {type(value).__module__}.{type(value).__qualname__}")


def _value(tree: object, arrays: list[NDArray[np.generic]]) -> object:
    """Undo `_tree`."""
    if isinstance(tree, list):
        return [_value(each, arrays) for each in tree]
    if not isinstance(tree, dict):
        return tree
    kind: str
    content: Any
    ((kind, content),) = tree.items()
    if kind == "array":
        return arrays[content]
    if kind == "scalar":
        return arrays[content][()]
    if kind == "tuple":
        return tuple(_value(each, arrays) for each in content)
    if kind == "dict":
        return {key: _value(each, arrays) for key, each in content.items()}
    if kind == "Generator":
        return _generator(_value(content, arrays))
    name, arguments = content
    known: dict[str, Mapping[str, Callable[..., object]]] = {
        "Sums": Sums.known,
        "PassFailure": PassFailure.known,
    }
    if name not in known[kind]:
        raise RecordError(f"it holds a {kind} of class {name}, which has not been imported")
    if kind == "PassFailure":
        return known[kind][name](*(_value(each, arrays) for each in arguments))
    return known[kind][name](**{key: _value(each, arrays) for key, each in arguments.items()})


def _arrays(described: list[list[object]], content: memoryview) -> list[NDArray[np.generic]]:
    """Arrays from their descriptions and bytes, which must fit each other."""
    arrays, place = [], 0
    for name, shape, order in described:
        dtype = np.dtype(str(name))
        sizes = shape if isinstance(shape, list) else [-1]
        if dtype.kind not in NUMERIC or dtype.str != name or order not in ("C", "F"):
            raise RecordError(f"it holds an array of type {name!r} in the order {order!r}")
        size = math.prod(sizes) * dtype.itemsize
        if min(sizes, default=0) < 0 or place + size > len(content):
            raise RecordError(f"it holds an array of shape {shape} in {len(content) - place} bytes")
        flat = np.frombuffer(content[place : place + size], dtype=dtype)
        # a copy: aligned, and writable
        arrays.append(flat.copy().reshape(sizes, order="F" if order == "F" else "C"))
        place += size
    if place != len(content):
        raise RecordError(f"{len(content) - place} bytes stand behind its arrays")
    return arrays


def _generator_parts(rng: np.random.Generator) -> dict[str, object]:
    """State of a generator, and the seeds that its children come from."""
    bits = rng.bit_generator
    seed = getattr(bits, "seed_seq", None)
    if type(bits).__name__ not in BIT_GENERATORS or type(seed) is not np.random.SeedSequence:
        raise RecordError(f"random numbers of a {type(bits).__name__} without a SeedSequence")
    names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    return {"state": dict(bits.state), "seed": {name: getattr(seed, name) for name in names}}


def _generator(parts: Any) -> np.random.Generator:
    bits = BIT_GENERATORS[parts["state"]["bit_generator"]](np.random.SeedSequence(**parts["seed"]))
    bits.state = parts["state"]
    return np.random.Generator(bits)

"""What an item of an iterable may be: arrays, pairs, dictionaries; and loaders of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from numpy.typing import ArrayLike

INPUT_KEYS = ("X", "x", "inputs", "input", "u")
OUTPUT_KEYS = ("Y", "y", "outputs", "output", "targets", "target", "labels", "label")


def values_of(value: object) -> tuple[object, object, ArrayLike | None]:
    """Inputs, outputs and lengths of one part.

    It is (X, Y), (X, Y, lengths), these as a list (as loaders of PyTorch have it) or by name in a
    dictionary, a list of pairs (x, y) of sequences, or an array X alone.
    """
    if isinstance(value, Mapping):
        return _by_name(value)
    if isinstance(value, list) and value and all(hasattr(each, "__array__") for each in value):
        value = tuple(value)
        value = (*value, None) if len(value) == 1 else value
    elif isinstance(value, list):
        value = _columns(value)
    elif hasattr(value, "__array__"):
        value = (value, None)
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        raise ValueError(
            f"expected (X, Y), (X, Y, lengths), a dictionary of these, or a list of pairs (x, y), "
            f"got {_describe(value)}"
        )
    X, Y, lengths = (*value, None)[:3]
    return X, Y, cast("ArrayLike | None", lengths)


def _by_name(value: Mapping[str, object]) -> tuple[object, object, ArrayLike | None]:
    found: list[object] = []
    for what, keys in (("inputs", INPUT_KEYS), ("outputs", OUTPUT_KEYS), ("lengths", ("lengths",))):
        own = [key for key in keys if key in value]
        if len(own) > 1 or (what == "inputs" and not own):
            raise ValueError(
                f"a dictionary with the keys {list(value)}: expected one of "
                f"{', '.join(INPUT_KEYS)} for the inputs, one of "
                f"{', '.join(OUTPUT_KEYS)} for the outputs, and `lengths` for sequences one after "
                f"another"
            )
        found.append(value[own[0]] if own else None)
    return found[0], found[1], cast("ArrayLike | None", found[2])


def _columns(pairs: list[object]) -> tuple[list[object], list[object]]:
    if not pairs:
        raise ValueError("it holds no sequences")
    inputs, outputs = [], []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"element {i} is {_describe(pair)}, expected a pair (x, y)")
        inputs.append(pair[0])
        outputs.append(pair[1])
    return inputs, outputs


def _describe(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def check_loader(iterable: object) -> None:
    """Refuse a loader of PyTorch that gives its batches in another order each time.

    Passes compare each part with what it was in the first one, so this only says it sooner.
    """
    if not _is_of_torch(iterable):
        return
    samplers = [getattr(iterable, name, None) for name in ("sampler", "batch_sampler")]
    samplers += [getattr(samplers[1], "sampler", None)]
    random = next((each for each in samplers if "Random" in type(each).__name__), None)
    if random is not None:
        raise ValueError(
            f"the {type(iterable).__name__} shuffles ({type(random).__name__}): a fit reads the "
            f"data many times and in the same order each time, which means nothing to its result. "
            f"Make it with shuffle=False"
        )
    if getattr(iterable, "in_order", True) is False:
        raise ValueError(
            f"the {type(iterable).__name__} gives batches as its workers finish them, in another "
            f"order each time: make it with in_order=True"
        )


def check_no_dataset(value: object) -> None:
    """Refuse a dataset of PyTorch, which gives single samples by number."""
    if _is_of_torch(value) and not hasattr(value, "__iter__"):
        raise TypeError(
            f"the data are a {type(value).__name__} of PyTorch: give batches of it, "
            f"torch.utils.data.DataLoader(dataset, batch_size=256)"
        )


def _is_of_torch(value: object) -> bool:
    return any(each.__module__.startswith("torch.utils.data") for each in type(value).__mro__)

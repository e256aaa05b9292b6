"""From `random_state` to a generator of random numbers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

RandomState: TypeAlias = (
    int | np.random.SeedSequence | np.random.Generator | np.random.RandomState | None
)

_WORDS = 8
"""Random 32-bit words that seed a generator."""


def as_generator(random_state: object, name: str = "random_state") -> np.random.Generator:
    """Generator of a seed, or the generator that was passed; one that can spawn children.

    A `numpy.random.RandomState` seeds a new generator with numbers drawn from it, so that it moves
    on and a second call differs, as in scikit-learn; so does a generator that cannot spawn.

    Raises
    ------
    TypeError
        For anything else; it names the argument.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**32, size=_WORDS, dtype=np.uint32))
    if isinstance(random_state, np.random.Generator):
        if hasattr(random_state.bit_generator.seed_seq, "spawn"):
            return random_state
        return np.random.default_rng(random_state.integers(2**32, size=_WORDS, dtype=np.uint64))
    if random_state is None or isinstance(random_state, np.random.SeedSequence):
        return np.random.default_rng(random_state)
    if isinstance(random_state, bool):
        pass  # no number, although Python counts it as one
    elif isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return np.random.default_rng(int(random_state))
    raise TypeError(
        f"`{name}` must be None, an integer of at least 0, or a Generator, RandomState or "
        f"SeedSequence of numpy.random, got {random_state!r}"
    )

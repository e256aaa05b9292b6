"""From `random_state` to a generator of random numbers."""

from __future__ import annotations

import numpy as np

RandomState = int | np.random.Generator | np.random.RandomState | None


def as_generator(random_state: object, name: str = "random_state") -> np.random.Generator:
    """Generator from None, a seed, a Generator (the same one), or a RandomState (seeded by it).

    Raises
    ------
    TypeError
        For anything else; it names the argument.
    """
    if isinstance(random_state, np.random.RandomState):
        # as scikit-learn means it: the next fit with the same object draws other numbers
        return np.random.default_rng(random_state.randint(2**32, size=8, dtype=np.uint32))
    if random_state is None or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return np.random.default_rng(int(random_state))
    raise TypeError(
        f"`{name}` must be None, an integer of at least 0, a numpy.random.Generator or a "
        f"numpy.random.RandomState, got {random_state!r}"
    )

"""2,500 fits drawn at random end in finite numbers or in an error of the library's own."""

from __future__ import annotations

import pytest
from helpers.marks import long_but_first
from helpers.random_fits import fault

pytestmark = pytest.mark.slow

FIRST, N_BLOCKS, OF_A_BLOCK = 1_000, 10, 250


@pytest.mark.parametrize("block", long_but_first(range(N_BLOCKS)))
def test_random_fits_end_well(block):
    first = FIRST + OF_A_BLOCK * block
    ends = [fault(seed) for seed in range(first, first + OF_A_BLOCK)]
    faults = [text for text, _ in ends if text]
    assert not faults, "\n".join(faults)
    models = sum(how.startswith("model") for _, how in ends)
    assert OF_A_BLOCK / 8 < models < 7 * OF_A_BLOCK / 8

"""Closeness of arrays whose entries are sums: relative to the largest of them, or to one."""

import numpy as np


def assert_close(actual, expected, tolerance):
    """Every entry is close, within `tolerance` times max(1, largest |entry|)."""
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def assert_same_weights(model, other, tolerance):
    """Two networks have the same weight arrays, within `tolerance`."""
    mine, theirs = model.arrays(), other.arrays()
    assert mine.keys() == theirs.keys()
    for name, expected in theirs.items():
        if expected is None:
            assert mine[name] is None, name
        else:
            np.testing.assert_allclose(mine[name], expected, rtol=0, atol=tolerance, err_msg=name)

"""Closeness of arrays whose entries are sums: relative to the largest of them, or to one."""

from dataclasses import is_dataclass

import numpy as np
import pytest


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


def assert_same_sums(found, expected, tolerance=0.0):
    """Two statistics have the same fields: numbers are close, anything else is equal."""
    assert type(found) is type(expected)
    for name, theirs in vars(expected).items():
        mine = getattr(found, name)
        if is_dataclass(theirs):
            assert_same_sums(mine, theirs, tolerance)
        elif isinstance(theirs, (np.ndarray, float, int)):
            assert np.shape(mine) == np.shape(theirs), name
            assert_close(mine, theirs, tolerance)
        else:
            assert mine == theirs, name


def assert_same_in_torch(model, X, tolerance):
    """The PyTorch module of a network has its outputs and states, of a stack and of one."""
    torch = pytest.importorskip("torch")
    module = model.to_torch()
    names = [name for name, values in model.arrays().items() if values is not None]
    assert [name for name, _ in module.named_parameters()] == names
    for inputs in (X, X[0]):
        with torch.no_grad():
            outputs = module(torch.tensor(inputs)).numpy()
            states = module.hidden_states(torch.tensor(inputs)).numpy()
        assert outputs.dtype == np.float64
        assert_close(outputs, model.predict(inputs), tolerance)
        assert_close(states, model.hidden_states(inputs), tolerance)

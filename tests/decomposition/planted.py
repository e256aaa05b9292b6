"""Unit rows and symmetric noise, for the tests of decompositions."""

import itertools

import numpy as np


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def symmetric_noise(rng, n_outputs, size, order):
    """Isotropic on symmetric tensors: unit variance along every direction of unit norm."""
    draw = rng.standard_normal((n_outputs,) + (size,) * order)
    axes = list(itertools.permutations(range(1, order + 1)))
    return sum(draw.transpose(0, *each) for each in axes) / len(axes)

"""Tensors with known components, dense oracles, and the tolerances of tests of decompositions."""

import itertools
from typing import NamedTuple

import numpy as np

from gloree.decomposition import cp_tensor
from helpers.differences import central

# algebra: rounding times the condition of small Gram matrices
ALGEBRA = 1e-10
# algebra: central differences with step 1e-5 or 1e-6 have the error h^2 + eps / h, second
# differences with step 1e-3 the error h^2 + eps / h^2
DIFFERENCE, SECOND_DIFFERENCE = 1e-6, 1e-5
FIRST_STEP, JACOBIAN_STEP, SECOND_STEP = 1e-5, 1e-6, 1e-3
# iteration: exact data are fitted to rounding, times the condition of the instances (below 1e3)
RECOVERY = 1e-10
# iteration: least squares stops at a relative decrease of 1e-13 of the loss, sqrt of it in A
LEAST_SQUARES = 1e-6
# iteration: the same of losses and residuals
LOSS_RATIO = 1e-6


class Planted(NamedTuple):
    """A tensor, and the components and loadings that it was made of."""

    tensor: np.ndarray
    components: np.ndarray
    loadings: np.ndarray


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def symmetric_noise(rng, n_outputs, size, order):
    """Isotropic on symmetric tensors: unit variance along every direction of unit norm."""
    draw = rng.standard_normal((n_outputs,) + (size,) * order)
    axes = list(itertools.permutations(range(1, order + 1)))
    return sum(draw.transpose(0, *each) for each in axes) / len(axes)


def planted(
    size, rank, n_outputs, order=2, *, noise=0.0, seed=0, condition=None, loadings=None, signs=True
):
    """Normal components and loadings, and noise of a given norm relative to the tensor."""
    rng = np.random.default_rng([seed, size, rank, n_outputs, order])
    components = rng.standard_normal((rank, size))
    if condition:
        left, values, right = np.linalg.svd(components, full_matrices=False)
        components = (left * np.geomspace(1, 1 / condition, len(values))) @ right
    components = unit(components)
    if loadings is None:
        loadings = rng.standard_normal((rank, n_outputs))
        loadings = loadings if signs else np.abs(loadings)
    tensor = cp_tensor(loadings, components, order)
    draw = symmetric_noise(rng, n_outputs, size, order)
    tensor = tensor + noise * np.linalg.norm(tensor) / np.linalg.norm(draw) * draw
    return Planted(tensor, components, loadings)


def halves(size, rank, n_outputs, noise, seed, root=None, scales=1.0):
    """Two noisy tensors of one truth, both mapped by `root` and scaled by output."""
    truth = planted(size, rank, n_outputs, seed=seed).tensor
    rng = np.random.default_rng(seed)
    root = np.eye(size) if root is None else root
    both = []
    for _ in range(2):
        draw = symmetric_noise(rng, n_outputs, size, 2)
        draw *= noise * np.linalg.norm(truth) / np.linalg.norm(draw)
        both.append(root @ (truth + draw) @ root.T * np.reshape(scales, (-1, 1, 1)))
    return both


def aligned(result, components):
    """Components and loadings of a result in the order and with the signs of planted rows."""
    cosines = components @ result.components.T
    match = np.abs(cosines).argmax(axis=1)
    assert sorted(match) == list(range(len(components)))
    signs = np.sign(cosines[np.arange(len(match)), match])[:, None]
    loadings = result.loadings[match] * (signs if result.order % 2 else 1.0)
    return signs * result.components[match], loadings


def largest_error(result, truth):
    """Of components, and of loadings relative to the largest loading."""
    components, loadings = aligned(result, truth.components)
    error = np.abs(loadings - truth.loadings).max() / np.abs(truth.loadings).max()
    return max(np.abs(components - truth.components).max(), error)


def dense_jacobians(loadings, components, order):
    """Jacobians of the tensor in A, by differences, and in W: (entries, parameters) matrices."""

    def tensor(moved):
        return cp_tensor(loadings, moved, order).ravel()

    by_components = central(tensor, components, JACOBIAN_STEP).reshape(components.size, -1).T
    columns = []
    for index in np.ndindex(loadings.shape):
        step = np.zeros_like(loadings)
        step[index] = 1.0
        columns.append(cp_tensor(step, components, order).ravel())
    return by_components, np.stack(columns, axis=1)

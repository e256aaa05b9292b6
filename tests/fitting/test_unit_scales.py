"""Scales and biases on a grid: exact where the truth is a point of it."""

import numpy as np
import pytest

from gloree.activations import Polynomial, get_activation
from gloree.fitting._unit_scales import (
    Units,
    grid_of_biases,
    grid_of_scales,
    units_in_turn,
)

# algebra: a projection of 1,200 rows
ALGEBRA = 1e-9


@pytest.mark.parametrize("name", ["tanh", "softplus", "sigmoid", "relu", "gelu", "silu"])
def test_units_on_the_grid_are_found_beside_the_others(name):
    """The first of three units is far off, and there is no noise: its grid point explains all."""
    f, rng = get_activation(name), np.random.default_rng(0)
    v = rng.standard_normal((1200, 4))
    A = np.linalg.qr(rng.standard_normal((4, 3)))[0].T
    u = v @ A.T
    size = u.std(axis=0)
    grid, biases = grid_of_scales(f), grid_of_biases(2.4, free=True)
    s = grid[[-1, 0, len(grid) // 2]] / size
    b = biases[[10, 6, 8]]
    y = f(s * u + b) @ rng.standard_normal((3, 2)) + 0.7
    # what else is linear in v is not the units'
    y = y + v @ rng.standard_normal((4, 2))
    start = Units(A, np.array([grid[0] / size[0], s[1], s[2]]), np.array([-1.2, b[1], b[2]]))
    found = units_in_turn(f, start, v, y, v, free_biases=True)
    H = np.column_stack([f(found.scales * u + found.biases), np.ones(len(v)), v])
    left = y - H @ np.linalg.lstsq(H, y, rcond=None)[0]
    assert np.abs(left).max() < ALGEBRA


def test_signs_and_scales_that_imitate_each_other_are_not_tried():
    assert (grid_of_scales(get_activation("tanh")) > 0).all()
    assert (grid_of_scales(get_activation("sigmoid")) > 0).all()
    assert grid_of_scales(get_activation("relu")).tolist() == [-1.0, 1.0]
    assert (grid_of_scales(Polynomial((0.0, 1.0, 0.4, 0.0, 0.1))) < 0).sum() == 12
    assert grid_of_biases(2.0, free=False).tolist() == [0.0]

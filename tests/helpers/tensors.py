"""Tensors written out: outer products, contractions, averages over the order of the modes."""

from itertools import permutations

import numpy as np


def power(vector, order):
    """vector^(x)order."""
    result = np.ones(())
    for _ in range(order):
        result = np.multiply.outer(result, vector)
    return result


def rank_one_sum(loadings, components, order):
    """sum_i loadings_i (x) components_i^(x)order."""
    return sum(
        np.multiply.outer(w_i, power(a_i, order))
        for w_i, a_i in zip(loadings, components, strict=True)
    )


def contract(tensor, *vectors):
    """tensor(v_1, v_2, ..), the first vector on the first mode."""
    for vector in vectors:
        tensor = np.tensordot(vector, tensor, (0, 0))
    return float(tensor)


def symmetrise(tensor):
    """Average over all orders of the modes."""
    orders = list(permutations(range(tensor.ndim)))
    return sum(tensor.transpose(order) for order in orders) / len(orders)

"""Higher derivatives: of compositions, and between a density and its logarithm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gloree.sequences import Array


def outer(left: Array, right: Array) -> Array:
    """Outer product of the trailing axes, row by row; a single row of one side serves all."""
    a = left.reshape(left.shape + (1,) * (right.ndim - 1))
    return np.asarray(a * right.reshape(right.shape[:1] + (1,) * (left.ndim - 1) + right.shape[1:]))


def partitions(items: Sequence[int]) -> Iterator[list[tuple[int, ...]]]:
    """All partitions of distinct items into sets."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in partitions(rest):
        yield [(first,), *partition]
        for place, block in enumerate(partition):
            yield [*partition[:place], (first, *block), *partition[place + 1 :]]


def composed(
    outside: Sequence[Array], inside: Sequence[Array | None], order: int
) -> tuple[Array, ...]:
    r"""Derivatives of phi(g(x)) of orders 1 to `order` (Faa di Bruno).

    .. math:: \nabla^k (\phi \circ g)[J] = \sum_{\pi \text{ partitions } J}
              \nabla^{|\pi|} \phi \, \bigl(\nabla^{|B|} g[\cdot, B] : B \in \pi\bigr)

    Parameters
    ----------
    outside : sequence of ndarray
        Derivatives of phi at g(x), (n_rows, d, .., d), of orders 1, 2, ..
    inside : sequence of ndarray or None
        Derivatives of g, of shape (n_rows or 1, d, n_inputs, ..), the output first; None is zero.
    """
    results = []
    for k in range(1, order + 1):
        total: Array | None = None
        for partition in partitions(range(k)):
            blocks = [inside[len(block) - 1] for block in partition]
            if any(block is None for block in blocks):
                continue
            value = outside[len(partition) - 1]
            # output axes of the blocks are summed one after the other, from the front
            for block in blocks:
                assert block is not None
                value = contract_first(value, block)
            axes = [0] * k
            for position, index in enumerate(sum(partition, ())):
                axes[index] = 1 + position
            value = value.transpose(0, *axes)
            total = value if total is None else total + value
        if total is None:
            n_inputs = next(each.shape[-1] for each in inside if each is not None)
            total = np.zeros((outside[0].shape[0],) + (n_inputs,) * k)
        results.append(total)
    return tuple(results)


def contract_first(tensor: Array, block: Array) -> Array:
    """Sum over the first axis of (n, d, ..) and of (n or 1, d, ..); new axes go to the end."""
    n, d = tensor.shape[:2]
    rest, ahead = tensor.shape[2:], block.shape[2:]
    left = tensor.reshape(n, d, -1).transpose(0, 2, 1)
    return np.asarray(left @ block.reshape(block.shape[0], d, -1)).reshape((n, *rest, *ahead))


def ratios_of_quadratic(gradient: Array, curvature: Array, order: int) -> list[Array]:
    """grad^m p / p of orders 1 to `order` where log p is quadratic: Hermite tensors."""
    one = np.ones(gradient.shape[0])
    tensors = [one, gradient]
    for m in range(1, order):
        total = outer(gradient, tensors[m])
        for place in range(m):
            total -= np.moveaxis(outer(curvature, tensors[m - 1]), 2, 2 + place)
        tensors.append(total)
    return tensors[1 : order + 1]


def cumulants(ratios: Sequence[Array]) -> tuple[Array, ...]:
    r"""Derivatives of log p from the ratios grad^m p / p, of orders 1, 2, ..

    .. math:: D[i, J] = R[i, J] - \sum_{\emptyset \neq B \subseteq J} D[i, J - B] \, R[B]
    """
    found: list[Array] = []
    for m, ratio in enumerate(ratios, start=1):
        total = ratio.copy()
        others = range(1, m)
        for mask in range(1, 2 ** (m - 1)):
            block = [1 + j for j in range(m - 1) if mask >> j & 1]
            rest = [0, *(1 + j for j in range(m - 1) if not mask >> j & 1)]
            product = outer(found[len(rest) - 1], ratios[len(block) - 1])
            # axes of the product are (rest, block): put each back into its place
            places = [*rest, *block]
            total -= product.transpose(0, *(1 + places.index(axis) for axis in (0, *others)))
        found.append(total)
    return tuple(found)

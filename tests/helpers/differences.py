"""Derivatives by central differences: an error of step^2 f''' / 6 and of eps |f| / step."""

import numpy as np


def central(function, point, step):
    """Derivatives of f along each entry of a point: an array of shape (*point.shape, *f.shape)."""
    point = np.asarray(point, dtype=float)
    found = []
    for index in np.ndindex(point.shape):
        move = np.zeros_like(point)
        move[index] = step
        ahead, behind = np.asarray(function(point + move)), np.asarray(function(point - move))
        found.append((ahead - behind) / (2 * step))
    return np.reshape(found, (*point.shape, *np.shape(found[0])))


def by_weights(function, model, layout, step):
    """Derivatives of f(model) in the free weights of a layout: (*f.shape, layout.size)."""
    found = central(lambda theta: function(layout.move(model, theta)), np.zeros(layout.size), step)
    return np.moveaxis(found, 0, -1)

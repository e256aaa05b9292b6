"""Passes over data, in one batch or merged from many."""

from functools import reduce

from gloree.engine import Engine
from gloree.refinement import gradient_sums, hessian_sums

SERIAL = Engine("serial")


def only_batch(source):
    """The batch of a source that is read in one."""
    (segments,) = source.as_subset().batches
    return source.read(segments)


def merged(statistics):
    """The sum of all statistics, merged from the first to the last."""
    return reduce(lambda total, part: total.merge(part), statistics)


def gradient_of(model, layout, source):
    """Squared error and J^T r of all data."""
    return SERIAL.run(lambda batch: gradient_sums(batch, model, layout), source)


def hessian_of(model, layout, source):
    """J^T J of all data."""
    return SERIAL.run(lambda batch: hessian_sums(batch, model, layout), source)

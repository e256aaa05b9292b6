"""Recurrent weights and biases in one call, for data that fit into memory."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import to_host
from gloree._sums import Sums
from gloree.chains import HermiteLaw, as_law, require, with_metric
from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.recurrence._contraction import Contraction, top_degree
from gloree.recurrence._estimators import (
    RECURRENCES,
    BatchAtWeights,
    FreeWeights,
    RecurrenceEstimator,
)
from gloree.recurrence._linearised import WeightChange
from gloree.sequences import Batch, as_sequences

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def estimate(
    chain: object,
    X: object,
    Y: object,
    model: AnyNetwork,
    *,
    method: str | RecurrenceEstimator = "instrument",
    sweeps: int = 2,
    bias: bool = True,
    lengths: ArrayLike | None = None,
) -> AnyNetwork:
    r"""Estimate U (and b) of a network whose A1, A2 are known.

    Each sweep adds, from moments of the residuals of the current weights,

    .. math:: (U, b) \mathrel{+}= E[(z - \hat z) g]\, E[(\hat h_{t-1}, 1) g]^{-1}

    for ``instrument``, or the solution of the other estimators (see `gloree.recurrence`). Output
    weights stay as they are.

    Parameters
    ----------
    chain : InputLaw, callable, arrays or None
        Law of the inputs (not used by ``least-squares``), or scores in its place, as in
        `gloree.moments.cross_moment`.
    X, Y : array or list
        Inputs and outputs (see `gloree.sequences.as_sequences`).
    model : IORNN or BRNN
        Current weights; usually with U = 0.
    method : {"instrument", "least-squares", "cross", "score"} or RecurrenceEstimator
        ``score`` is the paper's, from U = 0. Its moment leaves the sign of each row of U open; the
        sign along which the squared error falls is taken.
    sweeps : int, default 2
        Two are enough if the recurrence is a contraction.
    bias : bool, default True
        Whether b is estimated too.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    IORNN or BRNN

    Raises
    ------
    TypeError, LawError
        If `chain` is no input law, or does not declare what the method needs.
    ValueError
        If `method` is not one of these, cannot serve this network, or the sizes do not fit.

    Notes
    -----
    One pass over the data for each sweep.

    Examples
    --------
    >>> from gloree import datasets, metrics, recurrence
    >>> X, Y, truth, chain = datasets.make_rnn(2000, 10, 5, 3, 3, random_state=0)
    >>> start = truth.replace(recurrent_weights=0 * truth.recurrent_weights)
    >>> found = recurrence.estimate(chain, X, Y, start)
    >>> metrics.weight_errors(found, truth)["recurrent_weights"] < 0.1
    True
    """
    if isinstance(method, str) and method not in RECURRENCES:
        raise ValueError(
            f"`method` must be one of {', '.join(map(repr, RECURRENCES))}, or a "
            f"RecurrenceEstimator, got {method!r}"
        )
    estimator = RECURRENCES[method] if isinstance(method, str) else method
    data = as_sequences(X, Y, lengths=lengths, keep_tensors=True)
    law: HermiteLaw | None = None
    if estimator.uses_scores:
        order = estimator.score_order(top_degree(model)[0])
        purpose = f"method={estimator.name!r}"
        given = as_law(chain, n_inputs=data.n_inputs, lengths=data.lengths)
        known = require(
            given,
            order=order,
            hermite=estimator.hermite,
            tensors=True,
            edges=True,
            purpose=purpose,
        )
        law = with_metric(known, np.cov(to_host(data.X).T).reshape([data.n_inputs] * 2))
    estimator.check(model, bidirectional=model.n_forward < model.n_hidden)
    engine, source = Engine(), Source(data)
    free = FreeWeights(bias=bias, unit_bias=bias)

    def change(model: Network) -> WeightChange:
        contraction = None if law is None else Contraction.of(model, law.precision_blocks(0))

        def sums(batch: Batch) -> Sums:
            return estimator.sums(BatchAtWeights(batch, model, free, law, contraction))

        return estimator.update(engine.run(sums, source), model, free)

    for _ in range(sweeps):
        found = change(model)
        model = model.replace(
            recurrent_weights=model.recurrent_weights + found.recurrent,
            hidden_bias=model.hidden_bias + found.bias,
        )
    return model

"""Recurrent weights and biases in one call, for data that fit into memory."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from numpy.typing import ArrayLike

from gloree.chains import HermiteLaw, require
from gloree.engine import Engine, Source
from gloree.models import IORNN
from gloree.recurrence._contraction import Contraction, top_degree
from gloree.recurrence._cross import cross_sums, cross_update
from gloree.recurrence._instrument import instrument_sums, instrument_update
from gloree.recurrence._linearised import linearised_sums, linearised_update
from gloree.recurrence._score import ScoreSums, score_sums, score_update
from gloree.sequences import Batch, as_sequences
from gloree.states import residual_rows

Method = Literal["instrument", "least-squares", "cross", "score"]


def estimate(
    chain: HermiteLaw,
    X: Any,
    Y: Any,
    model: IORNN,
    *,
    method: Method = "instrument",
    sweeps: int = 2,
    bias: bool = True,
    lengths: ArrayLike | None = None,
) -> IORNN:
    r"""Estimate U (and b) of a network whose A1, A2 are known.

    Each sweep adds, from moments of the residuals of the current weights,

    .. math:: (U, b) \mathrel{+}= E[(z - \hat z) g]\, E[(\hat h_{t-1}, 1) g]^{-1}

    for ``instrument``, or the solution of the other estimators (see the module). Output weights
    are left as they are.

    Parameters
    ----------
    chain : HermiteLaw
        Law of the inputs (not used by ``least-squares``).
    X, Y : array or list
        Inputs and outputs (see `gloree.sequences.as_sequences`).
    model : IORNN
        Current weights; usually with U = 0.
    method : {"instrument", "least-squares", "cross", "score"}
        ``score`` is the paper's: one sweep from U = 0, and rows of U without their signs.
    sweeps : int, default 2
        Two are enough when the recurrence contracts.
    bias : bool, default True
        Whether b is estimated (by ``instrument`` and ``least-squares``).
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    IORNN

    Raises
    ------
    TypeError, LawError
        If `chain` is no input law, or does not declare what the method needs.
    ValueError
        If `method` is not one of these, or the sizes do not fit.

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
    if method not in ("instrument", "least-squares", "cross", "score"):
        raise ValueError(
            f"`method` must be 'instrument', 'least-squares', 'cross' or 'score', got {method!r}"
        )
    degree, leading = top_degree(model)
    if method != "least-squares":
        require(
            chain,
            order=score_order(method, degree),
            hermite=True,
            edges=True,
            purpose=f"method={method!r}",
        )
    engine, source = Engine(), Source(as_sequences(X, Y, lengths=lengths, keep_tensors=True))
    for _ in range(1 if method == "score" else sweeps):
        U, b = model.recurrent_weights, model.hidden_bias
        if method == "least-squares":
            linear = engine.run(partial(linearised_sums, model=model, bias=bias), source)
            change = linearised_update(linear, model, bias=bias)
            model = model.replace(
                recurrent_weights=U + change.recurrent, hidden_bias=b + change.bias
            )
            continue
        if method == "score":
            scores = engine.run(partial(_residual_score_sums, model=model, chain=chain), source)
            model = model.replace(recurrent_weights=score_update(scores, leading))
            continue
        contraction = Contraction.of(model, chain.precision_blocks(0))
        if method == "cross":
            crosses = engine.run(
                partial(cross_sums, model=model, chain=chain, contraction=contraction), source
            )
            model = model.replace(recurrent_weights=U + cross_update(crosses, degree, leading))
        else:
            instruments = engine.run(
                partial(instrument_sums, model=model, chain=chain, contraction=contraction), source
            )
            dU, db = instrument_update(instruments, bias=bias, n_forward=model.n_forward)
            model = model.replace(recurrent_weights=U + dU, hidden_bias=b + db)
    return model


def score_order(method: str, degree: int) -> int:
    """Order of the score tensors on which an estimator of U rests, for an activation's degree."""
    orders = {"instrument": degree - 1, "cross": 2 * degree - 1, "score": degree**2}
    return max(orders[method], 1)


def _residual_score_sums(batch: Batch, model: IORNN, chain: HermiteLaw) -> ScoreSums:
    return score_sums(batch, model, chain, residual_rows(model, batch))

"""Score tensors of every step: partial, joint, and of a window of neighbouring steps."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from gloree._monomials import block_rows
from gloree._parameters import check_number, optional_integer
from gloree.chains import DerivativeLaw, HermiteLaw, InputLaw, require
from gloree.score_functions._bell import score_tensors
from gloree.score_functions._hermite import check_order, hermite_tensor, mixed_hermite
from gloree.sequences import Array, IntArray, Sequences, as_sequences

MEMORY_LIMIT = 2**31
"""Bytes that a score tensor of all steps may take unless the caller says otherwise."""


def partial_score(
    chain: InputLaw,
    X: object,
    order: int = 1,
    *,
    lengths: ArrayLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Array | list[Array]:
    r"""Score tensor of every step given all other steps.

    .. math:: S_m(t) = (-1)^m \frac{\nabla^m_{x_t} p(x_1, .., x_n)}{p(x_1, .., x_n)}

    The score function S_m of [SA16]_, exact for every step, the first and last ones of a sequence
    included. By Stein's identity, E[G(x) S_m(t)] = E[grad^m_{x_t} G(x)].

    Parameters
    ----------
    chain : InputLaw
        Law of the inputs; for orders above 1 a `HermiteLaw`, such as `GaussianVAR`, or a
        `DerivativeLaw`, such as `NonlinearAR`.
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    order : int, default 1
        m.
    lengths : sequence of int, optional
        Steps of each sequence in a flat `X`.
    memory_limit : int, default 2 GiB
        Bytes that the result may take.

    Returns
    -------
    ndarray or list of ndarray
        In the form of `X`, with `order` axes of size n_inputs for every step in place of one:
        (n_sequences, n_steps, n_inputs, .., n_inputs) and so on. Symmetric in those axes.

    Raises
    ------
    MemoryError
        If the result would exceed `memory_limit`; the message says its size.
    TypeError, LawError
        If `chain` is no input law, or does not declare exact scores at the ends of sequences and,
        above order 1, score tensors of this order.
    ValueError
        If `order` is below 1 or `X` does not fit the chain.

    Notes
    -----
    For a Gaussian law S_m is the Hermite tensor of s_t with covariance K_t, such as
    S_2 = s s^T - K; for others it is a Bell polynomial of derivatives (`score_tensors`). Time and
    memory O(n_rows n_inputs^m): meant for small sizes, teaching and
    tests. Moments never build it.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, *Training Input-Output Recurrent Neural Networks through
       Spectral Methods*, arXiv:1603.00954 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import partial_score
    >>> chain = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    >>> X = chain.sample(20000, 4, random_state=0)
    >>> partial_score(chain, X, order=2).shape
    (20000, 4, 2, 2)
    >>> moment = np.einsum("sta,stb,stij->abij", X, X, partial_score(chain, X, order=2)) / 80000
    >>> bool(np.abs(moment[0, 0] - [[2, 0], [0, 0]]).max() < 0.2)
    True
    """
    order = check_order(order, "order")
    purpose = f"`partial_score` of order {order}"
    require(chain, order=order, tensors=order > 1, edges=True, digits=True, purpose=purpose)
    data = _within(memory_limit, as_sequences(X, lengths=lengths), chain.n_inputs**order)
    batch = data.whole()
    if order > 1 and not chain.capabilities.hermite:
        at = score_tensors(cast("DerivativeLaw", chain), batch, order)
        step = block_rows(chain.n_inputs**order)
        blocks = np.split(np.arange(batch.n_rows), range(step, batch.n_rows, step))
        joined: Array | list[Array] = data.restore(np.concatenate([at(b)[-1] for b in blocks]))
        return joined
    scores = chain.scores(batch)
    if order > 1:
        law = cast("HermiteLaw", chain)
        covariances = law.precision_blocks(0)[law.boundary_types(batch)]
        scores = hermite_tensor(scores, covariances, order)
    restored: Array | list[Array] = data.restore(scores)
    return restored


def joint_score(
    chain: HermiteLaw,
    X: object,
    orders: tuple[int, int] = (1, 1),
    *,
    lag: int = 1,
    lengths: ArrayLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Array | list[Array]:
    r"""Score tensor of a step and an earlier one together.

    .. math:: S_{m,m'}(t, t-\ell) = (-1)^{m+m'}
              \frac{\nabla^m_{x_t} \nabla^{m'}_{x_{t-\ell}} p(x_1, .., x_n)}{p(x_1, .., x_n)}

    A block of the Hermite tensor of the stacked vector (s_t, s_{t-l}) with their joint covariance
    (:eq:`joint-score` and :eq:`joint-hermite`): with r = s_{t-1} and R = Cov(s_t, s_{t-1}),
    S_{1,2}[i; j, k] = s_i r_j r_k - K_jk s_i - R_ij r_k - R_ik r_j.

    Parameters
    ----------
    chain : HermiteLaw
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    orders : (int, int), default (1, 1)
        m, derivatives at step t, and m', derivatives at step t - lag.
    lag : int, default 1
        l, at least 1.
    lengths, memory_limit
        As in `partial_score`, and so are the exceptions.

    Returns
    -------
    ndarray or list of ndarray
        In the form of `X`: one tensor, of m and then m' axes of size n_inputs, for every step t
        with a step t - lag before it. A sequence of n steps has n - lag of them, or none.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import joint_score
    >>> chain = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    >>> joint_score(chain, chain.sample(3, 5, random_state=0), orders=(1, 2)).shape
    (3, 4, 2, 2, 2)
    """
    if not isinstance(orders, (tuple, list)) or len(orders) != 2:
        raise ValueError(f"`orders` is {orders!r:.100}, expected a pair of integers of at least 1")
    m, m_earlier = (check_order(order, "orders") for order in orders)
    purpose = f"`joint_score` of orders ({m}, {m_earlier})"
    require(chain, order=m + m_earlier, hermite=True, edges=True, digits=True, purpose=purpose)
    lag = check_order(lag, "lag")
    entries = chain.n_inputs ** (m + m_earlier)
    data = _within(memory_limit, as_sequences(X, lengths=lengths), entries)
    batch = data.whole()
    scores, types = chain.scores(batch), chain.boundary_types(batch)
    later = np.flatnonzero(batch.local >= lag)
    earlier = later - lag
    blocks = chain.precision_blocks(0), chain.precision_blocks(lag)
    covariances = blocks[0][types[later]], blocks[1][types[later]], blocks[0][types[earlier]]
    tensors = mixed_hermite(scores[later], scores[earlier], *covariances, (m, m_earlier))
    return _restore_fewer(data, tensors, lag)


def window_score(
    chain: HermiteLaw,
    X: object,
    lags: int,
    order: int = 1,
    *,
    lengths: ArrayLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Array | list[Array]:
    r"""Score tensor of a window of neighbouring steps, given everything outside it.

    .. math:: S_m(w) = (-1)^m \frac{\nabla^m_{w_t} p(x_1, .., x_n)}{p(x_1, .., x_n)}, \qquad
              w_t = (x_t, x_{t-1}, .., x_{t-\ell+1})

    Windows overlap, so the sequence of windows has no joint density; Stein's identity needs only
    the law of *one* window given the steps outside it. S_m(w) is the Hermite tensor of the stacked
    scores (s_t, .., s_{t-l+1}), whose covariance is a block of the joint precision.

    Parameters
    ----------
    chain : HermiteLaw
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    lags : int
        l, steps of the window; most recent first.
    order : int, default 1
    lengths, memory_limit
        As in `partial_score`, and so are the exceptions.

    Returns
    -------
    ndarray or list of ndarray
        In the form of `X`: one tensor, of `order` axes of size lags * n_inputs, for every step with
        lags - 1 steps before it. A sequence of n steps has n - lags + 1 of them, or none.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import window_score
    >>> chain = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    >>> window_score(chain, chain.sample(3, 5, random_state=0), lags=3).shape
    (3, 3, 6)
    """
    order, lags = check_order(order, "order"), check_order(lags, "lags")
    purpose = f"`window_score` of order {order}"
    require(chain, order=order, hermite=True, edges=True, digits=True, purpose=purpose)
    entries = (lags * chain.n_inputs) ** order
    data = _within(memory_limit, as_sequences(X, lengths=lengths), entries)
    batch = data.whole()
    scores = chain.scores(batch)
    rows = np.flatnonzero(batch.local >= lags - 1)
    windows = np.concatenate([scores[rows - lag] for lag in range(lags)], axis=1)
    if order > 1:
        types = chain.boundary_types(batch)[rows[:, np.newaxis] - np.arange(lags)]
        windows = hermite_tensor(windows, _window_covariances(chain, types), order)
    return _restore_fewer(data, windows, lags - 1)


def window_score_covariance(
    chain: HermiteLaw, lags: int, *, before: int | None = None, after: int | None = None
) -> Array:
    r"""Covariance of the window score: a block of the joint precision.

    .. math:: K_w[i, j] = -\nabla_{x_{t-i}} \nabla_{x_{t-j}} \log p, \qquad 0 \le i, j < \ell

    Parameters
    ----------
    chain : HermiteLaw
    lags : int
        l, steps of the window (x_t, .., x_{t-l+1}).
    before, after : int, optional
        Steps of the sequence before and after x_t, the most recent step of the window; by
        default far from both ends. `before` is at least lags - 1; exceptions are as in
        `partial_score`.

    Returns
    -------
    ndarray of shape (lags n_inputs, lags n_inputs)

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import window_score_covariance
    >>> window_score_covariance(GaussianVAR([[0.5]], [[1.0]]), lags=2)
    array([[ 1.25, -0.5 ],
           [-0.5 ,  1.25]])
    """
    lags = check_order(lags, "lags")
    require(chain, hermite=True, edges=True, digits=True, purpose="`window_score_covariance`")
    far_before, far_after = chain.context[0] + lags - 1, chain.context[1]
    before, after = optional_integer("before", before, 0), optional_integer("after", after, 0)
    # Steps beyond the reach of the law make no difference.
    before = far_before if before is None else min(before, far_before)
    after = far_after if after is None else min(after, far_after)
    if before < lags - 1:
        raise ValueError(
            f"a window of `lags` = {lags} steps does not fit where `before` = {before} and "
            f"`after` = {after} steps surround its most recent step"
        )
    sequence = as_sequences(np.zeros((before + 1 + after, chain.n_inputs)))
    types = chain.boundary_types(sequence.whole())[before - np.arange(lags)]
    covariance: Array = _window_covariances(chain, types[np.newaxis])[0]
    return covariance


def _window_covariances(chain: HermiteLaw, types: IntArray) -> Array:
    """Covariance of the window score for boundary types (n_windows, lags), most recent first."""
    (n_windows, lags), d = types.shape, chain.n_inputs
    covariances = np.empty((n_windows, lags, d, lags, d))
    for lag in range(lags):
        blocks = chain.precision_blocks(lag)
        for i in range(lags - lag):
            block = blocks[types[:, i]]
            covariances[:, i, :, i + lag, :] = block
            covariances[:, i + lag, :, i, :] = block.transpose(0, 2, 1)
    return covariances.reshape(n_windows, lags * d, lags * d)


def _restore_fewer(data: Sequences, rows: Array, fewer: int) -> Array | list[Array]:
    """Give rows the form of the input when every sequence has lost its first `fewer` steps."""
    lengths = np.maximum(data.lengths - fewer, 0)
    if data.form == "array":
        return rows.reshape(data.n_sequences, int(lengths[0]), *rows.shape[1:])
    if data.form == "list":
        return np.split(rows, np.cumsum(lengths)[:-1])
    return rows


def _within(limit: int, data: Sequences, entries: int) -> Sequences:
    """Refuse data whose score tensors, of so many entries each, would exceed the limit in bytes."""
    size = 8 * data.n_rows * entries
    check_number("memory_limit", limit, least=0.0, finite=False)
    if size > limit:
        raise MemoryError(
            f"the score tensors of {data.n_rows} steps would take {size / 2**30:.3g} GiB "
            f"({entries} entries each), more than `memory_limit` = {limit / 2**30:.3g} GiB: score "
            f"fewer steps, or use moments, which never build these tensors"
        )
    return data

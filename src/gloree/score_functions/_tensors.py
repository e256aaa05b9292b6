"""Score tensors of every step: partial, joint, and of a window of neighbouring steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gloree.chains import GaussianChain, GaussianVAR
from gloree.score_functions._hermite import check_order, hermite_tensor, mixed_hermite
from gloree.sequences import Array, Batch, IntArray, Sequences, as_sequences

MEMORY_LIMIT = 2**31
"""Bytes that a score tensor of all steps may take unless the caller says otherwise."""


def partial_score(
    chain: GaussianChain,
    X: Any,
    order: int = 1,
    *,
    lengths: ArrayLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Any:
    r"""Score tensor of every step given all other steps.

    .. math:: S_m(t) = (-1)^m \frac{\nabla^m_{x_t} p(x_1, .., x_n)}{p(x_1, .., x_n)}

    The score function S_m of [SA16]_, for each step of a sequence; its first and last steps are
    exact. Stein's identity, E[G(x) S_m(t)] = E[grad^m_{x_t} G(x)], turns it into derivatives.

    Parameters
    ----------
    chain : GaussianChain
        Law of the inputs.
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
    TypeError
        If the score tensors of `chain` are not Hermite tensors.
    ValueError
        If `order` is below 1 or `X` does not fit the chain.

    Notes
    -----
    For a Gaussian chain S_m is the Hermite tensor of s_t with covariance K_t, e.g.
    S_2 = s s^T - K. Meant for small sizes, teaching and tests: time and memory
    O(n_rows n_inputs^m). Moments never build it.

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
    require_gaussian(chain)
    order = check_order(order, "order")
    data = as_sequences(X, lengths=lengths)
    _guard_memory(data.n_rows, chain.n_inputs**order, memory_limit)
    batch = data.whole()
    scores = chain.scores(batch)
    if order > 1:
        kinds, covariances = chain.score_covariance_kinds(batch)
        scores = _by_kind(scores, kinds, covariances, order)
    return data.restore(scores)


def joint_score(
    chain: GaussianChain,
    X: Any,
    orders: tuple[int, int] = (1, 1),
    *,
    lag: int = 1,
    lengths: ArrayLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Any:
    r"""Score tensor of a step and an earlier one together.

    .. math:: S_{m,m'}(t, t-\ell) = (-1)^{m+m'}
              \frac{\nabla^m_{x_t} \nabla^{m'}_{x_{t-\ell}} p(x_1, .., x_n)}{p(x_1, .., x_n)}

    The block of the Hermite tensor of the stacked vector (s_t, s_{t-l}) under their joint
    covariance: with r = s_{t-1} and R = Cov(s_t, s_{t-1}),
    S_{1,2}[i; j, k] = s_i r_j r_k - K_jk s_i - R_ij r_k - R_ik r_j: equations
    :eq:`joint-score` and :eq:`joint-hermite`.

    Parameters
    ----------
    chain : GaussianChain
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    orders : (int, int), default (1, 1)
        m, derivatives at step t, and m', derivatives at step t - lag.
    lag : int, default 1
        l, at least 1.
    lengths : sequence of int, optional
    memory_limit : int, default 2 GiB

    Returns
    -------
    ndarray or list of ndarray
        One tensor, of m and then m' axes of size n_inputs, for every step t that has a step
        t - lag before it: a sequence of n steps gives n - lag of them (none if it is too short).
        Otherwise in the form of `X`; one sequence after another where that is flat.

    Raises
    ------
    MemoryError, TypeError, ValueError
        See `partial_score`.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import joint_score
    >>> chain = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    >>> joint_score(chain, chain.sample(3, 5, random_state=0), orders=(1, 2)).shape
    (3, 4, 2, 2, 2)
    """
    require_gaussian(chain)
    m, m_earlier = (check_order(order, "orders") for order in orders)
    lag = check_order(lag, "lag")
    data = as_sequences(X, lengths=lengths)
    _guard_memory(data.n_rows, chain.n_inputs ** (m + m_earlier), memory_limit)
    batch = data.whole()
    scores = chain.scores(batch)
    kinds, covariances = chain.score_covariance_kinds(batch)
    later = np.flatnonzero(batch.local >= lag)
    earlier = later - lag
    tensors = mixed_hermite(
        scores[later],
        scores[earlier],
        covariances[kinds[later]],
        _cross_covariances(chain, batch, later, lag),
        covariances[kinds[earlier]],
        (m, m_earlier),
    )
    return _restore_fewer(data, tensors, lag)


def window_score(
    chain: GaussianVAR,
    X: Any,
    lags: int,
    order: int = 1,
    *,
    lengths: ArrayLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Any:
    r"""Score tensor of a window of neighbouring steps, given everything outside it.

    .. math:: S_m(w) = (-1)^m \frac{\nabla^m_{w_t} p(x_1, .., x_n)}{p(x_1, .., x_n)}, \qquad
              w_t = (x_t, x_{t-1}, .., x_{t-\ell+1})

    A network that reads a window of `lags` steps needs derivatives in all of them at once. The
    windows of a sequence overlap, so they are not the steps of a chain and have no joint density
    of their own: w_t and w_{t+1} share coordinates, and the law of the sequence of windows lives
    on a lower-dimensional set. What Stein's identity needs is only the law of *one* window given
    the rest of the sequence, and that has a density: its score is the stack of the partial
    scores (s_t, .., s_{t-l+1}), and its covariance the block of the joint precision at these
    steps. Functions of inputs outside the window may be used as instruments, as with one step.

    Parameters
    ----------
    chain : GaussianVAR
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    lags : int
        l, steps of the window; most recent first.
    order : int, default 1
    lengths : sequence of int, optional
    memory_limit : int, default 2 GiB

    Returns
    -------
    ndarray or list of ndarray
        One tensor, of `order` axes of size lags * n_inputs, for every step with lags - 1 steps
        before it: a sequence of n steps gives n - lags + 1 of them. Otherwise in the form of `X`.

    Raises
    ------
    MemoryError, TypeError, ValueError
        See `partial_score`.

    See Also
    --------
    window_score_covariance : the covariance of the first-order window score.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import window_score
    >>> chain = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    >>> window_score(chain, chain.sample(3, 5, random_state=0), lags=3).shape
    (3, 3, 6)
    """
    require_gaussian(chain)
    order, lags = check_order(order, "order"), check_order(lags, "lags")
    data = as_sequences(X, lengths=lengths)
    width = lags * chain.n_inputs
    _guard_memory(data.n_rows, width**order, memory_limit)
    batch = data.whole()
    scores = chain.scores(batch)
    rows = np.flatnonzero(batch.local >= lags - 1)
    windows = np.concatenate([scores[rows - lag] for lag in range(lags)], axis=1)
    if order > 1:
        p = chain.order
        before = np.minimum(batch.steps_before[rows], p + lags - 1)
        after = np.minimum(batch.steps_after[rows], p)
        pairs, kinds = np.unique(np.column_stack((before, after)), axis=0, return_inverse=True)
        covariances = np.empty((len(pairs), width, width))
        for kind, (b, a) in enumerate(pairs.tolist()):
            covariances[kind] = window_score_covariance(chain, lags, before=b, after=a)
        windows = _by_kind(windows, kinds.ravel(), covariances, order)
    return _restore_fewer(data, windows, lags - 1)


def window_score_covariance(
    chain: GaussianVAR, lags: int, *, before: int | None = None, after: int | None = None
) -> Array:
    r"""Covariance of the window score: a block of the joint precision.

    .. math:: K_w[i, j] = -\nabla_{x_{t-i}} \nabla_{x_{t-j}} \log p, \qquad 0 \le i, j < \ell

    Parameters
    ----------
    chain : GaussianVAR
    lags : int
        l, steps of the window (x_t, .., x_{t-l+1}).
    before, after : int, optional
        Steps of the sequence before and after x_t, the most recent step of the window; by
        default far from both ends. `before` is at least lags - 1.

    Returns
    -------
    ndarray of shape (lags n_inputs, lags n_inputs)

    Raises
    ------
    ValueError
        If the window does not fit in the sequence.

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
    before = chain.order + lags - 1 if before is None else before
    after = chain.order if after is None else after
    if before < lags - 1 or after < 0:
        raise ValueError(
            f"a window of `lags` = {lags} steps does not fit where `before` = {before} and "
            f"`after` = {after} steps surround its most recent step"
        )
    d = chain.n_inputs
    covariance = np.empty((lags, d, lags, d))
    for i in range(lags):
        for j in range(i, lags):
            block = chain.precision_block(before - i, after + i, j - i)
            covariance[i, :, j, :] = block
            covariance[j, :, i, :] = block.T
    return covariance.reshape(lags * d, lags * d)


def require_gaussian(chain: object) -> None:
    """Refuse laws whose score tensors are not Hermite tensors.

    Raises
    ------
    TypeError
    """
    if not isinstance(chain, GaussianChain):
        raise TypeError(
            f"`chain` is a {type(chain).__name__}, expected a fitted Gaussian chain such as "
            f"GaussianVAR: score tensors beyond the first order are built from the covariances "
            f"of its scores"
        )


def _cross_covariances(chain: GaussianChain, batch: Batch, rows: IntArray, lag: int) -> Array:
    """Cov(s_t, s_{t-lag}) for the given rows; all of them have the earlier step."""
    kinds, _ = chain.score_covariance_kinds(batch)
    return chain.precision_blocks(lag)[kinds[rows]]


def _by_kind(scores: Array, kinds: IntArray, covariances: Array, order: int) -> Array:
    """Hermite tensors of all rows, one covariance at a time."""
    tensors = np.empty((scores.shape[0], *(scores.shape[1],) * order))
    for kind in np.unique(kinds):
        rows = kinds == kind
        tensors[rows] = hermite_tensor(scores[rows], covariances[kind], order)
    return tensors


def _restore_fewer(data: Sequences, rows: Array, fewer: int) -> Any:
    """Give rows the form of the input when every sequence has lost its first `fewer` steps."""
    lengths = np.maximum(data.lengths - fewer, 0)
    if data.form == "array":
        return rows.reshape(data.n_sequences, int(lengths[0]), *rows.shape[1:])
    if data.form == "list":
        return np.split(rows, np.cumsum(lengths)[:-1])
    return rows


def _guard_memory(n_rows: int, entries: int, limit: int) -> None:
    size = 8 * n_rows * entries
    if size > limit:
        raise MemoryError(
            f"the score tensors of {n_rows} steps would take {size / 2**30:.3g} GiB ({entries} "
            f"entries each), more than `memory_limit` = {limit / 2**30:.3g} GiB: score fewer "
            f"steps, or use moments, which never build these tensors"
        )

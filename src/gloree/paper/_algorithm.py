"""GLOREE and GLOREE-B as published: moments, whitening and tensor power method, recurrence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._arrays import to_host
from gloree._random import RandomState
from gloree.activations import Polynomial
from gloree.chains import GaussianVAR, InputLaw, as_law, require, with_metric
from gloree.decomposition import decompose, tensor_power_iteration
from gloree.models import BRNN, IORNN
from gloree.paper._moments import SampleMoments, rank_one_entries
from gloree.paper._rank_one import rank_one_roots
from gloree.paper._result import PaperFit
from gloree.sequences import Array, as_sequences

MOST_TRIED = 5
"""Units up to which the squared error of every choice of signs is computed."""

Method = Literal["power", "least-squares"]


class PaperMoments(Protocol):
    """Where the moments come from: data (`SampleMoments`), or the population, in tests."""

    def first(self) -> Array:
        """E[y (x) S_l(t)], shape (n_outputs, n_inputs, .., n_inputs)."""

    def second(self, dual: Array, readout: Array, shift: int) -> Array:
        """E[(A2^+ y)_i S_{l^2}(t + shift)(v_m^l, ..)], shape (n_hidden, n_entries)."""

    def error(self, model: IORNN | BRNN) -> float:
        """Mean squared error of a network; infinite where it explodes."""


def gloree(
    X: object,
    Y: object,
    n_hidden: int,
    *,
    law: object = None,
    degree: int = 2,
    leading: float = 1.0,
    method: Method = "power",
    lengths: ArrayLike | None = None,
    random_state: RandomState = None,
) -> PaperFit:
    r"""GLOREE [SA16]_: an input-output RNN y_t = A2^T h_t, h_t = c (A1 x_t + U h_{t-1})^l.

    1. T = E[y_t (x) S_l(t)] = l! c sum_i A2_i (x) a_i^{(x)l} over all steps (:eq:`first-moment`).
    2. Whitening and tensor power method with deflation: a_i of norm one, and A2_i.
    3. M = E[y_t (x) S_{l^2}(t-1)] (:eq:`score-recurrence`), contracted with the pseudo-inverse of
       A2 and with the dual vectors of the a_i, each l times.
    4. What is left is U_i^{(x)l} times known factors: the best rank-one tensor of every unit.
    5. For even l the moment does not know the sign of a row of U: those of least squared error are
       taken, of all 2^k where k <= 5, else by flips one by one. This step is ours.

    Parameters
    ----------
    X, Y : array or list
        Inputs and outputs (see `gloree.sequences.as_sequences`).
    n_hidden : int
        Hidden units k, at most n_inputs and n_outputs: A1 and A2 are inverted.
    law : InputLaw, callable or arrays, optional
        Law of the inputs with score tensors up to order l^2, or these tensors, (S_1, S_2, ..); by
        default a `GaussianVAR` fitted to `X`. A function can serve no order above 2.
    degree : int, default 2
        l, at least 2.
    leading : float, default 1.0
        c.
    method : {"power", "least-squares"}, default "power"
        Step 2: as published (`tensor_power_iteration`), or `decompose`, which needs no definite
        combination of the slices.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.
    random_state : None, int, SeedSequence, Generator or RandomState
        For the starts of step 2.

    Returns
    -------
    PaperFit
        `model` and every intermediate.

    Raises
    ------
    TypeError, LawError
        If `law` is no law, or does not declare score tensors up to order l^2, exact at the ends.
    ValueError
        If sizes do not fit, or as `tensor_power_iteration` does.

    Notes
    -----
    Two corrections to a literal reading are part of it. Score tensors are symmetric, so M holds
    sum_i A2_i (x) sym[(sum_j U_ij a_j^l)^{(x)l}]; reshaped to a matrix it is *not* sum_i A2_i (x)
    R_i (x) R_i with R_i = vec(sum_j U_ij a_j a_j^T): step 4 takes the factors of the symmetrisation
    off (see `rank_one_entries`). And step 5.

    The estimators (`gloree.SpectralRNNRegressor`) use moments of far lower order, and then the
    model as control variate: this is the baseline, whose variance grows with the order l^2.

    For Gaussian laws time O(n_rows (n_outputs C(d + l - 1, l) + C(k + l - 1, l) k)); others form
    the score tensor of order l^2 in k coordinates, k^(l^2) numbers a row.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, *Training Input-Output Recurrent Neural Networks through
       Spectral Methods*, arXiv:1603.00954 (2016).

    Examples
    --------
    >>> from gloree import datasets, metrics, paper
    >>> X, Y, truth, law = datasets.make_rnn(4000, 10, 3, 2, 2, random_state=1)
    >>> fit = paper.gloree(X, Y, 2, law=law, random_state=0)
    >>> metrics.weight_errors(fit.model, truth)["input_weights"] < 0.2
    True
    """
    moments, known = _moments_of(X, Y, law, degree, lengths)
    return recover(
        moments,
        n_hidden,
        degree=degree,
        leading=leading,
        method=method,
        law=known,
        random_state=random_state,
    )


def gloree_b(
    X: object,
    Y: object,
    n_hidden: int | tuple[int, int],
    *,
    law: object = None,
    degree: int = 2,
    leading: float = 1.0,
    method: Method = "power",
    lengths: ArrayLike | None = None,
    random_state: RandomState = None,
) -> PaperFit:
    r"""GLOREE-B [SA16]_: a bidirectional network y_t = A2^T [h_t; w_t].

    Steps 1 and 2 of `gloree` give the units of both chains at once. The output depends on x_{t-1}
    through the forward chain alone, and on x_{t+1} through the backward chain alone, so that
    E[y_t (x) S_{l^2}(t-1)] gives U and E[y_t (x) S_{l^2}(t+1)] gives V; each row of one of them is
    zero, which tells the direction of the unit.

    Parameters
    ----------
    X, Y, law, degree, leading, method, lengths, random_state
        As in `gloree`, and so are the exceptions.
    n_hidden : int or (int, int)
        Units of both chains together, or forward and backward ones; in all at most n_inputs and
        n_outputs. With a pair, the forward units are those of largest `direction_ratios`.

    Returns
    -------
    PaperFit

    Notes
    -----
    A unit whose row of U (or V) is zero has no direction that these moments could tell: its ratio
    is one of noise.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, *Training Input-Output Recurrent Neural Networks through
       Spectral Methods*, arXiv:1603.00954 (2016).

    Examples
    --------
    >>> from gloree import datasets, paper
    >>> X, Y, truth, law = datasets.make_rnn(4000, 5, 4, 2, 2, bidirectional=True, random_state=0)
    >>> int(paper.gloree_b(X, Y, (1, 1), law=law, random_state=0).forward.sum())
    1
    """
    moments, known = _moments_of(X, Y, law, degree, lengths)
    return recover(
        moments,
        n_hidden,
        degree=degree,
        leading=leading,
        method=method,
        both_ways=True,
        law=known,
        random_state=random_state,
    )


def _moments_of(
    X: object, Y: object, law: object, degree: int, lengths: ArrayLike | None
) -> tuple[SampleMoments, InputLaw]:
    _check_degree(degree)
    data = as_sequences(X, Y, lengths=lengths, keep_tensors=True)
    if data.Y is None:
        raise ValueError("`Y` is missing: the paper's moments need outputs")
    if law is None:
        given: object = GaussianVAR.fit(X, lengths=lengths)
    else:
        given = as_law(law, n_inputs=data.n_inputs, lengths=data.lengths, name="law")
    purpose = f"the score of order l^2 = {degree**2}"
    known = require(given, order=degree**2, tensors=True, edges=True, digits=True, purpose=purpose)
    if known.n_inputs != data.n_inputs:
        raise ValueError(f"`X` has {data.n_inputs} inputs, `law` has {known.n_inputs}")
    covariance = np.cov(to_host(data.X).T).reshape(data.n_inputs, data.n_inputs)
    return SampleMoments(data, with_metric(known, covariance), degree), known


def recover(
    moments: PaperMoments,
    n_hidden: int | tuple[int, int],
    *,
    degree: int = 2,
    leading: float = 1.0,
    method: Method = "power",
    both_ways: bool = False,
    law: InputLaw | None = None,
    random_state: RandomState = None,
) -> PaperFit:
    """Steps 2 to 5 of `gloree` and `gloree_b` on given moments.

    Parameters
    ----------
    moments : PaperMoments
        Of data, or of the population.
    n_hidden, degree, leading, method, random_state
        As in `gloree` and `gloree_b`.
    both_ways : bool, default False
        Whether there is a backward chain.
    law : InputLaw, optional
        For the result.

    Returns
    -------
    PaperFit
    """
    _check_degree(degree)
    sizes = _sizes(n_hidden, both_ways)
    number = isinstance(leading, (int, float, np.integer, np.floating))
    if not number or not np.isfinite(leading) or leading == 0.0:
        raise ValueError(f"`leading` is {leading!r}, expected a number other than zero")
    if method not in ("power", "least-squares"):
        raise ValueError(f"`method` is {method!r}, expected 'power' or 'least-squares'")
    k = sum(sizes) if isinstance(sizes, tuple) else sizes
    T = moments.first()
    n_outputs, n_inputs = T.shape[:2]
    if k > min(n_inputs, n_outputs):
        raise ValueError(
            f"`n_hidden` = {n_hidden} with {n_inputs} inputs and {n_outputs} outputs: the paper's "
            f"way inverts A1 and A2, and needs no more units than inputs and outputs; "
            f"`SpectralRNNRegressor` does not"
        )
    solve = tensor_power_iteration if method == "power" else decompose
    parts = solve(T, k, random_state=random_state)
    scale = np.prod(np.arange(1, degree + 1)) * leading
    A1, A2 = parts.components, parts.loadings / scale
    dual: Array = np.asarray(np.linalg.pinv(A1).T, dtype=np.float64)
    readout: Array = np.asarray(np.linalg.pinv(A2), dtype=np.float64)
    seconds = {s: moments.second(dual, readout, s) for s in ((-1, 1) if both_ways else (-1,))}
    powers = {s: rank_one_entries(found, degree, leading) for s, found in seconds.items()}
    forward, ratios = _directions(powers, sizes)
    rows = {s: rank_one_roots(tensor, forward == (s < 0)) for s, tensor in powers.items()}
    recurrent = sum(rows.values())
    assert not isinstance(recurrent, int)

    def network(signs: Array) -> IORNN | BRNN:
        U = signs[:, np.newaxis] * recurrent
        return _network(A1, U, A2, forward, degree, leading, both_ways)

    signs = np.ones(k) if degree % 2 else _signs(moments, network, k)
    model = network(signs)
    return PaperFit(
        model=model,
        law=law,
        degree=degree,
        first_moment=T,
        decomposition=parts,
        dual=dual,
        readout=readout,
        second_moments=seconds,
        powers=powers,
        rows=rows,
        signs=signs,
        forward=forward,
        direction_ratios=ratios,
    )


def _signs(moments: PaperMoments, network: Callable[[Array], IORNN | BRNN], k: int) -> Array:
    """Signs of least squared error: of all where units are few, else flipped one by one."""
    if k <= MOST_TRIED:
        tried = [np.array(each) for each in product((1.0, -1.0), repeat=k)]
        return min(tried, key=lambda signs: moments.error(network(signs)))
    signs = np.ones(k)
    least, flipped = moments.error(network(signs)), True
    while flipped:
        flipped = False
        for i in range(k):
            other = signs.copy()
            other[i] = -other[i]
            error = moments.error(network(other))
            if error < least:
                signs, least, flipped = other, error, True
    return signs


def _check_degree(degree: object) -> None:
    if isinstance(degree, bool) or not isinstance(degree, (int, np.integer)) or degree < 2:
        raise ValueError(f"`degree` is {degree!r}, expected an integer of at least 2")


def _sizes(n_hidden: object, both_ways: bool) -> int | tuple[int, int]:
    """Units of both chains, or of each."""
    pair = isinstance(n_hidden, (tuple, list))
    values: Sequence[object] = list(n_hidden) if pair else [n_hidden]  # type: ignore[call-overload]
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if not whole or len(values) != (2 if pair else 1) or (pair and not both_ways):
        expected = "an integer, or a pair (forward, backward)" if both_ways else "an integer"
        raise ValueError(f"`n_hidden` is {n_hidden!r}, expected {expected}")
    counts = [int(v) for v in values]  # type: ignore[call-overload]
    if min(counts) < 0 or sum(counts) < 1:
        raise ValueError(f"`n_hidden` is {n_hidden!r}, expected at least one unit")
    return (counts[0], counts[1]) if pair else counts[0]


def _directions(
    powers: dict[int, Array], sizes: int | tuple[int, int]
) -> tuple[NDArray[np.bool_], Array]:
    """Which units run forward, and the share of the past in their moments."""
    k = next(iter(powers.values())).shape[0]
    if len(powers) == 1:
        return np.ones(k, dtype=bool), np.ones(k)
    past, future = (np.linalg.norm(powers[s].reshape(k, -1), axis=1) for s in (-1, 1))
    ratios = past / np.maximum(past + future, 1e-300)
    if isinstance(sizes, int):
        return ratios >= 0.5, ratios
    forward = np.zeros(k, dtype=bool)
    forward[np.argsort(-ratios, kind="stable")[: sizes[0]]] = True
    return forward, ratios


def _network(
    A1: Array,
    U: Array,
    A2: Array,
    forward: NDArray[np.bool_],
    degree: int,
    leading: float,
    both_ways: bool,
) -> IORNN | BRNN:
    """Network of these weights; forward units first."""
    activation = Polynomial([0.0] * degree + [leading])
    if not both_ways:
        return IORNN(A1, U, A2, activation=activation)
    ahead, behind = np.flatnonzero(forward), np.flatnonzero(~forward)
    return BRNN(
        A1[ahead],
        U[np.ix_(ahead, ahead)],
        A1[behind],
        U[np.ix_(behind, behind)],
        A2[np.concatenate((ahead, behind))],
        activation=activation,
    )

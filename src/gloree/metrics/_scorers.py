"""Scorers of scikit-learn for sequences: the rows of all sequences, one after another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._frames import plain
from gloree.sequences import is_padded, unpadded

Scorer = Callable[..., float]


def sequence_scorer(scoring: str | Scorer, *, skip: int = 0) -> SequenceScorer:
    """Scorer for sequences, of one of scikit-learn's for rows.

    scikit-learn's own regression scorers average over outputs that stand in the second axis: of
    (n_sequences, n_steps, n_outputs) they make NaN or an error. This one hands them the rows of
    all sequences. It goes wherever `scoring` does, and takes `lengths` (metadata routing).

    Parameters
    ----------
    scoring : str or callable
        A name that scikit-learn knows ("neg_mean_squared_error", "accuracy", ..), or a scorer with
        the signature (estimator, X, y), such as `sklearn.metrics.make_scorer` gives.
    skip : int, default 0
        Steps to leave out at the start of every sequence, while the state forgets its start.

    Returns
    -------
    SequenceScorer
        Called with (estimator, X, Y), it gives a number, greater being better.

    Raises
    ------
    ValueError
        If scikit-learn knows no such name, `scoring` is a metric, or `skip` is negative.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from gloree import SpectralRNNRegressor, datasets
    >>> from gloree.metrics import sequence_scorer
    >>> X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    >>> scorer = sequence_scorer("neg_root_mean_squared_error")
    >>> est = SpectralRNNRegressor(2, random_state=0)
    >>> bool((cross_val_score(est, X, Y, cv=2, scoring=scorer) > -0.2).all())
    True
    """
    if isinstance(skip, bool) or not isinstance(skip, (int, np.integer)) or skip < 0:
        raise ValueError(f"`skip` must be an integer of at least 0, got {skip!r}")
    from sklearn.metrics import get_scorer  # slow to import

    if not isinstance(scoring, str):
        first = next(iter(inspect.signature(scoring).parameters), "")
        if first in ("y_true", "labels_true"):
            name = getattr(scoring, "__name__", repr(scoring))
            raise ValueError(
                f"`scoring` is a metric of (y_true, y_pred), {name}, and a scorer is wanted, of "
                f"(estimator, X, y): give a name, or `sklearn.metrics.make_scorer({name})`"
            )
    return SequenceScorer(get_scorer(scoring) if isinstance(scoring, str) else scoring, int(skip))


class SequenceScorer:
    """What `sequence_scorer` gives.

    Parameters
    ----------
    scorer : callable
        Of rows, with the signature (estimator, X, y).
    skip : int
        Steps to leave out at the start of every sequence.
    """

    def __init__(self, scorer: Scorer, skip: int = 0) -> None:
        self.scorer, self.skip = scorer, skip
        self._lengths: bool | str | None = None

    def __repr__(self) -> str:
        skip = f", skip={self.skip}" if self.skip else ""
        return f"sequence_scorer({self.scorer!r}{skip})"

    def __call__(
        self, estimator: object, X: object, Y: object, *, lengths: ArrayLike | None = None
    ) -> float:
        """Score of an estimator for sequences.

        Parameters
        ----------
        estimator : object
            Fitted.
        X, Y : array or list
            Inputs, and outputs or labels of every step, in any form that the estimator takes.
        lengths : sequence of int, optional
            Of flat data or of a padded array.

        Returns
        -------
        float
        """
        if Y is None:
            raise ValueError(
                "`Y` is missing: a scorer of sequences compares arrays or lists of outputs; for "
                "data kept anywhere else use `score` of the estimator"
            )
        options = {} if lengths is None else {"lengths": lengths}
        if is_padded(X, lengths):
            assert lengths is not None
            X, Y, options = unpadded(X, lengths, "X"), unpadded(Y, lengths, "Y"), {}
        kept = self._kept(X, options.get("lengths"))
        return float(self.scorer(_OfRows(estimator, options, kept), X, _rows(Y, X)[kept]))

    def set_score_request(self, *, lengths: bool | str | None = None) -> SequenceScorer:
        """Ask for `lengths` where metadata are routed, as of scikit-learn's own scorers."""
        self._lengths = lengths
        return self

    def get_metadata_routing(self) -> object:
        """What scikit-learn asks for: which metadata the scorer wants."""
        from sklearn.utils.metadata_routing import MetadataRequest

        request = MetadataRequest(owner=repr(self))
        request.score.add_request(param="lengths", alias=self._lengths)
        return request

    def _kept(self, X: object, lengths: ArrayLike | None) -> NDArray[np.int64] | slice:
        """Rows that count."""
        if not self.skip:
            return slice(None)
        sizes = _sizes(X, lengths)
        kept = np.flatnonzero(np.concatenate([np.arange(size) for size in sizes]) >= self.skip)
        if not kept.size:
            raise ValueError(
                f"`skip`={self.skip} leaves no steps: the longest sequence has {max(sizes)}"
            )
        return kept


class _OfRows:
    """An estimator whose predictions are the rows of all sequences."""

    def __init__(
        self, estimator: object, options: dict[str, ArrayLike], kept: NDArray[np.int64] | slice
    ) -> None:
        self._estimator, self._options, self._kept = estimator, options, kept

    def __getattr__(self, name: str) -> object:
        found = getattr(self._estimator, name)
        if name not in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            return found

        @wraps(found)  # scikit-learn looks at the name
        def rows(X: object) -> NDArray[np.generic]:
            made: NDArray[np.generic] = _rows(found(X, **self._options), X)[self._kept]
            return made

        return rows


def _rows(values: object, X: object) -> NDArray[np.generic]:
    """Rows of all sequences of outputs, in the form of the inputs `X`; one column is a vector."""
    listed: Any = values
    if isinstance(X, (list, tuple)):
        rows = np.concatenate([np.asarray(plain(each, "Y")) for each in listed])
    else:
        rows = np.asarray(plain(values, "Y"))
        if getattr(X, "ndim", 2) == 3:
            rows = rows.reshape(-1, *rows.shape[2:])
    return rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows


def _sizes(X: object, lengths: ArrayLike | None) -> list[int]:
    """Steps of each sequence."""
    if lengths is not None:
        return [int(n) for n in np.asarray(plain(lengths, "lengths"))]
    parts: Any = X
    many = isinstance(X, (list, tuple)) or getattr(X, "ndim", 2) == 3
    return [len(part) for part in parts] if many else [len(parts)]

"""Logistic readout on the states of a network whose units are known."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import beside, kept_precision, to_host
from gloree.engine import Engine, Selection, every_nth
from gloree.models import Network
from gloree.sequences import Batch, IntArray
from gloree.states import run_states

MAX_STEPS = 100
"""Iterations of the logistic regression."""

MOST_ROWS = 2**18
"""Rows that it is fitted to, at most; of more, evenly spread ones."""

INVERSE_RIDGE = 1.0
"""Inverse strength of its ridge, for features of unit variance (scikit-learn's `C`)."""


def logistic_readout(model: Network, engine: Engine, data: Selection, n_classes: int) -> Network:
    """Replace the outputs of a network by `n_classes` logits: logistic regression on its states.

    With a direct path, the inputs (windows included) are regressors too; the outputs of `data` are
    the numbers of the labels, from 0.

    Features are scaled to unit variance, and the scale is undone in the weights. Time
    O(n_rows (n_hidden + n_inputs) n_classes) for each of at most 100 iterations of scikit-learn's
    `LogisticRegression`, on at most 2^18 evenly spread rows; memory 4 n_rows (n_hidden + n_inputs)
    bytes. The states are not kept in a checkpoint.
    """
    direct = model.direct_weights is not None

    whole = data.as_subset()
    some = every_nth(whole, -(-whole.n_counted // MOST_ROWS))
    kept_as = kept_precision(some.n_counted * (model.n_hidden + direct * model.n_columns))

    def features(batch: Batch) -> tuple[NDArray[np.floating[Any]], IntArray]:
        states = run_states(model, batch).h
        rows = beside((states, batch.X)) if direct else states
        labels = to_host(batch.targets[batch.counted, 0]).astype(np.int64)
        return to_host(rows[batch.counted]).astype(kept_as), labels

    parts = engine.collect(features, some)
    X, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    mean, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    scale[scale <= 1e-6 * np.abs(mean)] = 1.0
    X -= mean.astype(kept_as)
    X /= scale.astype(kept_as)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # slow to import

    regression = LogisticRegression(C=INVERSE_RIDGE, max_iter=MAX_STEPS, tol=1e-4)
    with warnings.catch_warnings():
        # an early stop does no harm to a readout whose accuracy is reported
        warnings.simplefilter("ignore", category=ConvergenceWarning)
        regression.fit(X, labels)
    present = regression.classes_
    weights, bias = regression.coef_.astype(np.float64), regression.intercept_.astype(np.float64)
    if present.shape[0] == 2:
        # scikit-learn keeps the logit of the second class alone
        weights, bias = np.vstack((-weights, weights)) / 2, np.concatenate((-bias, bias)) / 2
    weights /= scale
    bias -= weights @ mean
    columns = np.zeros((n_classes, weights.shape[1]))
    # a class that is missing from these batches is never the largest
    offsets = np.full(n_classes, bias.min() - 20.0)
    columns[present], offsets[present] = weights, bias
    k = model.n_hidden
    return model.replace(
        output_weights=columns[:, :k].T,
        output_bias=offsets,
        direct_weights=columns[:, k:].T if direct else None,
    )

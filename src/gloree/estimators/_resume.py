"""The checkpoint of a fit: what tells it from the files of other fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator

from gloree.chains import fingerprint
from gloree.engine import Checkpoint
from gloree.sequences import Data

_FREE = ("engine", "verbose", "random_state")
"""Parameters that may differ in the fit that goes on."""

_OBJECTS = ("chain", "moment", "recurrence", "refine", "loss")
"""Parameters that may be somebody's own objects, told apart by what these hold."""


def open_checkpoint(
    path: str | Path, estimator: BaseEstimator, data: Data, start: dict[str, object]
) -> Checkpoint:
    """Checkpoint of the fit of an estimator to data; `start` is what else the fit starts from."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"`checkpoint` must be the path of a file, got {path!r}")
    seed = estimator.random_state
    parameters = estimator.get_params(deep=False)
    texts = {
        name: repr(_python(value))
        if name not in _OBJECTS or isinstance(value, str)
        else fingerprint(value)
        for name, value in parameters.items()
        if name not in _FREE
    }
    identity = {
        "estimator": type(estimator).__name__,
        **texts,
        "random_state": int(seed) if isinstance(seed, (int, np.integer)) else None,
        "number of steps": data.n_rows,
        "number of sequences": data.n_sequences,
        "checksum of the data": data.checksum,
    }
    return Checkpoint(path, identity, start)


def _python(value: object) -> object:
    """Python's number for one of NumPy: parameters that are equal look the same."""
    return value.item() if isinstance(value, np.generic) else value

"""What scikit-learn asks of an estimator beside `fit`: clones, pickles, names of features, tags."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from gloree._frames import Names, require_same_names
from gloree.diagnostics import GloreeWarning, warn_caller
from gloree.engine import DaskEngine, Engine, get_engine
from gloree.sequences import Data, Sequences

Own = TypeVar("Own", bound="Estimator")


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Base of all estimators: parameters with an engine, and data that may have named columns."""

    engine: object
    verbose: int
    n_features_in_: int
    feature_names_in_: np.ndarray
    _output_names: Names | None = None

    # a pipeline always hands `sample_weight` on to `score`, None if there is none; without this
    # line scikit-learn refuses even None where metadata are routed
    __metadata_request__score: ClassVar[dict[str, None]] = {"sample_weight": None}

    # ------------------------------------------------------------- copies, which share an engine

    def __sklearn_clone__(self: Own) -> Own:
        """Unfitted copy with the same engine: a Dask client is a connection, which has no copy."""
        bare = copy.copy(self)
        bare.engine = None
        clone: Own = super(Estimator, bare).__sklearn_clone__()
        clone.engine = self.engine
        return clone

    def __copy__(self: Own) -> Own:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self: Own, memo: dict[int, object]) -> Own:
        memo[id(self.engine)] = self.engine
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def __getstate__(self) -> dict[str, object]:
        """State for a pickle: a Dask client stays here, and the engine is None where it is read."""
        state: dict[str, object] = dict(super().__getstate__())
        connected = isinstance(self.engine, DaskEngine) or not (
            self.engine is None or isinstance(self.engine, (str, Engine))
        )
        return {**state, "engine": None} if connected else state

    def __sklearn_tags__(self) -> object:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # ----------------------------------------------------------------------------- named columns

    def _learn_columns(self, data: Data) -> None:
        """Note number and names of the inputs, and the names of the outputs."""
        self.n_features_in_ = data.n_inputs
        self._output_names = data.output_names
        if data.input_names is not None:
            self.feature_names_in_ = np.array(data.input_names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_columns(self, data: Data) -> None:
        """Raise unless columns have the names and the order that they had in `fit`."""
        if not isinstance(data, Sequences):
            get_engine(self.engine, verbose=self.verbose, data=data).scan(data)
        seen = getattr(self, "feature_names_in_", None)
        names, name = data.input_names, type(self).__name__
        if seen is not None and names is None:
            warn_caller(
                f"X does not have valid feature names, but {name} was fitted with feature names",
                GloreeWarning,
            )
        elif seen is None and names is not None:
            warn_caller(
                f"X has feature names, but {name} was fitted without feature names", GloreeWarning
            )
        elif seen is not None and names is not None:
            require_same_names(tuple(seen.tolist()), names)
        outputs, seen_outputs = data.output_names, self._output_names
        if outputs is not None and seen_outputs is not None and outputs != seen_outputs:
            raise ValueError(
                f"`Y` has the columns {list(outputs)}, in fit it had {list(seen_outputs)}: give "
                f"the same columns in the same order"
            )


def second_argument(name: str, value: object, other_name: str, other: object) -> object:
    """Value of an argument that has two names."""
    if value is not None and other is not None:
        raise TypeError(f"`{name}` and `{other_name}` are one argument: give one of them")
    return other if value is None else value

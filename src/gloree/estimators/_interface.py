"""What scikit-learn asks of an estimator beside `fit`: clones, pickles, names of features, tags."""

from __future__ import annotations

import copy
import os
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from gloree._frames import Names, require_same_names
from gloree._random import RandomState
from gloree._storage import reading
from gloree.diagnostics import GloreeWarning, warn_caller
from gloree.engine import DaskEngine, Engine, get_engine
from gloree.estimators._saving import FORMAT_NAME, read_estimator, write_estimator
from gloree.sequences import Data, Sequences

Own = TypeVar("Own", bound="Estimator")

_WHOLE = (int, np.integer)
_LEARNED = (
    *("_flat_outputs", "_output_names", "_never_rests", "_output_noise", "_kept_rows"),
    "_fitted_readout",
)
"""What `fit` learns beside the attributes that end in an underscore."""


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Base of all estimators: parameters with an engine, and data that may have named columns."""

    engine: object
    verbose: int
    random_state: RandomState
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

    # ------------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and what `fit` has learned to one `.npz` file, without pickles.

        Parameters
        ----------
        path : path-like
            Written as it stands: no suffix is added.

        Raises
        ------
        TypeError
            If a parameter, or a label, is an object of your own, which such a file cannot hold.
        NotFittedError
            If there is nothing to save yet.

        Notes
        -----
        `engine`, and a `random_state` that is a generator, belong to this process: they are None
        where the file is read.
        """
        check_is_fitted(self, "model_")
        parameters = self.get_params(deep=False)
        learned = {k: v for k, v in vars(self).items() if k[-1] == "_" or k in _LEARNED}
        if not (parameters["random_state"] is None or isinstance(self.random_state, _WHOLE)):
            parameters["random_state"] = None
        kept = {name: value for name, value in parameters.items() if name != "engine"}
        write_estimator(path, type(self).__name__, kept, learned)

    @classmethod
    def load(cls: type[Own], path: str | os.PathLike[str]) -> Own:
        """Read an estimator that `save` wrote; it predicts the same numbers.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        Estimator
            Of the class it is read with.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError
            A ValueError: if it is no such file, is damaged, or holds another class or version.
        """
        parameters, learned = read_estimator(path, cls.__name__)
        with reading(path, FORMAT_NAME):
            made = cls(**parameters)
            made.__dict__.update(learned)
            check_is_fitted(made, "model_")
        return made

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

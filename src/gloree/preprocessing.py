"""Inputs in similar units, in pipelines of scikit-learn: a scaler that takes sequences."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from gloree._frames import require_same_names
from gloree._parameters import check_flag
from gloree.diagnostics import GloreeWarning, warn_caller
from gloree.models import Network
from gloree.sequences import Array, Sequences, as_sequences

__all__ = ["SequenceScaler"]

N = TypeVar("N", bound=Network)


class SequenceScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Columns of mean zero and variance one, whatever the form of the sequences.

    Parameters
    ----------
    with_mean : bool, default True
        Whether to subtract the mean over all steps.
    with_std : bool, default True
        Whether to divide by the standard deviation over all steps.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_inputs,)
        What is subtracted, and what is divided by (1 for columns that are constant).
    n_features_in_, n_samples_seen_ : int
        Columns, and steps of all sequences.
    feature_names_in_ : ndarray of str of shape (n_inputs,)
        Names of the columns, if they came as data frames.

    Raises
    ------
    ValueError
        If columns do not have the names that they had in `fit`, or data frames are asked for
        (`set_output`) of what is no table.

    Notes
    -----
    `unscale` turns a network fitted on scaled inputs into the same one for inputs in their units.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from gloree import SpectralRNNRegressor, datasets
    >>> from gloree.preprocessing import SequenceScaler
    >>> X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    >>> pipe = make_pipeline(SequenceScaler(), SpectralRNNRegressor(2, random_state=0))
    >>> pipe.fit(1000 * X, Y).score(1000 * X, Y) > 0.9
    True
    """

    mean_: Array
    scale_: Array
    n_features_in_: int
    n_samples_seen_: int
    feature_names_in_: NDArray[np.object_]

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean, self.with_std = with_mean, with_std

    def __sklearn_tags__(self) -> object:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(
        self, X: object, y: object = None, *, lengths: ArrayLike | None = None
    ) -> SequenceScaler:
        """Mean and standard deviation of every column, over all steps.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs) or (n_steps, n_inputs), or a list
        y : object, optional
            Not used.
        lengths : sequence of int, optional
            Steps of the sequences of a padded array; flat data do not need them.

        Returns
        -------
        SequenceScaler
            Itself.
        """
        for name in ("with_mean", "with_std"):
            check_flag(name, getattr(self, name))
        data = as_sequences(X, lengths=lengths)
        rows = np.asarray(data.X, dtype=np.float64)
        zeros = np.zeros(data.n_inputs)
        self.mean_ = rows.mean(axis=0) if self.with_mean else zeros
        spread = rows.std(axis=0) if self.with_std else zeros + 1.0
        # rounding of the mean leaves a constant column a spread of some units in the last place
        constant = spread <= 1e-14 * np.abs(rows).max(axis=0)
        self.scale_ = np.where(constant, 1.0, spread)
        self.n_features_in_, self.n_samples_seen_ = data.n_inputs, data.n_rows
        if data.input_names is not None:
            self.feature_names_in_ = np.array(data.input_names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def transform(self, X: object) -> Array | list[Array]:
        """Scale; the result has the form of `X`.

        Parameters
        ----------
        X : array or list, as in `fit`
            NaN stays NaN, the padding of an array, say.

        Returns
        -------
        array or list
            As `set_output` says for tables.
        """
        data = self._checked(X)
        rows = (np.asarray(data.X, dtype=np.float64) - self.mean_) / self.scale_
        if data.form not in ("single", "flat") and self._wants_tables():
            form = "an array" if data.form == "array" else f"a {data.form}"
            raise ValueError(
                f"`X` is {form} of sequences, of which set_output(transform="
                f"{self._wants_tables()!r}) makes no table: give one record, or flat data, or "
                f"leave the output as it is"
            )
        made: Array | list[Array] = data.restore(rows)
        return made

    def inverse_transform(self, X: object) -> Array | list[Array]:
        """Back to the units of the data; parameters and form as in `transform`."""
        data = self._checked(X, names=False)
        made: Array | list[Array] = data.restore(
            np.asarray(data.X, dtype=np.float64) * self.scale_ + self.mean_
        )
        return made

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Names of the columns, which are those of the inputs (x0, x1, .. without names)."""
        check_is_fitted(self, "mean_")
        names = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            given = np.asarray(input_features, dtype=object)
            if names is not None and not np.array_equal(given, names):
                raise ValueError("`input_features` is not equal to `feature_names_in_`")
            if given.shape != (self.n_features_in_,):
                raise ValueError(
                    f"`input_features` should have length equal to number of features "
                    f"({self.n_features_in_}), got {given.size}"
                )
            return given
        numbered = [f"x{i}" for i in range(self.n_features_in_)]
        return np.array(numbered, dtype=object) if names is None else names

    def unscale(self, model: N) -> N:
        """Network for inputs in their units, of one for scaled inputs: the same predictions.

        Parameters
        ----------
        model : IORNN or BRNN
            Fitted on what `transform` gives.

        Returns
        -------
        IORNN or BRNN
            A1 diag(1/scale), b - A1 diag(1/scale) mean, and alike for a direct path.

        Raises
        ------
        TypeError
            If it is no network.
        ValueError
            If the network has another number of inputs, or windows of inputs reach before the start
            of a sequence: zeros stand there, which are the mean of scaled inputs.

        Examples
        --------
        >>> import numpy as np
        >>> from gloree import IORNN
        >>> from gloree.preprocessing import SequenceScaler
        >>> X = np.array([[1.0], [3.0], [5.0]])
        >>> scaler, model = SequenceScaler().fit(X), IORNN([[1.0]], [[0.1]], [[1.0]])
        >>> bool(np.allclose(scaler.unscale(model).predict(X), model.predict(scaler.transform(X))))
        True
        """
        check_is_fitted(self, "mean_")
        if not isinstance(model, Network):
            raise TypeError(
                f"`model` is of type {type(model).__name__}, expected an IORNN or a BRNN (`model_` "
                f"of a fitted estimator)"
            )
        if model.n_inputs != self.n_features_in_:
            raise ValueError(
                f"`model` has {model.n_inputs} inputs, the scaler has {self.n_features_in_}"
            )
        windows = model.n_columns // model.n_inputs
        if windows > 1 and self.mean_.any():
            raise ValueError(
                "`model` sees windows of inputs, which begin with zeros: these are the mean of "
                "scaled inputs, and no network has them in other units. Use with_mean=False"
            )
        scale, mean = np.tile(self.scale_, windows), np.tile(self.mean_, windows)
        weights, direct = model.input_weights / scale, model.direct_weights
        changes: dict[str, object] = {
            "input_weights": weights,
            "hidden_bias": model.hidden_bias - weights @ mean,
        }
        if direct is not None:
            changes["direct_weights"] = direct / scale[:, None]
            changes["output_bias"] = model.output_bias - (mean / scale) @ direct
        return model.replace(**changes)

    def _checked(self, X: object, *, names: bool = True) -> Sequences:
        """Read sequences of as many columns, with the names, as in `fit`."""
        check_is_fitted(self, "mean_")
        data = as_sequences(X, check_finite=False)
        if data.n_inputs != self.n_features_in_:
            raise ValueError(
                f"X has {data.n_inputs} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        seen = getattr(self, "feature_names_in_", None)
        if names and seen is not None:
            if data.input_names is None:
                warn_caller(
                    f"X does not have valid feature names, but {type(self).__name__} was fitted "
                    f"with feature names",
                    GloreeWarning,
                )
            else:
                require_same_names(tuple(seen.tolist()), data.input_names)
        return data

    def _wants_tables(self) -> str | None:
        """Which tables `set_output`, or scikit-learn's configuration, asks for."""
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        asked = own or get_config().get("transform_output", "default")
        return None if asked == "default" else str(asked)

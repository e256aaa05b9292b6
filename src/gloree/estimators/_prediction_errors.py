"""Predictions with standard deviations and intervals, from the errors of the weights of a fit."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from gloree.diagnostics import FitReport, check_level
from gloree.estimators._base import SpectralRNN
from gloree.models import RowsWithErrors, WeightErrors
from gloree.sequences import Array

Rows: TypeAlias = Array | list[Array]
"""Numbers of all rows, in the form of the inputs."""


class PredictionErrors(SpectralRNN):
    """What a regressor says of how sure its predictions are."""

    _flat_outputs: bool

    def prediction_intervals(
        self,
        X: object,
        level: float = 0.95,
        *,
        lengths: ArrayLike | None = None,
        state: object = None,
        noise: bool = True,
    ) -> tuple[Rows, Rows]:
        """Intervals that hold a new observation, each with a probability, in the form of `X`.

        Parameters
        ----------
        X : array or list
            As in `predict`.
        level : float, default 0.95
            Probability, of normal noise.
        lengths : sequence of int, optional
        state : ndarray, optional
            As in `predict`; it is taken to be exact.
        noise : bool, default True
            Whether intervals are those of observations; False gives those of what is expected.

        Returns
        -------
        lower, upper : array or list
            As predictions are.

        Raises
        ------
        ValueError
            As in `predict` with `return_std`, and if `level` is not between 0 and 1.

        Examples
        --------
        >>> from gloree import SpectralRNNRegressor, datasets
        >>> X, Y, truth, _ = datasets.make_rnn(1, 1000, 4, 2, 3, random_state=0)
        >>> est = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
        >>> lower, upper = est.prediction_intervals(X, 0.9)
        >>> bool(abs(((lower < Y) & (Y < upper)).mean() - 0.9) < 0.03)
        True
        """
        check_is_fitted(self, "model_")
        check_level(level)
        from scipy import stats  # slow to import

        errors = self._weight_errors()
        errors = errors if noise else errors.without_noise()
        mean, std, _ = self._with_errors(X, lengths, state, errors)
        half = float(stats.norm.ppf(0.5 + level / 2))
        if isinstance(mean, list):
            pairs = list(zip(mean, std, strict=True))
            return [a - half * b for a, b in pairs], [a + half * b for a, b in pairs]
        assert not isinstance(std, list)
        return mean - half * std, mean + half * std

    def _weight_errors(self) -> WeightErrors:
        """Errors of the weights and of the outputs; a ValueError where the fit has none."""
        report = self.report_
        if not isinstance(report, FitReport):
            raise ValueError(
                "a linear network has no standard errors of weights, which are determined up to a "
                "similarity: use `SystemIdentifier(n_nonlinear=0)` and its `prediction_intervals`"
            )
        covariance, noise = report.covariance, report.residual_covariance
        if covariance is None or noise is None:
            reason = "moments alone were fitted" if self.refine is None else "there are none"
            raise ValueError(
                f"`return_std` needs standard errors of all weights, and {reason}: fit with "
                f"refine='one-step' or 'full', and fewer than 1,500 weights (see `report_`)"
            )
        if not np.isfinite(covariance).all():
            raise ValueError(
                "`return_std` needs standard errors of all weights, and some are known from a "
                "single piece of the data: give more sequences, or fit fewer units"
            )
        if report.n_undetermined:
            raise ValueError(
                f"`return_std` needs standard errors of all weights, and the data do not determine "
                f"{report.n_undetermined} combination(s) of them: leave out columns of `X` that "
                f"follow from others, or fit fewer units"
            )
        shapes = {name: values.shape for name, values in report.standard_errors.items()}
        return WeightErrors.of(covariance, shapes, np.diag(noise))

    def _with_errors(
        self, X: object, lengths: ArrayLike | None, state: object, errors: WeightErrors
    ) -> tuple[Rows, Rows, Array]:
        """Predictions, standard deviations, and states after the last rows."""
        given = (X, lengths, np.asarray, state, True, RowsWithErrors(errors))
        rows, states = self._predictions(*given)
        n, flat = self.model_.n_outputs, self._flat_outputs

        def part(values: Array, first: int) -> Array:
            return values[..., first] if flat else values[..., first : first + n]

        mean, std = (
            [part(each, first) for each in rows] if isinstance(rows, list) else part(rows, first)
            for first in (0, n)
        )
        return mean, std, states

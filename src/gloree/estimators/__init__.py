"""Estimators with the scikit-learn interface."""

from gloree.estimators._regressor import SpectralRNNRegressor

__all__ = ["SpectralRNNRegressor"]

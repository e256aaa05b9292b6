"""Estimators with the scikit-learn interface."""

from gloree.estimators._classifier import SpectralRNNClassifier
from gloree.estimators._identifier import SystemIdentifier
from gloree.estimators._regressor import SpectralRNNRegressor

__all__ = ["SpectralRNNClassifier", "SpectralRNNRegressor", "SystemIdentifier"]

"""gloree: input-output recurrent networks trained from moments instead of by gradient descent."""

from gloree import (
    activations,
    chains,
    datasets,
    decomposition,
    diagnostics,
    identification,
    metrics,
    models,
    moments,
    plotting,
    recurrence,
    refinement,
    score_functions,
    sequences,
)
from gloree.chains import GaussianVAR
from gloree.engine import Engine
from gloree.estimators import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier
from gloree.models import BRNN, IORNN

__version__ = "0.1.0"

__all__ = [
    "BRNN",
    "IORNN",
    "Engine",
    "GaussianVAR",
    "SpectralRNNClassifier",
    "SpectralRNNRegressor",
    "SystemIdentifier",
    "__version__",
    "activations",
    "chains",
    "datasets",
    "decomposition",
    "diagnostics",
    "identification",
    "metrics",
    "models",
    "moments",
    "plotting",
    "recurrence",
    "refinement",
    "score_functions",
    "sequences",
]

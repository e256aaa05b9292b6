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
    preprocessing,
    recurrence,
    refinement,
    score_functions,
    sequences,
    sources,
)
from gloree._version import __version__
from gloree.chains import GaussianVAR
from gloree.engine import Engine
from gloree.estimators import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier
from gloree.models import BRNN, IORNN

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
    "preprocessing",
    "recurrence",
    "refinement",
    "score_functions",
    "sequences",
    "sources",
]

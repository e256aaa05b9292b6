"""gloree: input-output recurrent networks trained from moments instead of by gradient descent.

Modules are loaded when they are first used, so that ``import gloree`` itself takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gloree._version import __version__

if TYPE_CHECKING:
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
        paper,
        plotting,
        preprocessing,
        recurrence,
        refinement,
        score_functions,
        sequences,
        sources,
    )
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
    "paper",
    "plotting",
    "preprocessing",
    "recurrence",
    "refinement",
    "score_functions",
    "sequences",
    "sources",
]

_HOMES = {
    "BRNN": "gloree.models",
    "IORNN": "gloree.models",
    "Engine": "gloree.engine",
    "GaussianVAR": "gloree.chains",
    "SpectralRNNClassifier": "gloree.estimators",
    "SpectralRNNRegressor": "gloree.estimators",
    "SystemIdentifier": "gloree.estimators",
}
"""Where the names live that are no modules."""

_OTHER_MODULES = ("engine", "estimators", "fitting", "states", "systems")
"""Public modules that `from gloree import *` leaves out."""


def __getattr__(name: str) -> object:
    """Load what is asked for (PEP 562)."""
    if name not in __all__ and name not in _OTHER_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name)
    found = getattr(import_module(home), name) if home else import_module(f"{__name__}.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_OTHER_MODULES})

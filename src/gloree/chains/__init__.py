"""Input laws: what turns inputs into scores."""

from gloree.chains._base import (
    Capabilities,
    HermiteLaw,
    InputLaw,
    LawError,
    NonStationaryChainError,
    fingerprint,
    require,
)
from gloree.chains._gaussian_var import GaussianVAR
from gloree.chains._moments import LagCovariances, LagMoments, lag_moments

__all__ = [
    "Capabilities",
    "GaussianVAR",
    "HermiteLaw",
    "InputLaw",
    "LagCovariances",
    "LagMoments",
    "LawError",
    "NonStationaryChainError",
    "fingerprint",
    "lag_moments",
    "require",
]

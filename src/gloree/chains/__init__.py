"""Input laws: what turns inputs into scores."""

from gloree.chains._base import Chain, GaussianChain, NonStationaryChainError
from gloree.chains._gaussian_var import GaussianVAR
from gloree.chains._moments import LagCovariances, LagMoments, lag_moments

__all__ = [
    "Chain",
    "GaussianChain",
    "GaussianVAR",
    "LagCovariances",
    "LagMoments",
    "NonStationaryChainError",
    "lag_moments",
]

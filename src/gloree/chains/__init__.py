"""Input laws: what turns inputs into scores."""

from gloree.chains._base import (
    Capabilities,
    DerivativeLaw,
    Derivatives,
    HermiteLaw,
    InputLaw,
    LawError,
    NonStationaryChainError,
    require,
)
from gloree.chains._fingerprint import fingerprint
from gloree.chains._gaussian_var import GaussianVAR
from gloree.chains._innovations import GaussianInnovations, Innovations, StudentInnovations
from gloree.chains._log_density import DensityLaw, from_log_density
from gloree.chains._markov import MarkovLaw, MovedLaw, law_derivatives
from gloree.chains._metric import LawWithMetric, with_metric
from gloree.chains._moments import LagCovariances, LagMoments, VectorSums, lag_moments
from gloree.chains._nonlinear import NonlinearAR
from gloree.chains._plug_in import ScoreArrays, ScoreFunction, as_law
from gloree.chains._score_matching import ScoreMatching
from gloree.chains._student import StudentVAR
from gloree.chains._switching import SwitchingVAR

__all__ = [
    "Capabilities",
    "DensityLaw",
    "DerivativeLaw",
    "Derivatives",
    "GaussianInnovations",
    "GaussianVAR",
    "HermiteLaw",
    "Innovations",
    "InputLaw",
    "LagCovariances",
    "LagMoments",
    "LawError",
    "LawWithMetric",
    "MarkovLaw",
    "MovedLaw",
    "NonStationaryChainError",
    "NonlinearAR",
    "ScoreArrays",
    "ScoreFunction",
    "ScoreMatching",
    "StudentInnovations",
    "StudentVAR",
    "SwitchingVAR",
    "VectorSums",
    "as_law",
    "fingerprint",
    "from_log_density",
    "lag_moments",
    "law_derivatives",
    "require",
    "with_metric",
]

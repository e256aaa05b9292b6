r"""The second moment: recurrent weights U and hidden biases b from moments of two steps.

With A1, A2 known, everything here is linear in the unknowns (except for the paper's `score`, which
is quadratic), and no weight matrix needs an inverse: only the n_hidden x n_hidden matrix Psi does.

* ``instrument`` (default): E[y_t (x) S_{l-1}(t) g] with instruments g = (h_{t-1}, 1).
* ``least-squares``: the same unknowns from the linearised prediction error; for inputs whose score
  is not that of a Gaussian chain.
* ``cross``: the joint score of two neighbouring steps, order 2l - 1, linear in U.
* ``score``: the paper's, order l^2 in x_{t-1}; loses the sign of each row of U. A baseline.

Every estimator is a pass (batch, current model) -> sums, and a function from the sums to U and b.
"""

from gloree.recurrence._contraction import Contraction, ridge_solve, solve_overlap, top_degree
from gloree.recurrence._directions import (
    Directions,
    SpreadSums,
    TwoSidedFit,
    bidirectional_model,
    choose_directions,
    two_sided_spread,
    two_sided_sums,
)
from gloree.recurrence._estimate import estimate
from gloree.recurrence._estimators import (
    RECURRENCES,
    BatchAtWeights,
    Cross,
    FreeWeights,
    Instrument,
    LeastSquares,
    OutputsOnly,
    RecurrenceEstimator,
    Score,
    SecondMomentSums,
)
from gloree.recurrence._higher_scores import (
    CrossSums,
    ScoreSums,
    cross_sums,
    cross_update,
    score_sums,
    score_update,
)
from gloree.recurrence._instrument import (
    InstrumentSums,
    instrument_sums,
    instrument_update,
    pseudo_observations,
)
from gloree.recurrence._linearised import (
    LinearisedSums,
    WeightChange,
    linearised_sums,
    linearised_update,
    output_update,
)

__all__ = [
    "RECURRENCES",
    "BatchAtWeights",
    "Contraction",
    "Cross",
    "CrossSums",
    "Directions",
    "FreeWeights",
    "Instrument",
    "InstrumentSums",
    "LeastSquares",
    "LinearisedSums",
    "OutputsOnly",
    "RecurrenceEstimator",
    "Score",
    "ScoreSums",
    "SecondMomentSums",
    "SpreadSums",
    "TwoSidedFit",
    "WeightChange",
    "bidirectional_model",
    "choose_directions",
    "cross_sums",
    "cross_update",
    "estimate",
    "instrument_sums",
    "instrument_update",
    "linearised_sums",
    "linearised_update",
    "output_update",
    "pseudo_observations",
    "ridge_solve",
    "score_sums",
    "score_update",
    "solve_overlap",
    "top_degree",
    "two_sided_spread",
    "two_sided_sums",
]

"""Laws that are fitted to inputs in other units, about another mean, are the same laws."""

import numpy as np
import pytest

from gloree.chains import GaussianVAR, ScoreMatching, StudentVAR, SwitchingVAR
from gloree.sequences import as_sequences

# Rounding: iterations of EM on inputs whose mean is up to 1e4 of their spread, and inverses.
ROUNDING = 1e-8


def switching(X):
    return SwitchingVAR.fit(X, 2, n_restarts=1, max_iterations=10, random_state=0)


FITS = {
    "Gaussian": GaussianVAR.fit,
    "Student": StudentVAR.fit,
    "switching": switching,
    "matched": ScoreMatching.fit,
}


@pytest.fixture(scope="module")
def inputs():
    coefficients = np.array([[0.5, 0.3], [-0.2, 0.4]])
    return StudentVAR(coefficients, [[1.0, 0.4], [0.4, 0.8]], df=6).sample(120, 20, random_state=0)


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize(
    ("scale", "offset"),
    [([1e3, 1e-3], 0.0), ([1e-4, 1e-4], 0.0), ([1.0, 1.0], 1e4), ([5.0, 0.01], -3.0)],
    ids=["unequal units", "small units", "far from zero", "both"],
)
def test_scores_of_fits_do_not_depend_on_units(kind, scale, offset, inputs):
    fit, moved = FITS[kind], inputs * scale + offset
    scores = fit(inputs).scores(as_sequences(inputs).whole())
    others = fit(moved).scores(as_sequences(moved).whole()) * scale
    np.testing.assert_allclose(others, scores, atol=ROUNDING * np.abs(scores).max())

"""Laws by capability: a law written by a user works like a built-in one, or is refused by name."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.stats
from helpers import estimates
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, datasets
from gloree.chains import (
    Capabilities,
    GaussianVAR,
    HermiteLaw,
    InputLaw,
    LawError,
    fingerprint,
    require,
)
from gloree.engine import CheckpointError
from gloree.moments import cross_moment, regression_moment
from gloree.recurrence import estimate
from gloree.score_functions import (
    check_score,
    joint_score,
    partial_score,
    window_score,
    window_score_covariance,
)
from gloree.sequences import as_sequences

# Products of a few matrices of size 4 whose condition number is 5.
ALGEBRA = 1e-11

# Sums of some ten logarithms and squares, which a shift of the inputs rounds in other places.
LOG_DENSITIES = 1e-9

# Two laws invert the same covariance by different routines and agree to about 1e-15 times its
# condition number, 5; moments are linear in the score, and what follows, the ends of iterations
# included, is not worse conditioned than 1e6.
SAME_FIT = 1e-8

FULL = Capabilities(max_score_order=None, hermite=True, edges=True)


@dataclass(frozen=True)
class IndependentGaussian:
    """Independent steps, each from a normal law: what a law written by a user may look like."""

    mean: np.ndarray
    covariance: np.ndarray
    capabilities: Capabilities = FULL
    context = (0, 0)
    n_boundary_types = 1

    @property
    def n_inputs(self):
        return self.mean.shape[0]

    def scores(self, batch):
        return (batch.X - self.mean) @ np.linalg.inv(self.covariance)

    def log_density(self, X, *, lengths=None):
        data = as_sequences(X, lengths=lengths)
        rows = scipy.stats.multivariate_normal(self.mean, self.covariance).logpdf(data.X)
        return np.add.reduceat(rows, data.whole().starts)

    def sample(self, n_sequences, n_steps, random_state=None):
        rng = np.random.default_rng(random_state)
        return rng.multivariate_normal(self.mean, self.covariance, (n_sequences, n_steps))

    def shifted(self, offset):
        return replace(self, mean=self.mean - offset)

    def boundary_name(self, boundary_type):
        return "interior"

    def boundary_types(self, batch):
        return np.zeros(batch.n_rows, dtype=np.int64)

    def precision_blocks(self, lag=0):
        return np.linalg.inv(self.covariance)[np.newaxis] * (lag == 0)


MEAN = np.array([0.5, -2.0, 0.0, 1.0])
COVARIANCE = np.diag([1.0, 2.0, 0.5, 1.5]) + 0.3
OWN = IndependentGaussian(MEAN, COVARIANCE)
BUILT_IN = GaussianVAR(np.zeros((0, 4, 4)), COVARIANCE, MEAN)
NOT_HERMITE = replace(OWN, capabilities=replace(FULL, hermite=False))
NO_EDGES = replace(OWN, capabilities=replace(FULL, edges=False))
FIRST_ORDER = replace(OWN, capabilities=replace(FULL, max_score_order=1))
SECOND_ORDER = replace(OWN, capabilities=replace(FULL, max_score_order=2))

TRUTH = datasets.random_rnn(4, 2, 3, random_state=1)
START = TRUTH.replace(recurrent_weights=np.zeros((2, 2)))
X = OWN.sample(600, 8, random_state=0)
Y = TRUTH.simulate(X, noise=0.1, random_state=0)


class Without:
    """A law that lacks one of its members."""

    def __init__(self, law, member):
        self._law, self._member = law, member

    def __getattr__(self, name):
        if name.startswith("_") or name == self._member:
            raise AttributeError(name)
        return getattr(self._law, name)


def members(protocol):
    return [name for name in vars(protocol) if not name.startswith("_")]


def regressor(law, **options):
    return estimates.regressor(2, chain=law, **{"refine": None, **options})


# -- a law written by a user --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    first_of(
        [
            {},
            {"moment": "score"},
            {"recurrence": "cross", "moment": "score"},
            {"recurrence": "score", "max_rounds": 0},
            {"recurrence": None, "direct": True},
            {"bidirectional": True, "refine": "one-step"},
            {"refine": "full"},
        ],
        2,
    ),
    ids=str,
)
def test_a_law_written_by_a_user_gives_the_weights_of_the_built_in_one(options):
    own, built_in = (regressor(law, **options).fit(X, Y) for law in (OWN, BUILT_IN))
    assert own.chain_ is OWN
    assert own.report_.moment == built_in.report_.moment
    assert own.report_.recurrence == built_in.report_.recurrence
    found, expected = own.model_, built_in.model_
    for name in ("input_weights", "recurrent_weights", "output_weights", "hidden_bias"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=SAME_FIT)


@pytest.mark.slow
def test_a_law_written_by_a_user_serves_the_classifier():
    inputs = OWN.sample(1000, 8, random_state=0)
    outputs = TRUTH.predict(inputs)
    labels = (outputs - outputs.mean(axis=(0, 1))).argmax(axis=-1)
    # without a refinement, which held-out data end at steps that rounding has a part in
    options = {"random_state": 0, "engine": "serial", "refine": None}
    own, built_in = (
        SpectralRNNClassifier(2, chain=law, **options).fit(inputs, labels)
        for law in (OWN, BUILT_IN)
    )
    assert own.chain_ is OWN
    np.testing.assert_allclose(
        own.model_.input_weights, built_in.model_.input_weights, atol=SAME_FIT
    )
    own, built_in = (
        SpectralRNNClassifier(2, chain=law, random_state=0, engine="serial").fit(inputs, labels)
        for law in (OWN, BUILT_IN)
    )
    assert own.chain_ is OWN
    difference = own.predict_proba(inputs) - built_in.predict_proba(inputs)
    assert np.abs(difference).max() < 1e-3  # a step of the search more or less


def test_functions_take_a_law_written_by_a_user():
    for function in (
        lambda law: partial_score(law, X[:5], 3),
        lambda law: joint_score(law, X[:5], (1, 2)),
        lambda law: window_score(law, X[:5], 3, 2),
        lambda law: window_score_covariance(law, 2),
        lambda law: cross_moment(law, X, Y, 2),
        lambda law: regression_moment(X, Y, 2, chain=law),
        lambda law: check_score(X, chain=law).defect_raw,
        lambda law: estimate(law, X, Y, START).recurrent_weights,
    ):
        np.testing.assert_allclose(function(OWN), function(BUILT_IN), atol=SAME_FIT)
    np.testing.assert_allclose(OWN.log_density(X[:3]), BUILT_IN.log_density(X[:3]), rtol=ALGEBRA)


@pytest.mark.parametrize("law", [OWN, BUILT_IN, GaussianVAR(0.4 * np.eye(4), COVARIANCE, MEAN)])
def test_a_shifted_law_is_the_law_of_the_shifted_inputs(law):
    offset = np.array([1.0, -1.0, 0.5, 3.0])
    moved, values = law.shifted(offset), X[:4]
    np.testing.assert_allclose(
        moved.log_density(values - offset), law.log_density(values), rtol=LOG_DENSITIES
    )
    np.testing.assert_allclose(
        partial_score(moved, values - offset), partial_score(law, values), atol=ALGEBRA
    )


def test_a_shift_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"`offset` has shape \(3,\), expected \(4,\)"):
        BUILT_IN.shifted(np.zeros(3))


# -- refusals ----------------------------------------------------------------------------------

CALLS = {
    "`partial_score` of order 2": lambda law: partial_score(law, X[:5], 2),
    "`joint_score` of orders": lambda law: joint_score(law, X[:5]),
    "`window_score` of order 2": lambda law: window_score(law, X[:5], 2, 2),
    "`window_score_covariance`": lambda law: window_score_covariance(law, 2),
    "cross_moment": lambda law: cross_moment(law, X, Y, 2),
    "`regression_moment`": lambda law: regression_moment(X, Y, 2, chain=law),
    "`check_score`": lambda law: check_score(X, chain=law),
    "method='instrument'": lambda law: estimate(law, X, Y, TRUTH),
    "method='cross'": lambda law: estimate(law, X, Y, TRUTH, method="cross"),
    "method='score'": lambda law: estimate(law, X, Y, START, method="score"),
    "moment='score'": lambda law: regressor(law, moment="score").fit(X, Y),
    "moment='auto'": lambda law: regressor(law, recurrence=None).fit(X, Y),
    "recurrence='instrument'": lambda law: regressor(law, moment="regression").fit(X, Y),
    "recurrence='cross'": lambda law: regressor(law, moment="regression", recurrence="cross").fit(
        X, Y
    ),
}
# These use scores of interior steps only, or check the ends themselves.
WITHOUT_EDGES = ("`regression_moment`", "`check_score`")


@pytest.mark.parametrize("purpose", CALLS)
def test_a_law_without_hermite_tensors_is_refused_by_name(purpose):
    first = "moment='regression'" if purpose.startswith("recurrence") else purpose
    with pytest.raises(LawError, match=r"Hermite tensors.*\(`hermite`\).*hermite=False") as caught:
        CALLS[purpose](NOT_HERMITE)
    message = str(caught.value)
    assert message.startswith(first)
    assert "IndependentGaussian(mean=array([ 0.5, -2. ," in message
    assert "GaussianVAR" in message


@pytest.mark.parametrize("purpose", [name for name in CALLS if name not in WITHOUT_EDGES])
def test_a_law_without_exact_ends_is_refused_by_name(purpose):
    with pytest.raises(LawError, match=r"first and last steps \(`edges`\)") as caught:
        CALLS[purpose](NO_EDGES)
    assert str(caught.value).startswith(purpose)
    assert "edges=False" in str(caught.value)


@pytest.mark.parametrize(
    ("purpose", "law", "order"),
    [
        ("`partial_score` of order 2", FIRST_ORDER, 2),
        ("`joint_score` of orders", FIRST_ORDER, 2),
        ("`window_score` of order 2", FIRST_ORDER, 2),
        ("cross_moment", FIRST_ORDER, 2),
        ("`regression_moment`", FIRST_ORDER, 2),
        ("`check_score`", FIRST_ORDER, 2),
        ("moment='score'", FIRST_ORDER, 2),
        ("recurrence='cross'", SECOND_ORDER, 3),
        ("method='cross'", SECOND_ORDER, 3),
        ("method='score'", SECOND_ORDER, 4),
    ],
)
def test_a_law_of_too_low_an_order_is_refused_by_name(purpose, law, order):
    with pytest.raises(LawError, match=f"score tensors of order {order}") as caught:
        CALLS[purpose](law)
    assert str(caught.value).startswith(purpose)
    assert f"max_score_order={order - 1 if law is FIRST_ORDER else 2}" in str(caught.value)


def test_what_is_not_asked_for_need_not_be_declared():
    least = replace(OWN, capabilities=replace(FULL, hermite=False, max_score_order=1))
    np.testing.assert_array_equal(partial_score(least, X[:3]), partial_score(OWN, X[:3]))
    np.testing.assert_array_equal(
        regression_moment(X, Y, chain=NO_EDGES), regression_moment(X, Y, chain=OWN)
    )
    assert check_score(X, chain=NO_EDGES).status == "fine"
    options = {"moment": "regression", "recurrence": None}
    regressor(NO_EDGES, **options).fit(X, Y)
    # Linearised least squares use no score, and so no law.
    estimate(None, X, Y, TRUTH, method="least-squares", sweeps=1)


@pytest.mark.parametrize("member", members(HermiteLaw))
def test_a_law_that_claims_to_be_hermite_is_held_to_it(member):
    law = Without(OWN, member)
    for purpose in ("cross_moment", "moment='score'", "`check_score`"):
        with pytest.raises(LawError, match=f"declares `hermite=True`, but lacks `{member}`"):
            CALLS[purpose](law)


@pytest.mark.parametrize("member", members(InputLaw))
def test_what_is_no_law_is_refused_by_what_it_lacks(member):
    for purpose in ("cross_moment", "moment='score'", "`check_score`"):
        with pytest.raises(TypeError, match=f"`chain` is of type Without.*lacks `{member}`"):
            CALLS[purpose](Without(OWN, member))


@pytest.mark.parametrize("chain", [3, None, {}], ids=["int", "None", "dict"])
def test_the_estimator_says_what_a_law_has(chain):
    with pytest.raises(TypeError, match=r"no input law.*`scores`.*gloree.chains.InputLaw"):
        regressor(chain).fit(X, Y)


def test_classes_and_vague_declarations_are_refused():
    with pytest.raises(TypeError, match="`chain` is the class GaussianVAR"):
        require(GaussianVAR)
    with pytest.raises(TypeError, match=r"`capabilities` of the input law .* is 'all'"):
        require(replace(OWN, capabilities="all"))
    with pytest.raises(ValueError, match="`max_score_order` is 0"):
        replace(FULL, max_score_order=0)


def test_protocols_decide_nothing_at_run_time():
    with pytest.raises(TypeError, match="runtime"):
        isinstance(OWN, HermiteLaw)


# -- what tells laws apart ---------------------------------------------------------------------


class Plain:
    """A law without a representation of its own, whose attributes are nested."""

    def __init__(self, value):
        self.parts = {"blocks": [np.full(2, value), (1, 2.0)], "name": "plain"}


def test_fingerprints_tell_laws_apart_by_what_they_hold():
    for make in (
        lambda value: Plain(value),
        lambda value: replace(OWN, mean=np.full(4, value)),
        lambda value: GaussianVAR(0.5 * np.eye(4), np.eye(4), np.full(4, value)),
    ):
        assert fingerprint(make(1.0)) == fingerprint(pickle.loads(pickle.dumps(make(1.0))))
        assert fingerprint(make(1.0)) != fingerprint(make(1.0 + 1e-15))
    law = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    before = fingerprint(law)
    law.sample(2, 3, 0)
    law.precision_blocks(0)
    assert fingerprint(law) == before
    assert fingerprint(np.zeros(2)) != fingerprint(np.zeros((2, 1)))


def test_a_checkpoint_knows_the_law_of_its_fit(tmp_path):
    path = tmp_path / "fit"
    first = regressor(OWN).fit(X, Y, checkpoint=path)
    again = regressor(replace(OWN)).fit(X, Y, checkpoint=path)
    np.testing.assert_array_equal(first.model_.input_weights, again.model_.input_weights)
    with pytest.raises(CheckpointError, match="another fit: chain is"):
        regressor(replace(OWN, mean=MEAN + 1e-12)).fit(X, Y, checkpoint=path)

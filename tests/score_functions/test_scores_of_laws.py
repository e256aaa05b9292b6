"""Scores of laws of any kind: Bell polynomials, Stein's identity on data, scores in their place."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gloree import datasets
from gloree.chains import (
    GaussianVAR,
    LawError,
    NonlinearAR,
    ScoreFunction,
    ScoreMatching,
    StudentVAR,
    SwitchingVAR,
    from_log_density,
    law_derivatives,
)
from gloree.score_functions import (
    bell_tensors,
    check_law,
    check_score,
    hermite_tensor,
    partial_score,
    score_tensors,
    scores_along,
)
from gloree.score_functions._bell import along
from gloree.sequences import as_sequences

# Sums of some dozens of products of numbers of size 10.
ALGEBRA = 1e-11

# Fourth-order differences of step 1e-3 standard deviations, of analytic functions.
DIFFERENCES = 1e-7


def diagonal(values, axes):
    """Tensors with these values where all indices are equal."""
    found = np.zeros((*values.shape, *[values.shape[-1]] * axes))
    for i in range(values.shape[-1]):
        found[(..., *[i] * (axes + 1))] = values[..., i]
    return found


def of_tanh(order, x):
    t = np.tanh(2 * x)
    g = 1 - t**2
    values = (3 * g, -12 * t * g, 24 * g * (3 * t**2 - 1), 48 * g * t * (8 - 12 * t**2))[order - 1]
    return diagonal(values, order)


DERIVATIVES = tuple(partial(of_tanh, order) for order in (1, 2, 3, 4))
TANH = NonlinearAR(
    lambda x: 1.5 * np.tanh(2 * x),
    np.eye(2),
    derivatives=DERIVATIVES,
    initial_covariance=3 * np.eye(2),
)
STUDENT = StudentVAR(0.5 * np.eye(2), np.eye(2), df=9)
SWITCHING = SwitchingVAR(
    [0.6 * np.eye(2), -0.5 * np.eye(2)], [np.eye(2), 0.2 * np.eye(2)], [[0.9, 0.1], [0.2, 0.8]]
)
LAWS = [TANH, STUDENT, SWITCHING]


def drawn(law, n_sequences=2000, n_steps=20, seed=0):
    return law.sample(n_sequences, n_steps, random_state=seed)


def test_bell_polynomials_of_a_quadratic_log_density_are_hermite_tensors():
    rng = np.random.default_rng(0)
    s, root = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))
    K = root @ root.T
    D = [-s, -np.broadcast_to(K, (4, 3, 3)), np.zeros((4, 3, 3, 3)), np.zeros((4, 3, 3, 3, 3))]
    for order, found in enumerate(bell_tensors(D), start=1):
        np.testing.assert_allclose(found, hermite_tensor(s, K, order), atol=ALGEBRA)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_scores_along_directions_are_contractions_of_the_tensors(law):
    batch = as_sequences(law.sample(3, 4, random_state=0)).whole()
    directions = np.random.default_rng(0).standard_normal((3, 2))
    rows = np.array([0, 3, 5, 11])
    derivatives, tensors = law_derivatives(law, batch, 4), score_tensors(law, batch, 4)
    for order in (1, 2, 3, 4):
        found = scores_along(derivatives(rows)[:order], directions)
        expected = along(tensors(rows)[order - 1], directions)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=ALGEBRA)


# -- Stein's identity on data ------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_true_laws_pass(law):
    found = check_law(law, random_state=1)
    assert found.status == "fine"
    assert found.defect < 0.25
    assert found.neighbours.defect < 0.25


@pytest.mark.parametrize("law", [TANH, SWITCHING], ids=repr)
def test_gaussian_chains_fail_on_inputs_of_other_laws(law):
    found = check_score(drawn(law))
    assert found.status in ("fails", "doubtful")
    assert max(found.defect, found.neighbours.defect) > 0.3


class OnlyInTheMargin:
    """x_t = a r_t x_{t-1} + b e_t with random signs r: every step is N(0, 1), and no chain is.

    Its autocovariances are zero, so that the fitted Gaussian chain is one of independent steps.
    """

    @staticmethod
    def sample(n_sequences, n_steps, seed):
        rng = np.random.default_rng(seed)
        steps = [rng.standard_normal((n_sequences, 2))]
        for _ in range(1, n_steps):
            signs = rng.choice((-1.0, 1.0), size=(n_sequences, 1))
            steps.append(0.95 * signs * steps[-1])
            steps[-1] = steps[-1] + np.sqrt(1 - 0.95**2) * rng.standard_normal((n_sequences, 2))
        return np.stack(steps, axis=1)


def test_a_chain_that_only_claims_to_be_gaussian_does_not_pass():
    X = OnlyInTheMargin.sample(2000, 20, 0)
    independent = GaussianVAR(np.zeros((2, 2)), np.eye(2))
    for chain in (None, independent):
        found = check_score(X, chain=chain)
        # single steps are normal: the defect of their own squares is blind
        assert found.defect < 0.2
        assert found.neighbours.defect > 0.45
        assert found.status == "fails"
        assert "with steps beside" in str(found)
    # the law that it is
    noise = (1 - 0.95**2) * np.eye(2)
    signs = SwitchingVAR(
        [0.95 * np.eye(2), -0.95 * np.eye(2)], [noise, noise], [0.5, 0.5],
        initial_covariances=[np.eye(2)] * 2,
    )  # fmt: skip
    assert check_score(X, chain=signs).status == "fine"


class ClaimsToBeHermite:
    """The score of a nonlinear autoregression, with a constant K and the claim that this is all."""

    capabilities = replace(TANH.capabilities, hermite=True)
    n_inputs, context, n_boundary_types = 2, (1, 1), 1
    scores, log_density, sample, shifted = (
        staticmethod(getattr(TANH, name)) for name in ("scores", "log_density", "sample", "shifted")
    )

    def __init__(self):
        self.K = np.cov(partial_score(TANH, drawn(TANH))[:, 1:-1].reshape(-1, 2).T)

    def boundary_name(self, boundary_type):
        return "all"

    def boundary_types(self, batch):
        return np.zeros(batch.n_rows, dtype=np.int64)

    def precision_blocks(self, lag=0):
        return self.K[np.newaxis] * (lag == 0)


def test_a_law_that_only_claims_to_be_hermite_does_not_pass():
    law = ClaimsToBeHermite()
    assert check_score(drawn(TANH), chain=law).status in ("doubtful", "fails")
    with pytest.raises(LawError, match="fails Stein's identity on its own samples"):
        check_law(law, random_state=0)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_score_fails_on_the_laws_own_samples(factor):
    class Wrong(StudentVAR):
        def derivatives(self, batch, order):
            at = super().derivatives(batch, order)
            return lambda rows: tuple(factor * each for each in at(rows))

    wrong = Wrong(0.5 * np.eye(2), np.eye(2), df=20)
    with pytest.raises(LawError, match="fails Stein's identity on its own samples"):
        check_law(wrong, random_state=0)


def test_a_density_with_another_sampler_fails():
    torch = pytest.importorskip("torch")
    law = from_log_density(
        lambda x: -(x**2).sum() / 2,
        lambda new, old: -((new - 0.3 * torch.sin(old)) ** 2).sum() / 2,
        n_inputs=2,
        sampler=(
            lambda rng, n: rng.standard_normal((n, 2)),
            lambda rng, old: 0.3 * np.sin(old) + rng.laplace(size=old.shape),
        ),
    )
    with pytest.raises(LawError, match="fails Stein's identity on its own samples"):
        check_law(law, n_sequences=600, n_steps=10, random_state=0)
    without = from_log_density(
        lambda x: -(x**2).sum() / 2,
        lambda new, old: -((new - 0.3 * torch.sin(old)) ** 2).sum() / 2,
        n_inputs=2,
    )
    with pytest.raises(LawError, match="give `sampler`"):
        check_law(without)


def test_the_ends_of_sequences_are_checked_too():
    found = check_score(drawn(TANH), chain=TANH)
    assert {edge.name for edge in found.edges} == {"interior", "first", "last"}
    for edge in found.edges:
        # E[s s^T] = -E[D_2], up to a few times the noise of Gaussian steps
        assert edge.covariance_deviation < 6 * edge.covariance_noise
    assert check_score(drawn(TANH, 3000, 1), chain=TANH).edges[0].name == "only step"


def test_score_matching_passes_where_the_gaussian_score_fails():
    X = datasets.make_inputs("t5", 1500, 20, 2, random_state=0)
    held, fitted = X[:500], ScoreMatching.fit(X[500:])
    assert check_score(held, chain=fitted).defect < 0.5 * check_score(held).defect


# -- scores in the place of a law --------------------------------------------------------------


def given(order, X, law=TANH):
    return tuple(partial_score(law, X, m) for m in range(1, order + 1))


def test_score_functions_have_the_tensors_of_the_law():
    X = drawn(TANH, 20, 6)
    function = ScoreFunction(lambda x: partial_score(TANH, x), 2)
    for order in (1, 2):
        expected = partial_score(TANH, X, order)
        found = partial_score(function, X, order)
        assert np.abs(found - expected).max() <= DIFFERENCES * np.abs(expected).max()
    with pytest.raises(LawError, match="score tensors of order 3"):
        partial_score(function, X, 3)


def test_checks_take_functions_and_arrays():
    X = drawn(TANH, 800, 12)
    law = check_score(X, chain=TANH)
    function = check_score(X, chain=lambda x: partial_score(TANH, x))
    arrays = check_score(X, chain=given(2, X))
    flat = check_score(
        X.reshape(-1, 2),
        lengths=[12] * 800,
        chain=tuple(a.reshape(-1, *a.shape[2:]) for a in given(2, X)),
    )
    for other in (function, arrays, flat):
        np.testing.assert_allclose(other.defect_raw, law.defect_raw, rtol=1e-6)
        assert other.status == law.status == "fine"


def test_of_two_steps_the_first_has_none_before_and_the_last_one():
    """Sequences of two steps have one pair each, which is looked at from either side."""
    X = np.random.default_rng(0).standard_normal((300, 2, 2))
    white = X - X.mean(axis=(0, 1))
    found = check_score(X, chain=-white)
    assert found.neighbours is not None
    assert found.neighbours.noise > 0


def test_first_order_scores_alone_are_checked_by_cubes():
    X = drawn(TANH)
    right = check_score(X, chain=partial_score(TANH, X))
    assert right.status == "fine"
    assert np.isnan(right.radius)
    wrong = check_score(X, chain=partial_score(GaussianVAR.fit(X), X))
    assert max(wrong.defect, wrong.neighbours.defect) > 0.3
    assert max(right.defect, right.neighbours.defect) < 0.15
    # the defect is (kurtosis - 3) / 3 for one input whose score is taken for Gaussian
    x = np.random.default_rng(0).laplace(size=(4000, 10, 1))
    x /= x.std()
    found = check_score(x, chain=x - x.mean())
    kurtosis = float(np.mean(x**4))
    assert abs(found.defect_raw - (kurtosis - 3) / 3) < 0.1
    assert found.status == "fails"
    few = check_score(x[:10], chain=x[:10])
    assert few.status == "undecided"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda X: X[:, :-1], r"`chain` holds scores of order 1 of shape \(30, 4, 2\): expected"),
        (lambda X: X[..., :1], r"`chain` holds scores of order 1 of shape"),
        (lambda X: (X, X), r"`chain` holds scores of order 2 of shape"),
        (lambda X: [x[1:] for x in X], r"scores of order 1 for 30 sequences, of shapes"),
        (lambda X: (), "`chain` is an empty tuple"),
        (
            lambda X: np.where(X > 3, np.nan, X),
            "NaN or infinite in 1 of 150 steps, first at step 4",
        ),
        (lambda X: lambda x: x[:-1], r"a score function that returned an array of shape \(4, 2\)"),
        (
            lambda X: lambda x: np.where(x > 3, np.inf, x),
            "NaN or infinity, first at step 4 of sequ",
        ),
    ],
)
def test_scores_that_cannot_serve_are_refused(scores, message):
    X = np.random.default_rng(0).uniform(-1, 1, (30, 5, 2))
    X[7, 4, 1] = 4.0
    with pytest.raises(ValueError, match=message):
        check_score(X, chain=scores(X))


def test_scores_that_are_no_numbers_are_refused():
    X = np.zeros((30, 5, 2))
    with pytest.raises(TypeError, match="dtype"):
        check_score(X, chain=X.astype(str))
    with pytest.raises(TypeError, match="returned <U32 values"):
        check_score(drawn(TANH, 30, 5), chain=lambda x: x.astype(str))


def test_ragged_sequences_take_a_list_of_scores():
    pieces = [drawn(TANH, 1, n, seed=n)[0] for n in range(2, 60)]
    own = [partial_score(TANH, piece) for piece in pieces]
    second = [partial_score(TANH, piece, 2) for piece in pieces]
    arrays, law = check_score(pieces, chain=(own, second)), check_score(pieces, chain=TANH)
    np.testing.assert_allclose(arrays.defect_raw, law.defect_raw, rtol=1e-9)


def test_laws_declare_what_they_can():
    for law in LAWS:
        assert replace(law.capabilities) == law.capabilities
        assert not law.capabilities.hermite
        assert law.capabilities.edges

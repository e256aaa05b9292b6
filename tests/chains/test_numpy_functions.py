"""Functions of the user that are NumPy's: of rows, of steps, lists; and how laws are told apart."""

import pickle
from functools import partial
from math import factorial

import numpy as np
import pytest

from gloree.chains import LawError, NonlinearAR, StudentVAR, as_law, fingerprint, from_log_density
from gloree.score_functions import score_tensors
from gloree.sequences import as_sequences

A = np.array([[0.6, 0.3], [-0.2, 0.5]])
SIGMA = np.array([[1.0, 0.3], [0.3, 0.7]])
INVERSE = np.linalg.inv(SIGMA)

# Derivatives from 32 points of circles of radius 1/4, and sums of some hundred products of them.
SCORES = 1e-9

STEP = {
    "rows and steps": lambda x: np.tanh(x @ A.T),
    "rows alone": lambda X: np.tanh(np.einsum("ni,ji->nj", X, A)),
    "steps alone": lambda x: np.tanh(A @ x),
    "a list": lambda x: [np.tanh(A[0] @ x), np.tanh(A[1] @ x)],
}


@pytest.mark.parametrize("kind", STEP)
def test_steps_of_all_numpy_forms_give_the_scores_of_one_law(kind):
    law, same = NonlinearAR(STEP[kind], SIGMA), NonlinearAR(STEP["rows and steps"], SIGMA)
    X = same.sample(3, 4, random_state=0)
    batch, rows = as_sequences(X).whole(), np.arange(12)
    for one, other in zip(
        score_tensors(law, batch, 3)(rows), score_tensors(same, batch, 3)(rows), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=SCORES)


def test_log_densities_may_be_functions_of_rows_alone():
    def wide(x):
        return np.einsum("ni,ni->n", -x, x) / 2

    def following(new, old):
        return wide(new - 0.5 * old)

    def minus(new, old):
        return np.einsum("ni->ni", 0.5 * old - new)

    law = from_log_density(
        wide,
        following,
        n_inputs=2,
        derivatives={
            "initial": [lambda x: np.einsum("ni->ni", -x)],
            "new": [minus],
            "old": [lambda new, old: -0.5 * minus(new, old)],
        },
    )
    X = np.array([[[1.0, 2.0], [0.5, -1.0]]])
    scores = law.scores(as_sequences(X).whole())
    expected = [X[0, 0] - 0.5 * (X[0, 1] - 0.5 * X[0, 0]), X[0, 1] - 0.5 * X[0, 0]]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_rows_that_are_mixed_are_not_taken_for_a_function_of_rows():
    with pytest.raises((LawError, ImportError)):
        NonlinearAR(lambda X: X[:, :] - X[:, :].mean(axis=0), SIGMA)


@pytest.mark.parametrize("step", [lambda x: 0.5 * np.abs(x), lambda x: 0.5 * np.real(x)])
def test_a_step_that_is_not_analytic_is_said_to_be_so(step):
    with pytest.raises(LawError, match="`step` is no analytic function of complex numbers"):
        NonlinearAR(step, SIGMA)


@pytest.mark.parametrize("df", [None, 1.0], ids=["normal", "Cauchy"])
@pytest.mark.parametrize(
    "units", [[1e4, 1e4], [1e-3, 1e-3], [1e3, 1e-3]], ids=["large", "small", "unequal"]
)
def test_scores_of_a_numpy_step_are_those_of_the_same_law_in_other_units(units, df):
    units = np.array(units)
    law = NonlinearAR(STEP["rows and steps"], SIGMA, df=df)
    other = NonlinearAR(
        lambda x: units * np.tanh((x / units) @ A.T), SIGMA * np.outer(units, units), df=df
    )
    X, rows = np.random.default_rng(0).standard_normal((2, 4, 2)), np.arange(8)
    found = score_tensors(other, as_sequences(X * units).whole(), 4)(rows)
    expected = score_tensors(law, as_sequences(X).whole(), 4)(rows)
    size = 1.0
    for tensors, values in zip(found, expected, strict=True):
        size = np.multiply.outer(size, units)
        np.testing.assert_allclose(tensors * size, values, atol=SCORES * np.abs(values).max())


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_wrong_derivatives_of_steps_are_found_in_any_units(size):
    def step(x):
        return size * np.tanh((x / size) @ A.T)

    def slope(x):
        return (1 - np.tanh((x / size) @ A.T)[..., np.newaxis] ** 2) * A

    sigma = size**2 * SIGMA
    assert NonlinearAR(step, sigma, derivatives=[slope]).capabilities.max_score_order == 1
    with pytest.raises(LawError, match=r"`derivatives\[0\]` is not the derivative of order 1"):
        NonlinearAR(step, sigma, derivatives=[lambda x: 1.001 * slope(x)])


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_scores_of_a_numpy_step_do_not_depend_on_an_offset(offset):
    """Values of 1e6 about which a step bends within one: derivatives count, and not the values."""

    def away(x):
        return offset + np.tanh(2 * (x - offset))

    start = {"initial_covariance": SIGMA}
    law = NonlinearAR(lambda x: np.tanh(2 * x), SIGMA, initial_mean=[0.0, 0.0], **start)
    other = NonlinearAR(away, SIGMA, initial_mean=[offset, offset], **start)
    X, rows = np.random.default_rng(0).standard_normal((2, 4, 2)), np.arange(8)
    found = score_tensors(other, as_sequences(X + offset).whole(), 4)(rows)
    expected = score_tensors(law, as_sequences(X).whole(), 4)(rows)
    # rounding of the inputs, and of values on circles of radius 1/8: their fourth derivative
    rounding = np.finfo(np.float64).eps * offset * 8**4
    for tensors, values in zip(found, expected, strict=True):
        np.testing.assert_allclose(tensors, values, atol=rounding * np.abs(values).max())


def test_a_step_far_out_does_not_hide_how_the_function_bends_at_others():
    law = NonlinearAR(lambda x: 0.01 * x**2 + np.tanh(6 * x), [[1.0]])
    X = np.random.default_rng(0).standard_normal((2, 4, 1))
    far = np.concatenate((X, X[:1]))
    far[2, 2] = 1e9
    expected = law.derivatives(as_sequences(X).whole(), 3)(np.arange(8))
    found = law.derivatives(as_sequences(far).whole(), 3)(np.arange(12))
    for mine, values in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[:8], values, atol=SCORES * np.abs(values).max())


def test_wrong_derivatives_of_steps_are_found_far_from_zero():
    def step(x):
        return 1e6 + np.tanh(x - 1e6)

    def slope(x):
        return (1.001 - np.tanh(x - 1e6) ** 2)[..., np.newaxis] * np.eye(1)

    with pytest.raises(LawError, match=r"`derivatives\[0\]` is not the derivative of order 1"):
        NonlinearAR(step, [[1.0]], derivatives=[slope])


def test_a_step_that_grows_without_bound_has_scores_too():
    law = NonlinearAR(lambda x: 3.0 * x, SIGMA)
    at = law.derivatives(as_sequences(np.ones((1, 2, 2))).whole(), 1)(np.arange(2))[0]
    np.testing.assert_allclose(at[1], -INVERSE @ np.full(2, -2.0), rtol=SCORES)


def test_a_step_of_another_size_is_named():
    with pytest.raises(LawError, match="`step` returned values of shape"):
        NonlinearAR(lambda x: x[..., :1], SIGMA)


def student_density(X):
    """p(x_1, .., x_n) of `StudentVAR(A, SIGMA, df=5)` but for a factor; X may be complex."""
    start = SIGMA
    for _ in range(200):
        start = A @ start @ A.T + SIGMA
    inverse = np.linalg.inv(start)
    density = (1 + np.einsum("...i,ij,...j", X[..., 0, :], inverse, X[..., 0, :]) / 5) ** -3.5
    for t in range(1, X.shape[-2]):
        e = X[..., t, :] - X[..., t - 1, :] @ A.T
        density = density * (1 + np.einsum("...i,ij,...j", e, INVERSE, e) / 5) ** -3.5
    return density


def normal_density(X):
    """p(x_1, .., x_n) of `NonlinearAR(tanh(A x), SIGMA)` but for a factor."""
    start = X[..., 0, :]
    log = np.einsum("...i,ij,...j", start, INVERSE, start)
    for t in range(1, X.shape[-2]):
        e = X[..., t, :] - np.tanh(X[..., t - 1, :] @ A.T)
        log = log + np.einsum("...i,ij,...j", e, INVERSE, e)
    return np.exp(-log / 2)


def tensors_by_cauchy(density, X, t, order, radius=0.3, size=32):
    """S_1, .., S_m of a step, (-1)^m grad^m p / p, from p on a torus in its complex step."""
    circle = radius * np.exp(2j * np.pi * np.arange(size) / size)
    points = np.broadcast_to(X, (size, size, *X.shape)).astype(complex)
    points[:, :, t, 0] += circle[:, np.newaxis]
    points[:, :, t, 1] += circle
    powers = np.fft.fft2(density(points) / density(X.astype(complex))).real / size**2
    found = []
    for m in range(1, order + 1):
        tensor = np.empty((2,) * m)
        for place in np.ndindex(*tensor.shape):
            b = sum(place)
            size_of = factorial(m - b) * factorial(b) / radius**m
            tensor[place] = (-1) ** m * powers[m - b, b] * size_of
        found.append(tensor)
    return found


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("law", "density"),
    [
        (StudentVAR(A, SIGMA, df=5), student_density),
        (NonlinearAR(STEP["rows and steps"], SIGMA), normal_density),
    ],
    ids=["student", "nonlinear"],
)
def test_scores_of_orders_1_to_4_are_derivatives_of_the_density_at_every_step(
    law, density, n_steps
):
    X = np.random.default_rng(n_steps).standard_normal((n_steps, 2))
    found = score_tensors(law, as_sequences(X).whole(), 4)(np.arange(n_steps))
    for t in range(n_steps):
        for tensors, expected in zip(found, tensors_by_cauchy(density, X, t, 4), strict=True):
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(tensors[t], expected, atol=SCORES * scale)


def law_of(step):
    return fingerprint(NonlinearAR(step, SIGMA))


def helper(x):
    return np.tanh(x)


def other_helper(x):
    return np.tanh(2 * x)


def scaled(size, x):
    return np.tanh(size * x)


class Step:
    def __init__(self, size):
        self.size = size

    def ahead(self, x):
        return np.tanh(self.size * x)


def test_laws_of_functions_that_call_others_are_told_apart_by_them():
    assert law_of(lambda x: np.tanh(x)) != law_of(lambda x: np.sin(x))
    assert law_of(lambda x: helper(x)) != law_of(lambda x: other_helper(x))
    assert law_of(Step(1.0).ahead) == law_of(Step(1.0).ahead)
    assert law_of(Step(1.0).ahead) != law_of(Step(1.5).ahead)
    assert law_of(partial(scaled, 1.0)) == law_of(partial(scaled, 1.0))
    assert law_of(partial(scaled, 1.0)) != law_of(partial(scaled, 1.5))


def test_a_function_that_calls_itself_has_a_fingerprint():
    def often(x, times=3):
        return x if times == 0 else often(0.5 * x, times - 1)

    assert law_of(often) == law_of(often)


@pytest.mark.parametrize("step", [np.tanh, helper, partial(scaled, 0.5), Step(1.0).ahead])
def test_laws_of_functions_that_can_be_pickled_can_be_pickled(step):
    law = NonlinearAR(step, SIGMA)
    read = pickle.loads(pickle.dumps(law))
    batch = as_sequences(law.sample(2, 4, random_state=0)).whole()
    np.testing.assert_array_equal(read.scores(batch), law.scores(batch))
    assert fingerprint(read) == fingerprint(law)


GAUSSIAN_STEP = {
    "initial": [lambda x: -x],
    "new": [lambda new, old: 0.5 * old - new],
    "old": [lambda new, old: 0.5 * (new - 0.5 * old)],
}


def of_densities(**options):
    return from_log_density(
        lambda x: -(x**2).sum(axis=-1) / 2,
        lambda new, old: -((new - 0.5 * old) ** 2).sum(axis=-1) / 2,
        n_inputs=2,
        **{"derivatives": GAUSSIAN_STEP, **options},
    )


def test_samplers_and_lists_of_derivatives_are_checked():
    with pytest.raises(TypeError, match="`sampler` is no pair of functions"):
        of_densities(sampler=lambda rng, n: rng.standard_normal((n, 2)))
    with pytest.raises(TypeError, match=r"`derivatives\['new'\]` is no list of functions"):
        of_densities(derivatives={**GAUSSIAN_STEP, "new": lambda new, old: 0.5 * old - new})
    law = of_densities(
        sampler=(lambda rng, n: rng.standard_normal((n, 2)), lambda rng, old: old[0])
    )
    with pytest.raises(LawError, match=r"`sampler\[1\]` returned steps of shape \(2,\)"):
        law.sample(3, 2, random_state=0)


def test_masked_scores_are_refused():
    scores = np.ma.array(np.zeros((2, 3, 1)), mask=False)
    lengths = np.array([3, 3])
    assert as_law(scores, n_inputs=1, lengths=lengths).n_inputs == 1
    scores[1, 0] = np.ma.masked
    for given in (scores, [scores[0], scores[1]], (scores,)):
        with pytest.raises(ValueError, match="is masked in 1 place"):
            as_law(given, n_inputs=1, lengths=lengths)

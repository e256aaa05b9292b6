"""Laws that are not Gaussian chains: scores against automatic differentiation, densities, fits."""

import pickle

import numpy as np
import pytest
import scipy.stats
from helpers.marks import first_of

from gloree.chains import (
    GaussianInnovations,
    GaussianVAR,
    LawError,
    NonlinearAR,
    NonStationaryChainError,
    ScoreMatching,
    StudentInnovations,
    StudentVAR,
    SwitchingVAR,
    as_law,
    fingerprint,
    from_log_density,
    law_derivatives,
    with_metric,
)
from gloree.score_functions import partial_score
from gloree.sequences import as_sequences

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

# Sums of some hundred products of derivatives of size 10; the derivatives of NumPy functions come
# from circles, whose rounding errors are multiplied by 4! / r^4 = 400 or so.
SCORES = 1e-9

# Fourth-order differences of step 1e-3 of analytic functions.
DIFFERENCES = 1e-6

A = np.array([[1.2, 0.4], [-0.3, 0.9]])
SIGMA = np.array([[0.5, 0.1], [0.1, 0.3]])
WIDE = np.array([[0.9, 0.2], [0.2, 0.7]])
START = np.array([0.1, -0.2])
MEANS = np.array([[0.0, 1.0], [0.5, -0.5]])
TRANSITION = np.array([[0.8, 0.2], [0.3, 0.7]])


def tensor(values):
    return torch.from_numpy(np.array(values, dtype=np.float64))


def student(e, scale, df):
    return -(df + 2) / 2 * torch.log1p(e @ tensor(np.linalg.inv(scale)) @ e / df)


def normal(e, covariance):
    inverse, size = tensor(np.linalg.inv(covariance)), np.linalg.slogdet(covariance)[1]
    return -0.5 * (e @ inverse @ e + size)


def chained(first, following):
    def log_density(X):
        return first(X[0]) + sum(following(X[t], X[t - 1]) for t in range(1, len(X)))

    return log_density


def numpy_step(x):
    return np.tanh(x @ A.T)


def slope(x):
    return (1 - np.tanh(x @ A.T)[..., None] ** 2) * A


def curvature(x):
    t = np.tanh(x @ A.T)
    return np.einsum("...i,ij,ik->...ijk", -2 * t * (1 - t**2), A, A)


GIVEN = {"initial_mean": START, "initial_covariance": WIDE}
NONLINEAR = chained(
    lambda x: student(x - tensor(START), WIDE, 4),
    lambda new, old: student(new - torch.tanh(tensor(A) @ old), SIGMA, 4),
)


def nonlinear(step=numpy_step, **options):
    return NonlinearAR(step, SIGMA, df=4, **GIVEN, **options)


def from_zero():
    return NonlinearAR(lambda x: 0.5 * x + 0.3 - 0.1 * x**3, SIGMA)


def from_zero_density():
    def step(x):
        return 0.5 * x + 0.3 - 0.1 * x**3

    return chained(
        lambda x: normal(x - 0.3, SIGMA), lambda new, old: normal(new - step(old), SIGMA)
    )


def student_var():
    return StudentVAR(0.5 * A, SIGMA, 5, MEANS[1], initial_scale=WIDE)


def student_density():
    m = tensor(MEANS[1])
    return chained(
        lambda x: student(x - m, WIDE, 5),
        lambda new, old: student(new - m - 0.5 * tensor(A) @ (old - m), SIGMA, 5),
    )


def switching(transition=TRANSITION):
    return SwitchingVAR(
        [0.5 * A, -0.4 * A], [SIGMA, 3 * WIDE], transition, MEANS, initial_covariances=[WIDE, SIGMA]
    )


def switching_density(transition=TRANSITION):
    """All sequences of regimes, one by one."""
    from itertools import product

    stationary = np.linalg.matrix_power(transition, 200)[0]
    phi, sigma, start = [0.5 * A, -0.4 * A], [SIGMA, 3 * WIDE], [WIDE, SIGMA]

    def log_density(X):
        terms = []
        for path in product(range(2), repeat=len(X)):
            r = path[0]
            total = np.log(stationary[r]) + normal(X[0] - tensor(MEANS[r]), start[r])
            for t in range(1, len(X)):
                total = total + np.log(transition[r, path[t]])
                r = path[t]
                m = tensor(MEANS[r])
                total = total + normal(X[t] - m - tensor(phi[r]) @ (X[t - 1] - m), sigma[r])
            terms.append(total)
        return torch.logsumexp(torch.stack(terms), 0)

    return log_density


def first(x):
    return student(x, WIDE, 4)


def following(new, old):
    scale = torch.exp(0.3 * torch.sin(old[0]))
    return normal((new - torch.tanh(tensor(A) @ old)) / scale, SIGMA) - 2 * torch.log(scale)


MIXTURE = np.array([[0.3, 0.7], [0.3, 0.7]])
CASES = {
    "NumPy step": (nonlinear, NONLINEAR),
    "PyTorch step": (lambda: nonlinear(lambda x: torch.tanh(tensor(A) @ x)), NONLINEAR),
    "step from zero": (from_zero, from_zero_density()),
    "Student": (student_var, student_density()),
    "switching": (switching, switching_density()),
    "mixture": (lambda: switching([0.3, 0.7]), switching_density(MIXTURE)),
    "densities": (
        lambda: from_log_density(first, following, n_inputs=2),
        chained(first, following),
    ),
    "Gaussian": (
        lambda: GaussianVAR(0.5 * A, SIGMA, MEANS[1], initial_covariance=WIDE),
        chained(
            lambda x: normal(x - tensor(MEANS[1]), WIDE),
            lambda new, old: normal(
                new - tensor(MEANS[1]) - 0.5 * tensor(A) @ (old - tensor(MEANS[1])), SIGMA
            ),
        ),
    ),
}


def density_ratios(X, log_density, orders):
    """grad^m p / p in every step times (-1)^m, by automatic differentiation."""
    whole = log_density(tensor(X))
    found = [[] for _ in range(orders)]
    for t in range(len(X)):

        def ratio(x, t=t):
            rows = [x if i == t else tensor(X[i]) for i in range(len(X))]
            return torch.exp(log_density(torch.stack(rows)) - whole)

        for m in range(orders):
            ratio = torch.func.jacfwd(ratio)
            found[m].append((-1) ** (m + 1) * ratio(tensor(X[t])).numpy())
    return [np.array(each) for each in found]


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("n_steps", first_of([1, 2, pytest.param(3, marks=pytest.mark.slow)]))
@pytest.mark.parametrize("name", CASES)
def test_scores_of_orders_up_to_four_are_derivatives_of_the_density(name, n_steps):
    make, log_density = CASES[name]
    law = make()
    X = np.random.default_rng(n_steps).standard_normal((n_steps, 2))
    for order, expected in enumerate(density_ratios(X, log_density, 4), start=1):
        assert_close(partial_score(law, X, order), expected, SCORES)


@pytest.mark.parametrize("name", [each for each in CASES if each != "densities"])
def test_log_density_is_that_of_the_steps_up_to_a_constant(name):
    make, log_density = CASES[name]
    law = make()
    first, second = np.random.default_rng(0).standard_normal((2, 3, 2))
    found = law.log_density(first) - law.log_density(second)
    expected = float(log_density(tensor(first)) - log_density(tensor(second)))
    np.testing.assert_allclose(found, expected, rtol=SCORES)


def line_laws():
    return [
        NonlinearAR(np.tanh, [[0.5]], df=3),
        StudentVAR([[0.5]], [[0.7]], 3, [0.2]),
        SwitchingVAR([[[0.5]], [[-0.2]]], [[[1.0]], [[0.2]]], TRANSITION, [[0.0], [1.0]]),
    ]


@pytest.mark.parametrize("law", line_laws(), ids=repr)
def test_densities_integrate_to_one(law):
    # the trapezoidal rule in u = asinh(x), which sees the tails
    u = np.linspace(-9.0, 9.0, 361)
    grid = np.stack(np.meshgrid(np.sinh(u), np.sinh(u)), axis=-1).reshape(-1, 2, 1)
    volume = (np.cosh(u)[:, None] * np.cosh(u)).ravel() * (u[1] - u[0]) ** 2
    total = np.sum(np.exp(law.log_density(grid)) * volume)
    # the rule misses the tails of the t laws beyond sinh(9), and 1e-6 of what it sees
    assert abs(total - 1) < 1e-5


@pytest.mark.parametrize("law", [nonlinear(), student_var(), switching()], ids=repr)
def test_shifted_and_scaled_laws_are_those_of_the_moved_inputs(law):
    offset, scale = np.array([1.0, -0.5]), np.array([2.0, 0.25])
    X = law.sample(3, 4, random_state=0)
    moved = law.shifted(offset).scaled(scale)
    again = pickle.loads(pickle.dumps(moved)) if law.__class__ is not NonlinearAR else moved
    values = (X - offset) * scale
    np.testing.assert_allclose(
        moved.log_density(values), law.log_density(X) - 4 * np.log(scale).sum(), rtol=SCORES
    )
    third = partial_score(law, X, 3) / np.einsum("i,j,k->ijk", scale, scale, scale)
    assert_close(partial_score(again, values, 3), third, SCORES)
    drawn = (law.sample(2, 5, random_state=7) - offset) * scale
    np.testing.assert_allclose(moved.sample(2, 5, random_state=7), drawn, rtol=SCORES)


@pytest.mark.parametrize("law", [nonlinear(), student_var(), switching()], ids=repr)
def test_steps_of_pieces_have_the_scores_of_the_whole(law):
    # sequences of unequal lengths, cut into pieces with the context that the law asks for
    pieces = list(law.sample(2, 700, random_state=1))
    data = as_sequences([pieces[0], pieces[1][:3]])
    expected = law_derivatives(law, data.whole(), 2)(np.arange(data.n_rows))
    before, after = law.context
    seen = 0
    for batch in data.batches(400, segment=100, before=before, after=after):
        found = law_derivatives(law, batch, 2)(batch.counted_rows)
        for mine, theirs in zip(found, expected, strict=True):
            assert_close(mine, theirs[seen : seen + batch.n_counted], SCORES)
        seen += batch.n_counted
    assert seen == data.n_rows


def test_the_posterior_of_the_regimes_is_that_of_all_paths():
    law = switching()
    X = law.sample(1, 3, random_state=0)[0]
    log_density = switching_density()
    found = law.regime_posterior(X)
    # the derivative of log p in the log-weight of a regime at a step is its posterior probability
    from itertools import product

    stationary = np.linalg.matrix_power(TRANSITION, 200)[0]
    weights = np.zeros((3, 2))
    for path in product(range(2), repeat=3):
        value = stationary[path[0]] * TRANSITION[path[0], path[1]] * TRANSITION[path[1], path[2]]
        single = [law.regimes[r] for r in path]
        density = np.exp(single[0].log_density(X[:1])[0])
        for t in (1, 2):
            pair = single[t]
            density *= np.exp(
                pair.log_density(X[t - 1 : t + 1])[0] - pair.log_density(X[t - 1 : t])[0]
            )
        for t in range(3):
            weights[t, path[t]] += value * density
    np.testing.assert_allclose(found, weights / weights.sum(axis=1, keepdims=True), rtol=SCORES)
    total = float(log_density(tensor(X))) - 3 * np.log(2 * np.pi)
    np.testing.assert_allclose(np.log(weights[0].sum()), total, rtol=SCORES)


@pytest.mark.parametrize("df", [3.0, 1e4, 1e8, 1e12, 1e15, 1e300])
def test_a_student_law_of_many_degrees_of_freedom_is_the_normal_one(df):
    x = np.array([[0.5, -1.0], [2.0, 0.3], [0.1, 0.2]])
    sigma = np.array([[1.0, 0.3], [0.3, 2.0]])
    found = StudentVAR(0.5 * np.eye(2), sigma, df).innovations.log_density(x)
    expected = scipy.stats.multivariate_t(shape=sigma, df=df).logpdf(x)
    if df > 1e4:
        # the difference falls like |x|^4 / df; below it there is rounding alone
        expected = scipy.stats.multivariate_normal(cov=sigma).logpdf(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 + 100 / df * (df > 1e4))


@pytest.mark.parametrize("transition", [[[0.5, 0.5], [0.2, 0.8]], [[1.0, 0.0], [0.0, 1.0]]])
def test_a_step_too_far_out_for_any_regime_has_no_density_and_breaks_nothing(transition):
    law = SwitchingVAR([[[0.5]], [[0.2]]], [[[1.0]], [[4.0]]], transition)
    X = np.zeros((4, 1))
    X[1] = 1e200
    assert np.isneginf(law.log_density(X))
    posterior = law.regime_posterior(X)
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, rtol=SCORES)


# -- fits ----------------------------------------------------------------------------------------


def test_student_var_is_fitted_by_maximum_likelihood():
    law = student_var()
    X = law.sample(400, 30, random_state=0)
    found = StudentVAR.fit(X)
    assert np.abs(found.coefficients - law.coefficients).max() < 0.05
    assert np.abs(found.innovation_scale - law.innovation_scale).max() < 0.05
    assert 4 < found.df < 6.5
    # no neighbour is likelier, given the first steps
    middle = found.log_density(X).sum() - found._log_first(X[:, 0]).sum()
    for factor in (0.98, 1.02):
        for other in (
            StudentVAR(factor * found.coefficients, found.innovation_scale, found.df, found.mean),
            StudentVAR(found.coefficients, factor * found.innovation_scale, found.df, found.mean),
            StudentVAR(found.coefficients, found.innovation_scale, factor * found.df, found.mean),
        ):
            assert other.log_density(X).sum() - other._log_first(X[:, 0]).sum() < middle


@pytest.mark.slow
def test_switching_var_is_fitted_by_em():
    law = switching()
    X = law.sample(200, 40, random_state=0)
    found = SwitchingVAR.fit(X, 2, random_state=0)
    order = np.argsort([np.trace(each.innovation_covariance) for each in found.regimes])
    for mine, r in zip(order, range(2), strict=True):
        difference = found.regimes[mine].coefficients - law.regimes[r].coefficients
        assert np.abs(difference).max() < 0.06
    assert np.abs(found.transition[np.ix_(order, order)] - TRANSITION).max() < 0.05
    assert found.log_density(X).sum() > SwitchingVAR.fit(X, 1).log_density(X).sum()


@pytest.mark.slow
def test_a_long_record_is_read_in_pieces_when_regimes_are_fitted():
    law = switching()
    X = law.sample(1, 6_000, random_state=0)[0]
    found = SwitchingVAR.fit(X, 2, n_restarts=2, max_iterations=30, random_state=0)
    # all of the record counts: near the density of the true law, or above it
    assert found.log_density(X)[0] > law.log_density(X)[0] - 30


def test_score_matching_on_gaussian_inputs_is_nearly_the_score_of_the_chain():
    chain = GaussianVAR(0.5 * A / 1.3, SIGMA)
    X = chain.sample(2000, 10, random_state=0)
    law = ScoreMatching.fit(X)
    found, expected = partial_score(law, X[:200]), partial_score(chain, X[:200])
    # some 60 weights from 16,000 rows, 8,000 at the ends of 2 kinds: Gaussian there
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
    assert law.stein_defect < 2 * law.noise_floor


def test_score_matching_derivatives_are_those_of_its_score():
    X = nonlinear().sample(300, 12, random_state=0)
    law = ScoreMatching.fit(X)
    steps, rows = X[0, :4].copy(), np.arange(4)
    for order in (1, 2, 3):
        tensors = law_derivatives(law, as_sequences(steps).whole(), order + 1)(rows)
        for t in range(4):
            for i in range(2):

                def value(h, t=t, i=i, order=order):
                    moved = steps.copy()
                    moved[t, i] += h
                    batch = as_sequences(moved).whole()
                    return law_derivatives(law, batch, order)(np.array([t]))[-1][0]

                h = 1e-3
                slope = (8 * (value(h) - value(-h)) - value(2 * h) + value(-2 * h)) / (12 * h)
                assert_close(tensors[order][t, i], slope, DIFFERENCES)


def test_score_matching_comes_near_the_true_score_and_says_how_near():
    law = NonlinearAR(lambda x: 1.5 * np.tanh(2 * x), np.eye(2), initial_covariance=3 * np.eye(2))
    X = law.sample(2000, 30, random_state=0)[:, 10:]
    matched = ScoreMatching.fit(X)
    truth = partial_score(law, X[:200])[:, 1:]
    error = np.linalg.norm(partial_score(matched, X[:200])[:, 1:] - truth)
    gaussian = np.linalg.norm(partial_score(matched.gaussian, X[:200])[:, 1:] - truth)
    assert error < 0.3 * gaussian
    assert matched.stein_defect < 0.2 < matched.gaussian_defect


def test_score_matching_has_a_score_only():
    law = ScoreMatching.fit(nonlinear().sample(100, 20, random_state=0))
    with pytest.raises(LawError, match="estimates a score, not a density"):
        law.log_density(np.zeros((3, 2)))
    with pytest.raises(LawError, match="cannot draw"):
        law.sample(1, 1)
    with pytest.raises(ValueError, match=r"\d+ steps with two neighbours for \d+ features"):
        ScoreMatching.fit(np.random.default_rng(0).standard_normal((20, 20, 3)))


# -- what is refused -----------------------------------------------------------------------------


def test_wrong_derivatives_of_a_step_are_named():
    assert nonlinear(derivatives=(slope, curvature)).capabilities.max_score_order == 2
    with pytest.raises(LawError, match=r"`derivatives\[0\]` is not the derivative of order 1"):
        nonlinear(derivatives=(lambda x: 1.01 * slope(x),))
    with pytest.raises(LawError, match=r"`derivatives\[1\]` is not the derivative of order 2"):
        nonlinear(derivatives=(slope, lambda x: -curvature(x)))
    with pytest.raises(LawError, match=r"`derivatives\[0\]` returned values of shape"):
        nonlinear(derivatives=(numpy_step,))
    with pytest.raises(LawError, match=r"asks the input law .* for score tensors of order 3"):
        partial_score(nonlinear(derivatives=(slope, curvature)), np.zeros((2, 2)), 3)


def test_given_derivatives_give_the_scores_of_others():
    X = np.random.default_rng(0).standard_normal((3, 2))
    given = nonlinear(derivatives=(slope, curvature))
    assert_close(partial_score(given, X, 2), partial_score(nonlinear(), X, 2), SCORES)
    # functions of one step, too
    single = nonlinear(lambda x: np.tanh(A @ x), derivatives=(lambda x: slope(x), curvature))
    assert_close(partial_score(single, X, 2), partial_score(nonlinear(), X, 2), SCORES)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x: np.abs(x), "no analytic function|not the derivative"),
        (lambda x: x[..., :1], r"`step` returned values of shape \(1,\)"),
        (lambda x: x / 0.0, "`step` returned values that are not finite"),
        (lambda x: x @ np.eye(3), r"neither with a NumPy array nor with a PyTorch tensor of shape"),
        (lambda x: np.linalg.nothing(x), "has no attribute 'nothing'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_steps_that_cannot_serve_are_refused(step, message):
    with pytest.raises(LawError, match=message):
        nonlinear(step)


def test_a_recursion_that_grows_is_refused_when_drawn():
    law = NonlinearAR(lambda x: x**3 + 3 * x, np.eye(1))
    with pytest.raises(LawError, match="grows without bound"):
        law.sample(3, 40, random_state=0)
    with pytest.raises(NonStationaryChainError):
        StudentVAR(1.1 * np.eye(2), SIGMA, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5 * np.eye(2), SIGMA, 0), "`df` is 0"),
        ((0.5 * np.eye(2), SIGMA, np.inf), "`df` is inf"),
        ((0.5 * np.eye(2), -SIGMA, 5), "not positive definite"),
        ((np.zeros((2, 2, 2)), SIGMA, 5), "a StudentVAR has order 1"),
    ],
)
def test_parameters_of_a_student_var_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        StudentVAR(*arguments)


@pytest.mark.parametrize("name", ["n_restarts", "max_iterations", "n_regimes"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_numbers_of_a_fit_are_whole_and_at_least_one(name, value, error):
    X = np.random.default_rng(0).standard_normal((20, 10, 1))
    with pytest.raises(error, match=f"`{name}` must be"):
        SwitchingVAR.fit(X, **{name: value})
    if name == "max_iterations":
        with pytest.raises(error, match=f"`{name}` must be"):
            StudentVAR.fit(X, **{name: value})


def test_a_fit_that_is_stopped_at_its_limit_says_so():
    X = student_var().sample(50, 10, random_state=0)
    with pytest.warns(RuntimeWarning, match="limit of `max_iterations` = 2") as found:
        StudentVAR.fit(X, max_iterations=2)
    assert found[0].filename == __file__


@pytest.mark.parametrize("name", ["n_sequences", "n_steps"])
@pytest.mark.parametrize("value", [1.5, True, "2"])
def test_sizes_of_a_sample_are_whole_numbers(name, value):
    for law in (GaussianVAR([[0.5]], [[1.0]]), switching(), student_var()):
        with pytest.raises(TypeError, match=f"`{name}` is .*, expected an integer"):
            law.sample(**{"n_sequences": 2, "n_steps": 3, name: value})


@pytest.mark.parametrize(
    ("transition", "message"),
    [
        ([[0.9, 0.2], [0.3, 0.7]], "must hold probabilities"),
        ([[1.1, -0.1], [0.3, 0.7]], "must hold probabilities"),
        ([0.2, 0.3, 0.5], r"`transition` has shape \(3,\)"),
    ],
)
def test_parameters_of_a_switching_var_are_checked(transition, message):
    with pytest.raises(ValueError, match=message):
        switching(transition)


def flat(x):
    return 0.0 * x.sum()


@pytest.mark.parametrize(
    ("initial", "transition", "message"),
    first_of(
        [
            (flat, following, "`initial` is the logarithm of no density"),
            (lambda x: (x**2).sum(), following, "`initial` is the logarithm of no density"),
            (lambda x: -(x[0] ** 2), following, "`initial` is the logarithm of no density"),
            (
                first,
                lambda new, old: -((new[0] - old[0]) ** 2),
                "`transition` is the logarithm of no",
            ),
            (
                first,
                lambda new, old: normal((new - old) / torch.exp(old[0]), SIGMA),
                r"integral of exp\(transition\(new, old\)\) over `new` is",
            ),
            (lambda x: x, following, "`initial` returned values of shape"),
            (
                lambda x: torch.log(x[0] - 100.0),
                following,
                "`initial` returned values that are not",
            ),
            (first, lambda new: new.sum(), "`transition` cannot be called with 2 step"),
            # a jump leaves the derivative of autograd as it was
            (lambda x: first(x) + x.detach().sum(), following, "not the derivative of order 1"),
        ],
        4,
        several=True,
    ),
)
def test_what_is_no_density_is_refused(initial, transition, message):
    with pytest.raises(LawError, match=message):
        from_log_density(initial, transition, n_inputs=2)


def quadratic(x):
    return -0.5 * (x**2).sum(axis=-1)


def quadratic_step(new, old):
    return quadratic(new - 0.5 * old)


RIGHT = {
    "initial": (lambda x: -x, lambda x: -np.eye(2) + 0 * x[..., None]),
    "new": (
        lambda new, old: -(new - 0.5 * old),
        lambda new, old: -np.eye(2) + 0 * new[..., None],
    ),
    "old": (
        lambda new, old: 0.5 * (new - 0.5 * old),
        lambda new, old: -0.25 * np.eye(2) + 0 * new[..., None],
    ),
}


def test_densities_with_given_derivatives_need_no_other_package():
    rng = np.random.default_rng(0)
    sampler = (
        lambda rng, n: rng.standard_normal((n, 2)),
        lambda rng, old: 0.5 * old + rng.standard_normal(old.shape),
    )
    law = from_log_density(
        quadratic, quadratic_step, n_inputs=2, derivatives=RIGHT, sampler=sampler
    )
    X = rng.standard_normal((4, 2))
    chain = GaussianVAR(0.5 * np.eye(2), np.eye(2), initial_covariance=np.eye(2))
    assert_close(partial_score(law, X, 2), partial_score(chain, X, 2), SCORES)
    assert law.sample(3, 4, random_state=0).shape == (3, 4, 2)
    assert law.capabilities.max_score_order == 2


@pytest.mark.parametrize("key", ["initial", "new", "old"])
@pytest.mark.parametrize("order", [0, 1])
def test_wrong_derivatives_of_densities_are_named(key, order):
    parts = list(RIGHT[key])
    parts[order] = lambda *steps, f=parts[order]: 1.1 * f(*steps)
    with pytest.raises(LawError, match=rf"`derivatives\['{key}'\]\[{order}\]` is not the deriv"):
        from_log_density(
            quadratic, quadratic_step, n_inputs=2, derivatives={**RIGHT, key: tuple(parts)}
        )


def test_laws_of_functions_are_told_apart():
    def make(size):
        return NonlinearAR(lambda x: np.tanh(size * x), np.eye(2))

    assert fingerprint(make(1.0)) == fingerprint(make(1.0))
    assert fingerprint(make(1.0)) != fingerprint(make(1.1))
    lengths = np.array([2, 2])
    first, same, other = (
        fingerprint(as_law(np.full((2, 2, 1), value), n_inputs=1, lengths=lengths))
        for value in (1.0, 1.0, 2.0)
    )
    assert first == same != other


def normal_density(size, mean, *, wrong=0.0, slope=1.0):
    """x_{t+1} = m + (x_t - m) / 2 + e in some unit, with derivatives of NumPy."""
    inverse = np.eye(2) / size**2

    def away(new, old):
        return (new - mean - 0.5 * (old - mean)) / size

    return from_log_density(
        lambda x: -(((x - mean) / size) ** 2).sum(axis=-1) / 2,
        lambda new, old: -(away(new, old) ** 2).sum(-1) / 2 + wrong * (old / size).sum(-1),
        n_inputs=2,
        derivatives={
            "initial": [lambda x: -(x - mean) / size**2],
            "new": [lambda new, old: -slope * away(new, old) / size],
            "old": [lambda new, old: (0.5 * away(new, old) + wrong) / size],
        },
    ), inverse


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1.0, 1e3, 1e6, 1e8])
def test_densities_are_checked_in_units_of_their_own(size):
    law, inverse = normal_density(size, 0.0)
    X = size * np.random.default_rng(0).standard_normal((1, 1, 2))
    np.testing.assert_allclose(law.scores(as_sequences(X).whole()), X[0] @ inverse, rtol=1e-12)
    with pytest.raises(LawError, match="no conditional density: the integral"):
        normal_density(size, 0.0, wrong=0.3)
    with pytest.raises(LawError, match=r"`derivatives\['new'\]\[0\]` is not the derivative"):
        normal_density(size, 0.0, slope=1.01)


@pytest.mark.parametrize(("size", "mean"), [(1.0, 1e4), (1e-2, 1e3), (1e-4, 1.0), (1e3, 1e6)])
def test_densities_far_from_zero_are_taken(size, mean):
    law, inverse = normal_density(size, mean)
    X = np.full((1, 1, 2), mean + size)
    scores = law.scores(as_sequences(X).whole())
    np.testing.assert_allclose(scores, size * inverse.sum(axis=0)[None], rtol=1e-8)


@pytest.mark.parametrize("make", [GaussianInnovations, lambda scale: StudentInnovations(scale, 5)])
def test_scales_of_innovations_are_checked(make):
    for wrong in (-np.eye(2), np.array([[1.0, 2.0], [2.0, 1.0]])):
        with pytest.raises(ValueError, match="`scale` is not positive definite"):
            make(wrong)
    for wrong in (np.ones((2, 3)), np.float64(1.0)):
        with pytest.raises(ValueError, match="`scale` has shape"):
            make(wrong)
    assert make([[4.0]]).log_density(np.zeros((1, 1))).shape == (1,)
    for df in (-2, 0, np.nan, "5"):
        with pytest.raises(ValueError, match="`df` is"):
            StudentInnovations(np.eye(1), df)


def test_a_metric_of_a_singular_covariance_is_refused():
    with pytest.raises(ValueError, match="`covariance` is not positive definite"):
        with_metric(student_var(), np.ones((2, 2)))

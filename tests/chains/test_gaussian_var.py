"""GaussianVAR: its law, its estimation, and what it refuses."""

import pickle

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from gloree.chains import (
    GaussianVAR,
    LagMoments,
    NonStationaryChainError,
    lag_moments,
    require,
)
from gloree.sequences import as_sequences

# A few products of well-conditioned matrices of size below 20.
ALGEBRA = 1e-11

# Algebra: inverses by two routines, of matrices whose condition is at most 1e6.
INVERSES = 1e-9

# Algebra: normal equations against an orthogonal factorisation, condition squared below 1e6.
NORMAL_EQUATIONS = 1e-9

# Algebra: the same sums of some hundred products in another order.
SUMS = 1e-12

# Algebra: an offset of 1e4 deviations costs four digits of each input.
OFFSET = 1e-8

# Algebra: sums of a thousand log-densities of size one, in another order and with other weights.
LOG_DENSITIES = 1e-8

# Statistics: standard errors allowed in checks of simulated data with a fixed seed.
STANDARD_ERRORS = 5.0

# Statistics: eight draws a size; the error of a slope over a factor of 16 is about .1.
SLOPE = 0.3

# End effects: one step in 2e4, times the size of a score (of a product of two).
MEAN_END_EFFECT, PRODUCT_END_EFFECT = 1e-3, 5e-3

# Statistics: standard errors of about .007 for stable inputs, of .002 for inputs that grow.
COEFFICIENTS, UNSTABLE_COEFFICIENT = 0.05, 0.01


def make_chain(order=1, n_inputs=3, seed=0, mean=True):
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal((order, n_inputs, n_inputs))
    for k in range(order):
        coefficients[k] *= 0.7 / (order * np.linalg.norm(coefficients[k], 2))
    factor = 0.4 * rng.standard_normal((n_inputs, n_inputs)) + np.eye(n_inputs)
    centre = rng.standard_normal(n_inputs) if mean else None
    return GaussianVAR(coefficients, factor @ factor.T, centre)


# -- the law ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 6])
def test_log_density_is_that_of_the_joint_normal_law(order, n_steps):
    chain = make_chain(order, 2)
    X = chain.sample(4, n_steps, 1)
    covariance = np.linalg.inv(chain.joint_precision(n_steps))
    law = scipy.stats.multivariate_normal(np.tile(chain.mean, n_steps), covariance)
    expected = np.atleast_1d(law.logpdf(X.reshape(4, -1)))
    # SciPy inverts the inverse by its eigenvalues, which loses a few digits more.
    np.testing.assert_allclose(chain.log_density(X), expected, rtol=INVERSES)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_stationary_covariance_solves_the_lyapunov_equation(order):
    chain = make_chain(order, 2)
    p, d = order, 2
    companion = np.eye(p * d, k=-d)
    companion[:d] = np.concatenate(chain.coefficients, axis=1)
    noise = np.zeros((p * d, p * d))
    noise[:d, :d] = chain.innovation_covariance
    expected = scipy.linalg.solve_discrete_lyapunov(companion, noise)
    np.testing.assert_allclose(
        chain.stationary_covariance, expected[:d, :d], rtol=INVERSES, atol=INVERSES
    )
    oldest_first = np.arange(p * d).reshape(p, d)[::-1].ravel()
    reordered = expected[np.ix_(oldest_first, oldest_first)]
    first_steps = np.linalg.inv(chain.joint_precision(p))
    np.testing.assert_allclose(first_steps, reordered, rtol=INVERSES, atol=INVERSES)


def test_stationary_covariance_close_to_a_unit_root():
    phi = 1 - 1e-6
    chain = GaussianVAR([[phi]], [[1.0]])
    assert chain.stationary_covariance[0, 0] == pytest.approx(1 / (1 - phi**2), rel=INVERSES)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_samples_have_the_moments_of_the_law(order):
    chain = make_chain(order, 2, seed=3)
    n_sequences, n_steps = 20_000, 4
    X = chain.sample(n_sequences, n_steps, 5).reshape(n_sequences, -1)
    covariance = np.linalg.inv(chain.joint_precision(n_steps))
    variance = np.diag(covariance)
    mean_error = np.abs(X.mean(axis=0) - np.tile(chain.mean, n_steps))
    assert (mean_error < STANDARD_ERRORS * np.sqrt(variance / n_sequences)).all()
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / n_sequences)
    assert (np.abs(np.cov(X.T) - covariance) < STANDARD_ERRORS * spread).all()


def test_sample_is_reproducible_and_leaves_the_global_generator_alone():
    chain = make_chain()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = chain.sample(2, 3, 7)
    np.testing.assert_array_equal(first, chain.sample(2, 3, np.random.default_rng(7)))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert first.shape == (2, 3, 3)


def test_initial_covariance_replaces_the_stationary_law():
    start = np.array([[0.25, 0.0], [0.0, 0.5]])
    walk = GaussianVAR(np.eye(2), np.eye(2), initial_covariance=start)
    assert not walk.is_stationary
    X = walk.sample(50_000, 3, 0)
    for step, expected in ((0, start), (2, start + 2 * np.eye(2))):
        variance = np.diag(expected)
        spread = np.sqrt((np.outer(variance, variance) + expected**2) / 50_000)
        assert (np.abs(np.cov(X[:, step].T) - expected) < STANDARD_ERRORS * spread).all()
    joint = np.linalg.inv(walk.joint_precision(2))
    np.testing.assert_allclose(joint[2:, 2:], start + np.eye(2), atol=ALGEBRA)


def test_gives_everything_that_can_be_asked_of_a_law():
    chain = make_chain()
    assert require(chain, order=99, hermite=True, edges=True) is chain
    assert chain.context == (1, 1)


def test_is_immutable_and_survives_pickling():
    chain = make_chain(2)
    with pytest.raises(AttributeError):
        chain.mean = np.zeros(3)
    for array in (chain.coefficients, chain.mean, chain.precision, chain.precision_blocks()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
    copy = pickle.loads(pickle.dumps(chain))
    X = chain.sample(3, 4, 0)
    np.testing.assert_array_equal(copy.log_density(X), chain.log_density(X))


def test_arguments_are_copied():
    coefficients = np.array([[0.5]])
    chain = GaussianVAR(coefficients, [[1.0]])
    coefficients[0, 0] = 9.0
    assert chain.coefficients[0, 0, 0] == 0.5


# -- scores on batches --------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_scores_of_ragged_sequences_equal_those_of_each_alone(order):
    chain = make_chain(order, 2)
    lengths = [1, 5, 2, 1, 3, 8, 1]
    parts = [chain.sample(1, n, n)[0] for n in lengths]
    together = chain.scores(as_sequences(parts).whole())
    alone = np.concatenate([chain.scores(as_sequences(part).whole()) for part in parts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=ALGEBRA)
    joint = [
        ((part - chain.mean).ravel() @ chain.joint_precision(len(part))).reshape(part.shape)
        for part in parts
    ]
    np.testing.assert_allclose(together, np.concatenate(joint), rtol=0, atol=ALGEBRA)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("segment", [3, 4, 7])
def test_scores_of_segments_with_context_equal_those_of_whole_sequences(order, segment):
    chain = make_chain(order, 2)
    data = as_sequences([chain.sample(1, n, n)[0] for n in (23, 2, 9, 1)])
    whole = chain.scores(data.whole())
    whole_types = chain.boundary_types(data.whole())
    scores, types = [], []
    before, after = chain.context
    for batch in data.batches(5, segment=segment, before=before, after=after):
        scores.append(chain.scores(batch)[batch.counted])
        types.append(chain.boundary_types(batch)[batch.counted])
    np.testing.assert_allclose(np.concatenate(scores), whole, rtol=0, atol=ALGEBRA)
    np.testing.assert_array_equal(np.concatenate(types), whole_types)


def test_one_more_row_of_context_gives_the_score_of_the_row_before():
    """What the joint score of neighbours needs at the head of a segment."""
    chain = make_chain(2, 2)
    data = as_sequences(chain.sample(1, 40, 0)[0])
    whole = chain.scores(data.whole())
    for batch in data.batches(10, segment=10, before=3, after=2):
        rows = np.arange(batch.n_rows)[batch.counted]
        step = rows + batch.first_step[0]
        inside = step > 0
        np.testing.assert_allclose(
            chain.scores(batch)[rows[inside] - 1], whole[step[inside] - 1], rtol=0, atol=ALGEBRA
        )


def test_context_rows_without_neighbours_score_zero():
    chain = make_chain(1, 2)
    batches = list(as_sequences(chain.sample(1, 9, 0)[0]).batches(3, segment=3, before=1, after=1))
    assert not chain.scores(batches[1])[[0, -1]].any()


@pytest.mark.parametrize(("before", "after", "word"), [(0, 2, "before"), (2, 1, "after")])
def test_missing_context_is_refused(before, after, word):
    chain = make_chain(2, 2)
    batches = list(
        as_sequences(np.zeros((20, 2))).batches(5, segment=5, before=before, after=after)
    )
    with pytest.raises(ValueError, match=f"context {word}"):
        chain.scores(batches[1])


def test_scores_of_one_sequence_do_not_depend_on_another():
    chain = make_chain(2, 2)
    X = chain.sample(3, 4, 0)
    changed = X.copy()
    changed[1] += 100.0
    before, after = (chain.scores(as_sequences(x).whole()).reshape(X.shape) for x in (X, changed))
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])


def test_boundary_types_are_numbered_from_the_interior():
    chain = make_chain(1, 2)
    batch = as_sequences([np.zeros((4, 2)), np.zeros((1, 2))]).whole()
    assert chain.boundary_types(batch).tolist() == [2, 0, 0, 1, 3]
    assert [chain.boundary_name(k) for k in range(chain.n_boundary_types)] == [
        "interior",
        "last",
        "first",
        "only step",
    ]
    assert chain.precision_blocks(0).shape == (4, 2, 2)
    higher = make_chain(2, 2)
    assert higher.n_boundary_types == 9
    assert higher.boundary_name(0) == "interior"
    assert higher.boundary_name(1) == "last - 1"
    assert higher.boundary_name(6) == "first"


def test_precision_block_outside_the_sequence_is_refused():
    with pytest.raises(ValueError, match="no neighbour"):
        make_chain().precision_block(0, 3, lag=1)
    assert not make_chain().precision_block(5, 5, lag=2).any()


# -- estimation ---------------------------------------------------------------------------------


def naive_fit(parts, order):
    """Least squares with an intercept, window by window."""
    windows = [(x[t], x[t - order : t][::-1].ravel()) for x in parts for t in range(order, len(x))]
    y, past = (np.array(v) for v in zip(*windows, strict=True))
    design = np.column_stack((past, np.ones(len(past))))
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    residuals = y - design @ solution
    d = y.shape[1]
    phi = solution[:-1].T.reshape(d, order, d).transpose(1, 0, 2)
    mean = np.linalg.solve(np.eye(d) - phi.sum(axis=0), solution[-1])
    return phi, residuals.T @ residuals / len(y), mean


@pytest.mark.parametrize("order", [1, 2, 3])
def test_fit_is_least_squares_within_sequences(order):
    chain = make_chain(order, 2)
    parts = [chain.sample(1, n, n)[0] for n in (60, 1, 2, 35, 3)]
    fitted = GaussianVAR.fit(parts, order=order)
    phi, sigma, mean = naive_fit(parts, order)
    np.testing.assert_allclose(fitted.coefficients, phi, atol=NORMAL_EQUATIONS)
    np.testing.assert_allclose(fitted.innovation_covariance, sigma, atol=NORMAL_EQUATIONS)
    np.testing.assert_allclose(fitted.mean, mean, atol=NORMAL_EQUATIONS)


def test_fit_of_order_zero_is_mean_and_covariance():
    x = np.random.default_rng(0).standard_normal((50, 2)) + 3
    fitted = GaussianVAR.fit(x, order=0)
    assert fitted.coefficients.shape == (0, 2, 2)
    np.testing.assert_allclose(fitted.mean, x.mean(axis=0))
    np.testing.assert_allclose(fitted.innovation_covariance, np.cov(x.T, bias=True))


def test_fit_converges_at_the_root_n_rate():
    chain = make_chain(1, 3)
    sizes = (1_000, 16_000)
    errors = [
        np.sqrt(
            np.mean(
                [
                    np.sum(
                        (
                            GaussianVAR.fit(chain.sample(n // 10, 10, s)).coefficients
                            - chain.coefficients
                        )
                        ** 2
                    )
                    for s in range(8)
                ]
            )
        )
        for n in sizes
    ]
    slope = np.log(errors[1] / errors[0]) / np.log(sizes[1] / sizes[0])
    assert slope == pytest.approx(-0.5, abs=SLOPE)


def test_fit_enforces_the_moments_of_interior_scores():
    """Least squares makes mean(s), E[s x^T] and E[s s^T] right whatever the inputs are."""
    x = np.random.default_rng(0).exponential(size=(20_000, 2))
    fitted = GaussianVAR.fit(x)
    s = fitted.scores(as_sequences(x).whole())[1:-1]
    centred = (x - x.mean(axis=0))[1:-1]
    np.testing.assert_allclose(s.mean(axis=0), 0, atol=MEAN_END_EFFECT)
    np.testing.assert_allclose(s.T @ centred / len(s), np.eye(2), atol=PRODUCT_END_EFFECT)
    np.testing.assert_allclose(
        s.T @ s / len(s), fitted.precision_blocks()[0], atol=PRODUCT_END_EFFECT
    )


@pytest.mark.parametrize("initial", ["stationary", "data"])
def test_fit_recovers_chains_that_start_from_rest(initial):
    rng = np.random.default_rng(1)
    x = np.zeros((400, 20, 2))
    x[:, 0] = 0.1 * rng.standard_normal((400, 2))
    phi = np.array([[0.9, 0.1], [0.0, 0.8]])
    for t in range(1, 20):
        x[:, t] = x[:, t - 1] @ phi.T + rng.standard_normal((400, 2))
    fitted = GaussianVAR.fit(x, initial=initial)
    assert np.abs(fitted.coefficients[0] - phi).max() < COEFFICIENTS
    if initial == "data":
        offset = x[:, 0] - fitted.mean
        expected = offset.T @ offset / 400
        np.testing.assert_allclose(fitted.initial_covariance, expected, atol=SUMS)
    else:
        assert fitted.initial_covariance is None


def test_fit_is_invariant_to_the_order_of_sequences():
    chain = make_chain(2, 2)
    parts = [chain.sample(1, n, n)[0] for n in (30, 7, 12, 25)]
    first, second = GaussianVAR.fit(parts, order=2), GaussianVAR.fit(parts[::-1], order=2)
    np.testing.assert_allclose(first.coefficients, second.coefficients, atol=ALGEBRA)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_fit_is_equivariant_to_units_and_offsets(scale):
    chain = make_chain(1, 2)
    x = chain.sample(20, 30, 0)
    units = np.array([1.0, scale])
    offset = np.array([1e4, -1e4 * scale])
    plain, moved = GaussianVAR.fit(x), GaussianVAR.fit(x * units + offset)
    expected = plain.coefficients[0] * units[:, None] / units
    np.testing.assert_allclose(moved.coefficients[0] / expected, 1, rtol=OFFSET)
    np.testing.assert_allclose((moved.mean - offset) / units, plain.mean, rtol=0, atol=OFFSET)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda x: x.astype(np.float32), id="float32"),
        pytest.param(np.asfortranarray, id="fortran"),
        pytest.param(lambda x: np.repeat(x, 2, axis=1)[:, ::2], id="strided"),
        pytest.param(list, id="list"),
    ],
)
def test_forms_and_layouts_of_inputs_do_not_matter(form):
    x = make_chain(1, 2).sample(15, 20, 0).astype(np.float32).astype(np.float64)
    given = form(x)
    if isinstance(given, np.ndarray):
        given.flags.writeable = False
    expected, fitted = GaussianVAR.fit(x), GaussianVAR.fit(given)
    np.testing.assert_allclose(fitted.coefficients, expected.coefficients, atol=ALGEBRA)
    np.testing.assert_allclose(fitted.log_density(given), fitted.log_density(x), atol=INVERSES)
    flat = GaussianVAR.fit(x.reshape(-1, 2), lengths=[20] * 15)
    np.testing.assert_allclose(flat.coefficients, expected.coefficients, atol=ALGEBRA)


def test_long_sequences_are_fitted_in_segments(monkeypatch):
    x = make_chain(2, 2).sample(2, 500, 0)
    expected = GaussianVAR.fit(x, order=2)
    monkeypatch.setattr("gloree.engine._source.BATCH_ROWS", 64)
    fitted = GaussianVAR.fit(x, order=2)
    np.testing.assert_allclose(fitted.coefficients, expected.coefficients, atol=ALGEBRA)
    np.testing.assert_allclose(fitted.log_density(x), expected.log_density(x), atol=LOG_DENSITIES)


def test_from_moments_equals_fit():
    x = make_chain(1, 2).sample(10, 20, 0)
    moments = LagMoments.identity(1, 2).merge(lag_moments(as_sequences(x).whole(), 1))
    np.testing.assert_allclose(
        GaussianVAR.from_moments(moments).coefficients, GaussianVAR.fit(x).coefficients, atol=SUMS
    )


# -- refusals -----------------------------------------------------------------------------------


def random_walks(n_sequences=50, n_steps=40):
    return np.random.default_rng(2).standard_normal((n_sequences, n_steps, 2)).cumsum(axis=1) * 2


def test_fit_refuses_explosive_inputs_with_advice():
    x = 1.2 ** np.arange(30)[:, np.newaxis] * (1 + 0.01 * np.random.default_rng(0).random((30, 1)))
    with pytest.raises(NonStationaryChainError, match=r"spectral radius 1\.1.*[Dd]ifference"):
        GaussianVAR.fit(x)
    moments = lag_moments(as_sequences(x).whole(), 1)
    chain = GaussianVAR.from_moments(moments, require_stationary=False)
    assert not chain.is_stationary
    assert chain.spectral_radius > 1


def test_initial_data_accepts_chains_without_a_stationary_law():
    explosive = GaussianVAR([[1.05]], [[1.0]], initial_covariance=[[1.0]])
    x = explosive.sample(200, 30, 0)
    with pytest.raises(NonStationaryChainError):
        GaussianVAR.fit(x)
    fitted = GaussianVAR.fit(x, initial="data")
    assert not fitted.is_stationary
    assert fitted.coefficients[0, 0, 0] == pytest.approx(1.05, abs=UNSTABLE_COEFFICIENT)
    assert np.isfinite(fitted.log_density(x)).all()


def test_everything_that_needs_the_stationary_law_says_so():
    walk = GaussianVAR(np.eye(2), np.eye(2))
    x = np.zeros((1, 3, 2))
    for action in (
        lambda: walk.sample(1, 3),
        lambda: walk.log_density(x),
        lambda: walk.scores(as_sequences(x).whole()),
        lambda: walk.stationary_covariance,
        lambda: walk.precision_blocks(),
    ):
        with pytest.raises(NonStationaryChainError, match="initial_covariance"):
            action()
    # Interior blocks exist all the same.
    assert walk.precision_block(3, 3).shape == (2, 2)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_fit_refuses_too_few_steps(order):
    with pytest.raises(ValueError, match="at least"):
        GaussianVAR.fit(np.random.default_rng(0).random((3 * (order + 1), 3)), order=order)
    with pytest.raises(ValueError, match="0 steps"):
        GaussianVAR.fit(np.random.default_rng(0).random((50, 1, 2)))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_fit_names_constant_columns(value):
    x = np.random.default_rng(0).standard_normal((10, 20, 3))
    x[..., 1] = value
    with pytest.raises(ValueError, match=r"columns \[1\] of `X` are constant"):
        GaussianVAR.fit(x)


def test_fit_names_collinear_columns_and_their_condition():
    x = np.random.default_rng(0).standard_normal((200, 4))
    x[:, 3] = x[:, 0] - 2 * x[:, 2]
    with pytest.raises(ValueError, match=r"columns \[0, 2, 3\].*same step.*condition"):
        GaussianVAR.fit(x)
    delayed = np.column_stack((x[1:, 0], x[:-1, 0]))
    with pytest.raises(ValueError, match=r"columns \[0, 1\].*delayed"):
        GaussianVAR.fit(delayed)


def test_fit_accepts_badly_scaled_but_independent_columns():
    x = np.random.default_rng(0).standard_normal((500, 3)) * [1e-8, 1.0, 1e8]
    assert GaussianVAR.fit(x).is_stationary


def test_fit_refuses_missing_values():
    x = np.zeros((5, 4, 2))
    x[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="sequence 3, step 2, column 1"):
        GaussianVAR.fit(x)


@pytest.mark.parametrize("order", [-1, 1.5, True, "1"])
def test_fit_refuses_bad_orders(order):
    with pytest.raises(ValueError, match="`order`"):
        GaussianVAR.fit(np.zeros((9, 1)), order=order)


def test_fit_refuses_bad_initial():
    x = np.random.default_rng(0).standard_normal((50, 2))
    with pytest.raises(ValueError, match="'stationary' or 'data'"):
        GaussianVAR.fit(x, initial="rest")
    with pytest.raises(ValueError, match="more than 2 sequences"):
        GaussianVAR.fit(x, initial="data")
    same_start = np.random.default_rng(0).standard_normal((30, 10, 2))
    same_start[:, 0] = 0.0
    with pytest.raises(ValueError, match="start from the same point"):
        GaussianVAR.fit(same_start, initial="data")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0.5, 0.1]], np.eye(2)), ValueError, "`coefficients` has shape"),
        (([[0.5]], np.eye(2)), ValueError, "`innovation_covariance` has shape"),
        (([[0.5]], [[-1.0]]), ValueError, "not positive definite"),
        ((np.eye(2) / 2, [[1.0, 0.9], [0.1, 1.0]]), ValueError, "not symmetric"),
        (([[0.5]], [[1.0]], [1.0, 2.0]), ValueError, "`mean` has shape"),
        (([[np.nan]], [[1.0]]), ValueError, "`coefficients` holds NaN"),
        (([["a"]], [[1.0]]), TypeError, "`coefficients` has dtype"),
    ],
)
def test_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        GaussianVAR(*arguments)


def test_constructor_refuses_bad_initial_covariances():
    with pytest.raises(ValueError, match=r"expected \(4, 4\)"):
        GaussianVAR(np.zeros((2, 2, 2)), np.eye(2), initial_covariance=np.eye(2))
    with pytest.raises(ValueError, match="order 0"):
        GaussianVAR(np.zeros((0, 1, 1)), [[1.0]], initial_covariance=[[1.0]])


def test_wrong_number_of_inputs_is_refused():
    with pytest.raises(ValueError, match="`X` has 3 columns"):
        make_chain(1, 2).log_density(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="`n_steps` is 0"):
        make_chain().sample(1, 0)

"""GLOREE and GLOREE-B: exact on population moments, and every step against its definition.

Expectations are sums over Gauss-Hermite nodes of two steps, exact for these polynomials.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from helpers import quadrature
from helpers.generators import stable_chain
from helpers.marks import first_of

from gloree import metrics, paper
from gloree.activations import Polynomial
from gloree.chains import GaussianVAR, LawError, NonlinearAR, StudentVAR
from gloree.datasets import make_chain, random_brnn, random_rnn
from gloree.models import BRNN, IORNN, ExplosionError
from gloree.moments import cross_moment_sums
from gloree.paper import error_sums, rank_one_entries, second_moment_sums
from gloree.paper._moments import hermite_of_several, indices_of_units
from gloree.score_functions import hermite_tensor, partial_score
from gloree.sequences import as_sequences

# The criterion: relative error of every weight matrix on population moments.
RECOVERY = 1e-8

# Sums of some thousand products, each with a relative error of 1e-16 times a condition of 1e4.
ALGEBRA = 1e-10


@dataclass
class PopulationMoments:
    """Moments of a network under a Gaussian chain, by quadrature over two steps."""

    network: object
    law: GaussianVAR
    degree: int

    @property
    def batch(self):
        # the output of a step has degree l^2 in the inputs of the step beside it
        nodes, weights = quadrature.grid(self.law, 2, 2 * self.degree**2)
        data = as_sequences(nodes, self.network.predict(nodes))
        return replace(data.whole(), weights=np.repeat(weights, 2))

    def first(self):
        return cross_moment_sums(self.batch, self.law, self.degree).finalize()

    def second(self, dual, readout, shift):
        sums = second_moment_sums(self.batch, self.law, dual, readout, self.degree, shift)
        return sums.finalize()

    def error(self, model):
        try:
            return error_sums(self.batch, model).mean
        except ExplosionError:
            return np.inf


def network(seed, degree, size=2, leading=1.0):
    activation = Polynomial([0.0] * degree + [leading])
    rng = np.random.default_rng(seed)
    A1 = rng.standard_normal((size, size)) + 2 * np.eye(size)
    A1 /= np.linalg.norm(A1, axis=1, keepdims=True)
    A2 = rng.standard_normal((size, size)) + 2 * np.eye(size)
    U = 0.4 * rng.standard_normal((size, size))
    return IORNN(A1, U, A2, activation=activation)


def two_way(seed, degree, forward, backward):
    size = forward + backward
    one = network(seed, degree, size)
    U = one.recurrent_weights
    ahead, behind = slice(0, forward), slice(forward, size)
    A1 = one.input_weights
    return BRNN(
        A1[ahead],
        U[ahead, ahead],
        A1[behind],
        U[behind, behind],
        one.output_weights,
        activation=one.activation,
    )


def recovered(truth, degree, seed, **options):
    chain = stable_chain(seed, truth.n_inputs)
    moments = PopulationMoments(truth, chain, degree)
    return paper.recover(moments, degree=degree, random_state=seed, **options)


def assert_recovered(fit, truth):
    errors = metrics.weight_errors(fit.model, truth)
    for name, error in errors.items():
        assert error <= RECOVERY, (name, error)


CASES = [(2, 2, 1.0), (2, 3, 1.0), (2, 2, -0.7), (3, 2, 1.0), (3, 2, 0.5)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("degree", "size", "leading"), CASES)
def test_gloree_is_exact_on_population_moments(degree, size, leading, seed):
    truth = network(seed, degree, size, leading)
    # whitening by combinations of slices needs a definite one, which loadings may not have
    fit = recovered(truth, degree, seed, n_hidden=size, leading=leading, method="least-squares")
    assert_recovered(fit, truth)


@pytest.mark.parametrize("degree", [2, 3])
def test_gloree_with_the_published_decomposition_is_exact_too(degree):
    exact = 0
    for seed in range(6):
        truth = network(seed, degree)
        fit = recovered(truth, degree, seed, n_hidden=2)
        if fit.decomposition.status.ok:
            assert_recovered(fit, truth)
            exact += 1
    assert exact >= 4


@pytest.mark.parametrize("seed", first_of(range(4), 2))
@pytest.mark.parametrize(("degree", "sizes"), [(2, (1, 1)), (2, (2, 1)), (3, (1, 1))])
def test_gloree_b_is_exact_on_population_moments(degree, sizes, seed):
    truth = two_way(seed, degree, *sizes)
    for asked in (sizes, sum(sizes)):
        fit = recovered(truth, degree, seed, n_hidden=asked, both_ways=True, method="least-squares")
        assert fit.forward.sum() == sizes[0]
        # a unit of one chain has no part in the moment of the other
        assert np.abs(fit.direction_ratios - fit.forward).max() < 1e-6
        assert_recovered(fit, truth)


# -- the steps ---------------------------------------------------------------------------------


def test_hermite_polynomials_of_several_variables_are_entries_of_the_tensor():
    rng = np.random.default_rng(0)
    beta, root = rng.standard_normal((5, 3)), rng.standard_normal((3, 3))
    sigma = root @ root.T
    for order in (1, 2, 3, 4, 5):
        tensor = hermite_tensor(beta, sigma, order)
        places = list(product(range(3), repeat=order))
        powers = [tuple(place.count(m) for m in range(3)) for place in places]
        found = hermite_of_several(beta, sigma, powers).reshape(tensor.shape)
        np.testing.assert_allclose(found, tensor, rtol=ALGEBRA, atol=ALGEBRA)


@pytest.mark.parametrize("shift", [-1, 1])
def test_second_moment_is_the_contracted_average_of_score_tensors(shift):
    rng = np.random.default_rng(1)
    chain = stable_chain(1, 3)
    X, Y = chain.sample(4, 5, random_state=0), rng.standard_normal((4, 5, 2))
    dual, readout = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    data = as_sequences(X, Y)
    found = second_moment_sums(data.whole(), chain, dual, readout, 2, shift)
    tensors = partial_score(chain, X, 4)
    total, count = np.zeros((2, 3)), 0
    for s in range(4):
        for t in range(5):
            if 0 <= t + shift < 5:
                count += 1
                for column, (m, n) in enumerate(indices_of_units(2, 2)):
                    value = np.einsum(
                        "abcd,a,b,c,d", tensors[s, t + shift], dual[m], dual[m], dual[n], dual[n]
                    )
                    total[:, column] += (Y[s, t] @ readout) * value
    assert found.n_rows == count
    np.testing.assert_allclose(found.moment, total, rtol=ALGEBRA)
    # cut into pieces, with context
    before, after = chain.context
    pieces = [
        second_moment_sums(batch, chain, dual, readout, 2, shift)
        for batch in data.batches(3, segment=2, before=before + 1, after=after + 1)
    ]
    assert len(pieces) > 4
    merged = pieces[0]
    for piece in pieces[1:]:
        merged = merged.merge(piece)
    np.testing.assert_allclose(merged.finalize(), found.finalize(), rtol=ALGEBRA, atol=ALGEBRA)


def test_laws_that_are_not_gaussian_have_the_same_second_moment():
    phi, sigma = np.array([[0.4, 0.2], [-0.1, 0.3]]), np.array([[1.0, 0.3], [0.3, 0.8]])
    chain = GaussianVAR(phi, sigma)
    same = NonlinearAR(lambda x: x @ phi.T, sigma, initial_covariance=chain.stationary_covariance)
    rng = np.random.default_rng(0)
    data = as_sequences(chain.sample(50, 4, random_state=0), rng.standard_normal((50, 4, 2)))
    dual, readout = rng.standard_normal((2, 2, 2))
    for shift in (-1, 1):
        first, second = (
            second_moment_sums(data.whole(), law, dual, readout, 2, shift).finalize()
            for law in (chain, same)
        )
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-9)


def test_the_reshaped_moment_is_not_the_unsymmetrised_form():
    """E[y S_4(t-1)] holds sym(R_i (x) R_i), and R_i (x) R_i differs from it."""
    misfits = []
    for seed in range(20):
        truth = network(seed, 2, 3)
        A, U = truth.input_weights, truth.recurrent_weights
        R = np.einsum("ij,ja,jb->iab", U, A, A)
        plain = np.einsum("iab,icd->iabcd", R, R)
        pairs = [plain.transpose(0, *axes) for axes in ((1, 2, 3, 4), (1, 3, 2, 4), (1, 4, 2, 3))]
        symmetric = sum(pairs) / 3
        misfits.append(np.linalg.norm(plain - symmetric) / np.linalg.norm(symmetric))
        # contracted along dual vectors the two differ in every pair of units
        dual = np.linalg.inv(A).T
        seen = np.einsum("iabcd,ma,mb,nc,nd->imn", symmetric, dual, dual, dual, dual)
        moment = np.stack([24 * seen[:, m, n] for m, n in indices_of_units(3, 2)], axis=1)
        entries = rank_one_entries(moment, 2, 1.0)
        np.testing.assert_allclose(entries, np.einsum("im,in->imn", U, U), atol=ALGEBRA)
        assert np.abs(seen - np.einsum("im,in->imn", U, U)).max() > 1e-3
    assert min(misfits) > 0.01


@pytest.mark.slow
def test_errors_fall_like_one_over_the_root_of_n():
    """From samples: the slope of log median error of all weights over log N is -1/2."""
    truth = random_rnn(3, 2, 2, recurrence_norm=0.3, random_state=1)
    chain = make_chain(3, random_state=1)
    sizes, errors = [10_000, 160_000], []
    for n in sizes:
        found = []
        for seed in range(8):
            X = chain.sample(n, 3, random_state=seed)
            Y = truth.simulate(X, noise=0.1, random_state=seed)
            fit = paper.gloree(X, Y, 2, law=chain, method="least-squares", random_state=0)
            each = metrics.weight_errors(fit.model, truth)
            found.append(
                [each[name] for name in ("input_weights", "recurrent_weights", "output_weights")]
            )
        errors.append(np.median(found, axis=0))
    slopes = np.log(errors[1] / errors[0]) / np.log(sizes[1] / sizes[0])
    # errors spread by a factor of two or so, a median of eight by 0.3: the slope has a standard
    # error of 0.3 sqrt(2) / log 16 = 0.15
    assert np.abs(slopes + 0.5).max() < 3 * 0.15


def test_laws_scores_and_arrays_serve():
    law = StudentVAR(0.3 * np.eye(2), np.eye(2), df=12)
    truth = network(0, 2).replace(recurrent_weights=0.1 * np.eye(2))
    X = law.sample(2000, 3, random_state=0)
    Y = truth.simulate(X, noise=0.1, random_state=0)
    own = tuple(partial_score(law, X, m) for m in (1, 2, 3, 4))
    first = paper.gloree(X, Y, 2, law=law, method="least-squares", random_state=0)
    second = paper.gloree(X, Y, 2, law=own, method="least-squares", random_state=0)
    np.testing.assert_allclose(first.first_moment, second.first_moment, atol=ALGEBRA)
    np.testing.assert_allclose(
        first.model.recurrent_weights, second.model.recurrent_weights, atol=1e-6
    )
    assert first.law is law
    assert paper.gloree(X, Y, 2, random_state=0, method="least-squares").law.order == 1


# -- what is refused ---------------------------------------------------------------------------

GIVEN = stable_chain(0, 2).sample(20, 4, random_state=0)
OUTPUTS = np.random.default_rng(0).standard_normal((20, 4, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_hidden": 3}, ValueError, "inverts A1 and A2"),
        ({"n_hidden": 0}, ValueError, "at least one unit"),
        ({"n_hidden": (1, 1)}, ValueError, "`n_hidden` is .1, 1., expected an integer$"),
        ({"n_hidden": 2, "degree": 1}, ValueError, "`degree` is 1"),
        ({"n_hidden": 2, "leading": 0.0}, ValueError, "`leading` is 0.0"),
        ({"n_hidden": 2, "leading": "one"}, ValueError, "`leading` is 'one', expected a number"),
        ({"n_hidden": 2, "method": "jennrich"}, ValueError, "`method` is 'jennrich'"),
        ({"n_hidden": 2, "law": lambda x: x}, LawError, "score of order l.2 = 4 asks"),
        ({"n_hidden": 2, "law": GIVEN[:, :3]}, ValueError, "`law` holds scores of order 1 of sha"),
        ({"n_hidden": 2, "law": 3}, TypeError, "no input law"),
        (
            {"n_hidden": 2, "law": StudentVAR([[0.5]], [[1.0]], 5)},
            ValueError,
            "`X` has 2 inputs, `law` has 1",
        ),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        paper.gloree(GIVEN, OUTPUTS, **arguments)


def test_sequences_of_a_single_step_have_no_recurrence_to_tell():
    chain = stable_chain(0, 2)
    X = chain.sample(200, 1, random_state=0)
    for both in (paper.gloree, paper.gloree_b):
        with pytest.raises(ValueError, match="all sequences have a single step"):
            both(X, np.concatenate((X**2, X), axis=2), 2, law=chain, method="least-squares")


def test_outputs_and_units_of_both_chains_are_checked():
    with pytest.raises(ValueError, match="`Y` is missing"):
        paper.gloree(GIVEN, None, 2)
    for asked in ((1, 1, 1), (1.0, 1), (-1, 2)):
        with pytest.raises(ValueError, match="`n_hidden` is"):
            paper.gloree_b(GIVEN, OUTPUTS, asked)


@pytest.mark.slow
def test_cubics_of_other_laws_are_refused_where_tensors_would_be_large():
    law = StudentVAR(0.3 * np.eye(5), np.eye(5), df=12)
    X = law.sample(20, 3, random_state=0)
    truth = random_rnn(5, 5, 5, activation="cubic", random_state=0)
    with pytest.raises(ValueError, match=r"score tensor of order 9 of 5 units has \d+ entries"):
        paper.gloree(X, truth.predict(X), 5, law=law, degree=3, method="least-squares")


def test_bidirectional_samples_are_fitted():
    truth = random_brnn(4, 1, 1, 3, recurrence_norm=0.3, random_state=0)
    chain = stable_chain(0, 4)
    X = chain.sample(6000, 3, random_state=0)
    Y = truth.simulate(X, noise=0.05, random_state=0)
    fit = paper.gloree_b(X, Y, (1, 1), law=chain, method="least-squares", random_state=0)
    assert isinstance(fit.model, BRNN)
    assert set(fit.second_moments) == {-1, 1}

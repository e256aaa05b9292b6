"""Standard errors and their degrees of freedom against loops over blocks, and whole matrices."""

import pickle
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from helpers.generators import forward_network, two_way_network
from helpers.marks import first_of
from scipy import linalg, stats

from gloree import SpectralRNNRegressor, datasets
from gloree.diagnostics import FitReport, PrecisionWarning
from gloree.engine import Engine, Source
from gloree.models import canonical_units
from gloree.refinement import (
    GaussNewton,
    HessianSums,
    Layout,
    RefinementStatus,
    Solution,
    SquaredError,
    Step,
    gradient_sums,
    hessian_sums,
    on_uncentred_inputs,
    standard_errors,
)
from gloree.refinement import _clusters as clusters
from gloree.refinement import _standard_errors as module
from gloree.refinement._clusters import (
    WHOLE,
    Clusters,
    ClusterSums,
    find_clusters,
    row_cluster_sums,
    segment_cluster_sums,
)
from gloree.refinement._curvature import _along
from gloree.refinement._standard_errors import inverse_root, joined, spread
from gloree.sequences import as_sequences

SERIAL = Engine("serial")
# Two exact algorithms for sums of a few hundred terms.
ALGEBRA = 1e-10
# Linear systems solved by two routes: normal equations square conditions of up to 1e4.
TWO_ROUTES = 1e-6
# A state forgets its start by |f'| |U| at each step: nothing is left of it after fifty.
FORGOTTEN = 1e-8

LENGTHS = (11, 4, 1, 9)
NETWORKS = {
    "biases": (forward_network(3, 2, 3), Layout(3, 2, 3)),
    "direct path": (
        forward_network(3, 2, 2, direct_weights=np.ones((3, 2))),
        Layout(3, 2, 2, direct=True),
    ),
    "cubic": (
        forward_network(
            3, 2, 2, activation="cubic", hidden_bias=np.zeros(2), output_bias=np.zeros(2)
        ),
        Layout(3, 2, 2, bias=False),
    ),
    "one output": (forward_network(2, 3, 1), Layout(2, 3, 1)),
    "both directions": (
        two_way_network(2, 1, direct=True),
        Layout(3, 3, 2, direct=True, n_backward=1),
    ),
    "backward only": (two_way_network(0, 2), Layout(3, 2, 2, n_backward=2)),
}


def make_data(name, lengths=LENGTHS, seed=1):
    model, layout = NETWORKS[name]
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, layout.n_inputs)) for n in lengths]
    Y = [model.predict(x) + rng.standard_normal((x.shape[0], layout.n_outputs)) for x in X]
    return model, layout, as_sequences(X, Y)


def close(actual, expected, tolerance=ALGEBRA):
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def jacobian(model, layout, x, y):
    """Derivatives of the predictions of one sequence by tangents, and its residuals."""
    step = 1e-6
    columns = [
        (layout.move(model, step * e).predict(x) - layout.move(model, -step * e).predict(x))
        / (2 * step)
        for e in np.eye(layout.size)
    ]
    return np.stack(columns, axis=2), y - model.predict(x)


# Central differences: rounding of 1e-16 over the step, of predictions of size 10.
DIFFERENCES = 1e-7


# ------------------------------------------------------------------------------ sums over clusters


@pytest.mark.parametrize("length", first_of([3, WHOLE], 5))
@pytest.mark.parametrize("name", NETWORKS)
def test_sums_over_blocks_are_those_of_a_loop_over_blocks(name, length):
    model, layout, data = make_data(name)
    found = row_cluster_sums(data.whole(), model, layout, length, hessians=True)
    labels, n_rows, scores, hessians = [], [], [], []
    lagged, squares = np.zeros(layout.size), np.zeros(layout.size)
    for sequence, (begin, n) in enumerate(zip(data.starts, LENGTHS, strict=False)):
        x, y = data.X[begin : begin + n], data.Y[begin : begin + n]
        J, r = jacobian(model, layout, x, y)
        s = np.einsum("tap,ta->tp", J, r)
        lagged += np.sum(s[1:] * s[:-1], axis=0)
        squares += np.sum(s**2, axis=0)
        for number in range(-(-n // min(length, n))):
            rows = slice(number * length, (number + 1) * length)
            labels.append((sequence, number))
            n_rows.append(len(s[rows]))
            scores.append(s[rows].sum(axis=0))
            hessians.append(np.einsum("tap,taq->pq", J[rows], J[rows]))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.n_rows, n_rows)
    close(found.scores, np.array(scores), DIFFERENCES)
    close(found.hessians, np.array(hessians), DIFFERENCES)
    close(found.lagged, lagged, DIFFERENCES)
    close(found.squares, squares, DIFFERENCES)


@pytest.mark.parametrize("name", ["biases", "both directions"])
def test_sums_of_all_blocks_are_those_of_the_other_passes(name):
    model, layout, data = make_data(name)
    batch = data.whole()
    found = row_cluster_sums(batch, model, layout, 2, hessians=True)
    close(found.scores.sum(axis=0), gradient_sums(batch, model, layout).gradient)
    close(found.hessians.sum(axis=0), hessian_sums(batch, model, layout).hessian)
    alone = segment_cluster_sums(batch, model, layout, WHOLE)
    np.testing.assert_array_equal(alone.labels[:, 0], range(len(LENGTHS)))
    close(alone.scores, found.coarser(WHOLE).scores)


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize("function", ["rows", "segments"])
def test_clusters_of_any_batches_add_to_those_of_the_whole(function, engine):
    model, layout, data = make_data("biases")
    if function == "rows":
        work = partial(row_cluster_sums, model=model, layout=layout, length=3, hessians=True)
    else:
        work = partial(segment_cluster_sums, model=model, layout=layout, length=WHOLE)
    whole = work(data.whole())
    total = Engine(engine, n_workers=2).run(work, Source(data, batch_size=4))
    for entry in fields(ClusterSums):
        close(getattr(total, entry.name), getattr(whole, entry.name))


def test_merging_of_clusters_does_not_depend_on_the_order():
    rng = np.random.default_rng(0)

    def part(labels):
        n = len(labels)
        whole = [rng.integers(0, 9, shape).astype(float) for shape in ((n,), (n, 2), (n, 2, 2))]
        return ClusterSums(np.array(labels), *whole, np.arange(2.0), np.arange(2.0))

    a, b, c = part([(0, 0), (0, 1)]), part([(0, 1), (2, 0)]), part([(1, 0), (2, 0), (3, 5)])
    first, second = a.merge(b).merge(c), c.merge(a.merge(b))
    for entry in fields(ClusterSums):
        np.testing.assert_array_equal(getattr(first, entry.name), getattr(second, entry.name))
    np.testing.assert_array_equal(first.labels, [(0, 0), (0, 1), (1, 0), (2, 0), (3, 5)])
    np.testing.assert_array_equal(first.scores[1], a.scores[1] + b.scores[0])
    copy = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy.scores, first.scores)


def make_truth(name="biases", n_sequences=4, n_steps=100, seed=0):
    """A source of a network's outputs with white noise, for the least-squares fit to it."""
    model, layout = NETWORKS[name]
    rng = np.random.default_rng(seed)
    X = 0.7 * rng.standard_normal((n_sequences, n_steps, layout.n_inputs))
    Y = model.predict(X) + 0.1 * rng.standard_normal((n_sequences, n_steps, layout.n_outputs))
    return model, layout, X, Y


def refined(model, layout, source):
    solver = GaussNewton(to_convergence=True)
    return solver.minimise(SquaredError(), model, layout, SERIAL, source)


def test_clusters_are_the_sequences_although_these_are_cut_into_segments(monkeypatch):
    model, layout, X, Y = make_truth(n_sequences=60, n_steps=130)
    whole = find_clusters(model, layout, SERIAL, Source(as_sequences(X, Y)))
    assert whole.coarse is None
    np.testing.assert_array_equal(whole.sums.labels[:, 0], range(60))
    cut = Source(as_sequences(X, Y), batch_size=70, segment=50, before=50)
    found = find_clusters(model, layout, SERIAL, cut)
    np.testing.assert_array_equal(found.sums.labels, whole.sums.labels)
    close(found.sums.scores, whole.sums.scores, FORGOTTEN)
    close(found.sums.hessians, whole.sums.hessians, FORGOTTEN)
    # the same by the adjoint, where there are more rows than sensitivities are found for
    monkeypatch.setattr(clusters, "ROWS_TIMES_WEIGHTS", 1)
    monkeypatch.setattr(clusters, "hessian_rows", lambda layout, n_rows: 1)
    adjoint = find_clusters(model, layout, SERIAL, cut)
    np.testing.assert_array_equal(adjoint.sums.labels, whole.sums.labels)
    close(adjoint.sums.scores, whole.sums.scores, FORGOTTEN)
    assert adjoint.sums.hessians.shape[1] == 0


def test_few_sequences_are_cut_into_blocks_of_the_root_of_their_steps():
    model, layout, X, Y = make_truth(n_sequences=4, n_steps=100)
    found = find_clusters(model, layout, SERIAL, Source(as_sequences(X, Y)))
    assert (found.length, found.sums.n_clusters, found.coarse.n_clusters) == (10, 40, 4)
    np.testing.assert_array_equal(found.sums.n_rows, 10)
    close(found.coarse.hessians.sum(axis=0), found.sums.hessians.sum(axis=0))
    alone = find_clusters(model, layout, SERIAL, Source(as_sequences(X[:1], Y[:1])))
    assert (alone.sums.n_clusters, alone.coarse) == (10, None)


def test_many_sequences_are_sampled_whole(monkeypatch):
    model, layout, X, Y = make_truth(n_sequences=300, n_steps=20)
    source = Source(as_sequences(X, Y), segment=6, before=6)
    monkeypatch.setattr(clusters, "SAMPLED", (50, 100))
    monkeypatch.setattr(clusters, "SAMPLED_ROWS", 75 * 20)
    found = find_clusters(model, layout, SERIAL, source)
    np.testing.assert_array_equal(found.sums.labels[:, 0], np.arange(75) * 4)
    np.testing.assert_array_equal(found.sums.n_rows, 20)
    assert found.share == pytest.approx(0.25)
    some = find_clusters(model, layout, SERIAL, replace(source, left_out=np.array([4, 5, 299])))
    assert (some.n_sequences, some.sums.n_clusters) == (297, 74)
    assert some.share == pytest.approx(74 / 297)


# ------------------------------------------------------------ variances and degrees of freedom


def linear_case(seed=0, counts=(9, 5, 7, 8), size=3):
    """Clusters of a linear model: rows, scores and matrices, and R with R R^T = H^-1."""
    rng = np.random.default_rng(seed)
    J = [rng.standard_normal((n, size)) for n in counts]
    whole = np.concatenate(J)
    noise = rng.standard_normal(whole.shape[0])
    residuals = noise - whole @ np.linalg.lstsq(whole, noise, rcond=None)[0]
    own = np.split(residuals, np.cumsum(counts)[:-1])
    sums = ClusterSums(
        np.column_stack((np.arange(len(counts)), np.zeros(len(counts), dtype=int))),
        np.array(counts, dtype=float),
        np.array([j.T @ r for j, r in zip(J, own, strict=True)]),
        np.array([j.T @ j for j in J]),
        np.zeros(size),
        np.zeros(size),
    )
    root = inverse_root(whole.T @ whole, np.zeros((0, size)))
    return sums, root, whole, residuals, np.repeat(np.arange(len(counts)), counts)


def test_variances_and_degrees_are_those_of_matrices_of_all_rows():
    r"""Bell and McCaffrey: residuals times (I - P_qq)^{-1/2}, and the covariance of the terms."""
    sums, root, J, residuals, owner = linear_case()
    H = np.linalg.inv(J.T @ J)
    close(root @ root.T, H)
    keep = np.eye(J.shape[0]) - J @ H @ J.T
    contrasts = np.random.default_rng(1).standard_normal((4, J.shape[1]))
    terms, found = spread(sums, root, contrasts @ root, J.shape[0])
    for i, c in enumerate(contrasts):
        columns = []
        for q in range(sums.n_clusters):
            rows = owner == q
            half = np.linalg.inv(linalg.sqrtm(keep[np.ix_(rows, rows)]).real)
            weight = np.zeros(J.shape[0])
            weight[rows] = half @ (J[rows] @ H @ c)
            columns.append(keep @ weight)
            assert terms[q, i] == pytest.approx(weight @ residuals, abs=ALGEBRA * 10)
        gamma = np.array(columns) @ np.array(columns).T
        assert np.trace(gamma) == pytest.approx(c @ H @ c)  # unbiased
        assert found[i] == pytest.approx(np.trace(gamma) ** 2 / np.sum(gamma**2))


def test_what_one_cluster_alone_determines_has_no_spread():
    sums, root, J, *_ = linear_case()
    only = sums.hessians.copy()
    only[1:, 2] = only[1:, :, 2] = 0.0
    root = inverse_root(only.sum(axis=0), np.zeros((0, 3)))
    scores = sums.scores * (np.arange(3) < 2)
    terms, found = spread(replace(sums, hessians=only, scores=scores), root, root, J.shape[0])
    np.testing.assert_array_equal(terms[:, 2], 0.0)
    assert found[2] == 0.0
    assert np.all(found[:2] > 1.0)


def test_degrees_of_equal_clusters_are_one_less_than_these():
    """The mean of G equal clusters: the t distribution of any textbook."""
    rng = np.random.default_rng(2)
    residuals = rng.standard_normal(6)
    residuals -= residuals.mean()
    one = np.ones((6, 1))
    sums = ClusterSums(
        np.column_stack((np.arange(6), np.zeros(6, dtype=int))), np.ones(6),
        residuals[:, None], one[:, :, None], np.zeros(1), np.zeros(1),
    )  # fmt: skip
    root = inverse_root(np.array([[6.0]]), np.zeros((0, 1)))
    terms, found = spread(sums, root, root, 6.0)
    assert found == pytest.approx([5.0])
    assert np.sum(terms**2) == pytest.approx(residuals.var(ddof=1) / 6)
    without = replace(sums, hessians=np.zeros((6, 0, 0)))
    terms, found = spread(without, root, root, 6.0)
    assert found == pytest.approx([5.0])
    assert np.sum(terms**2) == pytest.approx(residuals.var(ddof=1) / 6)


def test_larger_clusters_add_what_they_have_more():
    variance, few = np.array([2.0, 2.0]), np.array([3.0, 3.0])
    total, found = joined(variance, np.array([20.0, 20.0]), np.array([1.5, 6.0]), few)
    np.testing.assert_allclose(total, [2.0, 6.0])
    np.testing.assert_allclose(found, [20.0, 36.0 / (4.0 / 20.0 + 16.0 / 3.0)])


def test_a_weight_that_one_block_alone_determines_has_no_finite_error(monkeypatch):
    """Not a small one: there is nothing that its spread could be seen from."""
    model, layout = forward_network(2, 1, 1, activation="softplus"), Layout(2, 1, 1)
    rng = np.random.default_rng(3)
    J = rng.standard_normal((8, 12, layout.size))
    J[1:, :, 2] = 0.0
    scores = np.einsum("qtp,qt->qp", J, rng.standard_normal((8, 12)))
    sums = ClusterSums(
        np.column_stack((np.zeros(8, dtype=int), np.arange(8))), np.full(8, 12.0), scores,
        np.einsum("qtp,qtr->qpr", J, J), np.zeros(layout.size), np.zeros(layout.size),
    )  # fmt: skip
    there = Clusters(sums, sums.coarser(2), 1, 1.0, 12)
    monkeypatch.setattr(module, "find_clusters", lambda *_: there)
    H = HessianSums(96.0, sums.hessians.sum(axis=0))
    end = Solution(model, RefinementStatus.CONVERGED, 96.0, (Step(0.0, 1.0),), hessian=H)
    found = standard_errors(end, layout, SERIAL, None)
    infinite = [np.isinf(errors).ravel() for errors in found.weights.values()]
    np.testing.assert_array_equal(np.flatnonzero(np.isinf(np.diag(found.covariance))), [2])
    assert np.concatenate(infinite).sum() == 1
    assert not np.isnan(found.covariance).any()
    assert [each.category for each in found.findings] == [PrecisionWarning]
    assert "8 pieces of the data are too few" in found.findings[0].text


def test_a_weight_that_no_row_depends_on_has_an_infinite_error():
    """The first unit acts at first steps alone, so that its weight to itself never counts."""
    model = forward_network(2, 2, 2, activation="relu")
    A1 = np.array([[0.0, 1.0], [1.0, 0.0]])
    model = model.replace(input_weights=A1, hidden_bias=np.array([-50.0, 0.3]))
    X = np.random.default_rng(4).standard_normal((300, 6, 2))
    X[:, 0, 1] += 60.0
    Y = model.predict(X) + 0.1 * np.random.default_rng(5).standard_normal((300, 6, 2))
    layout, source = Layout(2, 2, 2), Source(as_sequences(X, Y))
    H = SERIAL.run(partial(hessian_sums, model=model, layout=layout), source)
    end = Solution(model, RefinementStatus.CONVERGED, 1800.0, (Step(0.0, 1.0),), hessian=H)
    found = standard_errors(end, layout, SERIAL, source)
    for name, errors in found.weights.items():
        unseen = np.zeros(errors.shape, dtype=bool)
        if name == "recurrent_weights":
            unseen[0] = True  # it is off whenever there is a state before it
        np.testing.assert_array_equal(np.isinf(errors), unseen)
    assert [str(each.text)[:60] for each in found.findings] == [
        "no row of the data depends on 2 of `recurrent_weights`: thes"
    ]


# ---------------------------------------------------------------------------------- the weights


def naive_errors(end, layout, X, Y, lengths):
    """Covariance of the parameter vector and degrees, by the matrices of all rows of a source."""
    parts = [jacobian(end.model, layout, x, y) for x, y in zip(X, Y, strict=True)]
    J = np.concatenate([each.reshape(-1, layout.size) for each, _ in parts])
    r = np.concatenate([each.ravel() for _, each in parts])
    C = layout.scale_constraints(end.model)
    K = np.linalg.inv(J.T @ J + C.T @ C)
    P = J @ K @ J.T
    found = []
    for length in lengths:
        step = np.arange(X.shape[1]) // length
        owner = (np.arange(X.shape[0])[:, None] * (step[-1] + 1) + step).ravel()
        owner = np.repeat(owner, layout.n_outputs)
        columns, terms = [], []
        for q in range(owner.max() + 1):
            rows = owner == q
            values, vectors = np.linalg.eigh(np.eye(rows.sum()) - P[np.ix_(rows, rows)])
            half = (vectors / np.sqrt(values)) @ vectors.T
            weights = np.zeros((layout.size, J.shape[0]))
            weights[:, rows] = K @ J[rows].T @ half
            columns.append(weights - weights @ P)
            terms.append(weights @ r)
        columns, terms = np.array(columns), np.array(terms)
        gamma = np.einsum("qcn,rcn->cqr", columns, columns)
        trace = np.einsum("cqq->c", gamma)
        found.append((terms, trace**2 / np.sum(gamma**2, axis=(1, 2))))
    return found


@pytest.mark.parametrize("name", ["biases", "cubic", "both directions"])
def test_standard_errors_are_those_of_blocks_and_of_sequences(name):
    model, layout, X, Y = make_truth(name, n_sequences=3, n_steps=64)
    source = Source(as_sequences(X, Y))
    end = refined(model, layout, source)
    found = standard_errors(end, layout, SERIAL, source)
    (terms, counts), (larger, few) = naive_errors(end, layout, X, Y, (8, 64))
    fine, coarse = np.sum(terms**2, axis=0), np.sum(larger**2, axis=0)
    total, expected = joined(fine, counts, coarse, few)
    free = fine > 1e-9 * fine.max()
    size = np.sqrt(np.where(free, total, 1.0))
    ratio = np.sqrt(total / np.where(free, fine, 1.0))
    covariance = terms.T @ terms * np.outer(ratio, ratio) / np.outer(size, size)
    mine = found.covariance / np.outer(size, size)
    np.testing.assert_allclose(mine[np.ix_(free, free)], covariance[np.ix_(free, free)], atol=1e-5)
    degrees = np.empty(layout.size)
    for weight, index in layout.indices.items():
        degrees[index] = found.degrees_of_freedom[weight]
        errors = np.sqrt(np.diag(found.covariance))[index]
        np.testing.assert_array_equal(found.weights[weight], errors)
    np.testing.assert_allclose(degrees[free], expected[free], rtol=1e-4)


def test_canonical_covariance_is_that_of_the_canonical_model():
    """Scales, signs and order are carried over to covariances as to standard errors."""
    model, layout, X, Y = make_truth("biases", n_sequences=3, n_steps=64)
    source = Source(as_sequences(X, Y))
    end = refined(model, layout, source)
    s = np.array([-1.7, 0.4])
    scaled = end.model.replace(
        input_weights=(s[:, None] * end.model.input_weights)[::-1],
        hidden_bias=(s * end.model.hidden_bias)[::-1],
        recurrent_weights=(s[:, None] * end.model.recurrent_weights / s[None, :] ** 2)[::-1, ::-1],
        output_weights=(end.model.output_weights / s[:, None] ** 2)[::-1],
    )
    before = standard_errors(replace(end, model=scaled), layout, SERIAL, source)
    units = canonical_units(scaled.input_weights, scaled.output_weights, scaled.activation)
    moved = before.canonical(units, layout)
    there = replace(end, model=scaled.canonical())
    expected = standard_errors(there, layout, SERIAL, source)
    scale = np.sqrt(np.diag(expected.covariance))
    both = np.outer(scale, scale)
    np.testing.assert_allclose(moved.covariance / both, expected.covariance / both, atol=TWO_ROUTES)
    for name, errors in expected.weights.items():
        np.testing.assert_allclose(moved.weights[name], errors, rtol=TWO_ROUTES)
        np.testing.assert_allclose(
            moved.degrees_of_freedom[name], expected.degrees_of_freedom[name], rtol=TWO_ROUTES
        )
    listed = np.concatenate([errors.ravel() for errors in moved.weights.values()])
    np.testing.assert_allclose(np.sqrt(np.diag(moved.listed(layout))), listed)


@pytest.mark.parametrize("name", ["direct path", "both directions"])
def test_errors_of_a_fit_to_centred_inputs_are_those_on_the_inputs_as_given(name):
    model, layout, X, Y = make_truth(name, n_sequences=3, n_steps=64)
    centre = np.array([0.5, -1.0, 0.25])
    source = Source(as_sequences(X, Y))
    end = refined(model, layout, source)
    expected = standard_errors(end, layout, SERIAL, source)
    columns = [part.columns for part in layout.directions]
    offsets = [
        end.model.input_weights[part.units][:, own] @ centre[own]
        for part, own in zip(layout.directions, columns, strict=True)
    ]
    shifted = end.model.replace(
        hidden_bias=end.model.hidden_bias + np.concatenate(offsets),
        output_bias=end.model.output_bias + centre @ end.model.direct_weights,
    )
    there = replace(source, centre=centre)
    end, reported = replace(end, model=shifted), on_uncentred_inputs(layout, centre)
    found = standard_errors(end, layout, SERIAL, there, reported=reported)
    for weight, errors in expected.weights.items():
        np.testing.assert_allclose(found.weights[weight], errors, rtol=1e-5, err_msg=weight)
        np.testing.assert_allclose(
            found.degrees_of_freedom[weight], expected.degrees_of_freedom[weight], rtol=1e-4
        )


def test_scores_without_matrices_count_by_their_rows(monkeypatch):
    """Many weights: blocks of equal length then have the leverage of their rows."""
    model, layout, X, Y = make_truth(n_sequences=3, n_steps=64)
    source = Source(as_sequences(X, Y))
    end = refined(model, layout, source)
    with_matrices = standard_errors(end, layout, SERIAL, source)
    monkeypatch.setattr(clusters, "MOST_NUMBERS", 1)
    found = standard_errors(end, layout, SERIAL, source)
    for name, errors in found.weights.items():
        # 23 of 24 blocks, and at best two more of three sequences
        assert np.all(found.degrees_of_freedom[name] <= 25)
        # leverage of some weights is that of a few rows
        assert np.all(errors < 1.5 * with_matrices.weights[name])
        assert np.all(errors > 0.3 * with_matrices.weights[name])


# --------------------------------------------------------------------------------- what is said


def findings_of(X, Y, model, layout):
    source = Source(as_sequences(X, Y))
    found = standard_errors(refined(model, layout, source), layout, SERIAL, source)
    return [each.text for each in found.findings if each.category is PrecisionWarning]


def test_offsets_of_sequences_are_seen_and_named():
    model, layout, X, Y = make_truth(n_sequences=4, n_steps=300)
    assert findings_of(X, Y, model, layout) == []
    offsets = 0.1 * np.random.default_rng(5).standard_normal((4, 1, layout.n_outputs))
    (text,) = findings_of(X, Y + offsets, model, layout)
    assert text.startswith("errors of whole sequences depend on each other")
    assert "rest on 4 sequences" in text


def test_offsets_make_the_intervals_of_the_biases_as_wide_as_sequences_say():
    model, layout, X, Y = make_truth(n_sequences=4, n_steps=300)
    source = Source(as_sequences(X, Y))
    before = standard_errors(refined(model, layout, source), layout, SERIAL, source)
    offsets = np.random.default_rng(5).standard_normal((4, 1, layout.n_outputs))
    source = Source(as_sequences(X, Y + offsets))
    after = standard_errors(refined(model, layout, source), layout, SERIAL, source)
    # the mean of four offsets: their standard deviation over two, and three degrees of freedom
    expected = offsets[:, 0].std(axis=0, ddof=1) / 2
    np.testing.assert_allclose(after.weights["output_bias"], expected, rtol=0.5)
    assert np.all(after.weights["output_bias"] > 5 * before.weights["output_bias"])
    assert np.all(after.degrees_of_freedom["output_bias"] < 5)


def test_a_record_whose_residuals_persist_is_named():
    model, layout, X, Y = make_truth(n_sequences=1, n_steps=400)
    noise = Y - model.predict(X)
    for t in range(1, 400):
        noise[:, t] += 0.95 * noise[:, t - 1]
    texts = findings_of(X, model.predict(X) + noise, model, layout)
    assert any(text.startswith("residuals persist") for text in texts)


def test_few_steps_for_many_weights_are_named():
    model, layout, X, Y = make_truth(n_sequences=1, n_steps=12)
    texts = findings_of(X, Y, model, layout)
    assert any("pieces of the data are too few" in text for text in texts)


def test_solutions_without_a_matrix_say_what_is_missing():
    model, layout, X, Y = make_truth()
    end = Solution(model, RefinementStatus.CONVERGED, 400.0, (Step(0.0, 1.0),))
    with pytest.raises(ValueError, match=r"has no J\^T J"):
        standard_errors(end, layout, SERIAL, Source(as_sequences(X, Y)))


def test_clusters_are_a_value():
    model, layout, X, Y = make_truth()
    found = find_clusters(model, layout, SERIAL, Source(as_sequences(X, Y)))
    assert isinstance(found, Clusters)
    assert found.share == 1.0


# --------------------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def fitted():
    X, Y, _, _ = datasets.make_rnn(5, 300, 3, 2, 2, random_state=0)
    return SpectralRNNRegressor(2, random_state=0).fit(X, Y)


def test_intervals_are_t_quantiles_around_the_weights(fitted):
    report = fitted.report_
    for level in (0.5, 0.95):
        intervals = report.intervals(level)
        assert set(intervals) == set(report.standard_errors)
        for name, (low, high) in intervals.items():
            weights = getattr(fitted.model_, name)
            np.testing.assert_array_equal(report.weights[name], weights)
            np.testing.assert_allclose((low + high) / 2, weights, atol=1e-12)
            quantile = stats.t.ppf((1 + level) / 2, report.degrees_of_freedom[name])
            np.testing.assert_allclose((high - low) / 2, quantile * report.standard_errors[name])


def test_covariance_of_the_report_is_in_the_order_of_its_standard_errors(fitted):
    report = fitted.report_
    errors = np.concatenate([each.ravel() for each in report.standard_errors.values()])
    np.testing.assert_allclose(np.sqrt(np.diag(report.covariance)), errors)
    np.testing.assert_allclose(report.covariance, report.covariance.T)
    correlation = report.covariance / np.outer(errors, errors)
    assert np.linalg.eigvalsh(correlation)[0] > -ALGEBRA


@pytest.mark.parametrize("level", [0.0, 1.0, 95, float("nan"), "a", None])
def test_levels_that_are_no_probability_are_refused(fitted, level):
    with pytest.raises(ValueError, match="`level`"):
        fitted.report_.intervals(level)


def test_reports_without_standard_errors_have_no_intervals():
    assert FitReport({}).intervals() == {}
    assert FitReport({}).covariance is None


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_standard_errors_do_not_depend_on_batches_or_engines(fitted, engine):
    X, Y, _, _ = datasets.make_rnn(5, 300, 3, 2, 2, random_state=0)
    other = SpectralRNNRegressor(2, random_state=0, engine=engine, batch_size=300).fit(X, Y)
    for name, errors in fitted.report_.standard_errors.items():
        np.testing.assert_allclose(
            other.report_.standard_errors[name], errors, rtol=1e-3, err_msg=name
        )


@pytest.mark.parametrize("name", ["biases", "both directions"])
def test_clusters_of_tensors_are_those_of_arrays(name):
    torch = pytest.importorskip("torch")
    model, layout, data = make_data(name)
    moved = as_sequences(torch.tensor(data.X), torch.tensor(data.Y), lengths=np.diff(data.starts))
    works = (
        partial(row_cluster_sums, model=model, layout=layout, length=3, hessians=True),
        partial(segment_cluster_sums, model=model, layout=layout, length=WHOLE),
    )
    for work in works:
        found, expected = work(moved.whole()), work(data.whole())
        for entry in fields(ClusterSums):
            close(getattr(found, entry.name), getattr(expected, entry.name))


def test_columns_without_curvature_have_no_coefficients():
    """A weight that nothing depends on, among those that others are regressed on."""
    block = np.diag([4.0, 0.0, 1.0])
    block[0, 2] = block[2, 0] = 1.0
    rows = np.array([[2.0], [0.0], [3.0]])
    found = _along(block, rows)
    assert found[1, 0] == 0.0
    np.testing.assert_allclose(block @ found, rows, atol=1e-12)

"""From sums to weights: dense least squares on an explicit Jacobian, and the errors users see."""

import numpy as np
import pytest
from helpers.generators import MONOMIALS, forward_network, ragged

from gloree.chains import GaussianVAR
from gloree.models import IORNN
from gloree.recurrence import (
    BatchAtWeights,
    Contraction,
    Cross,
    CrossSums,
    FreeWeights,
    InstrumentSums,
    Score,
    cross_update,
    instrument_update,
    linearised_sums,
    linearised_update,
    output_update,
    score_sums,
    solve_overlap,
)
from gloree.recurrence._higher_scores import check_score_method
from gloree.sequences import as_sequences
from gloree.states import residual_rows, run_states

# Normal equations against an orthogonal method: eps times the squared condition (1e3 at most).
NORMAL_EQUATIONS = 1e-8
# Their fit where the weights are not identified: the ridge and rounding decide along directions
# of which the design has about `RANK`.
UNIDENTIFIED, RANK = 1e-4, 1e-9
# A ridge that keeps singular sums solvable, and is not seen elsewhere.
NEXT_TO_NONE = 1e-14
# Residuals against regressors after such a fit, from weights right to `NORMAL_EQUATIONS`.
ORTHOGONAL = 1e-6
# Outputs that are exact up to rounding, times the condition of the system.
ZERO = 1e-10
ROUNDING = 1e-12
# Condition of a singular matrix, as rounding shows it.
SINGULAR = 1e15

LENGTHS = (30, 25, 1, 40, 2)


def make_model(degree=2, n_outputs=2, **options):
    return forward_network(3, 2, n_outputs, activation=MONOMIALS[degree], **options)


def make_batch(n_outputs=2):
    return as_sequences(*ragged(3, n_outputs, LENGTHS)).whole()


def explicit_jacobian(model, batch, *, recurrent, bias, output_bias, direct):
    """Change of every prediction with every unknown; the effect of U on later states left out.

    Columns: unit after unit (U_i, b_i), then output after output (A2[:, a], c_a, D[:, a]).
    """
    states = run_states(model, batch)
    slope = model.activation.derivative(states.z, 1)
    k, q = model.n_hidden, model.n_outputs
    rows = []
    for t in range(batch.n_rows):
        for a in range(q):
            row = []
            for i in range(k):
                gain = model.output_weights[i, a] * slope[t, i]
                row += [gain * h for h in states.previous[t]] if recurrent else []
                row += [gain] if bias else []
            for other in range(q):
                phi = [*states.h[t]]
                phi += [1.0] if output_bias else []
                phi += [*batch.X[t]] if direct else []
                row += [value if other == a else 0.0 for value in phi]
            rows.append(row)
    return np.array(rows)


def unpack(solution, model, *, recurrent, bias, output_bias, direct):
    k, q = model.n_hidden, model.n_outputs
    width = k * recurrent + bias
    units = solution[: k * width].reshape(k, width)
    outputs = solution[k * width :].reshape(q, -1)
    return {
        "recurrent": units[:, :k] if recurrent else np.zeros((k, k)),
        "bias": units[:, -1] if bias else np.zeros(k),
        "output": outputs[:, :k].T,
        "output_bias": outputs[:, k] if output_bias else np.zeros(q),
        "direct": outputs[:, k + output_bias :].T if direct else None,
    }


def assert_change(change, expected):
    for name, value in expected.items():
        if value is None:
            assert getattr(change, name) is None
        else:
            np.testing.assert_allclose(
                getattr(change, name), value, rtol=0, atol=NORMAL_EQUATIONS, err_msg=name
            )


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("output_bias", [True, False])
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("degree", [2, 3])
def test_linearised_update_is_dense_least_squares(degree, direct, output_bias, bias, recurrent):
    """A hidden bias of a parabola beside a direct path and U is another name for them: lstsq."""
    free = {"recurrent": recurrent, "bias": bias, "output_bias": output_bias, "direct": direct}
    model, batch = make_model(degree=degree, direct=direct), make_batch()
    J = explicit_jacobian(model, batch, **free)
    r = residual_rows(model, batch).ravel()
    solution, _, rank, _ = np.linalg.lstsq(J, r, rcond=RANK)
    sums = linearised_sums(batch, model, recurrent=recurrent, bias=bias, direct=direct)
    change = linearised_update(sums, model, bias=output_bias, ridge=NEXT_TO_NONE)
    if rank == J.shape[1]:
        assert_change(change, unpack(solution, model, **free))
    # identified or not, the fit is the same
    flat = np.concatenate(
        [
            np.column_stack([change.recurrent] * recurrent + [change.bias[:, None]] * bias).ravel()
            if recurrent or bias
            else np.zeros(0),
            np.vstack(
                [change.output]
                + [change.output_bias[None]] * output_bias
                + [change.direct if change.direct is not None else np.zeros((0, 2))]
            ).T.ravel(),
        ]
    )
    np.testing.assert_allclose(J @ flat, J @ solution, rtol=0, atol=UNIDENTIFIED * np.abs(r).max())


@pytest.mark.parametrize("output_bias", [True, False])
@pytest.mark.parametrize("direct", [True, False])
def test_output_update_is_least_squares_on_states(direct, output_bias):
    model, batch = make_model(direct=direct), make_batch()
    states, r = run_states(model, batch), residual_rows(model, batch)
    phi = [states.h, *([np.ones((batch.n_rows, 1))] if output_bias else [])]
    phi += [batch.X] if direct else []
    solution = np.linalg.lstsq(np.column_stack(phi), r, rcond=None)[0]
    sums = linearised_sums(batch, model, recurrent=False, bias=False, direct=direct)
    change = output_update(sums, model, bias=output_bias, ridge=0.0)
    expected = {
        "recurrent": np.zeros((2, 2)),
        "bias": np.zeros(2),
        "output": solution[:2],
        "output_bias": solution[2] if output_bias else np.zeros(2),
        "direct": solution[2 + output_bias :] if direct else None,
    }
    assert_change(change, expected)
    refitted = change.apply(model)
    left = residual_rows(refitted, batch)
    np.testing.assert_allclose(
        np.column_stack(phi).T @ left, 0.0, rtol=0, atol=ORTHOGONAL * np.abs(r).max()
    )


def test_output_update_ignores_the_unit_parts_of_the_sums():
    model, batch = make_model(), make_batch()
    alone = output_update(linearised_sums(batch, model, recurrent=False, bias=False), model)
    both = output_update(linearised_sums(batch, model), model)
    np.testing.assert_array_equal(alone.output, both.output)
    assert not both.recurrent.any()


def test_update_of_exact_outputs_is_zero():
    model, batch = make_model(), make_batch()
    Y = batch.targets - residual_rows(model, batch)
    exact = as_sequences(batch.X, Y, lengths=batch.lengths).whole()
    change = linearised_update(linearised_sums(exact, model), model)
    for name in ("recurrent", "bias", "output", "output_bias"):
        np.testing.assert_allclose(getattr(change, name), 0.0, atol=ZERO)


def test_change_is_applied_in_part_to_units_and_in_full_to_outputs():
    model, batch = make_model(direct=True), make_batch()
    change = linearised_update(linearised_sums(batch, model, direct=True, bias=False), model)
    half = change.apply(model, 0.5)
    np.testing.assert_array_equal(
        half.recurrent_weights, model.recurrent_weights + 0.5 * change.recurrent
    )
    np.testing.assert_array_equal(half.output_weights, model.output_weights + change.output)
    np.testing.assert_array_equal(half.direct_weights, model.direct_weights + change.direct)
    outputs_only = change.apply(model, units=False)
    np.testing.assert_array_equal(outputs_only.recurrent_weights, model.recurrent_weights)
    np.testing.assert_array_equal(outputs_only.output_bias, model.output_bias + change.output_bias)
    np.testing.assert_array_equal(outputs_only.input_weights, model.input_weights)


@pytest.mark.parametrize("bias", [True, False])
def test_instrument_update_solves_the_moment_equations(bias):
    """(dU, db) E[(h, 1) g] = E[(z - z^) g]; without a bias in the first columns alone."""
    rng = np.random.default_rng(0)
    g = np.column_stack((rng.standard_normal((50, 3)), np.ones(50)))
    U, b = rng.standard_normal((3, 3)), rng.standard_normal(3) * bias
    target = g @ np.column_stack((U, b)).T
    sums = InstrumentSums(50.0, target.T @ g, g.T @ g)
    dU, db = instrument_update(sums, bias=bias, ridge=0.0)
    np.testing.assert_allclose(dU, U, atol=NORMAL_EQUATIONS)
    np.testing.assert_allclose(db, b, atol=NORMAL_EQUATIONS)
    if not bias:
        assert np.all(db == 0.0)


def test_instrument_update_gives_states_that_never_vary_no_weight():
    g = np.random.default_rng(1).standard_normal((20, 3))
    g[:, 1], g[:, 2] = 0.0, 1.0
    sums = InstrumentSums(20.0, np.ones((2, 20)) @ g, g.T @ g)
    dU, db = instrument_update(sums)
    assert np.all(dU[:, 1] == 0.0)
    assert np.all(np.isfinite(np.column_stack((dU, db))))


def test_cross_update_scales_by_the_leading_coefficient():
    """(l! c_l)^2 in front of U: c_l enters squared."""
    U = np.random.default_rng(2).standard_normal((3, 3))
    for degree, factor in ((2, 4.0), (3, 36.0)):
        sums = CrossSums(5.0, 5.0 * factor * 0.7**2 * U)
        np.testing.assert_allclose(cross_update(sums, degree, 0.7), U, rtol=ROUNDING)


def test_singular_overlap_explains_itself():
    """Two units with the same input and output directions."""
    chain = GaussianVAR(np.zeros((2, 2)), np.eye(2))
    model = IORNN([[1.0, 2.0], [1.0, 2.0]], None, [[1.0, 1.0], [1.0, 1.0]])
    contraction = Contraction.of(model, chain.precision_blocks(0))
    with pytest.raises(np.linalg.LinAlgError, match=r"overlap matrix Psi .* Fit fewer"):
        solve_overlap(contraction.overlap[0], np.ones(2))
    assert contraction.condition > SINGULAR


def test_short_output_or_input_weights_leave_the_overlap_regular():
    """Psi is an elementwise product: neither A1 nor A2 need have full row rank."""
    rng = np.random.default_rng(3)
    for n_inputs, n_outputs in ((2, 4), (4, 2)):
        chain = GaussianVAR(np.zeros((n_inputs, n_inputs)), np.eye(n_inputs))
        model = IORNN(rng.standard_normal((4, n_inputs)), None, rng.standard_normal((4, n_outputs)))
        contraction = Contraction.of(model, chain.precision_blocks(0))
        assert np.linalg.matrix_rank(contraction.overlap[0]) == 4


def test_score_method_is_refused_where_it_cannot_work():
    with pytest.raises(ValueError, match=r"order l\^2 = 9 for an activation of degree 3"):
        check_score_method(make_model(degree=3))
    with pytest.raises(ValueError, match="n_hidden=2, n_inputs=3, n_outputs=1"):
        check_score_method(make_model(n_outputs=1))
    few_inputs = IORNN(np.ones((2, 1)), None, np.eye(2))
    with pytest.raises(ValueError, match="n_hidden <= n_inputs and n_outputs"):
        check_score_method(few_inputs)
    with pytest.raises(TypeError, match="need a polynomial activation"):
        check_score_method(make_model().replace(activation="tanh"))
    check_score_method(make_model())


def test_score_sums_refuse_what_the_method_cannot_do():
    chain = GaussianVAR(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(ValueError, match="recurrence='score'"):
        score_sums(make_batch(n_outputs=1), make_model(n_outputs=1), chain)


@pytest.mark.parametrize("strategy", [Cross(), Score()], ids=lambda s: s.name)
def test_a_recurrence_that_is_not_free_stays(strategy):
    chain = GaussianVAR(np.zeros((3, 3)), np.eye(3))
    model = forward_network(3, 2, 2).replace(recurrent_weights=np.zeros((2, 2)))
    X = chain.sample(40, 6, random_state=0)
    Y = np.random.default_rng(1).standard_normal((40, 6, 2))
    batch = as_sequences(X, Y).whole()
    contraction = Contraction.of(model, chain.precision_blocks(0))

    def change(free):
        sums = strategy.sums(BatchAtWeights(batch, model, free, chain, contraction))
        return strategy.update(sums, model, free).recurrent

    assert np.abs(change(FreeWeights())).min() > 0
    np.testing.assert_array_equal(change(FreeWeights(recurrent=False)), 0.0)

"""Networks with units of several kinds, and linear ones, up to their own symmetries."""

import numpy as np
import pytest

from gloree import BRNN, IORNN, metrics
from gloree.activations import Polynomial

ROUNDING = 1e-12
KINDS = ["quadratic", "quadratic", "cubic", "tanh", "linear"]
D, K, Q = 4, 5, 3


def network(kinds=KINDS, seed=0, **changes):
    rng = np.random.default_rng(seed)
    k = K if isinstance(kinds, str) else len(kinds)
    model = IORNN(
        rng.standard_normal((k, D)), 0.05 * rng.standard_normal((k, k)),
        rng.standard_normal((k, Q)), 0.3 * rng.standard_normal(k), rng.standard_normal(Q),
        rng.standard_normal((D, Q)), kinds,
    )  # fmt: skip
    return model.replace(**changes)


def moved(model, order, scale, state_scale):
    """The same function: units scaled, then in another order with their activations."""
    kinds = [model.activation.units[i] for i in order]
    return model.rearranged(np.array(order), np.array(scale), np.array(state_scale)).replace(
        activation=kinds
    )


SAME = {
    "order within a kind": ([1, 0, 2, 3, 4], np.ones(5), np.ones(5)),
    "order across kinds": ([4, 2, 0, 3, 1], np.ones(5), np.ones(5)),
    "sign of even units": (range(5), np.array([-1, 1, 1, 1, 1.0]), np.ones(5)),
    "sign of odd units": (
        range(5), np.array([1, 1, -1, -1, -1.0]), np.array([1, 1, -1, -1, -1.0])
    ),
    "scale of monomials and of a linear unit": (
        range(5), np.array([2, 0.5, 3, 1, 4.0]), np.array([4, 0.25, 27, 1, 4.0])
    ),
    "all of them": (
        [3, 1, 4, 0, 2], np.array([-2, 0.5, -3, -1, -4.0]), np.array([4, 0.25, -27, -1, -4.0])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SAME))
def test_equal_functions_have_no_errors(name):
    truth = network()
    other = moved(truth, *SAME[name])
    X = 0.3 * np.random.default_rng(1).standard_normal((2, 6, D))
    np.testing.assert_allclose(other.predict(X), truth.predict(X), rtol=1e-9, atol=1e-9)
    assert max(metrics.weight_errors(other, truth).values()) < ROUNDING


def test_units_are_never_swapped_across_kinds():
    truth = network(["quadratic", "cubic"])
    p = [1, 0]
    swapped = truth.replace(
        input_weights=truth.input_weights[p],
        recurrent_weights=truth.recurrent_weights[np.ix_(p, p)],
        output_weights=truth.output_weights[p],
        hidden_bias=truth.hidden_bias[p],
    )
    errors = metrics.weight_errors(swapped, truth)
    assert errors["input_weights"] > 0.1 and errors["output_weights"] > 0.1


def test_the_sign_of_a_cubic_row_alone_is_another_function():
    truth = network(["quadratic", "cubic"])
    other = truth.replace(input_weights=truth.input_weights * np.array([[1.0], [-1.0]]))
    assert metrics.weight_errors(other, truth)["input_weights"] + metrics.weight_errors(
        other, truth
    )["output_weights"] > 0.5  # fmt: skip


def test_other_numbers_of_units_of_a_kind_are_refused():
    with pytest.raises(ValueError, match="different `activation`"):
        metrics.align(network(["quadratic", "cubic"]), network(["quadratic", "quadratic"]))


def test_kinds_of_a_bidirectional_network_match_within_a_direction():
    rng = np.random.default_rng(0)
    kinds = ["quadratic", "cubic", "cubic", "quadratic"]
    truth = BRNN(
        rng.standard_normal((2, 3)), 0.05 * rng.standard_normal((2, 2)),
        rng.standard_normal((2, 3)), 0.05 * rng.standard_normal((2, 2)),
        rng.standard_normal((4, 2)), activation=kinds,
    )  # fmt: skip
    scale, states = np.array([-2, 3, -1, 0.5]), np.array([4, 27, -1, 0.25])
    other = moved(truth, [1, 0, 3, 2], scale, states)
    assert max(metrics.weight_errors(other, truth).values()) < ROUNDING
    aligned = metrics.align(other, truth)
    assert set(aligned.order[:2]) == {0, 1}


def test_a_parabola_may_be_mirrored_about_its_vertex():
    f = Polynomial((0.2, 0.6, 1.5))
    truth = network([f, f, f])
    flip = np.array([-1.0, 1.0, -1.0])
    mirrored = truth.rearranged(np.array([2, 0, 1]), flip, np.ones(3))
    mirrored = mirrored.replace(
        hidden_bias=mirrored.hidden_bias - 0.6 / 1.5 * (flip < 0)[[2, 0, 1]]
    )
    X = 0.3 * np.random.default_rng(1).standard_normal((2, 6, D))
    np.testing.assert_allclose(mirrored.predict(X), truth.predict(X), atol=1e-9)
    assert max(metrics.weight_errors(mirrored, truth).values()) < ROUNDING


def test_units_that_differ_in_their_bias_alone_are_told_apart():
    truth = network(["tanh", "tanh"])
    rows = np.repeat(truth.input_weights[:1], 2, axis=0)
    truth = truth.replace(input_weights=rows, hidden_bias=[0.5, -0.7])
    other = moved(truth, [1, 0], np.ones(2), np.ones(2))
    assert max(metrics.weight_errors(other, truth).values()) < ROUNDING


# -- linear networks


def similar(model, seed=2):
    """The same linear network in other coordinates of its states."""
    rng = np.random.default_rng(seed)
    k = model.n_hidden
    M = rng.standard_normal((k, k)) + 2 * np.eye(k)
    inverse = np.linalg.inv(M)
    return model.replace(
        input_weights=M @ model.input_weights,
        recurrent_weights=M @ model.recurrent_weights @ inverse,
        output_weights=inverse.T @ model.output_weights,
        hidden_bias=M @ model.hidden_bias,
    )


def test_similar_linear_networks_are_equal():
    truth = network("linear", recurrent_weights=0.3 * np.eye(K) + 0.05)
    errors = metrics.weight_errors(similar(truth), truth)
    assert set(errors) == {"response", "offset"}
    assert max(errors.values()) < 1e-10


def test_the_error_of_a_response_is_that_of_all_markov_parameters():
    truth = network("linear", recurrent_weights=0.4 * np.eye(K) + 0.05)
    other = truth.replace(output_weights=truth.output_weights * 1.1, output_bias=np.zeros(Q))
    impulses = np.zeros((D, 200, D))
    impulses[:, 0] = np.eye(D)
    rest = np.zeros((1, 200, D))

    def response(model):
        return model.predict(impulses) - model.predict(rest)

    errors = metrics.weight_errors(other, truth)
    wanted = response(other) - response(truth)
    size = np.linalg.norm(response(truth))
    assert errors["response"] == pytest.approx(np.linalg.norm(wanted) / size, rel=1e-9)
    at_rest = truth.predict(rest)[0, -1]
    moved_rest = other.predict(rest)[0, -1] - at_rest
    assert errors["offset"] == pytest.approx(
        np.linalg.norm(moved_rest) / np.linalg.norm(at_rest), rel=1e-9
    )


@pytest.mark.parametrize("lags", [1, 2])
def test_responses_of_two_directions_and_windows_are_those_of_impulses(lags):
    rng = np.random.default_rng(0)
    d = 2

    def draw(*shape):
        return rng.standard_normal(shape)

    def two_way():
        return BRNN(
            draw(2, d * lags), 0.3 * np.eye(2), draw(1, d * lags), [[0.5]], draw(3, Q),
            direct_weights=draw((2 * lags - 1) * d, Q), activation="linear", lags=lags,
        )  # fmt: skip

    truth, other = two_way(), two_way()
    X = np.zeros((d, 161, d))
    X[:, 80] = np.eye(d)
    wanted = np.linalg.norm(other.predict(X) - truth.predict(X)) / np.linalg.norm(truth.predict(X))
    assert metrics.weight_errors(other, truth)["response"] == pytest.approx(wanted, rel=1e-9)


def test_linear_networks_are_not_matched_by_units():
    truth = network("linear")
    with pytest.raises(ValueError, match=r"similarity only.*`weight_errors` compares"):
        metrics.align(truth, truth)
    mixed = network(["linear", "linear", "tanh"])
    with pytest.raises(ValueError, match=r"2 linear units in one direction.*compare predictions"):
        metrics.weight_errors(mixed, mixed)


def test_a_linear_network_that_does_not_forget_has_no_response():
    truth = network("linear", recurrent_weights=np.eye(K))
    with pytest.raises(ValueError, match=r"spectral radius 1 .*compare predictions"):
        metrics.weight_errors(truth, truth)

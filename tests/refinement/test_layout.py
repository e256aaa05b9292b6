"""The parameter vector: which weights it holds, in which order, and the free scales."""

from itertools import product

import numpy as np
import pytest
from helpers.generators import forward_network, restricted

from gloree.activations import Polynomial
from gloree.models import IORNN
from gloree.refinement import Layout, hessian_sums
from gloree.sequences import as_sequences

FREE = [
    dict(zip(("recurrent", "bias", "direct"), flags, strict=True))
    for flags in product([True, False], repeat=3)
]

# Singular values of a Gram matrix: squares, so a null direction shows at eps times its norm.
NULL = 1e-10
# A vector divided by its norm.
ROUNDING = 1e-15


def make_model(n_outputs=2, *, activation="quadratic", free=None):
    model = forward_network(3, 2, n_outputs, norm=0.3, direct=True, activation=activation)
    return restricted(model, **(free or {"direct": False}))


def vector_of(model, layout):
    """Free weights of a model, by the order that `Layout` documents."""
    values = []
    for i in range(layout.n_hidden):
        values += [*model.input_weights[i]]
        values += [*model.recurrent_weights[i]] if layout.recurrent else []
        values += [model.hidden_bias[i]] if layout.bias else []
    for a in range(layout.n_outputs):
        values += [*model.output_weights[:, a]]
        values += [model.output_bias[a]] if layout.bias else []
        values += [*model.direct_weights[:, a]] if layout.direct else []
    return np.array(values)


@pytest.mark.parametrize("free", FREE)
def test_size_counts_the_free_weights(free):
    layout = Layout(3, 2, 4, **free)
    assert layout.size == vector_of(make_model(n_outputs=4, free=free), layout).size
    assert layout.n_unit_parameters == 2 * layout.directions[0].width
    assert layout.size == layout.n_unit_parameters + 4 * layout.output_width


@pytest.mark.parametrize("free", FREE)
def test_join_and_split_undo_each_other(free):
    layout = Layout(3, 2, 4, **free)
    vector = np.arange(layout.size, dtype=float)
    units, coefficients, outputs = layout.split(vector)
    assert [part.shape for part in coefficients] == [(0,)]
    assert [block.shape for block in units] == [(2, layout.directions[0].width)]
    assert outputs.shape == (4, layout.output_width)
    np.testing.assert_array_equal(layout.join(units, coefficients, outputs), vector)


@pytest.mark.parametrize("free", FREE)
def test_named_parts_have_the_shapes_of_the_weights(free):
    layout, model = Layout(3, 2, 2, **free), make_model(free=free)
    parts = layout.named(vector_of(model, layout))
    expected = {"input_weights", "output_weights"}
    expected |= {"recurrent_weights"} if free["recurrent"] else set()
    expected |= {"hidden_bias", "output_bias"} if free["bias"] else set()
    expected |= {"direct_weights"} if free["direct"] else set()
    assert set(parts) == expected
    for name, value in parts.items():
        np.testing.assert_array_equal(value, getattr(model, name))


@pytest.mark.parametrize("free", FREE)
def test_move_adds_the_step_and_nothing_else(free):
    layout, model = Layout(3, 2, 2, **free), make_model(free=free)
    step = np.random.default_rng(1).standard_normal(layout.size)
    moved = layout.move(model, step)
    np.testing.assert_allclose(vector_of(moved, layout), vector_of(model, layout) + step)
    assert layout.move(model, np.zeros(layout.size)) == model
    for name in ("recurrent_weights", "hidden_bias", "output_bias"):
        if name not in layout.named(step):
            np.testing.assert_array_equal(getattr(moved, name), getattr(model, name))


@pytest.mark.parametrize(
    ("activation", "bias", "is_free"),
    [
        ("quadratic", False, True),
        ("quadratic", True, True),
        ("cubic", False, True),
        ("cubic", True, True),
        (Polynomial((0.1, 0.5, 1.0)), True, True),
        (Polynomial((0.1, 0.5, 1.0)), False, False),
        (Polynomial((0.1, 0.5, 1.0, 0.3)), True, False),
        ("tanh", True, False),
        ("softplus", False, False),
    ],
)
def test_scales_are_free_for_monomials_and_biased_parabolas(activation, bias, is_free):
    layout = Layout(3, 2, 2, bias=bias)
    model = make_model(activation=activation)
    constraints = layout.scale_constraints(model)
    assert constraints.shape == (2 if is_free else 0, layout.size)
    if is_free:
        units = np.zeros((2, 2, layout.directions[0].width))
        for i in range(2):
            units[i, i, :3] = model.input_weights[i] / np.linalg.norm(model.input_weights[i])
        none, outputs = [np.zeros(0)], np.zeros((2, layout.output_width))
        expected = [layout.join([block], none, outputs) for block in units]
        np.testing.assert_allclose(constraints, expected, atol=ROUNDING)


def test_constraint_of_a_unit_without_inputs_is_finite():
    model = make_model().replace(input_weights=np.zeros((2, 3)))
    assert np.all(Layout(3, 2, 2).scale_constraints(model) == 0.0)


def scale_directions(model, layout, degree):
    """Tangent of (a_i, U_i, b_i) -> s (..), A2_i -> s^-l A2_i, U_.i -> s^-l U_.i at s = 1."""
    directions = []
    for i in range(model.n_hidden):
        unit = np.eye(model.n_hidden)[i]
        change_of_U = unit[:, None] * model.recurrent_weights
        change_of_U = change_of_U - degree * model.recurrent_weights * unit[None, :]
        tangent = IORNN(
            unit[:, None] * model.input_weights,
            change_of_U,
            -degree * unit[:, None] * model.output_weights,
            unit * model.hidden_bias,
            direct_weights=np.zeros((3, 2)) if layout.direct else None,
        )
        directions.append(vector_of(tangent, layout))
    return np.array(directions)


@pytest.mark.parametrize("free", [f for f in FREE if not (f["direct"] and f["bias"])])
@pytest.mark.parametrize(("activation", "degree"), [("quadratic", 2), ("cubic", 3)])
def test_null_space_of_the_hessian_is_the_scale_symmetry(activation, degree, free):
    """One direction for each unit of a monomial, no other; the constraints remove them all."""
    layout, model = Layout(3, 2, 2, **free), make_model(activation=activation, free=free)
    rng = np.random.default_rng(2)
    X = [rng.standard_normal((n, 3)) for n in 10 * (4, 3, 1, 4)]
    Y = [rng.standard_normal((len(x), 2)) for x in X]
    H = hessian_sums(as_sequences(X, Y).whole(), model, layout).hessian
    scale = 1 / np.sqrt(np.diag(H))
    H = H * np.outer(scale, scale)
    directions = scale_directions(model, layout, degree) / scale
    values = np.linalg.eigvalsh(H)
    assert np.all(np.abs(values[:2]) < NULL)
    assert values[2] > 1e4 * NULL
    np.testing.assert_allclose(H @ directions.T, 0.0, atol=100 * NULL)
    constraints = layout.scale_constraints(model) * scale
    constraints /= np.linalg.norm(constraints, axis=1, keepdims=True)
    assert np.linalg.eigvalsh(H + constraints.T @ constraints)[0] > 1e3 * NULL


def test_null_space_without_a_free_scale_is_empty():
    layout, model = Layout(3, 2, 2), make_model(activation="softplus")
    rng = np.random.default_rng(3)
    X = rng.standard_normal((200, 3))
    H = hessian_sums(as_sequences(X, rng.standard_normal((200, 2))).whole(), model, layout).hessian
    scale = 1 / np.sqrt(np.diag(H))
    assert np.linalg.eigvalsh(H * np.outer(scale, scale))[0] > 1e3 * NULL

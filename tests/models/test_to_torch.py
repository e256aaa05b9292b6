"""The PyTorch module computes what the model computes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.comparisons import assert_same_in_torch
from helpers.generators import forward_network, two_way_network, uniform_inputs
from helpers.marks import first_of

from gloree.activations import Activation, PerUnit, Polynomial, tanh
from gloree.models import IORNN

# One product and one sum for each output, in another order.
ROUNDING = 1e-15

# the same sums in another order, in float64
ALGEBRA_TOLERANCE = 1e-12


@pytest.mark.parametrize(
    "activation",
    ["linear", "quadratic", "cubic", "tanh", "softplus", Polynomial((0.1, -1.0, 0.0, 0.2))],
    ids=str,
)
@pytest.mark.parametrize(("lags", "direct"), [(1, True), (1, False), (3, True)])
def test_module_reproduces_predictions_and_states(activation, lags, direct):
    model = forward_network(activation=activation, lags=lags, direct=direct)
    assert_same_in_torch(model, uniform_inputs(), ALGEBRA_TOLERANCE)


def test_softplus_is_exact_for_large_arguments():
    torch = pytest.importorskip("torch")
    model = IORNN([[1.0]], None, [[1.0]], activation="softplus")
    X = np.array([[-50.0], [-25.0], [25.0], [50.0]])
    with torch.no_grad():
        outputs = model.to_torch()(torch.tensor(X)).numpy()
    np.testing.assert_allclose(outputs, model.predict(X), rtol=ROUNDING)


def test_parameters_are_trainable_copies():
    torch = pytest.importorskip("torch")
    model = forward_network(direct=True)
    module = model.to_torch()
    assert {name for name, _ in module.named_parameters()} == {
        "input_weights",
        "recurrent_weights",
        "output_weights",
        "hidden_bias",
        "output_bias",
        "direct_weights",
    }
    loss = module(torch.ones((2, 5, 3), dtype=torch.float64)).square().mean()
    loss.backward()
    before = model.input_weights.copy()
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter -= 0.1 * parameter.grad
    np.testing.assert_array_equal(model.input_weights, before)


def test_an_unknown_activation_is_refused():
    pytest.importorskip("torch")

    class Sine(Activation):
        name = "sine"

        def __call__(self, z, out=None):
            return np.sin(z, out=out)

        def derivative(self, z, order=1):
            return np.sin(np.asarray(z) + order * np.pi / 2)

        def spec(self):
            return {"kind": "sine"}

    with pytest.raises(TypeError, match=r"'sine' .* has no PyTorch form"):
        forward_network(activation=Sine()).to_torch()


def test_without_torch_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "gloree.models._torch", raising=False)
    with pytest.raises(ImportError, match=r'pip install "gloree\[torch\]"'):
        forward_network(direct=True).to_torch()


@pytest.mark.parametrize(
    "activation",
    first_of(["cubic", "softplus", PerUnit(["linear", tanh])], 4),
    ids=["cubic", "softplus", "per unit"],
)
@pytest.mark.parametrize(("lags", "direct"), [(1, False), (3, True)])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_modules_can_be_scripted_and_keep_float32(both, lags, direct, activation, tmp_path):
    torch = pytest.importorskip("torch")
    make = two_way_network if both else forward_network
    model = make(lags=lags, direct=direct)
    if isinstance(activation, str) or activation.n_units == model.n_hidden:
        model = model.replace(activation=activation)
    else:
        kinds = [Polynomial((0.0, 1.0)), tanh, tanh, "quadratic"] * model.n_hidden
        model = model.replace(activation=PerUnit(kinds[: model.n_hidden]))
    X = uniform_inputs()
    scripted = torch.jit.script(model.to_torch())
    scripted.save(str(tmp_path / "module.pt"))
    read = torch.jit.load(str(tmp_path / "module.pt"))
    for module in (scripted, read):
        with torch.no_grad():
            outputs = module(torch.tensor(X))
            states = module.hidden_states(torch.tensor(X[0]))
        np.testing.assert_allclose(outputs.numpy(), model.predict(X), rtol=ALGEBRA_TOLERANCE)
        expected = model.hidden_states(X[0])
        np.testing.assert_allclose(states.numpy(), expected, rtol=ALGEBRA_TOLERANCE)
    single = torch.jit.script(model.to_torch().float())
    with torch.no_grad():
        outputs = single(torch.tensor(X, dtype=torch.float32))
    assert outputs.dtype == torch.float32
    # some hundred roundings of 2^-24 of numbers of size one
    np.testing.assert_allclose(outputs.numpy(), model.predict(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 0, 4), (1, 2, 3, 4)])
def test_a_tensor_of_another_shape_is_refused(shape):
    torch = pytest.importorskip("torch")
    module = IORNN(np.ones((2, 4)), None, np.ones((2, 3))).to_torch()
    with pytest.raises(ValueError, match=r"`inputs` has shape .*, expected .* n_steps, 4\)"):
        module(torch.zeros(shape))

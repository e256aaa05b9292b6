"""Networks as C and ONNX files: compiled and run, their outputs are those of the library."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from helpers.systems import dead_time_network, linear_network, mixed_network

from gloree.activations import Activation
from gloree.models import BRNN, IORNN
from gloree.systems import c_code, export_c, export_onnx

EQUAL = 1e-12  # relative to outputs of size one: sums in another order, another tanh

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

NETWORKS = {
    "linear": lambda rng: linear_network([0.8 + 0.3j, 0.5], 2, 2, rng),
    "dead times": dead_time_network,
    "mixed units": mixed_network,
    "mixed units, no windows": lambda rng: mixed_network(rng, lags=1),
    "no direct path": lambda rng: mixed_network(rng).replace(direct_weights=None),
    **{
        name: lambda rng, name=name: mixed_network(rng).replace(activation=name)
        for name in ("tanh", "softplus", "sigmoid", "relu", "gelu", "silu", "leaky_relu")
    },
}


class Doubled(Activation):
    """An activation of somebody else."""

    name = "doubled"

    def __call__(self, z, out=None):
        return 2 * np.asarray(z)

    def derivative(self, z, order=1):
        return np.full_like(z, 2.0)

    def spec(self):
        return {"kind": "doubled"}


@pytest.fixture(params=NETWORKS, ids=str)
def model(request, rng):
    return NETWORKS[request.param](rng)


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_a_compiled_network_gives_the_outputs_of_the_library(model, rng, tmp_path):
    source = export_c(model, tmp_path / "plant.c")
    program = tmp_path / "plant"
    command = [COMPILER, "-std=c99", "-Wall", "-Wextra", "-Werror", "-DPLANT_MAIN"]
    subprocess.run([*command, str(source), "-o", str(program), "-lm"], check=True, timeout=60)
    u = rng.standard_normal((80, model.n_inputs))
    text = "\n".join(" ".join(map(repr, row)) for row in u.tolist())
    done = subprocess.run(
        [program], input=text, capture_output=True, text=True, check=True, timeout=60
    )
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    assert np.allclose(found, model.predict(u), rtol=EQUAL, atol=EQUAL)


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_a_compiled_network_goes_on_from_a_given_state(rng, tmp_path):
    model = mixed_network(rng)
    u = rng.standard_normal((30, 2))
    state = np.concatenate((model.hidden_states(u[:10])[-1], u[9]))
    values = ", ".join(map(repr, state.tolist()))
    rows = ", ".join("{" + ", ".join(map(repr, row)) + "}" for row in u[10:].tolist())
    caller = f"""
#include <stdio.h>
#include "plant.c"
int main(void) {{
    const double start[PLANT_STATES] = {{{values}}}, u[20][PLANT_INPUTS] = {{{rows}}};
    double y[PLANT_OUTPUTS];
    plant_state state;
    plant_init(&state, start);
    for (int t = 0; t < 20; t++) {{
        plant_step(&state, u[t], y);
        printf("%.17g %.17g\\n", y[0], y[1]);
    }}
    return 0;
}}
"""
    export_c(model, tmp_path / "plant.c")
    (tmp_path / "caller.c").write_text(caller)
    program = tmp_path / "caller"
    subprocess.run([COMPILER, str(tmp_path / "caller.c"), "-o", str(program), "-lm"], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60)
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    assert np.allclose(found, model.predict(u)[10:], rtol=EQUAL, atol=EQUAL)


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_one_program_includes_two_networks(rng, tmp_path):
    for name in ("one", "two"):
        export_c(mixed_network(rng), tmp_path / f"{name}.c")
    text = '#include "one.c"\n#include "two.c"\nint main(void) { return 0; }\n'
    (tmp_path / "both.c").write_text(text)
    command = [COMPILER, "-std=c99", "-Wall", "-Werror", "both.c", "-o", "both", "-lm"]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)


def test_weights_are_written_with_all_their_digits():
    model = IORNN([[0.1]], [[1 / 3]], [[2 / 3]], activation="linear")
    assert all(repr(value) in c_code(model) for value in (0.1, 1 / 3, 2 / 3))


@pytest.mark.parametrize("name", ["2nd", "while", "a-b", ""])
def test_names_that_c_does_not_allow_are_refused(name):
    with pytest.raises(ValueError, match="`name` is"):
        c_code(IORNN([[0.1]], None, [[1.0]], activation="linear"), name)


def test_networks_without_a_form_in_c_are_refused(rng):
    both = BRNN([[0.1]], None, [[0.1]], None, [[1.0], [1.0]])
    with pytest.raises(TypeError, match="`model` is a BRNN"):
        c_code(both)
    with pytest.raises(TypeError, match="the activation 'doubled'"):
        c_code(mixed_network(rng).replace(activation=Doubled()))


def test_an_onnx_model_gives_the_outputs_of_the_library(model, rng, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(export_onnx(model, tmp_path / "plant.onnx"))
    n_state = model.n_hidden + (model.lags - 1) * model.n_inputs
    u = rng.standard_normal((60, model.n_inputs))
    first, state = session.run(None, {"inputs": u[:20], "state": np.zeros(n_state)})
    second, _ = session.run(None, {"inputs": u[20:], "state": state})
    found = np.concatenate((first, second))
    assert np.allclose(found, model.predict(u), rtol=EQUAL, atol=EQUAL)


def test_without_onnx_the_error_names_the_extra(monkeypatch, rng):
    import sys

    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    with pytest.raises(ImportError, match=r'pip install "gloree\[onnx\]"'):
        export_onnx(mixed_network(rng), "never.onnx")

"""A network as one C file that needs nothing but the standard library."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from gloree._storage import replaced_file
from gloree.activations import (
    GELU,
    Activation,
    LeakyReLU,
    PerUnit,
    Polynomial,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from gloree.models import IORNN
from gloree.sequences import Array

_EXPRESSIONS: dict[type[Activation], str] = {
    Sigmoid: "1.0 / (1.0 + exp(-z))",
    SiLU: "z / (1.0 + exp(-z))",
    ReLU: "z > 0.0 ? z : 0.0",
    GELU: f"0.5 * z * erfc(-z * {1.0 / math.sqrt(2.0)!r})",
}
"""Of one variable z; exponentials that overflow give the right limits."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_KEYWORDS = """auto break case char const continue default do double else enum extern float for goto
if inline int long register restrict return short signed sizeof static struct switch typedef union
unsigned void volatile while main"""

_TEMPLATE = """\
/* {name}: h_t = f(A1 x_t + U h_(t-1) + b),  y_t = A2^T h_t + c{direct_text}
 * with x_t = [u_t{window_text}]. Written by gloree; C99, double precision, libm only.
 *
 * {name}_init  puts a state in place (NULL: zeros, the state of rest);
 * {name}_step  takes one sample of the inputs and gives one of the outputs.
 *
 * With {upper}_MAIN defined it is a program: rows of inputs in, rows of outputs out.
 */
#include <math.h>
#include <stddef.h>

#define {upper}_INPUTS {m}
#define {upper}_OUTPUTS {p}
#define {upper}_UNITS {n}
#define {upper}_COLUMNS {columns} /* inputs of a window of {lags} sample(s) */
#define {upper}_STATES {states} /* units, then the inputs before, newest first */

typedef struct {{
    double values[{upper}_STATES];
}} {name}_state;

{arrays}
{functions}
void {name}_init({name}_state *state, const double *values)
{{
    for (size_t i = 0; i < {upper}_STATES; i++)
        state->values[i] = values == NULL ? 0.0 : values[i];
}}

void {name}_step({name}_state *state, const double *u, double *y)
{{
    double x[{upper}_COLUMNS], h[{upper}_UNITS];
    double *before = state->values, *past = state->values + {upper}_UNITS;
    for (size_t i = 0; i < {upper}_COLUMNS; i++)
        x[i] = i < {upper}_INPUTS ? u[i] : past[i - {upper}_INPUTS];
    for (size_t i = 0; i < {upper}_UNITS; i++) {{
        double z = {name}_b[i];
        for (size_t j = 0; j < {upper}_COLUMNS; j++)
            z += {name}_A1[i][j] * x[j];
        for (size_t j = 0; j < {upper}_UNITS; j++)
            z += {name}_U[i][j] * before[j];
        h[i] = {name}_unit(i, z);
    }}
    for (size_t a = 0; a < {upper}_OUTPUTS; a++) {{
        double value = {name}_c[a];
        for (size_t i = 0; i < {upper}_UNITS; i++)
            value += {name}_A2[a][i] * h[i];
{direct_loop}        y[a] = value;
    }}
    for (size_t i = 0; i < {upper}_UNITS; i++)
        before[i] = h[i];
    for (size_t i = 0; i + {upper}_INPUTS < {upper}_COLUMNS; i++)
        past[i] = x[i];
}}

#ifdef {upper}_MAIN
#include <stdio.h>

int main(void)
{{
    {name}_state state;
    double u[{upper}_INPUTS], y[{upper}_OUTPUTS];
    {name}_init(&state, NULL);
    for (;;) {{
        for (size_t i = 0; i < {upper}_INPUTS; i++)
            if (scanf("%lf", &u[i]) != 1)
                return 0;
        {name}_step(&state, u, y);
        for (size_t a = 0; a < {upper}_OUTPUTS; a++)
            printf("%.17g%c", y[a], a + 1 < {upper}_OUTPUTS ? ' ' : '\\n');
    }}
}}
#endif
"""

_DIRECT = """\
        for (size_t j = 0; j < {upper}_COLUMNS; j++)
            value += {name}_D[a][j] * x[j];
"""


def c_code(model: IORNN, name: str = "model") -> str:
    """Write a network as the text of one C file (see `export_c`)."""
    if not isinstance(model, IORNN):
        raise TypeError(
            f"`model` is a {type(model).__name__}, and only an IORNN of one direction can be run "
            f"sample by sample: give that of an estimator, its `model_`"
        )
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS.split():
        raise ValueError(f"`name` is {name!r}, expected a name that C allows, such as 'model'")
    n, p, columns = model.n_hidden, model.n_outputs, model.n_columns
    arrays = [
        _array(f"{name}_A1", model.input_weights),
        _array(f"{name}_U", model.recurrent_weights),
        _array(f"{name}_b", model.hidden_bias),
        _array(f"{name}_A2", model.output_weights.T),
        _array(f"{name}_c", model.output_bias),
    ]
    upper, direct = name.upper(), model.direct_weights is not None
    if model.direct_weights is not None:
        arrays.append(_array(f"{name}_D", model.direct_weights.T))
    units = model.activation.units if isinstance(model.activation, PerUnit) else None
    return _TEMPLATE.format(
        name=name,
        upper=upper,
        m=model.n_inputs,
        p=p,
        n=n,
        columns=columns,
        lags=model.lags,
        states=n + columns - model.n_inputs,
        arrays="\n".join(arrays),
        functions=_unit_function(name, units or (model.activation,) * n),
        direct_text=" + D^T x_t" if direct else "",
        direct_loop=_DIRECT.format(upper=upper, name=name) if direct else "",
        window_text=f", ..., u_(t-{model.lags - 1})" if model.lags > 1 else "",
    )


def export_c(model: IORNN, path: str | Path, *, name: str | None = None) -> Path:
    """Write a network into one C file: a struct of its state, and a function for one sample.

    Parameters
    ----------
    model : IORNN
        Linear or not, with windows or not. With all activations of
        `gloree.activations` but `Custom`.
    path : str or Path
        Of the file; its folder has to exist.
    name : str, optional
        With which its functions and types begin; by default the name of the file.

    Returns
    -------
    Path

    Raises
    ------
    TypeError
        If the network is bidirectional, or an activation is not known.
    ValueError
        If `name` is not one that C allows.

    Notes
    -----
    All names of the file begin with NAME, so that one program may include several.
    `NAME_init(state, values)` puts a state of `NAME_STATES` numbers in place, the units and then
    the inputs before, newest first; NULL stands for rest. `NAME_step(state, u, y)` takes one sample
    of the inputs and gives one of the outputs. Numbers are written with all 17 digits: outputs are
    those of `predict` but for the rounding of sums. Compile with ``-lm``.
    """
    path = Path(path)
    chosen = re.sub(r"\W", "_", path.stem) if name is None else name
    text = c_code(model, chosen).encode("ascii")
    with replaced_file(path) as file:
        file.write(text)
    return path


def _number(value: float) -> str:
    return repr(float(value))


def _array(name: str, values: Array) -> str:
    shape = "".join(f"[{size}]" for size in values.shape)
    rows = values if values.ndim == 2 else values[None]
    lines = [", ".join(map(_number, row)) for row in rows.tolist()]
    if values.ndim == 1:
        return f"static const double {name}{shape} = {{ {lines[0]} }};"
    body = ",\n".join(f"    {{ {line} }}" for line in lines)
    return f"static const double {name}{shape} = {{\n{body}\n}};"


def _unit_function(name: str, units: Sequence[Activation]) -> str:
    """The activation of unit i as a switch over stretches of units that share one."""
    kinds: list[Activation] = []
    for unit in units:
        if unit not in kinds:
            kinds.append(unit)
    table = ", ".join(str(kinds.index(unit)) for unit in units)
    cases = "".join(
        f"    case {number}:\n        return {_expression(kind)};\n"
        for number, kind in enumerate(kinds)
    )
    return (
        f"static const int {name}_kind[{len(units)}] = {{ {table} }};\n\n"
        f"static double {name}_unit(size_t i, double z)\n{{\n"
        f"    switch ({name}_kind[i]) {{\n{cases}"
        f"    default:\n        return 0.0;\n    }}\n}}\n"
    )


def _expression(activation: Activation) -> str:
    if isinstance(activation, Polynomial):
        text = _number(activation.coefficients[-1])
        for coefficient in activation.coefficients[-2::-1]:
            text = f"({text} * z + {_number(coefficient)})"
        return text
    if isinstance(activation, Tanh):
        return "tanh(z)"
    if isinstance(activation, Softplus):
        return "(z > 0.0 ? z : 0.0) + log1p(exp(-fabs(z)))"
    if isinstance(activation, LeakyReLU):
        return f"z > 0.0 ? z : {_number(activation.slope)} * z"
    if type(activation) in _EXPRESSIONS:
        return _EXPRESSIONS[type(activation)]
    raise TypeError(
        f"the activation {activation.name!r} ({type(activation).__name__}) has no form in C: "
        f"write one from c_code, or use one of gloree.activations"
    )

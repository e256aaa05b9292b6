"""From inputs and outputs as passes see them, centred and scaled, back to those that were given."""

from __future__ import annotations

import numpy as np

from gloree.engine import Source
from gloree.fitting._inputs import InputSummary
from gloree.fitting._output_units import OutputUnits
from gloree.fitting._problem import FitProblem
from gloree.models import IORNN, Network
from gloree.sequences import Array


def scale_of_columns(source: Source) -> Array:
    """Scale of every column that passes see, windows included."""
    assert source.scale is not None
    windows = 2 * source.lags - 1 if source.both_ways else source.lags
    return np.tile(source.scale, windows)


def given_centre(source: Source) -> Array | None:
    """What is subtracted from the columns, in units of the data."""
    if source.centre is None or source.scale is None:
        return source.centre
    return source.centre / scale_of_columns(source)


def in_given_units(source: Source, model: Network) -> Network:
    """Network for inputs and outputs in units of the data, of one for those that passes see."""
    model = in_given_outputs(source, model)
    if source.scale is None:
        return model
    scale, direct = scale_of_columns(source), model.direct_weights
    return model.replace(
        input_weights=model.input_weights * scale,
        direct_weights=None if direct is None else direct * scale[:, None],
    )


def in_given_outputs(source: Source, model: Network) -> Network:
    """Network of outputs in units of the data alone; labels have none."""
    units = source.encode
    return units.given_model(model) if isinstance(units, OutputUnits) else model


def on_given_inputs(problem: FitProblem, source: Source, model: Network) -> Network:
    """Network on the inputs as given, not centred and before windows, of one in their units."""
    centre, lags = given_centre(source), problem.settings.lags
    if centre is not None:
        direct = model.direct_weights
        model = model.replace(
            hidden_bias=model.hidden_bias - model.input_weights @ centre,
            output_bias=model.output_bias - (0.0 if direct is None else centre @ direct),
        )
    return model.replace(lags=lags) if lags > model.lags else model


def on_seen_inputs(source: Source, model: Network) -> Network:
    """Network of data as passes see them: undoes `in_given_units` and `on_given_inputs`."""
    if isinstance(source.encode, OutputUnits):
        model = source.encode.seen_model(model)
    if isinstance(model, IORNN):
        model = model.replace(lags=1)  # windows are columns
    centre, direct = given_centre(source), model.direct_weights
    if centre is not None:
        model = model.replace(
            hidden_bias=model.hidden_bias + model.input_weights @ centre,
            output_bias=model.output_bias + (0.0 if direct is None else centre @ direct),
        )
    if source.scale is None:
        return model
    scale = scale_of_columns(source)
    return model.replace(
        input_weights=model.input_weights / scale,
        direct_weights=None if direct is None else direct / scale[:, None],
    )


def smallest_input_weights(inputs: InputSummary, model: Network) -> Network:
    r"""The same network with input weights of least norm, where columns of `X` are dependent.

    Where :math:`g \cdot x = k` in all rows, :math:`a_i + c g` and :math:`b_i - c k` act as
    :math:`a_i` and :math:`b_i` do.
    """
    source, whitening = inputs.source, inputs.whitening
    kept = np.linalg.qr(whitening.inverse, mode="complete")[0][:, whitening.n_directions :]
    if not kept.shape[1]:
        return model
    scale = np.ones(kept.shape[0]) if source.scale is None else source.scale
    centre = 0.0 if source.centre is None else source.centre
    mean = (whitening.mean + centre) / scale
    g = np.linalg.qr(kept * scale[:, None])[0]
    along = model.input_weights @ g
    return model.replace(
        input_weights=model.input_weights - along @ g.T,
        hidden_bias=model.hidden_bias + along @ (g.T @ mean),
    )

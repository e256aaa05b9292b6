"""A fit from records to networks: its stages, in order."""

from __future__ import annotations

import numpy as np
from tqdm.auto import tqdm

from gloree.diagnostics import IdentificationReport
from gloree.estimators._identification._linear import linear_stage
from gloree.estimators._identification._nonlinear import nonlinear_stage
from gloree.estimators._identification._refine import polish, refine_stage
from gloree.estimators._identification._scaling import Scaling
from gloree.estimators._identification._starts import starts_stage
from gloree.estimators._identification._state import Identification, IdentifierSettings
from gloree.models import IORNN
from gloree.sequences import Sequences


def run_identification(
    data: Sequences, settings: IdentifierSettings
) -> tuple[IORNN, IORNN, IORNN, IdentificationReport]:
    """Run all stages.

    Returns
    -------
    model, linear, moments : IORNN
        The network kept, its linear model, and the network of moments alone; on data as given.
    report : IdentificationReport
    """
    report = IdentificationReport(
        {
            "records": data.n_sequences,
            "samples": data.n_rows,
            "inputs": data.n_inputs,
            "outputs": data.n_outputs,
        }
    )
    scale = Scaling.of(data)
    # Scaled once rather than as it is read: the searches read a record some hundred times, and
    # scaling adds up to a tenth to a pass over the errors (three inputs and outputs, four units).
    # The copy is no larger than the pieces of a long record that a pass has in memory at once.
    normalised = Sequences(
        (np.asarray(data.X, dtype=np.float64) - scale.u_mean) / scale.u_size,
        (np.asarray(data.Y, dtype=np.float64) - scale.y_mean) / scale.y_size,
        data.lengths,
        data.form,
    )
    fit = Identification(normalised, settings, report)
    report.output_size = scale.y_size
    with (
        settings.engine.small_matrices(),
        tqdm(total=5, desc="fit", disable=settings.verbose < 1, leave=False) as bar,
    ):
        fit.bar = bar
        linear = linear_stage(fit)
        moments = linear.model
        starts: list[IORNN] = []
        if settings.n_nonlinear != 0:
            moments, directions, counts = nonlinear_stage(fit, linear)
            starts = starts_stage(fit, linear, directions, counts) if counts else []
        linear_network = polish(fit, linear.model)
        report.linear_error = fit.error(linear_network, fit.held_out)
        report.moments_error = fit.error(moments, fit.held_out)
        model = linear_network
        if settings.n_nonlinear != 0:
            model = refine_stage(fit, starts, moments, linear_network)
        order = linear.realisation.order
        kept = model.n_hidden if model is linear_network else order
        poles = np.linalg.eigvals(model.recurrent_weights[:kept, :kept])
        report.poles = poles.astype(np.complex128)
    return scale.undo(model), scale.undo(linear_network), scale.undo(moments), report

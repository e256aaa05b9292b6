"""A fit from data to network: its stages, in order."""

from __future__ import annotations

from tqdm.auto import tqdm

from gloree.diagnostics import FitReport
from gloree.estimators._data import read_inputs, read_outputs
from gloree.estimators._first_moment import first_moment
from gloree.estimators._refine import refine
from gloree.estimators._rounds import recurrence_and_rounds
from gloree.estimators._state import Settings, State
from gloree.models import Network
from gloree.sequences import Data


def run_fit(data: Data, settings: Settings) -> tuple[Network, State]:
    """Run all stages.

    Returns
    -------
    model : IORNN or BRNN
        In canonical form, on the inputs as they were given.
    state : State
        With the report and the input law.
    """
    report = FitReport(
        {
            "sequences": data.n_sequences,
            "steps": data.n_rows,
            "inputs": data.n_inputs,
            "outputs": data.n_outputs,
        }
    )
    state = State(data, settings, report)
    with (
        settings.engine.small_matrices(),
        tqdm(total=6, desc="fit", disable=settings.verbose < 1, leave=False) as bar,
    ):
        state.bar = bar
        read_outputs(state)
        whitening = read_inputs(state)
        model, rounds = first_moment(state, whitening)
        model = recurrence_and_rounds(state, model, rounds)
        return refine(state, model), state

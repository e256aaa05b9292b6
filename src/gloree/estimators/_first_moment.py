"""The first moment: its tensor, the number of units, its decomposition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gloree.decomposition import Decomposition, choose_rank, decompose
from gloree.diagnostics import (
    AcceptanceWarning,
    IdentifiabilityError,
    RotationWarning,
    ScoreWarning,
    TooFewSamplesError,
    check_identifiable,
    recoverable_degree,
)
from gloree.engine import Selection, Subset, halves
from gloree.estimators._span import find_range, plain_solver
from gloree.estimators._state import DEFECT_LIMIT, RADIUS_LIMIT, State
from gloree.estimators._surrogate import surrogate_of
from gloree.models import Network
from gloree.moments import (
    CrossMoment,
    Frame,
    RegressionFeatures,
    RegressionSolver,
    Whitening,
    cross_moment_sums,
    regression_sums,
    score_frame,
)
from gloree.recurrence import check_score_method
from gloree.refinement import (
    Layout,
    Rounds,
    RoundSettings,
    first_model,
)
from gloree.sequences import Array, Batch

WINDOW_RIDGE = 1e-6
"""Relative ridge of the regressions on lag windows."""

CAREFUL = 4
"""Times as many rows where the number of units is looked for, in four parts of them, or where no
refinement follows."""

MORE_ROWS = 4
"""Times as many rows for the next first moment, where the decomposition of one is not accepted."""

MOMENT_WORK = 10**11
"""Rows times squared features of such a moment, at most."""


def first_moment(state: State, whitening: Whitening) -> tuple[Network, Rounds]:
    """Estimate and decompose the first moment; return the network and what the rounds need."""
    settings, report = state.settings, state.report
    degree, _ = recoverable_degree(settings.activation)
    planned = state.plan
    if planned.moment == "score" and state.chain is None:
        if settings.moment == "auto":
            raise TooFewSamplesError(
                f"{state.n_rows} steps are too few for a regression moment of {state.n_inputs} "
                f"inputs, and without an input law there is no score moment: give more data"
            )
        raise ValueError(
            "`moment='score'` needs an input law, and none can be fitted to single steps or "
            "lag windows: use moment='regression'"
        )
    if planned.moment == "score" and state.score_is_wrong:
        assert report.score_check is not None
        report.warn(
            ScoreWarning,
            f"moment='score': the Gaussian score fails Stein's identity on these inputs (defect "
            f"{report.score_check.defect:.2f}, rho {report.score_check.radius:.2f}; limits "
            f"{DEFECT_LIMIT} and {RADIUS_LIMIT}), so the score moment is biased and its rounds "
            f"need not converge; use moment='regression'",
        )
    with state.stage("first moment") as detail:
        report.moment = planned.moment
        if planned.n_directions < whitening.n_directions:
            state.full_whitening = whitening
            whitening = find_range(state, whitening, planned.n_directions)
            detail.append(f"{whitening.n_directions} directions found")
        n_hidden, rows = settings.n_hidden, planned.first_rows
        if n_hidden is None or settings.refine is None:
            rows *= CAREFUL
        while rows != state.moment_rows:
            state.moment_rows = min(rows, state.data.n_rows)
            some = state.subset(rows)
            frame, solver, tensor, scale = estimate_moment(state, whitening, degree, some)
            if n_hidden is None:
                n_hidden = number_of_units(state, whitening, frame, degree, some)
            check_sizes(state, n_hidden, degree)
            found = decompose(tensor, n_hidden, output_scale=scale, random_state=settings.rng)
            rows = next_rows(state, found)
        judge_decomposition(state, found)
        detail.append(f"decomposition {found.status.name.lower()}")
        if state.moment_rows != planned.first_rows:
            detail.append(f"from {state.moment_rows:,} steps")
    layout = Layout(
        state.n_inputs,
        found.rank,
        state.n_outputs,
        # directions are found among units without memory
        recurrent=settings.recurrence is not None and not settings.bidirectional,
        bias=settings.bias or not settings.activation.is_monomial,
        direct=settings.direct or (degree == 3 and not settings.activation.is_monomial),
        hidden_bias=not state.bias_is_direct,
    )
    model = first_model(found, frame, surrogate_of(settings.activation), state.output_mean, layout)
    rounds = Rounds(
        RoundSettings(
            layout,
            unit_method(state, model),
            frame,
            solver,
            state.chain,
            ridge=1e-10 if settings.lags == 1 else WINDOW_RIDGE,
        ),
        settings.engine,
        state.calm,
    )
    return model, rounds


def next_rows(state: State, found: Decomposition) -> int:
    """Rows for another first moment: as many as before if it will do, or there are no more."""
    if found.accepted or free_to_rotate(state, found):
        return state.moment_rows
    most = min(state.data.n_rows, MOMENT_WORK // state.plan.n_features**2)
    return max(state.moment_rows, min(MORE_ROWS * state.moment_rows, most))


def free_to_rotate(state: State, found: Decomposition) -> bool:
    """Whether the components are determined up to a rotation at most, by any number of rows."""
    return state.n_outputs == 1 and found.order == 2


def estimate_moment(
    state: State, whitening: Whitening, degree: int, some: Subset
) -> tuple[Frame, RegressionSolver | None, Array, Array]:
    """First moment in its frame, the solver for the rounds, and the output scale."""
    std = state.report.output_std
    assert std is not None
    floor = 1e-8 * float(std.max())
    if state.plan.moment == "score":
        assert state.chain is not None
        frame = score_frame(state.chain.precision_blocks(0)[0])
        moment = score_moment(state, frame, degree, some)
        return frame, None, moment.finalize(), np.maximum(std, floor)
    chain = state.chain if state.plan.moment == "union" else None
    state.report.moment = "xreg" if chain is None else "union"
    features = RegressionFeatures(whitening, degree, chain)
    if chain is not None and interior_rows(state) < 4 * features.size:
        features, state.report.moment = RegressionFeatures(whitening, degree), "xreg"
    sums = state.settings.engine.run(
        partial(regression_sums, features=features, targets=state.centred_outputs),
        some,
        label="first moment",
    )
    solver = RegressionSolver.from_sums(features, sums)
    tensor = solver.tensor(sums)
    scale = np.maximum(np.sqrt(solver.residual_variance(sums)), floor)
    if features.chain is not None:
        solver = plain_solver(state, whitening, degree, some)
    return Frame.of_whitening(whitening), solver, tensor, scale


def interior_rows(state: State) -> int:
    """Count the steps far enough from both ends for an interior score."""
    assert state.chain is not None
    before, after = state.chain.context
    return state.data.n_interior(before, after)


def score_moment(state: State, frame: Frame, degree: int, some: Subset) -> CrossMoment:
    """Run the pass of a score moment in the coordinates of a frame."""
    assert state.chain is not None
    function: Callable[[Batch], CrossMoment] = partial(
        cross_moment_sums, chain=state.chain, order=degree, projection=frame.from_inputs
    )
    return state.settings.engine.run(function, some, label="score moment")


def number_of_units(
    state: State, whitening: Whitening, frame: Frame, degree: int, some: Subset
) -> int:
    """Number of units from the moments of four quarters of the data.

    They contrast in three ways, each with the noise of their mean; the loudest contrast sets the
    bar, as one alone may happen to be quiet.
    """
    engine = state.settings.engine
    whole: Selection = some if some.n_batches > 1 else state.calm.as_subset()
    if whole.n_visited < 8:
        whole = replace(state.calm, segment=max(20, state.n_rows // 8))
    tensors, scales = [], []
    chain = state.chain if state.report.moment == "union" else None
    try:
        split = [quarter for half in halves(whole) for quarter in halves(half, keep=True)]
    except ValueError as error:
        raise ValueError(
            "`n_hidden=None` compares four parts of the data, and these are a few short pieces: "
            "set `n_hidden`"
        ) from error
    for quarter in split:
        if state.plan.moment == "score":
            tensors.append(score_moment(state, frame, degree, quarter).finalize())
            continue
        features = RegressionFeatures(whitening, degree, chain)
        sums = engine.run(
            partial(regression_sums, features=features, targets=state.centred_outputs),
            quarter,
            label="quarters",
        )
        solver = RegressionSolver.from_sums(features, sums)
        tensors.append(solver.tensor(sums))
        scales.append(np.sqrt(solver.residual_variance(sums)))
    scale = np.mean(scales, axis=0) if scales else state.report.output_std
    assert scale is not None
    scale = np.maximum(scale, 1e-8 * scale.max())
    mean = np.mean(tensors, axis=0)
    signs = ((1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))
    contrasts = [np.tensordot(sign, tensors, axes=1) / 4 for sign in signs]
    weights = scale.reshape(-1, *[1] * degree)
    noise = max(contrasts, key=lambda contrast: float(np.linalg.norm(contrast / weights)))
    choice = choose_rank(
        mean + noise,
        mean - noise,
        output_scale=scale,
        random_state=state.settings.rng,
    )
    state.report.rank_reason = str(choice)
    return choice.rank


def check_sizes(state: State, n_hidden: int, degree: int) -> None:
    """Refuse sizes that the data cannot determine; warn where units are free to rotate."""
    settings = state.settings
    if settings.recurrence is not None and state.data.longest == 1:
        raise IdentifiabilityError(
            "all sequences have a single step, which no recurrence reaches: use recurrence=None"
        )
    state.check_samples(n_hidden)
    determined = check_identifiable(
        state.n_inputs,
        n_hidden,
        state.n_outputs,
        degree,
        recurrent=settings.recurrence is not None,
    )
    state.report.sizes["hidden"] = n_hidden
    state.report.sizes["weights"] = state.layout(n_hidden).size
    if not determined:
        state.report.warn(
            RotationWarning,
            "one output and a quadratic activation: the hidden units are determined only up "
            "to a rotation (the eigenvectors of the quadratic form are returned); predictions "
            "do not depend on it",
        )


def judge_decomposition(state: State, found: Decomposition) -> None:
    """Keep the decomposition in the report, with a warning if it fails its accept rule."""
    state.report.decomposition = found
    state.report.conditions["components"] = found.condition
    if not found.accepted and not free_to_rotate(state, found):
        state.report.warn(
            AcceptanceWarning,
            f"the first moment's decomposition does not meet its accept rule (status "
            f"{found.status.name}, predicted errors {found.component_error:.2g} and "
            f"{found.loading_error:.2g}, largest |cos| {found.max_cosine:.2f}, largest "
            f"|W|/|T| {found.max_loading:.2g}): the units may be wrong; use more data, more "
            f"outputs or fewer units",
        )


def unit_method(state: State, model: Network) -> Any:
    """Estimator of U and b, the wrong-score and window cases taken into account."""
    settings, report = state.settings, state.report
    method: str = settings.recurrence or "none"
    if method == "score" and settings.bidirectional:
        raise ValueError(
            "recurrence='score' gives U without the signs of its rows, and V not at all: use "
            "'instrument' or 'cross' for bidirectional networks"
        )
    if method == "score":
        check_score_method(model)
    if state.chain is None or method == "none":
        if method in ("cross", "score"):
            raise ValueError(
                f"recurrence={method!r} needs an input law, and lag windows have none: use "
                f"'instrument', which falls back on least squares"
            )
        method = "least-squares"
    elif state.score_is_wrong:
        if method == "instrument":
            method = "least-squares"
        elif method in ("cross", "score"):
            assert report.score_check is not None
            report.warn(
                ScoreWarning,
                f"recurrence={method!r} relies on the Gaussian score, which fails Stein's "
                f"identity on these inputs (defect {report.score_check.defect:.2f}): use "
                f"'instrument', which switches to least squares",
            )
    report.recurrence = "none" if settings.recurrence is None else method
    return method

"""Last stages: least simulation error of the linear model, then of the whole network."""

from __future__ import annotations

import math

import numpy as np

from gloree.estimators._identification._descent import descend
from gloree.estimators._identification._state import STRETCH, Identification, percent
from gloree.models import IORNN, ExplosionError
from gloree.refinement import RefinementStatus, Solution

NEAR_OPTIMUM = 1e-9
"""First damping of the refinement of a linear model that least squares on its response began."""


def polish(fit: Identification, model: IORNN) -> IORNN:
    """Linear model of least simulation error, from its realisation."""
    with fit.stage("linear refinement") as detail:
        if fit.settings.n_nonlinear == 0:
            # nothing is left to be judged: all data, to convergence
            left = fit.settings.max_seconds - fit.clock()
            end = descend(
                fit,
                model,
                fit.training.joined(fit.held_out),
                judged=False,
                max_steps=200,
                max_seconds=left,
                damping=NEAR_OPTIMUM,
            )
            fit.report.refinement_status = end.status
            fit.report.refinement_steps = end.n_steps
        else:
            budget = min(5.0, 0.1 * fit.settings.max_seconds)
            end = descend(fit, model, fit.stretch(STRETCH), max_steps=30, max_seconds=budget)
        detail.append(f"{end.n_steps} steps, {end.status.value}")
        found = end.model
        assert isinstance(found, IORNN)
        return found


def refine_stage(fit: Identification, starts: list[IORNN], moments: IORNN, linear: IORNN) -> IORNN:
    """Growing stretches of data; the linear model stays where nothing is gained over it."""
    settings, report = fit.settings, fit.report
    with fit.stage("refinement") as detail:
        left = settings.max_seconds - fit.clock()
        stages = [(fit.training, left)]
        if fit.training.n_counted > 1.5 * STRETCH:
            stages = [(fit.stretch(STRETCH), 0.45 * left), (fit.training, left)]
        if not starts and moments.n_hidden > linear.n_hidden:
            report.notes.append(
                "time was too short to compare starts: the network of moments alone was refined"
            )
            starts = [moments]
        if not starts:
            report.notes.append("no nonlinear unit could be started: the linear model was kept")
            return linear
        candidates: list[IORNN] = starts
        history: list[tuple[float, float, float]] = []
        steps, status = 0, RefinementStatus.STEP_LIMIT
        size = float(np.sqrt(fit.data.n_outputs))
        for data, share in stages:
            until = min(fit.clock() + share, settings.max_seconds)
            ends: list[Solution] = []
            for candidate in candidates:
                # a start that settles early leaves time for the next one
                offset = fit.clock()
                seconds = until - offset
                if ends and seconds < 0.2 * share:
                    break
                try:
                    end = descend(fit, candidate, data, max_steps=400, max_seconds=seconds)
                except ExplosionError:
                    # sound on the stretch that it was made on, not on this one
                    continue
                ends.append(end)
                steps += end.n_steps
                history += [
                    (
                        offset + each.seconds,
                        math.sqrt(2 * each.loss) / size,
                        math.sqrt(2 * each.held_out) / size,
                    )
                    for each in end.history
                ]
            if not ends:
                break
            best = min(ends, key=lambda end: end.final.held_out)
            assert isinstance(best.model, IORNN)
            candidates, status = [best.model], best.status
        model = min((candidates[0], moments), key=lambda m: fit.error(m, fit.held_out))
        report.history, report.refinement_status, report.refinement_steps = history, status, steps
        report.refined_error = fit.error(model, fit.held_out)
        report.training_error = fit.error(model, fit.training)
        detail.append(f"{steps} steps, {status.value}, held-out {percent(report.refined_error)}")
        if report.refined_error > fit.worth * report.linear_error:
            report.nonlinear = False
            report.notes.append(
                f"the nonlinearity is not worth having: its gain over the linear model is within "
                f"what {fit.n_held_out:,} held-out samples can tell, and the linear model was kept"
            )
            return linear
        report.nonlinear = True
    return model

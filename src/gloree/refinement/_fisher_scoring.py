r"""Maximum likelihood of labels: Fisher scoring on the cross-entropy, and the gauge of its logits.

With the probabilities :math:`p_t` and :math:`W_t=\mathrm{diag}(p_t)-p_tp_t^\top` the expected
information is :math:`H=\sum_tJ_t^\top W_tJ_t`, and :math:`W_t=B_tB_t^\top` with
:math:`B_t=\mathrm{diag}(\sqrt{p_t})-p_t\sqrt{p_t}^\top`, so that H is a sum of squares of the rows
:math:`B_t^\top J_t` [1]_. What is added to the logits of all labels alike changes nothing: the
sums over the labels of all weights of the outputs stay what they are.

References
----------
.. [1] P. McCullagh and J. A. Nelder, "Generalized Linear Models", 2nd edition (1989), chapter 5.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from gloree._arrays import to_host
from gloree._parameters import check_integer
from gloree.engine import Engine, Selection, Subset
from gloree.models import ExplosionError, Network
from gloree.refinement._curvature import corrected, solve_step
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._losses import CrossEntropy, Loss, LossSums, softmax
from gloree.refinement._sensitivities import HessianSums, unit_sensitivities
from gloree.refinement._solvers import Progress, RefinementStatus, Solution, Trace
from gloree.sequences import Array, Batch
from gloree.states import predict_rows

ROWS_NUMBERS = 2**21
"""Entries of the sensitivities of a batch, about: 16 MiB."""

LEAST_ROWS, ROWS_PER_WEIGHT = 20_000, 50
"""Rows that the information is formed of, and rows for each weight, at least."""

ENOUGH = 1e-4
"""Twice the log-likelihood that may be left to gain: it moves no combination of weights by more
than a hundredth of its standard error."""

NEAR, KEPT = 10.0, 5
"""The information is formed anew after so many steps where twice the log-likelihood left to gain is
more than `NEAR`. In between, and to the end, it is corrected by the gradients: along combinations
that the labels hardly tell, the curvature is not the expected one, and steps of that gain next to
nothing."""

LEAST_DAMPING, MOST_DAMPING = 1e-9, 1e6
"""Between these steps are damped, relative to the diagonal of the information."""

LARGEST = 1e100
"""Weights beyond this, whose squares overflow, are refused as an explosion is."""


def fisher_sums(batch: Batch, model: Network, layout: Layout) -> HessianSums:
    """Expected information of one batch by the sensitivities of every row.

    Time O(n_rows n_outputs size^2), memory O(n_rows (n_hidden + n_outputs) size).
    """
    at = Linearisation.of(batch, model, layout)
    rows = batch.counted_rows
    p = softmax(to_host(predict_rows(model, batch, at.states))[rows])[0]
    roots = np.sqrt(p)
    # B_t^T J_t: each row times its root, less the mean of all by p times the root
    A2, n_rows, n_labels = model.output_weights, rows.shape[0], p.shape[1]
    parts = [part for part in layout.directions if part.n_units]
    units = np.concatenate(
        [
            np.einsum("jc,jnp->ncp", A2[part.units], values[:, rows], optimize=True)
            for part, values in zip(parts, unit_sensitivities(at), strict=True)
        ],
        axis=2,
    )
    units -= np.einsum("nc,ncp->np", p, units)[:, None, :]
    units *= roots[:, :, None]
    factor = roots[:, :, None] * np.eye(n_labels) - roots[:, :, None] * p[:, None, :]
    phi = to_host(at.leaving())[rows]
    outputs = np.einsum("ncb,nf->ncbf", factor, phi).reshape(n_rows, n_labels, -1)
    seen = np.concatenate((units, outputs), axis=2).reshape(n_rows * n_labels, layout.size)
    return HessianSums(float(n_rows), seen.T @ seen)


def label_gauge(layout: Layout) -> Array:
    """Rows that add up the weights of all outputs, (output_width, size), of unit length."""
    width, n = layout.output_width, layout.n_outputs
    rows = np.zeros((width, layout.size))
    rows[:, layout.n_unit_parameters :] = np.tile(np.eye(width), n) / np.sqrt(n)
    return rows


@dataclass(frozen=True)
class FisherScoring:
    """Maximise the likelihood of labels to the end, on all of the data.

    For many more steps than weights, and labels that no network separates: weights have no maximum
    of the likelihood otherwise. Standard errors are those at the maximum.

    Parameters
    ----------
    max_steps : int, default 400

    Notes
    -----
    Each step takes a gradient, and now and then O(n_rows n_labels size^2) on up to 20,000 rows or
    50 for each weight for the information, which is corrected by the BFGS formula in between.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree import SpectralRNNClassifier, datasets
    >>> X, Y, _, _ = datasets.make_rnn(300, 10, 3, 1, 3, noise=1.0, random_state=0)
    >>> clf = SpectralRNNClassifier(1, refine="likelihood", direct=False, random_state=0)
    >>> bool(clf.fit(X, Y.argmax(axis=2)).report_.standard_errors["input_weights"].max() < 0.2)
    True
    """

    max_steps: int = 400

    def __post_init__(self) -> None:
        check_integer("max_steps", self.max_steps, 1)

    name: ClassVar[str] = "Fisher scoring"

    def minimise(
        self,
        loss: Loss,
        model: Network,
        layout: Layout,
        engine: Engine,
        data: Selection,
        *,
        held_out: Selection | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Minimise the cross-entropy; see `Solver.minimise`. Other losses raise a ValueError."""
        if not isinstance(loss, CrossEntropy):
            raise ValueError(
                f"Fisher scoring maximises the likelihood of labels, and `loss` is the "
                f"{loss.name!r}: use `LBFGS`, which takes every loss"
            )
        trace = Trace(time.perf_counter, progress)
        descent = _Scoring(loss, layout, engine, data)
        gauge = label_gauge(layout)
        model = without_common_part(model)
        current = descent.sums(model)
        if current is None:
            raise ExplosionError(0, 0, np.inf)
        trace.note(model, current.loss / current.n_rows)
        damping, status = 1e-3, RefinementStatus.STEP_LIMIT
        information, age = descent.information(model), 0
        H = information.hessian
        for _ in range(self.max_steps):
            fixed = np.vstack((layout.scale_constraints(model), gauge))
            step = solve_step(H, -current.gradient, fixed, 0.0)
            gain = float(step @ -current.gradient)
            if gain < ENOUGH:
                status = RefinementStatus.CONVERGED
                break
            if age >= KEPT and gain > NEAR:
                information, age = descent.information(model), 0
                H = information.hessian
            found = None
            while found is None and damping < MOST_DAMPING:
                step = solve_step(H, -current.gradient, fixed, damping)
                moved = without_common_part(layout.move(model, step))
                after = descent.sums(moved)
                if after is not None and after.loss < current.loss:
                    found = moved, after
                    break
                damping = max(8.0 * damping, 1e-6)
            if found is None:
                ended = trace.n_steps and gain < 1.0
                status = RefinementStatus.CONVERGED if ended else RefinementStatus.NO_DECREASE
                break
            taken = layout.vector(found[0]) - layout.vector(model)
            H, age = corrected(H, taken, found[1].gradient - current.gradient), age + 1
            model, current = found
            damping = max(damping / 8.0, LEAST_DAMPING)
            trace.note(model, current.loss / current.n_rows)
        if age:
            information = descent.information(model)
        steps = tuple(trace.steps)
        return Solution(model, status, current.n_rows, steps, hessian=information)


@dataclass(frozen=True)
class _Scoring:
    """Passes of a search."""

    loss: Loss
    layout: Layout
    engine: Engine
    data: Selection

    def sums(self, model: Network) -> LossSums | None:
        """Loss and gradient; None where the model explodes, or its weights do."""
        if not np.max(np.abs(self.layout.vector(model)), initial=0.0) < LARGEST:
            return None
        function = partial(self.loss.sums, model=model, layout=self.layout)
        try:
            found = self.engine.run(function, self.data, label="likelihood")
        except ExplosionError:
            return None
        return found if np.isfinite(found.loss) else None

    def information(self, model: Network) -> HessianSums:
        """Expected information of the data."""
        return fisher_information(model, self.layout, self.engine, self.data)


def fisher_information(
    model: Network, layout: Layout, engine: Engine, data: Selection
) -> HessianSums:
    """Expected information of all rows of the data, from a part of them if they are many.

    Time O(n_rows n_labels size^2) for at most 20,000 rows, or 50 for each weight.
    """
    source, segments = data.as_subset().source, data.as_subset().segments
    wanted = max(LEAST_ROWS, ROWS_PER_WEIGHT * layout.size)
    stride = max(1, segments.n_counted // wanted)
    at_once = ROWS_NUMBERS // ((layout.n_hidden + layout.n_outputs) * layout.size)
    some = segments[::stride]
    batches = some.split_evenly(max(1, -(-some.n_rows // max(256, at_once))))
    function = partial(fisher_sums, model=model, layout=layout)
    found = engine.run(function, Subset(source, batches), label="information")
    n_rows = float(segments.n_counted)
    return HessianSums(n_rows, n_rows / found.n_rows * found.hessian)


def without_common_part(model: Network) -> Network:
    """The same probabilities, with weights of the outputs that add up to zero over the labels."""
    direct = model.direct_weights
    return model.replace(
        output_weights=model.output_weights - model.output_weights.mean(axis=1, keepdims=True),
        output_bias=model.output_bias - model.output_bias.mean(),
        direct_weights=None if direct is None else direct - direct.mean(axis=1, keepdims=True),
    )

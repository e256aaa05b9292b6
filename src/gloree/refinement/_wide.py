r"""Gauss-Newton where there are too many inputs for a matrix of all weights.

In whitened coordinates the state depends on the inputs through the span of the rows of A1 alone,
and what is orthogonal to it is independent noise if the inputs are Gaussian. The blocks of J^T J
that belong to two orthogonal input directions are then the same matrix C (units, and outputs of a
direct path, squared) for every direction outside the span, and zero between them:

.. math:: J^T J = H_{span} \oplus (C \otimes I_{d-k}).

H_span, and C from a few directions outside, come from the ordinary J^T J of the network on inputs
that are projected on both: a matrix of about n_hidden^2 weights, whatever n_inputs is. For inputs
of other laws this is a preconditioner: the gradient is exact, and the squared error decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.moments import Whitening
from gloree.refinement._gauss_newton import (
    EFFICIENT,
    Refinement,
    RefinementStatus,
    finite_start,
    hessian_pass,
    largest_share,
    line_search,
    solve_step,
)
from gloree.refinement._layout import Layout
from gloree.sequences import Array, IntArray

OUTSIDE = 8
"""Directions outside the span from which C is averaged."""

HESSIAN_ROWS = 50
"""Rows behind the J^T J of the projected network, for each of its weights."""

START_ROWS = 20
"""Rows for each weight on which the descent begins."""

MAX_DAMPING = 1e3


def wide_gauss_newton(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    whitening: Whitening,
    *,
    to_convergence: bool = False,
    max_steps: int = 30,
    progress: Callable[[int, float], None] | None = None,
) -> Refinement:
    """Minimise sum |y - y^|^2 from a consistent start, for many inputs.

    Parameters
    ----------
    model : IORNN or BRNN
        The start, without lags.
    layout : Layout
    engine, source
    whitening : Whitening
        Of the inputs; an estimate from part of the data will do.
    to_convergence, max_steps, progress
        As in `gauss_newton`.

    Returns
    -------
    Refinement
        Its `hessian` is that of the projected network.

    Notes
    -----
    A gradient for each step, O(n_rows n_inputs n_hidden), over part of the data first where there
    are many, and O(n_hidden^6) algebra; no matrix of more than n_inputs^2 entries.
    """
    stride = source.data.n_rows // (START_ROWS * layout.size)
    if stride > 1:
        model = _descend(
            model, layout, engine, replace(source, stride=stride), whitening, False, max_steps, None
        ).model
    return _descend(model, layout, engine, source, whitening, to_convergence, max_steps, progress)


def _descend(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    whitening: Whitening,
    to_convergence: bool,
    max_steps: int,
    progress: Callable[[int, float], None] | None,
) -> Refinement:
    """Descend on one set of data."""
    rng = np.random.default_rng(0)
    model, current = finite_start(model, layout, engine, source)
    start_squares = current.squares
    history = [float(start_squares.sum())]
    status, damping, n_steps = RefinementStatus.STEP_LIMIT, 1e-9, 0
    moved = True
    while True:
        if moved:
            span = Span.of(model, whitening, rng)
            small = span.project(model)
            reduced = replace(layout, n_inputs=span.basis.shape[1])
            hessian = hessian_pass(
                small, reduced, engine, span.seen(source), current, HESSIAN_ROWS * reduced.size
            )
        step, inside, outside = span.step(
            layout, reduced, small, hessian.hessian, current.gradient, damping
        )
        variance = history[-1] / current.n_rows / layout.n_outputs
        share = max(largest_share(reduced, hessian.hessian, inside), outside) / variance
        if share <= (1e-8 if to_convergence else EFFICIENT):
            status = RefinementStatus.CONVERGED if to_convergence else RefinementStatus.EFFICIENT
            break
        if n_steps >= max_steps:
            break
        found = line_search(model, layout, engine, source, step, current)
        moved = found is not None
        if found is None:
            if damping >= MAX_DAMPING:
                status = RefinementStatus.CONVERGED if n_steps else RefinementStatus.NO_DECREASE
                break
            damping = max(damping, 1e-6) * 100
            continue
        model, current, _ = found
        damping, n_steps = max(damping / 100, 1e-9), n_steps + 1
        history.append(float(current.squares.sum()))
        if progress is not None:
            progress(n_steps, history[-1])
        if history[-2] - history[-1] <= 1e-12 * history[-1]:
            status = RefinementStatus.CONVERGED
            break
    return Refinement(
        model,
        status,
        n_steps,
        current.squares,
        current.n_rows,
        start_squares,
        tuple(history),
        hessian,
    )


class Span:
    """The directions that the units see, and a few outside, in whitened coordinates.

    Attributes
    ----------
    whitening : Whitening
    basis : ndarray of shape (n_directions, n_inside + OUTSIDE)
        Orthonormal columns: the span of A1 first.
    n_inside : int
    """

    def __init__(self, whitening: Whitening, basis: Array, n_inside: int) -> None:
        self.whitening, self.basis, self.n_inside = whitening, basis, n_inside

    @classmethod
    def of(cls, model: Network, whitening: Whitening, rng: np.random.Generator) -> Span:
        """Span of a network's input weights (and of its direct path)."""
        rows = [model.input_weights]
        if model.direct_weights is not None:
            rows.append(model.direct_weights.T)
        columns = (np.concatenate(rows) @ whitening.inverse).T
        n_inside = columns.shape[1]
        others = rng.standard_normal((columns.shape[0], OUTSIDE))
        basis = np.linalg.qr(np.column_stack((columns, others)))[0]
        return cls(whitening, basis, n_inside)

    @property
    def projection(self) -> Array:
        """From inputs to coordinates, shape (n_inputs, n_inside + OUTSIDE)."""
        projection: Array = self.whitening.matrix.T @ self.basis
        return projection

    def project(self, model: Network) -> Network:
        """Return the network on projected inputs: the same outputs."""
        back = self.whitening.inverse @ self.basis
        direct = model.direct_weights
        return model.replace(
            input_weights=model.input_weights @ back,
            direct_weights=None if direct is None else back.T @ direct,
        )

    def seen(self, source: Source) -> Source:
        """The data with projected inputs."""
        return replace(source, project=self.projection)

    def step(
        self,
        layout: Layout,
        reduced: Layout,
        small: Network,
        hessian: Array,
        gradient: Array,
        damping: float,
    ) -> tuple[Array, Array, float]:
        """Step of all weights.

        Returns
        -------
        step : ndarray of shape (layout.size,)
        inside : ndarray of shape (reduced.size,)
            Its part in the span, as a step of the projected network.
        share : float
            What the part outside gains, over the number of its weights.
        """
        parts = layout.named(gradient)
        entering = input_parameters(reduced)
        # dL/dA~ = dL/dA1 W^T, for A1 = A~ W
        whitened = _stacked(layout, parts) @ self.whitening.matrix.T
        # inside the span: an ordinary step of the projected network
        known = {name: value for name, value in parts.items() if not _enters(name)}
        seen = np.zeros(reduced.size)
        for name, value in known.items():
            seen[reduced.indices[name]] = value
        seen[entering] = whitened @ self.basis
        kept = np.setdiff1d(np.arange(reduced.size), entering[:, self.n_inside :])
        constraints = reduced.scale_constraints(small)[:, kept]
        inside = np.zeros(reduced.size)
        inside[kept] = solve_step(hessian[np.ix_(kept, kept)], seen[kept], constraints, damping)
        # outside: C, the same for every direction
        blocks = [hessian[np.ix_(tied, tied)] for tied in entering[:, self.n_inside :].T]
        curvature = np.mean(blocks, axis=0)
        curvature[np.diag_indices_from(curvature)] *= 1.0 + damping
        within = self.basis[:, : self.n_inside]
        rest = whitened - (whitened @ within) @ within.T
        change = np.linalg.solve(curvature, rest)
        share = float(np.einsum("ic,ic->", change, rest)) / max(rest.size, 1)
        change += inside[entering[:, : self.n_inside]] @ within.T
        step = np.zeros(layout.size)
        for name in known:
            step[layout.indices[name]] = inside[reduced.indices[name]]
        step[input_parameters(layout)] = change @ self.whitening.matrix
        return step, inside, share


def input_parameters(layout: Layout) -> IntArray:
    """Places of the weights that each input meets, shape (n_rows, n_inputs): units, then D."""
    return _stacked(layout, layout.indices).astype(np.int64)


def _enters(name: str) -> bool:
    return name.endswith("input_weights") or name == "direct_weights"


def _stacked(layout: Layout, parts: dict[str, Array] | dict[str, IntArray]) -> Array:
    rows = [parts[f"{each.prefix}input_weights"] for each in layout.directions if each.n_units]
    if layout.direct:
        rows.append(parts["direct_weights"].T)
    stacked: Array = np.concatenate(rows)
    return stacked

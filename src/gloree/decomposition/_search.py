"""The search for the best minimum: starts on a small core, until enough of them agree.

The core is the tensor restricted to its leading subspaces, where a start is cheap. The first start
comes from matrix pencils, all others are random. What tells when to stop is the number of starts
that reached the lowest loss; see "The certificate, and starts until they agree" in the
documentation. A search is a value, the starts run so far: to continue it gives another one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gloree._monomials import n_monomials

from ._least_squares import Point, Problem
from ._levenberg_marquardt import Ending, Minimum, minimise
from ._result import EXACT_LOSS, DecompositionStatus
from ._tensor import FloatArray, degrees_of_freedom, multiply_modes

# Two starts found the same minimum if their losses agree to this.
AGREEMENT = 1e-6
MIN_AGREEING, MIN_STARTS = 3, 6
# Other minima this close to the best loss mean that a still better one may hide: run more starts.
NEARBY, MIN_STARTS_NEARBY = 1.1, 12
MAX_CANDIDATES = 5
N_PENCILS = 8
# Iterations, tolerance and step of a start: those that take longer are in valleys of cancelling
# components. Starts only have to tell minima apart, to AGREEMENT; the polish converges to rounding.
START_LIMITS = (100, 1e-9, 1e-2)
# The test of the residual against the noise outside needs enough entries on both sides.
MIN_DEGREES = 20
# Below this share of |T|^2 the complement is rounding error, not noise.
MIN_OUTSIDE = 1e-13


class Core(NamedTuple):
    """The problem of T restricted to its leading subspaces."""

    problem: Problem  # of a tensor of shape (s, r, .., r)
    basis: FloatArray | None = None  # (d, r) orthonormal, None when r = d
    is_whole: bool = True  # nothing but rounding error was left out
    noise_band: tuple[float, float] | None = None  # losses of the core that outside noise predicts


def compress(problem: Problem, rank: int) -> Core:
    """Project on min(rank, d) input directions and min(rank, n_outputs) output directions.

    `noise_band` is where the core's loss |R|^2 / (2 |core|^2) agrees, within three standard
    deviations, with the noise level that is seen outside of the core.
    """
    n_outputs, n_inputs, order = problem.n_slices, problem.size, problem.order
    n_kept, n_directions = min(rank, n_outputs), min(rank, n_inputs)
    if n_kept == n_outputs and n_directions == n_inputs:
        return Core(problem)
    tensor, basis = problem.tensor, None
    if n_directions < n_inputs:
        basis = _leading_subspace(tensor.swapaxes(0, 1).reshape(n_inputs, -1), n_directions)
        tensor = multiply_modes(tensor, basis.T)
    if n_kept < n_outputs:
        flat = tensor.reshape(n_outputs, -1)
        outputs = _leading_subspace(flat, n_kept)
        tensor = (outputs.T @ flat).reshape(n_kept, *tensor.shape[1:])
    core = Problem(tensor)
    kept, total = core.squared_norm, problem.squared_norm
    if total - kept < MIN_OUTSIDE * total:
        return Core(core, basis)
    inside = degrees_of_freedom(n_kept, n_directions, rank, order)
    captured = n_kept * n_monomials(n_directions, order)
    captured += n_directions * (n_inputs - n_directions) + n_kept * (n_outputs - n_kept)
    outside = n_outputs * n_monomials(n_inputs, order) - captured
    if min(inside, outside) < MIN_DEGREES:
        return Core(core, basis, is_whole=False)
    expected = (total - kept) / outside * inside / (2 * kept)
    spread = 3 * np.sqrt(2 / inside + 2 / outside)
    return Core(core, basis, False, (expected * max(0.0, 1 - spread), expected * (1 + spread)))


def _leading_subspace(matrix: FloatArray, size: int) -> FloatArray:
    """Return the `size` leading left singular vectors of a wide matrix, through its Gram matrix."""
    vectors = np.linalg.eigh(matrix @ matrix.T)[1]
    return np.asarray(vectors[:, : -size - 1 : -1])


class Starts(NamedTuple):
    """The starts run so far on one core, and the different minima that they found."""

    losses: tuple[float, ...] = ()  # one for each start, infinite where it did not converge
    minima: tuple[Point, ...] = ()
    n_iterations: int = 0

    @property
    def best(self) -> Point:
        """The minimum of lowest loss."""
        return min(self.minima, key=lambda minimum: minimum.loss)

    def n_within(self, factor: float = 1 + AGREEMENT) -> int:
        """Count the starts that ended below `factor` times the best loss."""
        bar = self.best.loss * factor + EXACT_LOSS
        return sum(loss <= bar for loss in self.losses)

    def status(self, core: Core) -> DecompositionStatus:
        """Say whether the best minimum is the answer.

        Three of six or more (twelve, if other minima are nearby) reaching the best loss are an
        agreement. Two are enough if the noise outside of the core explains the residual inside.
        """
        loss, n_agreeing, band = self.best.loss, self.n_within(), core.noise_band
        if loss < EXACT_LOSS and core.is_whole:
            return DecompositionStatus.EXACT
        if n_agreeing >= 2 and band and band[0] <= loss <= band[1]:
            return DecompositionStatus.CERTIFIED
        enough = MIN_STARTS if self.n_within(NEARBY) == n_agreeing else MIN_STARTS_NEARBY
        if n_agreeing >= MIN_AGREEING and len(self.losses) >= enough:
            return DecompositionStatus.AGREED
        return DecompositionStatus.NO_AGREEMENT

    def candidates(self) -> list[Point]:
        """Return the minima to polish on the whole tensor, the best first.

        More than the best only when others come close: what compression left out may then decide.
        """
        best, *others = sorted(self.minima, key=lambda minimum: minimum.loss)
        distinct = [best]
        for point in others:
            if point.loss > NEARBY * best.loss or len(distinct) == MAX_CANDIDATES:
                break
            if point.loss > distinct[-1].loss * (1 + AGREEMENT) + EXACT_LOSS:
                distinct.append(point)
        return distinct

    def followed_by(self, end: Minimum) -> Starts:
        """Add the end of one more start."""
        loss, minima = end.point.loss, self.minima
        if end.ending is Ending.JOINED:
            loss = self.best.loss
        else:
            minima = (*minima, end.point)
            if end.ending is Ending.LIMIT:
                loss = np.inf
        return Starts((*self.losses, loss), minima, self.n_iterations + end.n_iterations)


def run_starts(
    core: Core,
    rank: int,
    rng: np.random.Generator,
    starts: Starts,
    max_starts: int,
    kept: FloatArray | None = None,
) -> Starts:
    """Continue `starts` until their status is a success, up to `max_starts` in all.

    `kept` are rows that the new starts have in common, while the others are drawn afresh. With
    more components than inputs no row is kept: the first start is then random, and too often wrong.
    """
    size = core.problem.size
    if kept is None or rank > size:
        kept = np.empty((0, size))
    while len(starts.losses) < max_starts:
        child = rng.spawn(1)[0]
        if not starts.losses and rank == size:
            rows = pencil_start(core.problem, child)
        else:
            rows = np.vstack([kept, child.standard_normal((rank - len(kept), size))])
        known = starts.best if starts.minima else None
        end = minimise(core.problem, rows, *START_LIMITS, known=known)
        starts = starts.followed_by(end)
        if starts.status(core) is not DecompositionStatus.NO_AGREEMENT:
            break
    return starts


def pencil_start(problem: Problem, rng: np.random.Generator) -> FloatArray:
    """Return the best of several random pencils, refined when that lowers the loss.

    All are tried even where the first is exact up to rounding: their conditions, and so the last
    digits of the components, differ by factors of ten.
    """
    slices = problem.tensor.reshape(-1, problem.size, problem.size)
    candidates = pencil_starts(slices, N_PENCILS, rng)
    losses = [problem.evaluate(rows).loss for rows in candidates]
    rows = candidates[int(np.argmin(losses))]
    refined = uwedge(slices, rows)
    return refined if problem.evaluate(refined).loss < min(losses) else rows


def pencil_starts(slices: FloatArray, n_pencils: int, rng: np.random.Generator) -> FloatArray:
    """Return the components of `n_pencils` random pencils, shape (n_pencils, n, n).

    For symmetric slices T_a = A^T diag(W_a) A with A square and two random combinations X, Y of
    them, the eigenvectors of X Y^-1 are the rows of A (Jennrich's algorithm). Noise makes pairs of
    eigenvalues complex; such a pair (v, conj v) gives the rows Re v and Im v, since two real parts
    would be one component twice.
    """
    n_slices, size = slices.shape[:2]
    weights = rng.standard_normal((2 * n_pencils, n_slices))
    combined = (weights @ slices.reshape(n_slices, -1)).reshape(2, n_pencils, size, size)
    try:
        # (Y^-1 X)^T = X Y^-1 for symmetric X and Y
        products = np.linalg.solve(combined[1], combined[0]).swapaxes(1, 2)
        values, vectors = np.linalg.eig(products)
    except np.linalg.LinAlgError:
        return rng.standard_normal((n_pencils, size, size))
    rows = np.where(values.imag[:, None, :] < 0, vectors.imag, vectors.real).swapaxes(1, 2)
    lengths = np.linalg.norm(rows, axis=2, keepdims=True)
    if not np.isfinite(rows).all() or lengths.min() < 1e-300:
        return rng.standard_normal((n_pencils, size, size))
    return np.asarray(rows / lengths, dtype=np.float64)


def uwedge(slices: FloatArray, components: FloatArray, n_iterations: int = 10) -> FloatArray:
    """Refine square components by approximate joint diagonalisation (uniform weights).

    With V = A^-T, the matrices V T_a V^T are nearly diagonal, D_a. The mixing left over, I + E, is
    fitted to their off-diagonal entries, M_a[i, j] = E[i, j] D_a[j] + E[j, i] D_a[i], pair by pair,
    and V becomes (I + E)^-1 V (Tichavsky, Yeredor, IEEE Trans. Signal Processing 57, 2009).
    """
    size = slices.shape[1]
    mixing = components.T
    try:
        for _ in range(n_iterations):
            demixing = np.linalg.inv(mixing)
            rotated = demixing @ slices @ demixing.T
            diagonals = np.einsum("aii->ai", rotated)
            products = diagonals.T @ diagonals
            crossed = np.einsum("aij,aj->ij", rotated, diagonals)
            squares = products.diagonal()
            determinant = np.outer(squares, squares) - products**2
            np.fill_diagonal(determinant, 1.0)
            floor = 1e-12 * np.outer(squares, squares)
            np.fill_diagonal(floor, 0.0)
            determinant = np.maximum(determinant, floor + 1e-300)
            update = (squares[:, None] * crossed - products * crossed.T) / determinant
            np.fill_diagonal(update, 1.0)
            mixing = mixing @ update
            mixing = mixing / np.linalg.norm(mixing, axis=0)
            if np.abs(update - np.eye(size)).max() < 1e-6:
                break
    except np.linalg.LinAlgError:
        return components
    return np.asarray(mixing.T) if np.isfinite(mixing).all() else components

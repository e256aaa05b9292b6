"""Losses: what a solver minimises, as a value and a slope of each row."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import column_sums, index, is_tensor, namespace, take_rows, to_host, zeros
from gloree._sums import Sums
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import Linearisation
from gloree.sequences import Array, Batch, IntArray
from gloree.states import predict_rows, run_states

CHECKED_ROWS, CHECKED_STEP, CHECKED_OFF = 5, 1e-6, 0.5
"""Rows of a batch on which the slope of a user's loss is compared with a difference, the relative
step, and what they may be off: kinks between two rows are no error, a wrong sign is."""


@dataclass(frozen=True)
class LossSums(Sums):
    """A loss summed over rows, and its gradient.

    `losses` are those of each output, or one of all together, `correct` the rows whose label is
    predicted correctly (NaN without labels); `gradient` is empty where it was not asked for.
    """

    n_rows: float
    losses: Array
    correct: float
    gradient: Array = field(repr=False)

    @property
    def loss(self) -> float:
        """Sum over all outputs."""
        return float(self.losses.sum())

    @property
    def share_correct(self) -> float:
        """Share of the rows whose label is predicted correctly; NaN where there are no labels."""
        return self.correct / self.n_rows


@runtime_checkable
class Loss(Protocol):
    """What a solver minimises: a sum over the rows that count.

    A loss of your own derives from this class, and defines `name` and `rows`.

    Attributes
    ----------
    name : str
        Shown in messages and progress bars.
    least_squares : bool
        Whether the loss is half the sum of the squared residuals, as `GaussNewton` and
        `LevenbergMarquardt` need; False by default.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.refinement import Loss
    >>> class Huber(Loss):
    ...     name = "Huber loss"
    ...
    ...     def rows(self, outputs, targets):
    ...         residuals = targets - outputs
    ...         signal = np.clip(residuals, -1.0, 1.0)
    ...         return signal * (residuals - signal / 2), signal
    >>> Huber().rows(np.zeros((1, 2)), np.array([[0.5, 3.0]]))
    (array([[0.125, 2.5  ]]), array([[0.5, 1. ]]))
    """

    name: str
    least_squares: bool = False

    @abstractmethod
    def rows(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Loss of each row, and its negative slope in the outputs.

        Parameters
        ----------
        outputs : ndarray or tensor of shape (n_rows, n_outputs)
            Predictions of the network.
        targets : ndarray or tensor of shape (n_rows, n_targets)
            The outputs of the data.

        Returns
        -------
        values : ndarray or tensor of shape (n_rows,) or (n_rows, n_outputs)
            The loss, or that of each output.
        signal : ndarray or tensor of shape (n_rows, n_outputs)
            Minus the derivative of the loss with respect to the outputs.
        """

    def correct(self, outputs: Array, targets: Array) -> NDArray[np.bool_] | None:
        """Whether the label of each row is predicted correctly; None if there are no labels.

        Parameters and shapes are those of `rows`; the result has shape (n_rows,).
        """
        return None

    def sums(self, batch: Batch, model: Network, layout: Layout | None = None) -> LossSums:
        r"""Sums of one batch, with the gradient if there is a layout.

        .. math:: \nabla_\theta \sum_t \ell(\hat y_t, y_t) = -J^T s, \qquad
            s_t = -\partial \ell / \partial \hat y_t

        Parameters
        ----------
        batch : Batch
        model : IORNN or BRNN
        layout : Layout, optional

        Returns
        -------
        LossSums

        Raises
        ------
        ValueError
            If `rows` returns arrays of other shapes than it should.

        Notes
        -----
        A forward and, for the gradient, a backward pass:
        O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden)).
        """
        states = run_states(model, batch)
        outputs = take_rows(predict_rows(model, batch, states), batch.counted)
        targets = take_rows(batch.targets, batch.counted)
        values, signal = _checked(self, outputs, targets)
        right = self.correct(outputs, targets)
        gradient = np.zeros(0)
        if layout is not None:
            at = Linearisation.of(batch, model, layout, states)
            gradient = -at.pulled_back(_on_all_rows(batch, signal))
        return LossSums(
            float(batch.n_counted),
            np.atleast_1d(to_host(values.sum() if values.ndim == 1 else column_sums(values))),
            np.nan if right is None else float(right.sum()),
            gradient,
        )


def _checked(loss: Loss, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Values and signal of `Loss.rows`; an error that names the loss if they cannot be right."""
    found: object = loss.rows(outputs, targets)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"`rows` of the loss {loss.name!r} must return (values, signal): {found!r}")
    values, signal = found
    n_rows = outputs.shape[0]
    if np.shape(values)[:1] != (n_rows,) or np.shape(signal) != tuple(outputs.shape):
        raise ValueError(
            f"`rows` of the {loss.name} gave values of shape {np.shape(values)} and a "
            f"signal of shape {np.shape(signal)} for outputs of shape "
            f"{tuple(outputs.shape)}: return one value per row, and a signal like the outputs"
        )
    if type(loss).__module__ == __name__ or is_tensor(outputs):
        return values, signal
    if np.isfinite(outputs).all() and not (np.isfinite(values).all() and np.isfinite(signal).all()):
        raise ValueError(f"`rows` of the loss {loss.name!r} is not finite for finite outputs")
    # the slope along one direction at a few rows, by a central difference
    few, step = slice(0, CHECKED_ROWS), CHECKED_STEP * (1.0 + np.abs(outputs[:CHECKED_ROWS]))
    ahead, behind = (loss.rows(outputs[few] + s * step, targets[few])[0] for s in (1.0, -1.0))
    expected, given = float(np.sum(behind - ahead) / 2.0), float(np.sum(signal[few] * step))
    if abs(expected - given) > CHECKED_OFF * max(float(np.abs(signal[few] * step).sum()), 1e-12):
        raise ValueError(
            f"`rows` of the loss {loss.name!r}: its signal is not minus the derivative of its "
            f"values ({given:.3g} against {expected:.3g} by differences). Return (values, signal), "
            f"with signal = -d values / d outputs"
        )
    return values, signal


def _on_all_rows(batch: Batch, signal: Array) -> Array:
    """Signal of all rows, zero for context."""
    if not batch.has_context:
        return signal
    rows: Array = zeros(signal, (batch.n_rows, signal.shape[1]))
    rows[batch.counted] = signal
    return rows


@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the squared residual |y - y^|^2 / 2.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.refinement import SquaredError
    >>> SquaredError().rows(np.array([[1.0]]), np.array([[3.0]]))
    (array([[2.]]), array([[2.]]))
    """

    name = "squared error"
    least_squares = True

    def rows(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Half the square of each residual, and the residuals; see `Loss.rows`."""
        if targets.shape != outputs.shape:
            raise ValueError(
                f"the squared error needs targets like the outputs, got {targets.shape} and "
                f"{outputs.shape}: labels take the cross-entropy"
            )
        residuals = targets - outputs
        return 0.5 * residuals * residuals, residuals


@dataclass(frozen=True)
class CrossEntropy(Loss):
    r"""Cross-entropy :math:`-\log p_{t, y_t}` of labels under the softmax p of the outputs.

    Targets are the numbers of the labels, from 0 on, in one column.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.refinement import CrossEntropy
    >>> values, signal = CrossEntropy().rows(np.zeros((1, 2)), np.array([[1.0]]))
    >>> values.round(3), signal
    (array([0.693]), array([[-0.5,  0.5]]))
    """

    name = "cross-entropy"

    def rows(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Cross-entropy of each row, and e - p with e the indicator of its label.

        Raises
        ------
        ValueError
            If there is more than one column of targets.
        """
        labels = _label_numbers(targets)
        rows = index(outputs, np.arange(outputs.shape[0]))
        probabilities, log_total = softmax(outputs)
        values = log_total - outputs[rows, labels]
        signal = -probabilities
        signal[rows, labels] += 1.0
        return values, signal

    def correct(self, outputs: Array, targets: Array) -> NDArray[np.bool_]:
        """Whether the label has the largest output."""
        largest: IntArray = namespace(outputs).argmax(outputs, axis=1)
        right: NDArray[np.bool_] = largest == _label_numbers(targets)
        return right


def signal_of(at: Linearisation, loss: Loss) -> Array:
    """Minus the slope of a loss in the outputs of all rows, zero on rows of context."""
    batch = at.batch
    outputs = take_rows(predict_rows(at.model, batch, at.states), batch.counted)
    signal = _checked(loss, outputs, take_rows(batch.targets, batch.counted))[1]
    return _on_all_rows(batch, signal)


LOSSES = MappingProxyType({loss.name: loss for loss in (SquaredError(), CrossEntropy())})
"""The losses of the library by name."""


def _label_numbers(targets: Array) -> IntArray:
    if targets.shape[1] != 1:
        raise ValueError(
            f"the cross-entropy needs the number of a label in each row, and the targets have "
            f"{targets.shape[1]} columns: give outputs of shape (n_rows, 1)"
        )
    xp = namespace(targets)
    numbers: IntArray = xp.asarray(targets[:, 0], dtype=xp.int64)
    return numbers


def softmax(logits: Array) -> tuple[Array, Array]:
    """Probabilities of each row, and the logarithm of the sum of its exponentials."""
    xp = namespace(logits)
    largest = xp.max(logits, axis=1)
    probabilities = xp.exp(logits - largest[:, None])
    total = probabilities.sum(axis=1)
    probabilities /= total[:, None]
    return probabilities, xp.log(total) + largest

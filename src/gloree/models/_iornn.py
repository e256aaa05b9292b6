"""The input-output recurrent network with frozen weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree.activations import Activation, from_spec, get_activation
from gloree.models._batches import (
    Chain,
    Explosions,
    OnExplosion,
    check_columns,
    guarded_batches,
    run_batches,
)
from gloree.models._forward import EXPLOSION_LIMIT, multiply_rows
from gloree.models._storage import read_model, write_model
from gloree.models._symmetry import canonical_units
from gloree.models._validation import check_lags, frozen_array
from gloree.sequences import Sequences, as_sequences

if TYPE_CHECKING:
    from gloree.models._torch import TorchIORNN

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
_ARRAYS = (
    "input_weights",
    "recurrent_weights",
    "output_weights",
    "hidden_bias",
    "output_bias",
    "direct_weights",
)


@dataclass(frozen=True, init=False, eq=False, repr=False)
class IORNN:
    """Input-output recurrent neural network.

    ::

        z_t = A1 x_t + U h_(t-1) + b,    h_t = f(z_t),    h_0 = 0,
        E[y_t | x] = A2^T h_t + c  (+ D^T x_t with a direct path).

    With `lags` above 1, x_t stands for the window [x_t, x_(t-1), ..., x_(t-lags+1)] (zeros before
    the start), which the model builds from plain inputs.

    Parameters
    ----------
    input_weights : ndarray of shape (n_hidden, lags * n_inputs)
        A1.
    recurrent_weights : ndarray of shape (n_hidden, n_hidden) or None
        U; None means zeros, a network without recurrence.
    output_weights : ndarray of shape (n_hidden, n_outputs)
        A2.
    hidden_bias : ndarray of shape (n_hidden,), optional
        b; zeros by default.
    output_bias : ndarray of shape (n_outputs,), optional
        c; zeros by default.
    direct_weights : ndarray of shape (lags * n_inputs, n_outputs), optional
        D, a linear path beside the hidden units; None by default.
    activation : str or Activation, default "quadratic"
        f.
    lags : int, default 1
        Input steps in a window.

    Raises
    ------
    TypeError, ValueError
        If a weight is not a finite real array of the shape that the others imply.

    Notes
    -----
    The arrays are float64 copies, read-only: a model is a value. Use `replace` for a changed one.

    Weights are determined only up to symmetries of the network; see `canonical`.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, "Training Input-Output Recurrent Neural Networks through
       Spectral Methods", arXiv:1603.00954, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.models import IORNN
    >>> model = IORNN([[1.0, 0.0], [0.0, 2.0]], [[0.1, 0.0], [0.0, 0.0]], [[1.0], [3.0]])
    >>> model
    IORNN(n_inputs=2, n_hidden=2, n_outputs=1, activation='quadratic')
    >>> model.predict(np.array([[1.0, 0.0], [1.0, 1.0]]))
    array([[ 1.  ],
           [13.21]])
    """

    input_weights: Array
    recurrent_weights: Array
    output_weights: Array
    hidden_bias: Array
    output_bias: Array
    direct_weights: Array | None
    activation: Activation
    lags: int

    def __init__(
        self,
        input_weights: ArrayLike,
        recurrent_weights: ArrayLike | None,
        output_weights: ArrayLike,
        hidden_bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        direct_weights: ArrayLike | None = None,
        activation: str | Activation = "quadratic",
        *,
        lags: int = 1,
    ) -> None:
        first = frozen_array(input_weights, "input_weights", (None, None))
        n_hidden, n_columns = first.shape
        check_lags(lags, n_columns)
        readout = frozen_array(output_weights, "output_weights", (n_hidden, None))
        n_outputs = readout.shape[1]
        direct = None
        if direct_weights is not None:
            direct = frozen_array(direct_weights, "direct_weights", (n_columns, n_outputs))
        values = {
            "input_weights": first,
            "recurrent_weights": frozen_array(
                recurrent_weights, "recurrent_weights", (n_hidden, n_hidden), default=True
            ),
            "output_weights": readout,
            "hidden_bias": frozen_array(hidden_bias, "hidden_bias", (n_hidden,), default=True),
            "output_bias": frozen_array(output_bias, "output_bias", (n_outputs,), default=True),
            "direct_weights": direct,
            "activation": get_activation(activation),
            "lags": int(lags),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n_inputs(self) -> int:
        """Columns of `X` (without lags)."""
        return int(self.input_weights.shape[1]) // self.lags

    @property
    def n_hidden(self) -> int:
        """Hidden units."""
        return int(self.input_weights.shape[0])

    @property
    def n_outputs(self) -> int:
        """Columns of `Y`."""
        return int(self.output_weights.shape[1])

    @property
    def n_parameters(self) -> int:
        """Entries of all weight arrays."""
        return sum(values.size for values in self._arrays().values() if values is not None)

    def __repr__(self) -> str:
        lags = f", lags={self.lags}" if self.lags > 1 else ""
        direct = ", direct" if self.direct_weights is not None else ""
        return (
            f"IORNN(n_inputs={self.n_inputs}, n_hidden={self.n_hidden}, "
            f"n_outputs={self.n_outputs}, activation={self.activation.name!r}{lags}{direct})"
        )

    def __eq__(self, other: object) -> bool:
        """Whether all weights and settings are the same numbers (not: up to symmetry)."""
        if not isinstance(other, IORNN):
            return NotImplemented
        if (self.activation, self.lags) != (other.activation, other.lags):
            return False
        theirs = other._arrays()
        for name, mine in self._arrays().items():
            their = theirs[name]
            if mine is None or their is None:
                if mine is not their:
                    return False
            elif not np.array_equal(mine, their):
                return False
        return True

    # equal models hold mutable-looking arrays: no hash, as for arrays themselves
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        # through the constructor, so that arrays come back read-only
        return _rebuild, (self._arrays(), self.activation, self.lags)

    def _arrays(self) -> dict[str, Array | None]:
        return {name: getattr(self, name) for name in _ARRAYS}

    def replace(self, **changes: Any) -> IORNN:
        """Make a model with some arguments changed.

        Parameters
        ----------
        **changes
            Arguments of the constructor, by name.

        Returns
        -------
        IORNN

        Raises
        ------
        TypeError
            If a name is not an argument.

        Examples
        --------
        >>> from gloree.models import IORNN
        >>> model = IORNN([[1.0]], [[0.1]], [[1.0]])
        >>> model.replace(recurrent_weights=None).recurrent_weights
        array([[0.]])
        """
        arguments = {**self._arrays(), "activation": self.activation, "lags": self.lags}
        unknown = sorted(set(changes) - set(arguments))
        if unknown:
            raise TypeError(
                f"`replace` got {unknown[0]!r}, expected some of {', '.join(arguments)}"
            )
        return IORNN(**{**arguments, **changes})

    def hidden_states(
        self,
        X: Any,
        *,
        lengths: ArrayLike | None = None,
        on_explosion: OnExplosion = "raise",
    ) -> Any:
        """Compute the hidden states h_1, ..., h_n of every sequence.

        Parameters
        ----------
        X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D
            Input sequences.
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        on_explosion : {"raise", "nan"}, default "raise"
            Whether a state beyond `EXPLOSION_LIMIT` raises `ExplosionError`, or it and the states
            after it in its sequence become NaN, with an `ExplosionWarning`.

        Returns
        -------
        ndarray of shape (..., n_hidden), or list of them
            In the form of `X`.

        Raises
        ------
        ExplosionError
            If the recurrence runs away, naming the first such sequence and step.
        TypeError, ValueError
            If `X` is not what the model expects.

        Notes
        -----
        O(n_rows n_hidden (n_inputs + n_hidden)) time. Sequences run side by side; long ones are
        cut into blocks that run side by side, with the same result up to rounding.
        """
        data = self._read(X, lengths)
        return data.restore(self._state_rows(data, on_explosion))

    def predict(
        self,
        X: Any,
        *,
        lengths: ArrayLike | None = None,
        on_explosion: OnExplosion = "raise",
    ) -> Any:
        """Predict E[y_t | x] at every step.

        Parameters
        ----------
        X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D
            Input sequences.
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        on_explosion : {"raise", "nan"}, default "raise"
            See `hidden_states`.

        Returns
        -------
        ndarray of shape (..., n_outputs), or list of them
            In the form of `X`.

        Raises
        ------
        ExplosionError
            If the recurrence runs away.
        TypeError, ValueError
            If `X` is not what the model expects.

        Notes
        -----
        O(n_rows n_hidden (n_inputs + n_hidden + n_outputs)) time; beside the predictions only a
        batch of rows is held.
        """
        data = self._read(X, lengths)
        return data.restore(self._predict_rows(data, on_explosion))

    def simulate(
        self,
        X: Any,
        *,
        noise: ArrayLike = 0.0,
        lengths: ArrayLike | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> Any:
        """Draw outputs: the predictions and Gaussian noise.

        Parameters
        ----------
        X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D
            Input sequences.
        noise : float or ndarray of shape (n_outputs,), default 0.0
            Standard deviation, of all outputs or of each.
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        random_state : int, Generator or None
            Seed of the noise.

        Returns
        -------
        ndarray of shape (..., n_outputs), or list of them
            In the form of `X`.

        Raises
        ------
        ExplosionError
            If the recurrence runs away.
        ValueError
            If `noise` is negative or has another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from gloree.models import IORNN
        >>> model = IORNN([[1.0]], [[0.1]], [[1.0]])
        >>> model.simulate(np.ones((3, 1)), noise=0.5, random_state=0).shape
        (3, 1)
        """
        spread = np.asarray(noise, dtype=np.float64)
        if spread.shape not in ((), (self.n_outputs,)) or not np.all(spread >= 0.0):
            raise ValueError(
                f"`noise` is {noise!r}, expected a standard deviation of at least 0, or "
                f"{self.n_outputs} of them, one for each output"
            )
        data = self._read(X, lengths)
        outputs = self._predict_rows(data, "raise")
        if spread.any():
            draws = np.random.default_rng(random_state).standard_normal(outputs.shape)
            draws *= spread
            outputs += draws
        return data.restore(outputs)

    def explosions(
        self, X: Any, *, lengths: ArrayLike | None = None, limit: float = EXPLOSION_LIMIT
    ) -> IntArray:
        """List the sequences whose states run away, with the first such step.

        Parameters
        ----------
        X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D
            Input sequences.
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        limit : float, default EXPLOSION_LIMIT
            Largest size of a state that still counts as sound.

        Returns
        -------
        ndarray of int of shape (n_exploded, 2)
            Sequence and step, by increasing sequence; empty if all is well.

        Raises
        ------
        TypeError, ValueError
            If `X` is not what the model expects, or `limit` is not positive.

        Notes
        -----
        A network without recurrence cannot run away: only values that overflow are listed then.

        Examples
        --------
        >>> import numpy as np
        >>> from gloree.models import IORNN
        >>> model = IORNN([[1.0]], [[1.0]], [[1.0]])
        >>> model.explosions([np.zeros((9, 1)), np.ones((9, 1))])
        array([[1, 6]])
        """
        if not limit > 0.0:
            raise ValueError(f"`limit` is {limit}, expected a positive number")
        data = self._read(X, lengths)
        found = Explosions()
        for _ in run_batches(data, self._chain(), limit, found):
            pass
        return found.table()

    def canonical(self) -> IORNN:
        """Choose one representative among the equivalent weights; predictions stay the same.

        For f(z) = c z^l with l >= 2, each unit is scaled to a unit-norm row of `input_weights`
        ((a_i, U_i, b_i) -> s (a_i, U_i, b_i), A2_i -> s^-l A2_i, column U_.i -> s^-l U_.i). For
        even and odd f, signs are chosen so that the entry of largest magnitude in each row is
        positive. Units are ordered by decreasing |A2_i|, or, where the scale is not free or f is
        linear, by decreasing |A2_i| |a_i|.

        Returns
        -------
        IORNN

        Notes
        -----
        A unit whose row of `input_weights` is zero keeps its scale and sign. For linear f any
        invertible change of the state is a symmetry; only the order is fixed here.

        Examples
        --------
        >>> from gloree.models import IORNN
        >>> model = IORNN([[-3.0, 4.0], [0.0, -2.0]], None, [[1.0], [10.0]]).canonical()
        >>> model.input_weights
        array([[ 0. ,  1. ],
               [-0.6,  0.8]])
        >>> model.output_weights.ravel()
        array([40., 25.])
        """
        units = canonical_units(self.input_weights, self.output_weights, self.activation)
        order, s, t = units.order, units.scale, units.state_scale
        recurrent = self.recurrent_weights * np.outer(s, 1.0 / t)
        # adding zero turns -0.0 into 0.0
        return self.replace(
            input_weights=(self.input_weights * s[:, None])[order] + 0.0,
            recurrent_weights=recurrent[np.ix_(order, order)] + 0.0,
            output_weights=(self.output_weights / t[:, None])[order] + 0.0,
            hidden_bias=(self.hidden_bias * s)[order] + 0.0,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one `.npz` file (float64 arrays and a JSON description).

        Parameters
        ----------
        path : path-like
            Written as it stands: no suffix is added.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from gloree.models import IORNN
        >>> model = IORNN([[1.0]], [[0.1]], [[1.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "model.npz"
        ...     model.save(path)
        ...     IORNN.load(path) == model
        True
        """
        settings = {"activation": self.activation.spec(), "lags": self.lags}
        write_model(path, "IORNN", self._arrays(), settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IORNN:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        IORNN

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a model file, holds another class, or has a version this release does
            not read.
        """
        arrays, settings = read_model(path, "IORNN")
        missing = sorted(set(_ARRAYS) - {"direct_weights"} - set(arrays))
        if missing:
            raise ValueError(f"{os.fspath(path)!r} is damaged: it has no {missing[0]!r}")
        return cls(
            **{name: arrays.get(name) for name in _ARRAYS},  # type: ignore[arg-type]
            activation=from_spec(settings["activation"]),
            lags=settings["lags"],
        )

    def to_torch(self) -> TorchIORNN:
        """Copy the model into a `torch.nn.Module` in float64, ready to be trained further.

        Returns
        -------
        torch.nn.Module
            Its parameters carry the names of this class. Called with a tensor of shape
            (n_sequences, n_steps, n_inputs) or (n_steps, n_inputs), it returns what `predict`
            returns.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        TypeError
            If the activation is not one of this library's.
        """
        try:
            from gloree.models._torch import TorchIORNN
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ImportError(
                'to_torch needs PyTorch, an optional dependency: pip install "gloree[torch]"'
            ) from error
        return TorchIORNN(self)

    def _chain(self) -> Chain:
        return Chain(
            self.input_weights,
            self.recurrent_weights,
            self.hidden_bias,
            self.activation,
            self.lags,
        )

    def _read(self, X: Any, lengths: ArrayLike | None) -> Sequences:
        data = as_sequences(X, lengths=lengths)
        check_columns(data, self.n_inputs, self.lags)
        return data

    def _state_rows(self, data: Sequences, on_explosion: OnExplosion) -> Array:
        states = np.empty((data.n_rows, self.n_hidden))
        for batch in guarded_batches(data, self._chain(), on_explosion):
            states[batch.rows] = batch.states
        return states

    def _predict_rows(self, data: Sequences, on_explosion: OnExplosion) -> Array:
        outputs = np.empty((data.n_rows, self.n_outputs))
        for batch in guarded_batches(data, self._chain(), on_explosion):
            part = outputs[batch.rows]
            multiply_rows(batch.states, self.output_weights, out=part)
            if self.direct_weights is not None:
                part += multiply_rows(batch.windows, self.direct_weights)
            if self.output_bias.any():
                part += self.output_bias
        return outputs


def _rebuild(arrays: dict[str, Any], activation: Activation, lags: int) -> IORNN:
    return IORNN(**arrays, activation=activation, lags=lags)

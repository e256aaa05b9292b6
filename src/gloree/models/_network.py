"""What networks of one direction and of both have in common.

(One module: one class, most of it documentation.)
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from gloree._extras import require
from gloree._storage import FormatError, reading
from gloree.activations import Activation, from_spec
from gloree.models._forward import EXPLOSION_LIMIT
from gloree.models._prediction import check_columns, predict_data, predict_rows
from gloree.models._recursion import Explosions, OnExplosion, Recursion, run_recursions
from gloree.models._storage import FORMAT_NAME, read_model, write_model
from gloree.models._symmetry import canonical_units
from gloree.sequences import Array, IntArray, Sequences, as_sequences
from gloree.sources import as_data

if TYPE_CHECKING:
    from torch.nn import Module

N = TypeVar("N", bound="Network")


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Network(ABC):
    """Recurrent network with frozen weights: the base of `IORNN` and `BRNN`.

    ::

        z_t = C x_t + W s_t + b,    h_t = f(z_t),
        E[y_t | x] = A2^T h_t + c  (+ D^T x_t with a direct path),

    where entry i of s_t is h_(t-1), or h_(t+1) for a backward unit, and x_t is the window of
    inputs around step t. Whatever the directions, the weights can be seen as one stack, forward
    units first:

    Attributes
    ----------
    input_weights : ndarray of shape (n_hidden, n_columns)
        C.
    recurrent_weights : ndarray of shape (n_hidden, n_hidden)
        W; units of different directions do not see each other.
    output_weights : ndarray of shape (n_hidden, n_outputs)
        A2.
    hidden_bias : ndarray of shape (n_hidden,)
        b.
    output_bias : ndarray of shape (n_outputs,)
        c.
    direct_weights : ndarray of shape (n_columns, n_outputs) or None
        D.
    activation : Activation
        f.
    lags : int
        Input steps in the window of a unit.
    weight_names : tuple of str
        Arguments of the constructor that are arrays.
    """

    input_weights: Array
    recurrent_weights: Array
    output_weights: Array
    hidden_bias: Array
    output_bias: Array
    direct_weights: Array | None
    activation: Activation
    lags: int

    weight_names: ClassVar[tuple[str, ...]]
    _sizes: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Columns of `X` (without lags)."""

    @property
    @abstractmethod
    def n_forward(self) -> int:
        """Hidden units of the forward chain."""

    @property
    @abstractmethod
    def recursions(self) -> tuple[Recursion, ...]:
        """Recursions of the network, forward first."""

    @property
    def n_backward(self) -> int:
        """Hidden units of the backward chain."""
        return self.n_hidden - self.n_forward

    @property
    def n_hidden(self) -> int:
        """Hidden units."""
        return int(self.input_weights.shape[0])

    @property
    def n_columns(self) -> int:
        """Columns of the window of inputs around a step."""
        return int(self.input_weights.shape[1])

    @property
    def n_outputs(self) -> int:
        """Columns of `Y`."""
        return int(self.output_weights.shape[1])

    @property
    def n_parameters(self) -> int:
        """Entries of all weight arrays."""
        return sum(values.size for values in self.arrays().values() if values is not None)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={getattr(self, name)}" for name in self._sizes)
        lags = f", lags={self.lags}" if self.lags > 1 else ""
        direct = ", direct" if self.direct_weights is not None else ""
        return f"{type(self).__name__}({sizes}, activation={self.activation.name!r}{lags}{direct})"

    def __eq__(self, other: object) -> bool:
        """Whether all weights and settings are the same numbers (not: up to symmetry)."""
        if not isinstance(other, Network) or type(self) is not type(other):
            return NotImplemented
        if (self.activation, self.lags) != (other.activation, other.lags):
            return False
        pairs = zip(self.arrays().values(), other.arrays().values(), strict=True)
        return all(
            mine is their if mine is None or their is None else np.array_equal(mine, their)
            for mine, their in pairs
        )

    # equal models hold mutable-looking arrays: no hash, as for arrays themselves
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[object, ...]:
        # through the constructor, so that arrays come back read-only
        return partial(type(self), **self._arguments()), ()

    def arrays(self) -> dict[str, Array | None]:
        """Weights by name, as the constructor takes them; None for no direct path."""
        return {name: getattr(self, name) for name in self.weight_names}

    def _arguments(self) -> dict[str, object]:
        return {**self.arrays(), "activation": self.activation, "lags": self.lags}

    def replace(self: N, **changes: object) -> N:
        """Make a model with some arguments changed.

        Parameters
        ----------
        **changes
            Arguments of the constructor, by name; of a `BRNN` also the stacks `input_weights` and
            `recurrent_weights`.

        Returns
        -------
        Network
            Of the same class.

        Raises
        ------
        TypeError
            If a name is not an argument, or is given along with the stack that holds it.
        ValueError
            If a stack has entries where it must be zero.

        Examples
        --------
        >>> from gloree.models import IORNN
        >>> model = IORNN([[1.0]], [[0.1]], [[1.0]])
        >>> model.replace(recurrent_weights=None).recurrent_weights
        array([[0.]])
        """
        arguments: dict[str, Any] = self._arguments()
        changes = self._unstacked(changes)
        for name in sorted(changes):
            if name not in arguments:
                raise TypeError(f"`replace` got {name!r}, expected some of {', '.join(arguments)}")
        return type(self)(**{**arguments, **changes})

    def _unstacked(self, changes: dict[str, object]) -> dict[str, object]:
        """Changes in terms of the arguments of the constructor."""
        return changes

    def hidden_states(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        on_explosion: OnExplosion = "raise",
    ) -> Any:
        """Compute the hidden states h_1, ..., h_n of every sequence ([h_t; w_t] of both chains).

        Parameters
        ----------
        X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D
            Input sequences.
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        on_explosion : {"raise", "nan"}, default "raise"
            Whether a state beyond `EXPLOSION_LIMIT` raises `ExplosionError`, or it and the states
            after it in its sequence (before it, in a backward chain) become NaN, with an
            `ExplosionWarning`.

        Returns
        -------
        ndarray of shape (..., n_hidden), or list of them
            In the form of `X`.

        Raises
        ------
        ExplosionError
            If the recurrence runs away, naming the first such sequence and step (of the forward
            chain if it has one).
        TypeError, ValueError
            If `X` is not what the model expects.

        Notes
        -----
        O(n_rows n_hidden (n_inputs + n_hidden)) time. Sequences run side by side; long ones are
        cut into blocks that run side by side, with the same result up to rounding.
        """
        data, explosions = self._read(X, lengths), Explosions(on_explosion)
        states = np.empty((data.n_rows, self.n_hidden))
        for batch in run_recursions(data, self.recursions, explosions):
            states[batch.rows, batch.recursion.units] = batch.states
        explosions.warn(data.n_sequences)
        return data.restore(states)

    def predict(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        on_explosion: OnExplosion = "raise",
        engine: object = None,
    ) -> Any:
        """Predict E[y_t | x] at every step.

        Parameters
        ----------
        X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D
            Input sequences; or data kept anywhere else (see `gloree.sources.as_data`), with
            outputs, which are not used, or without.
        lengths, on_explosion
            As in `hidden_states`.
        engine : None, "threads", "serial", "dask", distributed.Client or Engine
            Where predictions for data in several parts are computed, batch by batch.

        Returns
        -------
        ndarray of shape (..., n_outputs), or list of them
            In the form of `X`; for data in several parts a list, one array for each sequence.

        Raises
        ------
        ExplosionError
            If the recurrence runs away.
        TypeError, ValueError
            If `X` is not what the model expects.

        Notes
        -----
        O(n_rows n_hidden (n_inputs + n_hidden + n_outputs)) time; beside the predictions only a
        batch of rows is held (of data in several parts, a few parts).
        """
        data, explosions = as_data(X, lengths=lengths, keep_tensors=False), Explosions(on_explosion)
        predictions = predict_data(self, data, explosions, engine=engine)
        explosions.warn(data.n_sequences)
        return predictions

    def simulate(
        self,
        X: object,
        *,
        noise: ArrayLike = 0.0,
        lengths: ArrayLike | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> Any:
        """Draw outputs: the predictions and Gaussian noise.

        Parameters
        ----------
        X, lengths
            As in `hidden_states`.
        noise : float or ndarray of shape (n_outputs,), default 0.0
            Standard deviation, of all outputs or of each.
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
        outputs = predict_rows(self, data, Explosions())
        if spread.any():
            draws = np.random.default_rng(random_state).standard_normal(outputs.shape)
            draws *= spread
            outputs += draws
        return data.restore(outputs)

    def explosions(
        self, X: object, *, lengths: ArrayLike | None = None, limit: float = EXPLOSION_LIMIT
    ) -> IntArray:
        """List the sequences whose states run away, with the first such step.

        Parameters
        ----------
        X, lengths
            As in `hidden_states`.
        limit : float, default EXPLOSION_LIMIT
            Largest size of a state that still counts as sound.

        Returns
        -------
        ndarray of int of shape (n_exploded, 2)
            Sequence and step, by increasing sequence; empty if all is well. In a backward chain
            the first step is the last in time; the forward chain counts where both run away.

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
        explosions = Explosions("nan", limit)
        for _ in run_recursions(data, self.recursions, explosions):
            pass
        return explosions.table()

    def canonical(self: N) -> N:
        """Choose one representative among the equivalent weights; predictions stay the same.

        For f(z) = c z^l with l >= 2, each unit is scaled to a unit-norm row of `input_weights`
        ((a_i, U_i, b_i) -> s (a_i, U_i, b_i), A2_i -> s^-l A2_i, column U_.i -> s^-l U_.i). For
        even and odd f, signs are chosen so that the entry of largest magnitude in each row is
        positive. Units are ordered, within each direction, by decreasing |A2_i|, or, where the
        scale is not free or f is linear, by decreasing |A2_i| |a_i|.

        Returns
        -------
        Network
            Of the same class.

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
        units = canonical_units(
            self.input_weights, self.output_weights, self.activation, self.n_forward
        )
        return self.rearranged(units.order, units.scale, units.state_scale)

    def rearranged(self: N, order: IntArray, scale: Array, state_scale: Array) -> N:
        """Scale the units, then reorder them (see `CanonicalUnits`).

        `order` is the old unit (of the same direction) at each new place; with f(s_i z) = t_i f(z)
        for `scale` s and `state_scale` t, z_i is multiplied by s_i and h_i by t_i.
        """
        recurrent = self.recurrent_weights * np.outer(scale, 1.0 / state_scale)
        # adding zero turns -0.0 into 0.0
        return self.replace(
            input_weights=(self.input_weights * scale[:, None])[order] + 0.0,
            recurrent_weights=recurrent[np.ix_(order, order)] + 0.0,
            output_weights=(self.output_weights / state_scale[:, None])[order] + 0.0,
            hidden_bias=(self.hidden_bias * scale)[order] + 0.0,
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
        write_model(path, type(self).__name__, self.arrays(), settings)

    @classmethod
    def load(cls: type[N], path: str | os.PathLike[str]) -> N:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        Network
            Of the class it is read with.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError
            A ValueError: if it is not a model file, is damaged, holds another class, or has a
            version this release does not read.
        """
        arrays, settings = read_model(path, cls.__name__, cls.weight_names)
        missing = sorted(set(cls.weight_names) - {"direct_weights"} - set(arrays))
        if missing:
            raise FormatError(f"{os.fspath(path)!r} is damaged: it has no {missing[0]!r}")
        with reading(path, FORMAT_NAME):
            weights: dict[str, Any] = {name: arrays.get(name) for name in cls.weight_names}
            settings["activation"] = from_spec(settings["activation"])
            return cls(**weights, **settings)

    def to_torch(self) -> Module:
        """Copy the model into a `torch.nn.Module` in float64, ready to be trained further.

        Returns
        -------
        torch.nn.Module
            Its parameters carry the names of the constructor. Called with a tensor of shape
            (n_sequences, n_steps, n_inputs) or (n_steps, n_inputs), it returns what `predict`
            returns.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        TypeError
            If the activation is not one of this library's.
        """
        require("torch", "torch", "to_torch")
        from gloree.models._torch import TorchBRNN, TorchIORNN

        network = TorchBRNN if "forward_input_weights" in self.weight_names else TorchIORNN
        return network(self.arrays(), self.activation, self.lags)

    def _read(self, X: object, lengths: ArrayLike | None) -> Sequences:
        data = as_sequences(X, lengths=lengths)
        check_columns(self, data)
        return data

"""What networks of one direction and of both have in common.

(One module: one class, most of it documentation.)
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from gloree._extras import require
from gloree._frames import refuse_masked
from gloree._html import html_matrix, html_page, html_table
from gloree._random import RandomState, as_generator
from gloree._storage import FormatError, reading
from gloree.activations import Activation, from_spec
from gloree.models._equilibrium import find_equilibria
from gloree.models._onnx import Precision, export_onnx
from gloree.models._prediction import (
    check_columns,
    note_ends,
    predict_data,
    predict_rows,
    start_at,
)
from gloree.models._recursion import Explosions, OnExplosion, Recursion, run_recursions
from gloree.models._states import in_form, n_past, past_inputs, read_states
from gloree.models._stepper import Stepper
from gloree.models._storage import FORMAT_NAME, read_model, storable_spec, write_model
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
    def n_state(self) -> int:
        """Entries of the state before a row: what the rows before it leave behind.

        First the states h_{t-1} of the forward units, then the last `lags` - 1 rows of inputs, the
        newest first. Backward units have no part in it: they see what comes after.
        """
        return self.n_forward + n_past(self)

    @property
    def is_linear(self) -> bool:
        """Whether all units are, f(z) = c_0 + c_1 z."""
        return self.linear_units.size == self.n_hidden

    @property
    def linear_units(self) -> IntArray:
        """Numbers of the units with f(z) = c_0 + c_1 z."""
        units = getattr(self.activation, "units", (self.activation,) * self.n_hidden)
        return np.flatnonzero([unit.degree == 1 for unit in units])

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

    def _repr_html_(self) -> str:
        weights = {name: values for name, values in self.arrays().items() if values is not None}
        rows = [
            (
                name,
                " x ".join(map(str, values.shape)),
                f"{float(np.abs(values).max(initial=0)):.3g}",
            )
            for name, values in weights.items()
        ]
        pictures = [
            html_matrix(values, name)
            for name, values in weights.items()
            if values.ndim == 2 and values.any()
        ]
        table = html_table(("weights", "shape", "largest"), rows)
        return html_page(type(self).__name__, repr(self), table, *pictures)

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
        state: object = None,
        return_state: bool = False,
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
        state, return_state
            As in `predict`.

        Returns
        -------
        ndarray of shape (..., n_hidden), or list of them
            In the form of `X`.
        state : ndarray of shape (n_state,) or (n_sequences, n_state)
            With `return_state`.

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
        first = None if state is None else read_states(self, state, data.n_sequences)
        states, last = np.empty((data.n_rows, self.n_hidden)), self._no_states(data)
        for batch in run_recursions(data, self.recursions, explosions, first):
            states[batch.rows, batch.recursion.units] = batch.states
            if not batch.recursion.backward:
                note_ends(data, batch, last)
        explosions.warn(data.n_sequences)
        if not return_state:
            return data.restore(states)
        last[:, self.n_forward :] = past_inputs(self, data, first)
        return data.restore(states), in_form(last, data)

    def predict(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        on_explosion: OnExplosion = "raise",
        engine: object = None,
        state: object = None,
        return_state: bool = False,
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
        state : ndarray of shape (n_state,) or (n_sequences, n_state), optional
            State before the first row of each sequence (one for all, if it is a vector): what
            `return_state` gave for the rows before, or `equilibrium`. Zeros by default.
        return_state : bool, default False
            Whether to return the states after the last rows too, from which a later call goes on.

        Returns
        -------
        predictions : ndarray of shape (..., n_outputs), or list of them
            In the form of `X`; for data in several parts a list, one array for each sequence.
        state : ndarray of shape (n_state,) or (n_sequences, n_state)
            With `return_state`; a vector if `X` is a single sequence of two dimensions.

        Raises
        ------
        ExplosionError
            If the recurrence runs away.
        TypeError, ValueError
            If `X` or `state` is not what the model expects.

        Notes
        -----
        O(n_rows n_hidden (n_inputs + n_hidden + n_outputs)) time; beside the predictions only a
        batch of rows is held (of data in several parts, a few parts).

        A sequence that is cut anywhere and gone on with equals the whole, to rounding, if there are
        no backward units, nor a direct path from the steps ahead (of a `BRNN` with `lags` above 1).
        These begin at the end of what is given, whatever follows it, and a state is that of the
        forward units: a bidirectional network needs whole sequences.

        Examples
        --------
        >>> import numpy as np
        >>> from gloree.models import IORNN
        >>> model = IORNN([[1.0]], [[0.5]], [[1.0]], activation="linear")
        >>> _, state = model.predict(np.array([[4.0], [0.0]]), return_state=True)
        >>> model.predict(np.zeros((2, 1)), state=state).ravel()
        array([1. , 0.5])
        """
        data, explosions = as_data(X, lengths=lengths, keep_tensors=False), Explosions(on_explosion)
        predictions = predict_data(
            self,
            data,
            explosions,
            engine=engine,
            start=start_at(self, data, state, engine=engine),
            return_state=return_state,
        )
        explosions.warn(data.n_sequences)
        return predictions

    def equilibrium(self, x: ArrayLike) -> Array:
        """Find the state at rest at a constant input: h = f(A1 x + U h + b).

        Parameters
        ----------
        x : ndarray of shape (n_inputs,) or (n, n_inputs)
            Constant input, or several, each alone; a number, for a network of one input.

        Returns
        -------
        ndarray of shape (n_state,) or (n, n_state)
            State before any row of a record that stays there, for the `state` of `predict`.

        Raises
        ------
        EquilibriumError
            An ArithmeticError and a ValueError: if there is none (an integrator, whose state its
            input does not determine), none was found, or it is unstable.
        TypeError, ValueError
            If `x` is not what the model expects.

        Notes
        -----
        Exact for linear units. Otherwise Newton's method, from where the network is after a hundred
        steps at this input (up to ten thousand where that fails): of several states at rest, most
        often the one that it goes to from zero. Backward units have no part in it.

        Examples
        --------
        >>> from gloree.models import IORNN
        >>> IORNN([[1.0]], [[0.5]], [[1.0]], activation="linear").equilibrium([3.0])
        array([6.])
        """
        refuse_masked(x, "x")
        given = np.asarray(x)
        if given.ndim == 0 and self.n_inputs == 1:
            given = given[np.newaxis]
        rows = self._read(np.atleast_2d(given), None).X.astype(np.float64)
        found = find_equilibria(self, rows)
        found.raise_first(rows)
        return found.states if given.ndim == 2 else found.states[0]

    def stepper(self, state: object = None) -> Stepper:
        """Make an object that takes one row of inputs and returns one row of outputs.

        For loops that run beside a process, one sample at a time: the same numbers as `predict`,
        to rounding, a few microseconds a step.

        Parameters
        ----------
        state : ndarray of shape (n_state,), optional
            State before the first row; zeros by default.

        Returns
        -------
        Stepper
            With the attribute `state`, and `reset`.

        Raises
        ------
        TypeError, ValueError
            If `state` does not fit, or the network has backward units.

        Examples
        --------
        >>> from gloree.models import IORNN
        >>> step = IORNN([[1.0]], [[0.5]], [[1.0]], activation="linear").stepper()
        >>> [step([1.0]).item() for _ in range(3)]
        [1.0, 1.5, 1.75]
        """
        return Stepper(self, state)

    def simulate(
        self,
        X: object,
        *,
        noise: ArrayLike = 0.0,
        lengths: ArrayLike | None = None,
        random_state: RandomState = None,
        state: object = None,
        return_state: bool = False,
    ) -> Any:
        """Draw outputs: the predictions and Gaussian noise.

        Parameters
        ----------
        X, lengths, state, return_state
            As in `predict`.
        noise : float or ndarray of shape (n_outputs,), default 0.0
            Standard deviation, of all outputs or of each.
        random_state : None, int, SeedSequence, Generator or RandomState
            Seed of the noise.

        Returns
        -------
        ndarray of shape (..., n_outputs), or list of them
            In the form of `X`.
        state : ndarray of shape (n_state,) or (n_sequences, n_state)
            With `return_state`.

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
        first = None if state is None else read_states(self, state, data.n_sequences)
        last = self._no_states(data)
        outputs = predict_rows(self, data, Explosions(), first, last)
        if spread.any():
            draws = as_generator(random_state).standard_normal(outputs.shape)
            draws *= spread
            outputs += draws
        drawn = data.restore(outputs)
        return (drawn, in_form(last, data)) if return_state else drawn

    def explosions(
        self, X: object, *, lengths: ArrayLike | None = None, limit: float | None = None
    ) -> IntArray:
        """List the sequences whose states run away, with the first such step.

        Parameters
        ----------
        X, lengths
            As in `hidden_states`.
        limit : float, optional
            Largest size of a state that still counts as sound. By default `EXPLOSION_LIMIT`, or
            more for monomials on inputs in large units (a U below 0.01).

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
        if limit is not None and not limit > 0.0:
            raise ValueError(f"`limit` is {limit}, expected a positive number")
        data = self._read(X, lengths)
        explosions = Explosions("nan", limit)
        for _ in run_recursions(data, self.recursions, explosions):
            pass
        return explosions.table()

    def canonical(self: N) -> N:
        """Choose one representative among the equivalent weights; predictions stay the same.

        For f(z) = c z^l with l >= 2, and for rectifiers with l = 1, each unit is scaled to a
        unit-norm row of `input_weights` ((a_i, U_i, b_i) -> s (a_i, U_i, b_i), A2_i -> s^-l A2_i,
        column U_.i -> s^-l U_.i). For even and odd f, signs are chosen so that the entry of largest
        magnitude in each row is positive. Units are ordered, within each direction, by decreasing
        |A2_i|, or, where the scale is not free or f is linear, by decreasing |A2_i| |a_i|.

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

        Raises
        ------
        TypeError
            If the activation is one of your own, which a file cannot hold.

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
        settings = {"activation": storable_spec(self.activation), "lags": self.lags}
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

    def export_onnx(self, path: str | os.PathLike[str], *, dtype: Precision = "float64") -> Path:
        """Write an ONNX file that runs records of any length (see `gloree.models.export_onnx`).

        Parameters
        ----------
        path : path-like
        dtype : {"float64", "float32"}, default "float64"

        Returns
        -------
        Path

        Raises
        ------
        ImportError
            Without onnx, which the extra ``onnx`` installs.
        TypeError
            If the activation is not one of this library's.
        """
        return export_onnx(self, path, dtype=dtype)

    def _no_states(self, data: Sequences) -> Array:
        """Room for the states after the last rows."""
        return np.zeros((data.n_sequences, self.n_state))

    def _read(self, X: object, lengths: ArrayLike | None) -> Sequences:
        data = as_sequences(X, lengths=lengths)
        check_columns(self, data)
        return data

"""States in front of records: at rest, given, or estimated from the first measured outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from gloree._mapped import loaded
from gloree._parameters import check_integer
from gloree.diagnostics import GloreeWarning, warn_caller
from gloree.identification._expected_state import expected_states
from gloree.identification._records import (
    messages_of_u_and_y,
    messages_of_y,
    read_inputs,
    without_masks,
)
from gloree.identification._state_estimate import RecordState
from gloree.models import GivenStates, Network, Start, check_columns, find_equilibria, read_states
from gloree.sequences import Array, Data, IntArray, Sequences, as_sequences

INITIAL = ("auto", "equilibrium", "rest")
"""States before a record by name."""


@dataclass(frozen=True)
class RecordStart:
    """A `gloree.models.Start`: the states before the first rows of records.

    `initial` is a name in `INITIAL`, or states, (1 or n_sequences, n_state). With `n_init` above 0
    it is the centre of the prior of an estimate from so many first outputs, whose errors are at
    least as large as `noise` (see `estimate_state`).
    """

    initial: str | Array = "auto"
    n_init: int = 0
    noise: Array | None = None

    def __call__(self, model: Network, data: Sequences, sequence: IntArray) -> Array:
        """States of shape (n_sequences, n_state)."""
        centres = centre_states(model, data, sequence, self.initial)
        if not self.n_init:
            return centres
        return estimated(model, data, sequence, self.n_init, centres, noise=self.noise)


def start_of_records(
    model: Network,
    data: Data,
    *,
    n_init: int = 0,
    state: object = None,
    initial: object = None,
    noise: Array | None = None,
) -> Start:
    """Make the `gloree.models.Start` that `state`, or `initial` and `n_init`, stand for.

    See `SystemIdentifier.predict`; raises a TypeError or ValueError for what does not fit together.
    """
    n_init = check_integer("n_init", n_init, 0)
    if state is not None:
        given = {"n_init": n_init, "initial": initial is not None}
        for name, also in given.items():
            if also:
                raise ValueError(
                    f"`state` and `{name}` were both given: a state before the first row that is "
                    f"known is neither estimated nor assumed, leave one of them out"
                )
        return GivenStates(read_states(model, state, data.n_sequences))
    if n_init:
        if not data.n_outputs:
            raise ValueError("`y` is missing: `n_init` needs the first outputs of every record")
        check_start(model, data, n_init)
        check_outputs(model, data)
    return RecordStart(as_initial(model, initial, data.n_sequences), n_init, noise)


def estimate_state(
    model: Network,
    u: object,
    y: object,
    n_init: int,
    *,
    prior: object = "auto",
    noise: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> Array:
    r"""Estimate the state before the first row of each record from its first outputs.

    .. math:: \min_s \sum_{t < n_{init}} |y_t - \hat y_t(s)|^2 / w^2
              + \lambda (s - s_0)^T P^{-1} (s - s_0)

    Parameters
    ----------
    model : IORNN
        Without backward units.
    u, y : array of shape (n_samples,) or (n_samples, n_channels), or a list of such records
        Inputs and outputs of at least `n_init` rows. Outputs that are NaN do not count.
    n_init : int
        Rows of each record that are used.
    prior : {"auto", "equilibrium", "rest"}, ndarray of a state or of one for each record, or None
        Centre s_0, as `initial` of `SystemIdentifier.predict`. None stands for lambda = 0: least
        squares, with the solution nearest to "auto" where outputs do not determine the state.
    noise : ndarray of shape (n_outputs,), optional
        Standard deviations of the errors of the outputs, at least. States that follow the first
        rows more closely than the model follows any others end far off. `SystemIdentifier` gives
        those of its fit; None allows any.
    lengths : sequence of int, optional
        Rows of each record, for flat arrays.

    Returns
    -------
    ndarray of shape (n_state,) or (n_records, n_state)
        For the `state` of `predict`. A vector for a single record.

    Raises
    ------
    TypeError, ValueError
        If arguments do not fit together; the message says what to do.

    Notes
    -----
    P is the covariance that white inputs of the record's size give the state, w the `noise` of an
    output, or where it is not given the standard deviation that the output has under P. Errors and
    prior, :math:`(y - \hat y(s_0)) / w \sim N(0, \tau^2 (J P J^T + \lambda))` with J the Jacobian,
    have the :math:`\tau` and :math:`\lambda` of most evidence [M92]_ among those for which errors
    are as large as `noise` at least; of equals, as a single value has them, the least
    :math:`\lambda`. Where nothing is known of errors, and outputs are free of them, lambda is zero
    to rounding and the state exact. Outputs that no state reaches do not count.

    Linear models take one exact step; others take, in turns with the choice of :math:`\lambda`,
    Gauss-Newton steps that are halved until the objective falls, from the centre and from zero, and
    keep the state of most evidence. O(n_init n_hidden n_state (n_hidden + n_outputs)) time for a
    step and O(n_init n_outputs n_state^2) for its singular values. A record whose states run away
    from both is named in a warning, and has the centre.

    References
    ----------
    .. [M92] D. J. C. MacKay, "Bayesian Interpolation", Neural Computation 4(3), 1992, 415-447.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree import IORNN
    >>> from gloree.identification import estimate_state
    >>> model = IORNN([[1.0]], [[0.9]], [[1.0]], activation="linear")
    >>> u = np.ones((20, 1))
    >>> y = model.predict(u, state=[3.0])
    >>> estimate_state(model, u, y, 10).round(6)
    array([3.])
    """
    check_integer("n_init", n_init, 1)
    data = read_measured(u, y, lengths=lengths, n_init=n_init)
    check_start(model, data, n_init)
    with messages_of_u_and_y():
        check_columns(model, data)
    check_outputs(model, data)
    sequence = np.arange(data.n_sequences)
    centre = as_initial(model, "auto" if prior is None else prior, data.n_sequences, "prior")
    centres = centre_states(model, data, sequence, centre)
    sizes = None if noise is None else read_noise(noise, model.n_outputs)
    states = estimated(model, data, sequence, n_init, centres, free=prior is None, noise=sizes)
    return states[0] if data.form == "single" else states


def read_noise(noise: ArrayLike, n_outputs: int) -> Array:
    """Standard deviations of the errors of the outputs, or a ValueError."""
    try:
        sizes = np.asarray(noise, dtype=np.float64)
    except (TypeError, ValueError):
        sizes = np.empty(0)
    if sizes.shape != (n_outputs,) or not np.all(sizes >= 0.0) or not np.isfinite(sizes).all():
        raise ValueError(
            f"`noise` must be {n_outputs} standard deviation(s), one for each output, "
            f"got {noise!r:.200}"
        )
    return sizes


def read_measured(
    u: object, y: object, *, lengths: ArrayLike | None = None, n_init: int | None = None
) -> Sequences:
    """Inputs, and outputs some of which may be missing (NaN, masked); errors call them `u` and `y`.

    With `n_init`, outputs may end after so many rows: what is not given is missing.
    """
    inputs, outputs = read_inputs(u), read_inputs(without_masks(y), "y")
    names = None
    with messages_of_u_and_y():
        given = as_sequences(inputs, lengths=lengths)
        if n_init is not None and lengths is None:
            # filling makes arrays: what a frame says of its columns, and a mask, is read before
            with messages_of_y():
                names = as_sequences(outputs, check_finite=False).input_names
            outputs = _filled(outputs, given, n_init)
        data = as_sequences(inputs, outputs, lengths=lengths, check_finite=False)
    if data.output_names is None:
        data = replace(data, output_names=names)
    assert data.Y is not None
    rows = np.asarray(loaded(data.Y))
    if rows.dtype.kind == "f" and np.isinf(rows).any():
        row, column = map(int, np.argwhere(np.isinf(rows))[0])
        raise ValueError(
            f"`y` holds {rows[row, column]} in row {row}, column {column}: give NaN "
            f"for an output that is missing"
        )
    return data


def _filled(outputs: object, data: Sequences, n_init: int) -> object:
    """Outputs with rows of NaN behind them where they end before the inputs do."""
    if isinstance(outputs, list):
        if len(outputs) != data.n_sequences:
            return outputs
        pairs = zip(outputs, data.lengths, strict=True)
        return [_longer(each, int(n), 0, n_init) for each, n in pairs]
    steps = int(data.lengths[0])
    return _longer(outputs, steps, 1 if data.form == "array" else 0, n_init)


def _longer(rows: object, n_rows: int, axis: int, n_init: int) -> object:
    shape = np.shape(cast(ArrayLike, rows))
    if len(shape) <= axis or not shape[axis] < n_rows:
        return rows
    if shape[axis] < min(n_init, n_rows):
        raise ValueError(
            f"`u` has {n_rows} steps, `y` has {shape[axis]}, and `n_init` is {n_init}: give the "
            f"first `n_init` outputs at least, or lower it"
        )
    missing = (*shape[:axis], n_rows - shape[axis], *shape[axis + 1 :])
    return np.concatenate((np.asarray(rows, np.float64), np.full(missing, np.nan)), axis=axis)


def check_start(model: Network, data: Data, n_init: int) -> None:
    """Raise unless outputs can tell the state before records of these lengths."""
    if n_init > data.shortest:
        raise ValueError(
            f"`n_init` is {n_init}, but the shortest record has {data.shortest} rows: lower it"
        )
    if model.n_backward:
        raise ValueError(
            "`n_init` needs a network without backward units, whose outputs depend on "
            "inputs that are still to come"
        )


def check_outputs(model: Network, data: Data) -> None:
    """Raise unless there are the outputs of the model."""
    if data.n_outputs != model.n_outputs:
        raise ValueError(
            f"`y` has {data.n_outputs} columns, the model has n_outputs = {model.n_outputs}"
        )


def check_initial(initial: str, name: str = "initial") -> None:
    """Raise a ValueError unless it is a name in `INITIAL`."""
    if initial not in INITIAL:
        names = ", ".join(map(repr, INITIAL))
        raise ValueError(f"`{name}` must be one of {names}, or states, got {initial!r}")


def as_initial(
    model: Network, initial: object, n_sequences: int, name: str = "initial"
) -> str | Array:
    """A name in `INITIAL`, or states of shape (n_sequences, n_state)."""
    if isinstance(initial, str):
        check_initial(initial, name)
        return initial
    return read_states(model, initial, n_sequences, name)


def centre_states(
    model: Network, data: Sequences, sequence: IntArray, initial: str | Array
) -> Array:
    """States (n_sequences, n_state) by name, or those of the sequences with these numbers."""
    if not isinstance(initial, str):
        return GivenStates(initial)(model, data, sequence)
    states = np.zeros((data.n_sequences, model.n_state))
    if initial == "rest":
        return states
    if initial == "auto":
        return expected_states(model, data)
    first = np.asarray(data.X[data.starts[:-1]], dtype=np.float64)
    rows, place = np.unique(first, axis=0, return_inverse=True)
    equilibria = find_equilibria(model, rows)
    place = place.reshape(-1)
    found = equilibria.found[place]
    states[found] = equilibria.states[place[found]]
    if not found.all():
        missing = sequence[~found]
        warn_caller(
            f"{missing.shape[0]} record(s), the first of them record {missing[0]}, have no stable "
            f"equilibrium at their first input: they start from zero states. Estimate the state "
            f"(`n_init`), give it, or ask for initial='rest'",
            GloreeWarning,
        )
    return states


def estimated(
    model: Network,
    data: Sequences,
    sequence: IntArray,
    n_init: int,
    centres: Array,
    *,
    free: bool = False,
    noise: Array | None = None,
) -> Array:
    """Estimates of `estimate_state`, (n_sequences, n_state); `free` for no prior."""
    if data.Y is None:
        raise ValueError("`y` is missing: `n_init` needs the first outputs of every record")
    states = np.array(centres)
    empty, runaway = [], []
    for number, begin in enumerate(data.starts[:-1].tolist()):
        rows = slice(begin, begin + n_init)
        y = np.asarray(loaded(data.Y[rows]), dtype=np.float64)
        if not np.isfinite(y).any():
            empty.append(int(sequence[number]))
            continue
        whole = slice(begin, int(data.starts[number + 1]))
        u = np.asarray(loaded(data.X[whole]), dtype=np.float64)
        spread = np.sqrt(np.mean((u - u[0]) ** 2, axis=0))
        given = (model, u[:n_init], y, states[number], spread, free, noise)
        found = RecordState(*given).solve()
        if found is None:
            runaway.append(int(sequence[number]))
        else:
            states[number] = found
    if runaway:
        warn_caller(
            f"the states run away in the first {n_init} rows of {len(runaway)} record(s), the "
            f"first of them record {runaway[0]}, from all that were tried: their states are those "
            f"without measurements. Are the inputs in the range of those of the fit?",
            GloreeWarning,
        )
    if empty:
        warn_caller(
            f"{len(empty)} record(s), the first of them record {empty[0]}, have no measured output "
            f"in the first {n_init} rows: their states are those without measurements",
            GloreeWarning,
        )
    return states

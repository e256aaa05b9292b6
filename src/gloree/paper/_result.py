"""What the published algorithms return."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree.chains import InputLaw
from gloree.decomposition import Decomposition
from gloree.models import BRNN, IORNN
from gloree.sequences import Array


@dataclass(frozen=True)
class PaperFit(Brief):
    r"""What the published algorithm found, with every intermediate.

    Attributes
    ----------
    model : IORNN or BRNN
        The network: no biases, U (and V) without scale freedom, as the rows of A1 have norm one.
    law : InputLaw or None
        Law of the inputs.
    degree : int
        l.
    first_moment : ndarray of shape (n_outputs, n_inputs, .., n_inputs)
        T = E[y (x) S_l(t)] = l! c_l sum_i A2_i (x) a_i^l (step 1).
    decomposition : Decomposition
        Its components, by whitening and the tensor power method (step 2). Ask its `status`.
    dual : ndarray of shape (n_hidden, n_inputs)
        v: pseudo-inverse of A1, transposed, in the order of the components.
    readout : ndarray of shape (n_outputs, n_hidden)
        Pseudo-inverse of A2.
    second_moments : dict of int to ndarray of shape (n_hidden, n_entries)
        Contracted E[(A2^+ y)_i S_{l^2}(t - 1)(v_{m_1}^l, .., v_{m_l}^l)] under -1, of step t + 1
        under 1 (step 3).
    powers : dict of int to ndarray of shape (n_hidden, n_hidden, .., n_hidden)
        The same with the factors of the symmetrisation taken off: row i is U_i^{(x)l} (step 4).
    rows : dict of int to ndarray of shape (n_hidden, n_hidden)
        Its best rank-one part: U, V with rows of undetermined sign where l is even.
    signs : ndarray of shape (n_hidden,)
        Signs given to the rows: those of least squared error (step 5); all 1 where l is odd, as the
        moment has them.
    forward : ndarray of bool of shape (n_hidden,)
        Which components are units of the forward chain.
    direction_ratios : ndarray of shape (n_hidden,)
        Norm of a unit's row of `powers` of the step before, over both; near 1 forward, near 0
        backward. Ones for one chain.
    """

    model: IORNN | BRNN
    law: InputLaw | None
    degree: int
    first_moment: Array = field(repr=False)
    decomposition: Decomposition = field(repr=False)
    dual: Array = field(repr=False)
    readout: Array = field(repr=False)
    second_moments: dict[int, Array] = field(repr=False)
    powers: dict[int, Array] = field(repr=False)
    rows: dict[int, Array] = field(repr=False)
    signs: Array = field(repr=False)
    forward: NDArray[np.bool_] = field(repr=False)
    direction_ratios: Array = field(repr=False)

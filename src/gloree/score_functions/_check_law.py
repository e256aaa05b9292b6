"""Stein's identity of a law on its own samples."""

from __future__ import annotations

from gloree._random import RandomState
from gloree.chains import LawError, require
from gloree.score_functions._stein import check_score
from gloree.score_functions._verdict import FINE, ScoreCheck


def check_law(
    law: object,
    *,
    n_sequences: int = 2_000,
    n_steps: int = 20,
    max_inputs: int | None = 8,
    random_state: RandomState = None,
) -> ScoreCheck:
    """Check Stein's identity of a law on its own samples: whether score and sampler agree.

    Parameters
    ----------
    law : HermiteLaw or DerivativeLaw
        With a sampler.
    n_sequences, n_steps : int
        Size of the sample.
    max_inputs : int or None, default 8
        As in `check_score`.
    random_state : None, int, SeedSequence, Generator or RandomState

    Returns
    -------
    ScoreCheck
        Its defects are not above .3 by more than two standard errors.

    Raises
    ------
    TypeError, LawError
        If it is no law, cannot draw sequences or has no score tensors of order 2; or if its score
        fails the identity.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import StudentVAR
    >>> from gloree.score_functions import check_law
    >>> check_law(StudentVAR(0.5 * np.eye(2), np.eye(2), df=12), random_state=0).status
    'fine'
    """
    known = require(law, order=2, tensors=True, purpose="`check_law`")
    X = known.sample(n_sequences, n_steps, random_state)
    found = check_score(X, chain=known, max_inputs=max_inputs)
    beside, wrong = "", found.defect - 2 * found.defect_error > FINE
    names = ("with the steps beside", "from the mean of the score", "from E[s x^T]", "from E S_2")
    for other, where in zip((found.neighbours, *found.lower_orders), names, strict=True):
        if other is not None:
            wrong |= other.defect - 2 * other.error > FINE
            beside += f", {other.defect:.2f} +- {other.error:.2f} {where}"
    if not wrong:
        return found
    raise LawError(
        f"the score of {known!r:.80} fails Stein's identity on its own samples (defect "
        f"{found.defect:.2f} +- {found.defect_error:.2f}{beside}; limit {FINE}): its "
        f"derivatives and its sampler belong to different laws, its density has jumps, or moments "
        f"of its tails do not exist"
    )

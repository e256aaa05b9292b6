"""A system from records of its input and output: linear states, nonlinear units, refinement.

Each stage is a file; `run_identification` runs them in order, each on what those before it found.
"""

from gloree.estimators._identification._fit import run_identification
from gloree.estimators._identification._state import IdentifierSettings

__all__ = ["IdentifierSettings", "run_identification"]

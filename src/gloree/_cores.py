"""How many threads there is work for."""

from __future__ import annotations

from functools import cache

from joblib import cpu_count


@cache
def n_cores() -> int:
    """Cores that this process may use: its affinity and the limits of its container count."""
    return int(cpu_count())

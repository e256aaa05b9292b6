"""From the `engine` argument of an estimator to an engine."""

from __future__ import annotations

import difflib

from gloree.engine._engine import Engine


def get_engine(engine: object, *, verbose: int = 0) -> Engine:
    """Resolve the `engine` argument of an estimator.

    Parameters
    ----------
    engine : None, "threads", "serial" or Engine
        None means threads.
    verbose : int
        Passed on to an engine made here.

    Returns
    -------
    Engine
    """
    if isinstance(engine, Engine):
        return engine
    if engine is None or engine == "threads":
        return Engine("threads", verbose=verbose)
    if engine == "serial":
        return Engine("serial", verbose=verbose)
    close = difflib.get_close_matches(str(engine), ["threads", "serial"], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"`engine` must be None, 'threads', 'serial' or an Engine, got {engine!r}{hint}"
    )

"""From the `engine` argument of an estimator to an engine."""

from __future__ import annotations

import difflib

from gloree._extras import require
from gloree.engine._dask import DaskEngine
from gloree.engine._engine import Engine
from gloree.sequences import Data
from gloree.sources import Partitions

NAMES = ("threads", "serial", "dask")


def get_engine(engine: object, *, verbose: int = 0, data: Data | None = None) -> Engine:
    """Engine from the `engine` argument of an estimator.

    It is None, "threads", "serial", "dask", a distributed.Client or an Engine. None means threads,
    or the running Dask client where `data` are partitions of a Dask collection; "dask" is the
    running client. ValueError for anything else, or without a running client.
    """
    if isinstance(engine, Engine):
        return engine
    if _is_client(engine):
        status = getattr(engine, "status", "running")
        if status not in ("running", "connecting"):
            raise ValueError(
                f"`engine`: the Dask client is {status}; give one that is connected to its "
                f"scheduler"
            )
        return DaskEngine("dask", verbose=verbose, client=engine)
    if engine == "dask":
        client = _running_client()
        if client is None:
            raise ValueError(
                "`engine='dask'` uses the running Dask client, and there is none: start one with "
                "dask.distributed.Client(), or pass it as `engine`"
            )
        return DaskEngine("dask", verbose=verbose, client=client)
    if engine is None and isinstance(data, Partitions):
        client = _running_client()
        if client is not None:
            return DaskEngine("dask", verbose=verbose, client=client)
    if engine is None or engine == "threads":
        return Engine("threads", verbose=verbose)
    if engine == "serial":
        return Engine("serial", verbose=verbose)
    close = difflib.get_close_matches(str(engine), NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"`engine` must be None, 'threads', 'serial', 'dask', a Dask client or an Engine, got "
        f"{engine!r}{hint}"
    )


def _is_client(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "distributed" and hasattr(value, "submit")


def _running_client() -> object:
    distributed = require("distributed", "dask", "engine='dask'")
    try:
        return distributed.default_client()
    except ValueError:
        return None

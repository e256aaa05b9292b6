"""Calls of a Dask client that do not wait for ever: a client may close at any moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, TypeVar

from gloree._mapped import SourceError

PATIENCE = 0.5
"""Seconds of waiting after which the client is looked at."""

Answer = TypeVar("Answer")


def ask(
    client: Any, call: Callable[[], Answer], *, hopeless: Callable[[], bool] | None = None
) -> Answer:
    """Result of a call that waits for the scheduler.

    It runs on a thread of its own. A client that closes leaves calls that are under way without an
    answer for ever, or ends them in an error of something inside; both are a `SourceError`
    here. `hopeless` is asked now and then whether to wait any longer; a `TimeoutError` ends it.
    """
    promised: Future[Answer] = Future()

    def run() -> None:
        try:
            promised.set_result(call())
        except BaseException as error:
            promised.set_exception(error)

    Thread(target=run, daemon=True, name="gloree waits for Dask").start()
    while not wait((promised,), timeout=PATIENCE).done:
        if client.status in ("closing", "closed"):
            raise _closed(client)
        if hopeless is not None and hopeless():
            raise TimeoutError
    try:
        return promised.result()
    except Exception as error:
        if isinstance(error, SourceError) or client.status == "running":
            raise
        raise _closed(client) from error


def _closed(client: Any) -> SourceError:
    return SourceError(
        f"the Dask client closed, or lost its scheduler, while it was needed (it is "
        f"{client.status!r}): keep client and cluster open until the call returns. With a "
        f"`checkpoint`, a fit that is called again with an open client goes on where this one ended"
    )

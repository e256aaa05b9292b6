"""Optional dependencies: imported on use, with an error that names the extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(module: str, extra: str, what: str) -> Any:
    """Import an optional module.

    Parameters
    ----------
    module : str
    extra : str
        Extra of this library that installs it.
    what : str
        What needs it, for the message.

    Raises
    ------
    ImportError
        If it is missing, with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{what} needs {module.partition(".")[0]}: pip install "gloree[{extra}]"'
        ) from error

"""Thumbnails of the gallery that can be read: of a wide figure, its first panel.

sphinx-gallery shrinks the whole figure. Three panels side by side are then too small to be read, so
the thumbnail of a figure wider than it is high is cut at a blank column.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
from sphinx.application import Sphinx

WIDE = 1.9  # width over height beyond which a figure has several panels
LEAST = 0.6  # width over height of a panel, at least
GAP = 0.01  # blank width over height that parts two panels, at least


def first_panel(picture: np.ndarray) -> np.ndarray:
    """Left part of a wide picture, up to the first blank strip behind a panel.

    Inside of a panel no column is blank, as its axis runs through all of them.
    """
    height, width = picture.shape[:2]
    if width < WIDE * height:
        return picture
    blank = np.all(picture[:, :, :3] > 0.99, axis=(0, 2))
    ends = np.flatnonzero(np.diff(np.concatenate([[0], blank.astype(int), [0]])))
    for start, stop in ends.reshape(-1, 2):
        if start > LEAST * height and stop - start > GAP * height:
            return picture[:, : (start + stop) // 2]
    return picture


def cut(app: Sphinx) -> None:
    """Write the thumbnails of wide figures anew, whenever the gallery has been made."""
    for images in Path(app.srcdir).glob("auto_examples/images"):
        for thumb in images.glob("thumb/*_thumb.png"):
            figure = images / thumb.name.replace("_thumb", "_001_2_00x")  # twice as sharp
            if figure.exists():
                whole = matplotlib.image.imread(figure)
                panel = first_panel(whole)
                if panel.shape != whole.shape:
                    matplotlib.image.imsave(thumb, np.ascontiguousarray(panel))


def setup(app: Sphinx) -> dict[str, bool]:
    """Run after the gallery."""
    app.connect("builder-inited", cut, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

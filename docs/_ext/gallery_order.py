"""Order of the gallery: what newcomers look for first; scripts that are not named come last."""

from __future__ import annotations

from pathlib import Path

FIRST = (
    "quickstart",
    "own_data",
    "system_identification",
    "control_views",
    "tanh_network",
    "bidirectional",
    "unequal_lengths",
    "prediction_intervals",
    "paper_literally",
    "steps_by_hand",
    "score_check",
    "own_law",
    "error_vs_samples",
)


class Order:
    """Key by which sphinx-gallery sorts the scripts."""

    def __init__(self, folder: str) -> None:
        """Take the folder of the scripts, which does not matter here."""

    def __call__(self, file: str) -> tuple[int, str]:
        """Place of a file."""
        name = Path(file).stem.removeprefix("plot_")
        return FIRST.index(name) if name in FIRST else len(FIRST), name

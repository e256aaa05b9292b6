"""Fits made of values: stages that take values and return values."""

from gloree.fitting._stages import StageRunner, stage_runner

__all__ = ["StageRunner", "stage_runner"]

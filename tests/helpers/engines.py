"""Engines that note what they run, and what fails in them."""

from dataclasses import dataclass, field

from gloree.engine import Engine
from gloree.models import ExplosionError


@dataclass(frozen=True)
class Counted(Engine):
    """Notes label and rows of its passes."""

    passes: list[tuple[str, int]] = field(default_factory=list)

    def run(self, function, data, *, label="pass"):
        self.passes.append((label, data.as_subset().n_counted))
        return super().run(function, data, label=label)

    @property
    def labels(self):
        return [label for label, _ in self.passes]

    def rows_of(self, label):
        return [rows for name, rows in self.passes if name == label]


def noted_explosions(monkeypatch):
    """A list to which every pass that ends by an explosion adds its error."""
    found, run = [], Engine.run

    def watched(self, *arguments, **options):
        try:
            return run(self, *arguments, **options)
        except ExplosionError as error:
            found.append(error)
            raise

    monkeypatch.setattr(Engine, "run", watched)
    return found

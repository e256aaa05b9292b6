"""An engine: one that counts its passes over the data and their seconds."""

import time
from dataclasses import dataclass, field

import numpy as np

from gloree import Engine, SpectralRNNRegressor, datasets


@dataclass(frozen=True)
class TimedEngine(Engine):
    """Runs passes as `Engine` does, and notes the seconds of each under its label."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def run(self, function, data, *, label="pass"):
        begin = time.perf_counter()
        try:
            return super().run(function, data, label=label)
        finally:
            self.seconds.setdefault(label, []).append(time.perf_counter() - begin)


X, Y, _, _ = datasets.make_rnn(1000, 10, 5, 3, 3, random_state=0)
engine = TimedEngine("threads")
est = SpectralRNNRegressor(3, engine=engine, random_state=0).fit(X, Y)

for label, seconds in engine.seconds.items():
    print(f"{len(seconds)} passes of {label}: {1000 * sum(seconds):.1f} ms")
assert len(engine.seconds["first moment"]) == 1
assert sum(map(len, engine.seconds.values())) < 30

# The results are those of any other engine, to the last bit.
usual = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
np.testing.assert_array_equal(est.model_.input_weights, usual.model_.input_weights)

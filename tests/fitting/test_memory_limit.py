"""A fit takes no more memory than its limit, and says the least limit that it can keep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.marks import long_but_first
from helpers.peak_memory import CELLS

from gloree import SpectralRNNRegressor, datasets
from gloree.moments import MemoryLimitError

TESTS = Path(__file__).parents[1]


def measure(cell, folder):
    """Peak growth and limit in a fresh process."""
    paths = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, "-m", "helpers.peak_memory", cell, str(folder)]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured on Linux")
@pytest.mark.slow
@pytest.mark.parametrize("cell", long_but_first(CELLS, 6))
def test_peak_memory_is_below_the_least_limit(cell, tmp_path):
    found = measure(cell, tmp_path)
    assert 0 < found["growth"] <= found["limit"]
    # and the limit is no idle one: a few times what is needed
    assert found["limit"] < 2**20 * 120


def test_a_limit_that_cannot_be_kept_names_the_least_one_that_can():
    X, Y, _, _ = datasets.make_rnn(500, 10, 3, 2, 2, random_state=0)
    est = SpectralRNNRegressor(2, memory_limit=2**20, random_state=0, engine="serial")
    with pytest.raises(MemoryLimitError, match=r"`memory_limit`=1,048,576 bytes: .* at least") as e:
        est.fit(X, Y)
    least = int(str(e.value).split("at least ")[1].split(" ")[0].replace(",", ""))
    with pytest.raises(MemoryLimitError):
        est.set_params(memory_limit=least - 1).fit(X, Y)
    limited = est.set_params(memory_limit=least).fit(X, Y)
    assert limited.report_.refined_rmse.shape == (2,)


def test_linear_networks_refuse_a_limit():
    X, Y, _, _ = datasets.make_rnn(20, 50, 1, 1, 1, random_state=0)
    est = SpectralRNNRegressor(1, activation="linear", memory_limit=2**30)
    with pytest.raises(ValueError, match="`memory_limit`=1,073,741,824 cannot be kept"):
        est.fit(X, Y)

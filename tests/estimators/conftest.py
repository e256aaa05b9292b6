"""Data that fits of several modules share."""

import pytest
from helpers import estimates


@pytest.fixture(scope="session")
def simulated():
    return estimates.simulated()

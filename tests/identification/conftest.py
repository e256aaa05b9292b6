"""Small systems with known answers."""

import pytest
from helpers.systems import random_system


@pytest.fixture(scope="session")
def make_system():
    return random_system

"""Tables in files."""

from __future__ import annotations

import pytest

from gloree import datasets


@pytest.fixture
def write(tmp_path):
    def write(text, **options):
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return datasets.read_csv(path, **options)

    return write

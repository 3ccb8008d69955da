"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .s3 import s3, s3_endpoint  # noqa: F401 (fixtures: one server for all modules)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real text beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder

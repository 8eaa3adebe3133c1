"""Fixtures that every room's tests share: a small store of four modalities, and where the real images lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import make_store

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real development images; the test skips where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"real images are not there: {REAL}")
    return REAL


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 4 x 24 labelled images, for reading only."""
    folder = tmp_path_factory.mktemp("store") / "store"
    make_store(folder)
    return folder

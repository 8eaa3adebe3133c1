"""Every test has a pseudonym secret of its own making, never the user's."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOUTVIEW_KEY", "a secret that only the tests know")

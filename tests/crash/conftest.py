"""Small windows of refcounts, so that even the smallest image has several of them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcow.edit.tally.WINDOW", 64)
    monkeypatch.setattr("qcow.edit.ledger.WINDOW", 64)

"""The same surroundings for every test of the app: no settings of the machine reach it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_FOREIGN = ("NO_COLOR", "COLORTERM", "COLUMNS", "LINES", "FORCE_COLOR", "TERM_PROGRAM")
for _name in [*_FOREIGN, *(name for name in os.environ if name.startswith("TEXTUAL"))]:
    os.environ.pop(_name, None)
os.environ["TEXTUAL_ANIMATIONS"] = "none"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key maps, recent images and trusted folders of this test alone."""
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the demo's images."""
    from qcowtui.samples.demo_set import write_demo_set

    folder = tmp_path_factory.mktemp("demo")
    write_demo_set(folder)
    return folder

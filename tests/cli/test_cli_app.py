"""When the app is opened, and with what."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path
from unittest import mock

import pytest

from qcowtui.cli.terminal import has_screen
from tests.support.cli import qcowtui


@pytest.fixture
def run_app(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """A terminal, as far as the command line can tell; what the app is started with."""
    for module in ("open", "demo"):
        monkeypatch.setattr(f"qcowtui.cli.verbs.{module}.has_screen", lambda: True)
    started = mock.Mock(return_value=3)
    monkeypatch.setattr("qcowtui.tui.run", started)
    return started


def test_a_file_is_opened_in_the_app(run_app: mock.Mock, small: Path) -> None:
    assert qcowtui(small).code == 3
    run_app.assert_called_once_with(str(small), ascii=False, color=None, writable=False)


def test_looks_can_be_chosen(run_app: mock.Mock, small: Path) -> None:
    qcowtui("--ascii", "--color=16", small)
    run_app.assert_called_once_with(str(small), ascii=True, color="16", writable=False)


def test_without_a_file_the_app_lets_one_be_chosen(run_app: mock.Mock) -> None:
    assert qcowtui().code == 3
    run_app.assert_called_once_with(None, ascii=False, color=None, writable=False)


def test_plain_prints_the_overview_all_the_same(run_app: mock.Mock, small: Path) -> None:
    ended = qcowtui("--plain", small)
    assert (ended.code, run_app.called) == (0, False)
    assert b"virtual size: " in ended.stdout


def test_demo_opens_its_first_image(run_app: mock.Mock, tmp_path: Path) -> None:
    ended = qcowtui("demo", tmp_path)
    assert (ended.code, ended.stdout) == (3, b"")
    run_app.assert_called_once_with(str(tmp_path / "web01.qcow2"))
    run_app.reset_mock()
    qcowtui("demo", "--write-only", tmp_path)
    qcowtui("demo", "--json", tmp_path)
    assert not run_app.called


@pytest.mark.parametrize(
    ("term", "screen"), [("xterm-256color", True), ("dumb", False), ("", False), (None, False)]
)
def test_what_counts_as_a_screen(
    term: str | None, screen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    controller, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "r", closefd=False) as both:
            monkeypatch.setattr(sys, "stdin", both)
            monkeypatch.setattr(sys, "stdout", both)
            assert has_screen() is screen
        with open(os.devnull) as nowhere:
            monkeypatch.setattr(sys, "stdin", nowhere)
            assert has_screen() is False
    finally:
        os.close(controller)
        os.close(terminal)


def test_the_app_cannot_be_told_a_format(run_app: mock.Mock, small: Path) -> None:
    ended = qcowtui("-f", "raw", small)
    assert (ended.code, run_app.called) == (1, False)
    assert b"-f goes with --plain" in ended.stderr
    assert qcowtui("-f", "raw", "--plain", small).code == 63

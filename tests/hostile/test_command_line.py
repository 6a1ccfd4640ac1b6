"""The command line on every malformed image: what QEMU refuses is refused, all ends in words."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from tests.support.cli import CliResult, qcowtui

from .bases import Bases
from .corpus import GENERAL, ROWS
from .model import Row

#: QEMU reads bitmap tables when it opens an image; here a check does.
_LISTED_ANYWAY = {"B16"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _harmless(output: bytes) -> bool:
    return all(
        char == "\n" or unicodedata.category(char) not in _HIDDEN for char in output.decode()
    )


def _ask(*args: str | Path) -> CliResult:
    ended = qcowtui(*args)
    assert b"Unexpected failure" not in ended.stderr
    assert _harmless(ended.stdout)
    assert _harmless(ended.stderr)
    return ended


@pytest.mark.parametrize("row", [*ROWS, *GENERAL], ids=lambda row: row.id)
def test_row(row: Row, bases: Bases, folder: Path) -> None:
    image = row.build(bases, folder)
    info = _ask("info", "-f", "qcow2", image)
    assert (info.code == 0) != bool(info.stderr)
    assert bool(info.stdout) == (info.code == 0)
    if isinstance(row.qemu_info, int) and row.qemu_info != 0 and row.id not in _LISTED_ANYWAY:
        assert info.code == 1
    check = _ask("check", "-f", "qcow2", "--output=json", image)
    if check.stdout:
        findings = {found["severity"] for found in json.loads(check.stdout)["findings"]}
        assert check.code == 0 or findings & {"leak", "corruption", "error"}
    else:
        assert (check.code, bool(check.stderr)) == (1, True)
    if isinstance(row.qemu_check, int) and row.qemu_check in (2, 3):
        assert check.code != 0
    header = _ask("header", "-f", "qcow2", image)
    assert header.code == 0 or header.stderr

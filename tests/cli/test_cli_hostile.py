"""Names made to act on a terminal: no verb, in no spelling, lets one through."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from tests.support.cli import qcowtui

NAMES = [
    "\x1b[2J\x1b]52;c;cm0gLXJm\x07",
    "[@click=app.quit]x[/]",
    "\u202egnp.exe\u2066",
    "new\nline\rback\ttab",
    b"\xff\xfe\x9b2J",
    "zero\u200bwidth\ufeff",
    "\x7f\x80\x9c",
]
VERBS = [
    ("info",),
    ("snapshot", "-l"),
    ("check",),
    ("header",),
    ("space",),
    ("clusters",),
    ("fragmentation",),
    ("chain",),
    ("audit", "--all"),
    (),
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every name that an image can hold is one of :data:`NAMES`; so is the file's own."""
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, b"x")
    for name in NAMES:
        builder.snapshot(name, date=1_750_000_000)
        builder.bitmap(name, [])
    builder.backing("/\x1b[31m\u202e/base", b"\x1b]0;x\x07")
    builder.extension(0x11223344, b"\x1b[2J")
    return builder.write(tmp_path_factory.mktemp("hostile") / "\x1b[2J\u202e.qcow2")


def _harmless(text: str) -> bool:
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return all(char == "\n" or unicodedata.category(char) not in hidden for char in text)


@pytest.mark.parametrize("argv", VERBS, ids=lambda argv: " ".join(argv) or "overview")
def test_for_a_person(argv: tuple[str, ...], hostile: Path) -> None:
    ended = qcowtui(*argv, hostile)
    assert ended.stdout
    assert _harmless(ended.stdout.decode())
    assert _harmless(ended.stderr.decode())


@pytest.mark.parametrize("argv", [v for v in VERBS if v], ids=" ".join)
def test_as_json(argv: tuple[str, ...], hostile: Path) -> None:
    ended = qcowtui(*argv, "--output=json", hostile)
    text = ended.stdout.decode("ascii")
    assert _harmless(text)
    json.loads(text)


@pytest.mark.parametrize(
    "argv",
    [
        ("map",),
        ("read",),
        ("read", "--snapshot", "\x1b[2J"),
        ("measure", "-O", "qcow2"),
        ("info", "--backing-chain"),
        ("space", "--together=\x1b[2J"),
    ],
    ids=lambda argv: argv[0],
)
def test_in_errors(argv: tuple[str, ...], hostile: Path) -> None:
    ended = qcowtui(*argv, hostile)
    assert ended.code == 1
    assert ended.stderr
    assert _harmless(ended.stderr.decode())


def test_snapshots_are_found_by_any_name(hostile: Path) -> None:
    for number, name in enumerate(NAMES, 1):
        raw = name if isinstance(name, bytes) else name.encode()
        key = raw.decode("utf-8", "surrogateescape")
        found = json.loads(qcowtui("space", "--json", f"--together={key}", hostile).stdout)
        assert found["together"]["snapshots"] == [str(number)]

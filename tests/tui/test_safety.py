"""Looking never touches: nothing written, nothing else opened, nothing an image says is obeyed."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path

import pytest

from tests.support.images import small_builder
from tests.support.opens import opened_files

from .driving import NARROW, WIDE, Driven, driving

#: Every pane, with what can be done in it.
_TOUR = (
    ("1", "down", "down", "enter", "end", "home"),
    ("2", "right", "down", "plus", "minus", "H", "H", "v", "v", "pagedown", "L", "down", "escape"),
    ("3", "right", "down", "plus", "0", "L", "escape"),
    ("4", "down", "space", "s", "slash", "a", "escape"),
    ("5", "down", "down", "enter", "escape"),
    ("6", "down", "enter", "slash", "q", "enter", "escape"),
    ("7", "down", "end", "escape"),
    ("2", "enter", "down", "w", "b", "t", "pagedown", "escape"),
    ("9", "down", "escape"),
    ("n", "n", "N", "left_square_bracket", "right_square_bracket", "y"),
    ("z", "z", "tab", "shift+tab", "question_mark", "escape", "c", "r"),
)


async def tour(app: Driven) -> list[str]:
    """Go through every pane; what was on the screen on the way."""
    seen = []
    for keys in _TOUR:
        await app.press(*keys)
        seen.append(app.text())
    return seen


def digest(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix == ".qcow2"
    }


@pytest.mark.parametrize(
    ("image", "size"),
    [("web01.qcow2", WIDE), ("files-corrupt.qcow2", NARROW), ("untrusted-upload.qcow2", WIDE)],
)
async def test_a_tour_of_every_pane_changes_nothing_and_opens_nothing(
    demo: Path, tmp_path: Path, image: str, size: tuple[int, int]
) -> None:
    before = digest(demo)
    with opened_files() as opened:
        async with driving(demo / image, size) as app:
            seen = await tour(app)
    assert digest(demo) == before
    # What tells who else holds the file, and what the app remembers, is no image.
    own = ("/proc/", "/sys/", str(tmp_path / "state"), str(tmp_path / "config"))
    others = [path for path in opened.besides(demo / image) if not path.startswith(own)]
    assert others == []
    for text in seen:
        assert not hidden(text)


def hidden(text: str) -> set[str]:
    """Characters that a terminal would obey, or that hide something."""
    return {
        char
        for char in text
        if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    }


async def test_hostile_names_are_harmless_text_everywhere(demo: Path) -> None:
    async with driving(demo / "untrusted-upload.qcow2", WIDE) as app:
        image = app.session.qcow2
        assert image is not None
        names = [snapshot.name for snapshot in image.snapshots]
        assert any(b"\x1b" in name for name in names)
        await app.press("4", "z")
        assert r"\x1b[2J\x1b[31m" in app.text()
        assert r"\u202e" in app.text()
        await app.press("z", "d")
        assert not hidden(app.text())
        assert r"\x1b[2J" in app.text()
        await app.press("escape", "f")
        assert "/etc/shadow" in app.text()
        await app.press("escape", "g", *"snap:1", "enter")
        assert r"owner L1 table of \x1b[2J" in app.text()
        await app.press("y")
        assert r"\x1b[2J" in app.app.clipboard
        assert not hidden(app.app.clipboard)


async def test_markup_in_names_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    builder = small_builder(snapshot=False)
    names = (b"[@click=app.quit]gone[/]", b"[/]", b"[red]x[/red]", b"[link=file:///etc]y[/link]")
    for number, name in enumerate(names, 1):
        builder.data(number, bytes([number]) * 65536)
        builder.snapshot(name)
    path = builder.write(tmp_path / "[bold]image[@click=app.bell].qcow2")
    async with driving(path, WIDE) as app:
        title = app.text().splitlines()[0]
        assert "[bold]image[@click=app.bell].qcow2" in title
        await app.press("4", "z")
        for name in names:
            assert name.decode() in app.text()
        await app.press("z", "d")
        assert "[@click=app.quit]gone[/]" in app.text()
        await app.press("down", "enter", "enter")
        assert app.session.difference is not None
        assert "[" in app.session.difference.title
        assert app.session.difference.title in app.text()
        assert app.app.is_running

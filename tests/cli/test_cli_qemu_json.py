"""JSON as QEMU prints it: order, layout, escapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcowtui.cli.qemu_json import Json, dumps, qdict, quoted
from qcowtui.samples.builder import ImageBuilder
from tests.support.cli import qcowtui
from tests.support.qemu import qemu_img

#: Objects as qemu-img 7.2 prints them; what is put in is in the order of its schema.
ORDERS = {
    "check": (
        ["filename", "format", "check-errors", "image-end-offset", "total-clusters"],
        ["image-end-offset", "total-clusters", "check-errors", "filename", "format"],
    ),
    "measure": (
        ["required", "fully-allocated", "bitmaps"],
        ["bitmaps", "required", "fully-allocated"],
    ),
    "raw": (
        ["filename", "format", "dirty-flag", "actual-size", "virtual-size"],
        ["virtual-size", "filename", "format", "actual-size", "dirty-flag"],
    ),
    "bitmap": (["name", "granularity", "flags"], ["flags", "name", "granularity"]),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_keys(name: str) -> None:
    put, printed = ORDERS[name]
    assert list(qdict(dict.fromkeys(put, 0))) == printed


def test_objects_inside_are_ordered_too() -> None:
    inner: dict[str, Json] = {"name": 1, "granularity": 2, "flags": 3}
    found = qdict({"a": [dict(inner)], "b": dict(inner)})
    assert found == {"a": [inner], "b": inner}
    text = dumps(found)
    assert text.count('"flags": 3,\n') == 2
    assert text.index('"flags"') < text.index('"name"')


def test_layout() -> None:
    value: Json = {"a": [], "b": {}, "c": [1, [True, None]], "d": {"e": "f"}, "g": 1.5}
    assert dumps(value) == (
        "{\n"
        '    "a": [\n    ],\n'
        '    "b": {\n    },\n'
        '    "c": [\n        1,\n        [\n'
        "            true,\n            null\n        ]\n    ],\n"
        '    "d": {\n        "e": "f"\n    },\n'
        '    "g": 1.5\n'
        "}"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain / text", '"plain / text"'),
        ('"\\\b\f\n\r\t', '"\\"\\\\\\b\\f\\n\\r\\t"'),
        ("\x00\x1b\x7f\x9b", '"\\u0000\\u001B\\u007F\\u009B"'),
        ("ü\u202e", '"\\u00FC\\u202E"'),
        ("\U0001f600", '"\\uD83D\\uDE00"'),
        (b"\xff\xfe", '"\\uFFFD\\uFFFD"'),
        ("\udcff", '"\\uFFFD"'),
    ],
)
def test_escapes(text: str | bytes, said: str) -> None:
    assert quoted(text) == said


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    said = quoted(text)
    assert said.isascii()
    assert said.isprintable()
    read = json.loads(said)
    # What UTF-8 cannot say or Unicode has no character for is replaced.
    assert [a for a, b in zip(text, read, strict=True) if a != b and b != "\ufffd"] == []


@given(st.binary())
def test_any_bytes_are_harmless(data: bytes) -> None:
    said = quoted(data)
    assert said.isascii()
    assert said.isprintable()
    json.loads(said)


NAMES = [
    "plain", "ümlaut", "\u202etxt", "\x1b[2J", "tab\there", "😀", "\ufdd0", "\uffff", "\U0001fffe",
    b"\xff\xfe", b"\x80\x81", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xe2(\xa1",
    b"\xed\xa0\x80", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xfe", b"a\xf0\x9f\x98b",
]  # fmt: skip


@pytest.mark.oracle
def test_names_are_escaped_as_qemu_does(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    for name in NAMES:
        builder.snapshot(name, date=1_750_000_000)
    image = builder.write(tmp_path / "names.qcow2")
    theirs = qemu_img("info", "--output=json", image).stdout
    assert qcowtui("info", "--output=json", image).stdout.decode() == theirs.decode()

"""Addressing states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import qcow
from qcow.chain import Chain, open_chain
from qcow.errors import NotFoundError, ReferenceMissing, ReferenceRefused, UsageError
from qcow.inspect.states import resolve_state
from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder

CLUSTER = 65536


@pytest.fixture
def image(tmp_path: Path) -> Iterator[qcow.Image]:
    base = ImageBuilder(virtual_size=2 * CLUSTER)
    base.data(0, b"b" * CLUSTER)
    base.data(1, b"b" * CLUSTER)
    base.write(tmp_path / "base")
    builder = ImageBuilder(virtual_size=2 * CLUSTER)
    builder.backing("base")
    for name in ("one", "2", "a:b", "one"):
        builder.data(0, name.encode() * (CLUSTER // len(name)))
        builder.snapshot(name)
    builder.data(0, b"now!" * (CLUSTER // 4))
    with qcow.open(builder.write(tmp_path / "top")) as opened:
        assert isinstance(opened, qcow.Image)
        yield opened


@pytest.mark.parametrize(
    ("text", "label", "first"),
    [
        ("active", "active", b"now!"),
        ("layer:0", "active", b"now!"),
        ("layer:1", "layer:1", b"bbbb"),
        ("layer:01", "layer:1", b"bbbb"),
        ("snapshot:1", "snapshot:1", b"oneo"),
        ("snapshot:one", "snapshot:1", b"oneo"),  # the first of that name
        ("snapshot:2", "snapshot:2", b"2222"),  # an ID before a name
        ("snapshot:a:b", "snapshot:3", b"a:ba"),
        ("snapshot:4", "snapshot:4", b"oneo"),
    ],
)
def test_spellings(text: str, label: str, first: bytes, image: qcow.Image) -> None:
    with open_chain(image, Gate.own_folder()) as chain:
        state = resolve_state(image, chain, text)
        assert isinstance(state, Chain)
        assert state.label == label
        assert state.read(0, 4) == first
        assert state.read(CLUSTER, 4) == b"bbbb"


@pytest.mark.parametrize(
    "text",
    ["", "Active", "snapshot", "snapshot:", "layer", "layer:", "layer:x", "layer:-1", "layer:²",
     "active:1", "\x1b[31m", "bitmap:1"],
)  # fmt: skip
def test_nonsense_is_a_usage_error(text: str, image: qcow.Image) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_state(image, None, text)
    assert "snapshot:NAME-or-ID" in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_not_there(image: qcow.Image, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        resolve_state(image, None, "snapshot:nobody")
    with pytest.raises(NotFoundError, match="no layer 2"):
        resolve_state(image, None, "layer:2")
    with pytest.raises(ReferenceRefused, match="--follow"):
        resolve_state(image, None, "layer:1")
    (tmp_path / "base").unlink()
    with (
        open_chain(image, Gate.own_folder()) as chain,
        pytest.raises(ReferenceMissing, match="base"),
    ):
        resolve_state(image, chain, "layer:1")


def test_a_raw_file_has_one_state(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"raw!" * 1024)
    with qcow.open(tmp_path / "raw") as raw:
        assert resolve_state(raw, None, "active").read(0, 4) == b"raw!"
        with pytest.raises(NotFoundError, match="raw file"):
            resolve_state(raw, None, "snapshot:1")

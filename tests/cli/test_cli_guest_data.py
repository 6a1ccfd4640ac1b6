"""``diff``, ``read`` and ``compare``: guest data of states."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from tests.cli.asking import CLUSTER, as_json, as_text
from tests.support.cli import CliResult, qcowtui
from tests.support.images import guest_bytes, pattern, small_builder


def test_diff_of_a_snapshot(small: Path) -> None:
    changed = [(2, 2), (12, 1)]
    found = as_json("diff", small, "snapshot:first", "active")
    assert found == [{"start": a * CLUSTER, "length": n * CLUSTER} for a, n in changed]
    assert found == as_json("diff", small, "active", "snapshot:1")
    said = as_text("diff", small, "snapshot:first", "active").splitlines()
    assert said[0].split() == ["Offset", "Length"]
    assert [line.split() for line in said[1:-1]] == [["0x20000", "0x20000"], ["0xc0000", "0x10000"]]
    assert said[-1] == "2 ranges, 192 KiB (196,608 bytes) in all."


def test_diff_by_content_is_finer(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, pattern(0, CLUSTER))
    builder.snapshot("before", date=1_750_000_000)
    changed = bytearray(pattern(0, CLUSTER))
    changed[1024] ^= 1
    builder.data(0, bytes(changed))
    image = builder.write(tmp_path / "disk.qcow2")
    states = ("snapshot:before", "active")
    assert as_json("diff", image, *states) == [{"start": 0, "length": CLUSTER}]
    assert as_json("diff", "--content", image, *states) == [{"start": 1024, "length": 512}]


def test_diff_of_equal_states(small: Path) -> None:
    assert as_json("diff", small, "active", "layer:0") == []
    assert as_text("diff", small, "active", "active") == "No differences.\n"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("nonsense", "names no state; use active, snapshot:NAME-or-ID or layer:N"),
        ("snapshot:nosuch", 'no snapshot "nosuch"'),
        ("layer:7", "There is no layer 7"),
    ],
)
def test_diff_of_states_that_are_not_there(state: str, said: str, small: Path) -> None:
    ended = qcowtui("diff", small, "active", state)
    assert (ended.code, ended.stdout) == (1, b"")
    assert said in ended.stderr.decode()


def _read(*args: str | Path) -> CliResult:
    return qcowtui("read", *args)


def test_read_gives_the_guest_bytes(small: Path) -> None:
    builder = small_builder()
    disk = guest_bytes(builder.model)[: builder.model.virtual_size]
    ended = _read(small)
    assert (ended.code, ended.stderr) == (0, b"")
    assert ended.stdout == disk
    part = _read(small, "--offset=0x20001", "--length", "70000")
    assert part.stdout == disk[0x20001 : 0x20001 + 70000]
    assert _read(small, "--length=0").stdout == b""


def test_read_of_a_snapshot(small: Path) -> None:
    ended = _read(small, "--snapshot", "first", "--offset=128k", "--length=64k")
    assert ended.stdout == pattern(2, CLUSTER)
    assert _read(small, "--offset=128k", "--length=64k").stdout == pattern(102, CLUSTER)


def test_read_as_hex_and_json(small: Path) -> None:
    data = pattern(0, CLUSTER)[:20]
    said = _read(small, "--length=20", "--output=hex").stdout.decode().splitlines()
    assert said == [
        f"000000000000  {data[:16].hex(' ')}  {data[:16].decode()}",
        f"000000000010  {data[16:].hex(' '):<47}  {data[16:].decode()}",
    ]
    found = json.loads(_read(small, "--length=20", "--output=json").stdout)
    assert base64.b64decode(found.pop("data")) == data
    assert found == {"filename": str(small), "state": "active", "offset": 0, "length": 20}


def test_read_does_not_go_beyond_the_disk(small: Path) -> None:
    for spelling in ("raw", "json"):
        ended = _read(small, "--offset=1T", "--length=1", f"--output={spelling}")
        assert (ended.code, ended.stdout) == (1, b"")
        assert b"does not lie on the disk" in ended.stderr


def test_compare_of_states(small: Path, tmp_path: Path) -> None:
    ended = qcowtui("compare", "--a-state=snapshot:first", small)
    assert (ended.code, ended.stdout) == (1, b"Content mismatch at offset 131072!\n")
    same = qcowtui("compare", "--a-state=snapshot:1", "--b-state=snapshot:first", small)
    assert (same.code, same.stdout) == (0, b"Images are identical.\n")
    # what the snapshot holds is what the disk held before: the image without it
    before = small_builder(snapshot=False).write(tmp_path / "before.qcow2")
    assert qcowtui("compare", "--b-state=snapshot:first", before, small).code == 0
    assert qcowtui("compare", before, small).code == 1
    assert qcowtui("compare", "--a-state=snapshot:none", small).code == 2

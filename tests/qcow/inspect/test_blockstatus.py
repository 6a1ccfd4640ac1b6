"""Block status beside qemu-img map: every column of every line, on every image variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import qcow
from qcow.chain import Chain, open_chain
from qcow.inspect.blockstatus import Status, block_status, looks_preallocated
from qcow.storage.gate import Gate
from tests.oracle.catalogue.base import Variant
from tests.oracle.variants import VARIANTS
from tests.support.qemu import qemu_img
from tests.support.settle import settle

pytestmark = pytest.mark.oracle


def _lines(chain: Chain, start: int = 0, length: int | None = None) -> list[dict[str, Any]]:
    """What `map` prints, without qcowtui's own wording of it."""
    lines: list[dict[str, Any]] = []
    for batch in block_status(chain, start, length):
        for at, size, flags, host, depth in zip(*(part.tolist() for part in batch), strict=True):
            assert flags, "damaged"
            line = {
                "start": at,
                "length": size,
                "depth": depth,
                "present": bool(flags & Status.ALLOCATED),
                "zero": bool(flags & Status.ZERO),
                "data": bool(flags & Status.DATA),
            }
            assert (host >= 0) == bool(flags & Status.OFFSET_VALID)
            if host >= 0:
                line["offset"] = host
            if lines and _continues(lines[-1], line):
                lines[-1]["length"] += size
            else:
                lines.append(line)
    return lines


def _continues(last: dict[str, Any], line: dict[str, Any]) -> bool:
    """Whether `map` would print both as one line."""
    if any(last[key] != line[key] for key in ("depth", "present", "zero", "data")):
        return False
    if "offset" in last and "offset" in line:
        return bool(last["offset"] + last["length"] == line["offset"])
    return ("offset" in last) == ("offset" in line)


def _theirs(path: Path, *options: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(
        qemu_img("map", "--output=json", *options, path).stdout
    )
    return [line for line in lines if line["length"]]


#: What makes block status more than a map: suspicion, layers, other files, subclusters.
NOTABLE = (
    "prealloc",
    "smaller",
    "larger",
    "raw",
    "deep",
    "data-file",
    "extended-l2",
    "fresh",
    "ext4",
)


@pytest.mark.parametrize(
    "variant",
    [v for v in VARIANTS if any(word in v.name for word in NOTABLE) and "encrypted" not in v.tags],
    ids=lambda variant: variant.name,
)
def test_variants(variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = variant.build(tmp_path)
    monkeypatch.chdir(path.parent)
    settle(tmp_path)
    with qcow.open(path) as image, open_chain(image, Gate.follow()) as chain:
        assert _lines(chain) == _theirs(path)


def test_raw_files(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(b"x" * 5000)
        file.seek(1 << 20)
        file.write(b"y" * 70_001)
    settle(tmp_path)
    with qcow.open(path, format="raw") as image, open_chain(image, Gate.closed()) as chain:
        assert _lines(chain) == _theirs(path, "-f", "raw")


def test_holes_of_a_preallocated_image(tmp_path: Path) -> None:
    """Data mapped out of order and partly written, in runs longer and shorter than the holes."""
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "64M")
    with qcow.open(path) as image:
        assert isinstance(image, qcow.Image)
        table = int(image.active.l1()[0]) & 0xFFFFFFFFFFFE00
    raw = bytearray(path.read_bytes())
    entries = [raw[at : at + 8] for at in range(table, table + 1024 * 8, 8)]
    entries[100:400] = entries[100:400][::-1]
    entries[500:600], entries[700:800] = entries[700:800], entries[500:600]
    with path.open("r+b") as file:
        file.seek(table)
        file.write(b"".join(entries))
        for number in range(0, 900, 7):  # dense enough to matter, sparse enough to stay suspect
            file.seek((8 + number) * 65536 + 4096)
            file.write(b"data")
        file.truncate(40 << 20)
    settle(tmp_path)
    with qcow.open(path) as image, open_chain(image, Gate.closed()) as chain:
        assert looks_preallocated(image)  # type: ignore[arg-type]
        ours = _lines(chain)
        assert ours == _theirs(path)
        assert len(ours) > 300
        window = ("-s", str(9 << 20), "-l", str(13 << 20))
        assert _lines(chain, 9 << 20, 13 << 20) == _theirs(path, *window)


def test_a_full_image_is_not_suspected(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=full", path, "8M")
    settle(tmp_path)
    with qcow.open(path) as image:
        assert not looks_preallocated(image)  # type: ignore[arg-type]

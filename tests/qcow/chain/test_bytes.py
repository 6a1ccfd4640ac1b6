"""Guest bytes and map of chains, beside qemu-img convert and qemu-img map."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from qcow.chain import Chain, LayerStatus
from qcow.disk import ExtentKind, extents_of
from qcow.image.mapping import merged
from qcow.storage.gate import Gate
from tests.oracle.catalogue.base import Build, noise, overlay, stripes, written
from tests.oracle.catalogue.chains import data_files, theme
from tests.qcow.chain.conftest import ChainOf
from tests.support.qemu import guest_bytes, parsed, qemu_img, qemu_io

pytestmark = pytest.mark.oracle

ALL = {variant.name: variant for variant in (*theme.variants, *data_files.variants)}


def _read_all(chain: Chain) -> bytes:
    return chain.read(0, chain.virtual_size)


def _assert_map_is_qemus(chain: Chain, path: Path) -> None:
    """Start, length, depth, presence and offset of every run are those of ``qemu-img map``."""
    theirs: list[dict[str, Any]] = [
        dict(entry) for entry in parsed(qemu_img("map", "--output=json", path).stdout)
    ]
    ours: list[dict[str, Any]] = []
    for batch in merged(chain.extents()):
        for extent in extents_of(batch):
            entry = {
                "start": extent.start,
                "length": extent.length,
                "depth": extent.depth,
                "present": extent.kind is not ExtentKind.UNALLOCATED,
            }
            if extent.host >= 0:
                entry["offset"] = extent.host
            ours.append(entry)
    assert _joined(ours) == _joined(
        [{k: v for k, v in entry.items() if k not in ("zero", "data")} for entry in theirs]
    )


def _joined(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours that continue each other as one (QEMU splits by zero and data as well)."""
    result: list[dict[str, Any]] = []
    for entry in entries:
        last = result[-1] if result else None
        if (
            last is not None
            and (last["depth"], last["present"]) == (entry["depth"], entry["present"])
            and ("offset" in last) == ("offset" in entry)
            and entry.get("offset", 0) == last.get("offset", -last["length"]) + last["length"]
        ):
            last["length"] += entry["length"]
        else:
            result.append(dict(entry))
    return result


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_chain(
    name: str, tmp_path: Path, chain_of: ChainOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ALL[name].build(tmp_path)
    monkeypatch.chdir(path.parent)  # QEMU looks for data files in the current folder
    theirs = guest_bytes(path)
    chain = chain_of(path)
    assert all(layer.status is LayerStatus.OK for layer in chain.layers)
    assert _read_all(chain) == theirs
    _assert_map_is_qemus(chain, path)
    chosen = random.Random(name)
    for _ in range(25):
        start = chosen.randrange(len(theirs))
        length = min(len(theirs) - start, chosen.choice((1, 511, 513, 70_001, 300_000)))
        assert chain.read(start, length) == theirs[start : start + length]


def _subclusters_through(folder: Path) -> Path:
    """Extended L2 on both layers; subclusters of one cluster come from three places."""
    written(folder / "base.qcow2", "4M", "extended_l2=on")
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "", "extended_l2=on")
    qemu_io(path, *stripes(3 << 20, 10 * 1024, every=4), "write -q -z 70k 10k", "discard -q 1M 64k")
    return path


def _mid_cuts_base(folder: Path) -> Path:
    """The base is larger than the layer between: what that one cuts off stays cut off."""
    noise(folder / "base.raw", 5, 3 << 20)
    overlay(folder / "mid.qcow2", "base.raw", "raw", "1M")
    return overlay(folder / "disk.qcow2", "mid.qcow2", "qcow2", "5M")


def _fine_over_coarse(folder: Path) -> Path:
    written(folder / "base.qcow2", "6M", "cluster_size=1M", unit=200_704)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "", "cluster_size=512")
    qemu_io(path, *stripes(5 << 20, 9 * 1024, every=2))
    return path


def _coarse_over_fine(folder: Path) -> Path:
    written(folder / "base.qcow2", "9M", "cluster_size=512", unit=3072, length=6 << 20)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "12M", "cluster_size=2M")
    qemu_io(path, "write -q -P 9 5M 10k", "write -q -z 0 2M")
    return path


def _far_gaps(folder: Path) -> Path:
    """Gaps farther apart than one walk through the base bridges."""
    written(folder / "base.qcow2", "200M")
    qemu_io(folder / "base.qcow2", "write -q -P 1 180M 1M", "write -q -P 2 199M 1M")
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(path, "write -q -z 1M 80M", "write -q -z 82M 98M", "write -q -P 7 190M 64k")
    return path


BUILT: dict[str, Build] = {
    "subclusters": _subclusters_through,
    "mid-cuts-base": _mid_cuts_base,
    "fine-over-coarse": _fine_over_coarse,
    "coarse-over-fine": _coarse_over_fine,
    "far-gaps": _far_gaps,
}


@pytest.mark.parametrize("name", BUILT)
def test_layers_that_interlock(name: str, tmp_path: Path, chain_of: ChainOf) -> None:
    path = BUILT[name](tmp_path)
    chain = chain_of(path)
    assert _read_all(chain) == guest_bytes(path)
    _assert_map_is_qemus(chain, path)


@pytest.mark.parametrize("seed", range(6))
def test_random_chains(seed: int, tmp_path: Path, chain_of: ChainOf) -> None:
    """Chains of three to five layers, cluster sizes, disk sizes and writes by chance."""
    chosen = random.Random(seed)
    size = chosen.randrange(1 << 11, 1 << 13) * 512
    noise(tmp_path / "base.raw", seed, size)
    below, fmt = "base.raw", "raw"
    for number in range(chosen.randrange(2, 5)):
        size = max(1 << 20, size + chosen.randrange(-2000, 2000) * 512)
        options = chosen.choice(
            ("cluster_size=512", "cluster_size=4k", "cluster_size=64k", "compat=0.10",
             "cluster_size=16k,extended_l2=on", "cluster_size=2M")
        )  # fmt: skip
        path = overlay(tmp_path / f"{number}.qcow2", below, fmt, str(size), options)
        commands = []
        for _ in range(40):
            at = chosen.randrange(size // 512 - 1) * 512
            length = min(size - at, chosen.randrange(1, 200) * 512)
            verb = chosen.choice(("write -q -P 1", "write -q -P 2", "write -q -z", "discard -q"))
            commands.append(f"{verb} {at} {length}")
        qemu_io(path, *commands)
        below, fmt = path.name, "qcow2"
    chain = chain_of(path, Gate.own_folder())
    assert _read_all(chain) == guest_bytes(path)
    _assert_map_is_qemus(chain, path)


def test_a_chain_of_forty(tmp_path: Path, chain_of: ChainOf) -> None:
    written(tmp_path / "0.qcow2", "4M")
    for number in range(1, 41):
        path = overlay(tmp_path / f"{number}.qcow2", f"{number - 1}.qcow2", "qcow2")
        qemu_io(path, f"write -q -P {number} {number * 90}k 5k")
    chain = chain_of(path, Gate.own_folder())
    assert len(chain.layers) == 41
    assert _read_all(chain) == guest_bytes(path)
    _assert_map_is_qemus(chain, path)


def test_snapshots_are_read_through_the_same_backing(tmp_path: Path, chain_of: ChainOf) -> None:
    path = ALL["backing-with-snapshots"].build(tmp_path)
    for identity in ("1", "2"):
        theirs = guest_bytes(path, identity)
        assert _read_all(chain_of(path, snapshot=identity)) == theirs
        chain = chain_of(path)
        image = chain.image
        view = chain.at_snapshot(image.find_snapshot(identity))  # type: ignore[union-attr]
        assert view.label == f"snapshot:{identity}"
        assert _read_all(view) == theirs


def test_a_view_from_a_lower_layer_is_that_image(tmp_path: Path, chain_of: ChainOf) -> None:
    path = ALL["backing-three-deep"].build(tmp_path)
    chain = chain_of(path)
    assert [layer.format for layer in chain.layers] == ["qcow2", "qcow2", "qcow2", "raw"]
    for index, layer in enumerate(chain.layers):
        assert layer.path is not None
        theirs = guest_bytes(Path(layer.path), fmt=layer.format or "")
        assert _read_all(chain.at_layer(index)) == theirs

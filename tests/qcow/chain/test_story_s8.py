"""Story S8, as far as looking goes: the base was moved, and an impostor lies next to it."""

from __future__ import annotations

from pathlib import Path

import pytest

import qcow
from qcow.chain import LayerStatus, coverage, dependents, layer_infos, open_chain
from qcow.disk import extents_of
from qcow.errors import ReferenceMissing
from qcow.findings import Severity
from qcow.inspect.compare import Mismatch, compare
from qcow.storage.gate import Gate
from tests.qcow.chain.conftest import ChainOf
from tests.support.images import sha256
from tests.support.qemu import guest_raw, qemu_img
from tests.support.stories import moved_base

pytestmark = pytest.mark.oracle

MIB = 1 << 20


def test_it_opens_and_says_what_is_missing(tmp_path: Path, chain_of: ChainOf) -> None:
    vm, moved, golden = moved_base(tmp_path)
    assert qemu_img("check", vm, check=False).returncode == 1, "the control: QEMU gives up"
    before = sha256(vm)
    with qcow.open(vm) as image:
        assert isinstance(image, qcow.Image)
        assert image.problems == ()
        assert image.virtual_size == 64 * MIB
    chain = chain_of(vm, Gate.own_folder())
    top, gone = layer_infos(chain, coverage(chain))
    assert (gone.status, gone.name) == (LayerStatus.MISSING, b"base.qcow2")
    assert gone.path == str(tmp_path / "base.qcow2")
    assert "No such file" in gone.reason
    (finding,) = chain.problems
    assert (finding.code, finding.severity) == ("QCOW-CHAIN-MISSING", Severity.ERROR)
    assert "base.qcow2" in finding.what
    # What is the overlay's own can still be had, and it is known how much is not.
    assert top.coverage is not None
    assert gone.coverage is not None
    assert (top.coverage.served, gone.coverage.served) == (2 * MIB, 62 * MIB)
    assert chain.read(8 * MIB, 2 * MIB) == golden[8 * MIB : 10 * MIB]
    with pytest.raises(ReferenceMissing, match=r"base\.qcow2"):
        chain.read(0, 512)
    runs = [run for batch in chain.runs() for run in extents_of(batch)]
    assert [(run.start, run.length, run.depth) for run in runs] == [
        (0, 8 * MIB, 1),
        (8 * MIB, 2 * MIB, 0),
        (10 * MIB, 54 * MIB, 1),
    ]
    assert sha256(vm) == before
    assert dependents(moved, [tmp_path, tmp_path / "moved"]).found == ()


@pytest.mark.parametrize("name", ["golden-base.qcow2", "impostor.qcow2"])
def test_relinked_by_qemu_only_the_right_base_gives_the_disk_back(
    name: str, tmp_path: Path
) -> None:
    vm, moved, golden = moved_base(tmp_path)
    (tmp_path / "before.raw").write_bytes(golden)
    qemu_img("rebase", "-u", "-b", f"moved/{name}", "-F", "qcow2", vm)
    with (
        qcow.open(vm) as image,
        qcow.open(tmp_path / "before.raw") as raw,
        open_chain(image, Gate.own_folder()) as chain,
        open_chain(raw, Gate.closed()) as expected,
    ):
        assert chain.absent is None
        result = compare(chain, expected)
        served = coverage(chain).layers[1].served_data
    if name == "golden-base.qcow2":
        assert result.identical
        assert served == 5 * MIB
        found = dependents(moved, [tmp_path]).found
        assert [(Path(d.path).name, d.distance) for d in found] == [("vm.qcow2", 1)]
    else:
        assert (result.mismatch, result.offset) == (Mismatch.CONTENT, 0)
        assert served == 0
        assert guest_raw(vm, tmp_path / "after.raw").read_bytes()[: 4 * MIB] == bytes(4 * MIB)


def test_a_wrong_stated_format_is_noticed(tmp_path: Path, chain_of: ChainOf) -> None:
    """Control: qemu-img rebase -u takes any format, and the guest then sees an image's inside."""
    vm, _, _ = moved_base(tmp_path)
    qemu_img("rebase", "-u", "-b", "moved/golden-base.qcow2", "-F", "raw", vm)
    chain = chain_of(vm, Gate.own_folder())
    codes = [finding.code for finding in chain.problems]
    assert "QCOW-CHAIN-FORMAT-DOUBTFUL" in codes
    assert "QCOW-CHAIN-BASE-SMALLER" in codes
    assert chain.read(0, 4) == b"QFI\xfb"

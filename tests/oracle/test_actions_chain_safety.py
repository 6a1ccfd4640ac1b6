"""What the actions on backing chains refuse, survive and give back; stories S7 and S8."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

import qcow
from qcow.actions import batch
from qcow.actions.base_evidence import candidates
from qcow.actions.commit import Commit, find_base
from qcow.actions.flatten import Flatten
from qcow.actions.history import Undo
from qcow.actions.rebase import Rebase
from qcow.actions.relink import Relink
from qcow.chain import open_chain
from qcow.edit.apply import Action, Preview, apply, plan
from qcow.edit.editor import Editor
from qcow.edit.lower import Lower
from qcow.errors import EditRefused, LockedError, NotFoundError, QcowError, VerificationError
from qcow.image.image import Image
from qcow.storage.base import Storage, WritableStorage
from qcow.storage.gate import Gate
from qcow.storage.writable import WritableFile, open_local_writable
from tests.oracle.catalogue.base import create, overlay
from tests.support.images import noise, qemu_check, sha256
from tests.support.live import nbd_server
from tests.support.qemu import guest_bytes, qemu_img, qemu_io
from tests.support.storages import Fault, FaultyStorage, Killed

pytestmark = pytest.mark.oracle

KIB, MIB = 1 << 10, 1 << 20
NEAR = Gate.own_folder()


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _do(path: Path, *actions: Action, gate: Gate = NEAR) -> Any:
    return apply(str(path), actions, gate=gate).plans


def _pair(folder: Path, base_format: str = "qcow2") -> tuple[Path, Path, bytes]:
    """(base, overlay, its disk): 2 MiB of which the overlay hides and changes some."""
    base = folder / "base.img"
    if base_format == "raw":
        base.write_bytes(noise(1, 2 * MIB))
    else:
        create(base, "2M", "cluster_size=4k")
        qemu_io(base, "write -q -P 0x11 0 1M")
    vm = overlay(folder / "vm.qcow2", "base.img", base_format, "3M", "cluster_size=4k")
    qemu_io(
        vm, "write -q -P 0x22 512k 300k", "write -q -z 100k 8k", "write -q -P 3 2500k 5k",
        "write -q -P 4 1023k 2k",
    )  # fmt: skip
    return base, vm, guest_bytes(vm)


# ---- killed


def _commit_killed(base: Path, vm: Path, in_base: int | None, in_top: int | None) -> str:
    """Commit with a kill at the given write of the base or of the overlay; where it struck.

    Without history, as if its folder could not be written: nothing but the two files counts.
    """
    with open_local_writable(base) as lower, open_local_writable(vm) as upper:
        never = 1 << 60
        below = FaultyStorage(lower, never if in_base is None else in_base, Fault.KILL_HALFWAY)
        above = FaultyStorage(upper, never if in_top is None else in_top, Fault.KILL_HALFWAY)

        def opened(depth: int) -> Lower:
            assert depth == 1
            return _lower(below)

        with Editor(Image(above), above, gate=NEAR) as editor:
            editor.open_below = opened
            try:
                Commit().run(editor)
            except Killed:
                return below.struck_at or above.struck_at
        return ""


def _lower(storage: WritableStorage) -> Lower:
    if storage.read(0, 4) != b"QFI\xfb":
        return Lower(storage, None)
    return Lower(storage, Editor(Image(storage), storage, gate=NEAR))


@pytest.mark.parametrize("base_format", ["qcow2", "raw"])
def test_a_commit_that_was_killed_is_run_again(
    base_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write: the disk is the same, both files are clean, and once more completes it."""
    monkeypatch.setattr(batch, "BATCH", 200 * KIB)
    base, vm, disk = _pair(tmp_path, base_format)
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in (base, vm):
        shutil.copy(file, kept / file.name)
    struck: list[str] = []
    for which in ("base", "top"):
        for number in itertools.count():
            for file in (base, vm):
                shutil.copy(kept / file.name, file)
            where = (number, None) if which == "base" else (None, number)
            at = _commit_killed(base, vm, *where)
            if not at:
                break
            struck.append(f"{which} {at}")
            assert guest_bytes(vm) == disk, (which, number)
            assert qemu_check(vm).code == 0, (which, number)
            if base_format == "qcow2":
                assert qemu_check(base).code == 0, (which, number)
            _do(vm, Commit())
            assert guest_bytes(vm) == guest_bytes(base, fmt=base_format) == disk
            assert qemu_check(vm).code == 0
    assert {"base write", "base flush", "top write", "top flush"} <= set(struck)
    assert len(struck) >= 12


# ---- a host that writes something else


@pytest.mark.parametrize("base_format", ["qcow2", "raw"])
def test_a_base_that_got_other_bytes_is_found_out_before_the_image_is_emptied(
    base_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the copies goes wrong, in whichever batch; once more, and it is right."""
    monkeypatch.setattr(batch, "BATCH", 100 * KIB)
    base, vm, disk = _pair(tmp_path, base_format)
    kept = base.read_bytes(), vm.read_bytes()
    real = WritableFile.copy
    for wrong in itertools.count():
        calls = itertools.count()

        def copy(
            self: WritableFile, source: Storage, source_offset: int, offset: int, length: int,
            calls: Any = calls, wrong: int = wrong,
        ) -> None:  # fmt: skip
            real(self, source, source_offset, offset, length)
            if next(calls) == wrong:
                at = offset + length // 2
                self.write(at, bytes([self.read(at, 1)[0] ^ 0x10]))

        base.write_bytes(kept[0])
        vm.write_bytes(kept[1])
        monkeypatch.setattr(WritableFile, "copy", copy)
        said = ""
        try:
            _do(vm, Commit())
        except VerificationError as error:
            said = str(error)
        finally:
            monkeypatch.setattr(WritableFile, "copy", real)
        if not said:
            break
        assert "was not emptied" in said
        assert vm.read_bytes() == kept[1]
        assert (guest_bytes(vm), qemu_check(vm).code) == (disk, 0)
        _do(vm, Commit())
        assert guest_bytes(vm) == disk
        assert base.read_bytes() == disk if base_format == "raw" else guest_bytes(base) == disk
    assert wrong >= 3


# ---- batches, undo


def test_a_long_commit_makes_several_switches_and_one_step_of_undo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH", 64 * KIB)
    base, vm, disk = _pair(tmp_path)
    before = guest_bytes(base)
    (done,) = _do(vm, Commit())
    assert done.outcome.facts["base-switches"] >= 5
    assert (guest_bytes(vm), guest_bytes(base)) == (disk, disk)
    _do(vm, Undo())
    assert guest_bytes(vm) == disk
    _do(base, Undo())
    assert (guest_bytes(vm), guest_bytes(base)) == (disk, before)
    assert (qemu_check(vm).code, qemu_check(base).code) == (0, 0)
    with pytest.raises(EditRefused, match="nothing to undo"):
        _do(base, Undo())


@pytest.mark.parametrize("action", [Flatten(), Rebase("other.qcow2", "qcow2")])
def test_a_long_rebase_makes_several_switches_and_one_step_of_undo(
    action: Action, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH", 64 * KIB)
    _, vm, disk = _pair(tmp_path)
    create(tmp_path / "other.qcow2", "1M")
    sector, said = vm.read_bytes()[:512], qemu_img("info", vm).stdout
    with qcow.open(vm) as image:
        assert isinstance(image, Image)
        planned = plan(action, image, gate=NEAR)
    (done,) = _do(vm, action)
    assert done.to_json() == planned.to_json()
    assert done.switches >= 3
    assert (guest_bytes(vm), qemu_check(vm).code) == (disk, 0)
    assert qemu_img("info", vm).stdout != said
    _do(vm, Undo())
    assert (guest_bytes(vm), qemu_check(vm).code) == (disk, 0)
    assert vm.read_bytes()[:512] == sector


def test_a_plan_shows_the_chain_as_it_would_be(tmp_path: Path) -> None:
    """After a planned commit the overlay is empty and the base, as planned, has the data."""
    base, vm, disk = _pair(tmp_path)
    marks = [sha256(base), sha256(vm)]
    with qcow.open(vm) as image, Preview(image, gate=NEAR) as preview:  # type: ignore[arg-type]
        preview.add(Commit())
        chain = preview.editor.chain()
        assert chain.virtual_size == len(disk) == chain.at_layer(1).virtual_size
        depths = {int(d) for batch in chain.runs() for d in batch.depth[batch.kind > 2]}
        assert depths == {1}
        again = preview.add(Commit())
        assert again.outcome.facts["copied"] == 0
        copied = preview.add(Flatten()).outcome.facts["copied"]
        assert copied > 0
    assert [sha256(base), sha256(vm)] == marks


# ---- whom a commit concerns


def test_story_s7_the_base_has_another_overlay(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", "16M")
    qemu_io(base, "write -q -P 0x11 0 8M")
    sites = [overlay(tmp_path / name, "base.qcow2", "qcow2") for name in ("webA", "webB")]
    qemu_io(sites[0], "write -q -P 0xaa 4M 1M")
    qemu_io(sites[1], "write -q -P 0xbb 6M 1M")
    child = overlay(tmp_path / "childA", "webA", "qcow2")
    golden = [guest_bytes(path) for path in (*sites, child)]
    with pytest.raises(EditRefused, match=r"webB.*[Ff]latten the siblings first \(qcowtui flatten"):
        _do(sites[0], Commit())
    (done,) = _do(sites[1], Flatten())
    assert done.outcome.changed_bytes == 0
    _do(sites[0], Commit())
    assert [guest_bytes(path) for path in (*sites, child)] == golden
    assert [qemu_check(path).code for path in (*sites, base)] == [0, 0, 0]


def test_dependents_may_be_allowed_to_change(tmp_path: Path) -> None:
    base, vm, disk = _pair(tmp_path)
    other = overlay(tmp_path / "other.qcow2", "base.img", "qcow2")
    (done,) = _do(vm, Commit(allow_dependents=True))
    assert "other.qcow2" in done.outcome.warnings[0]
    assert done.outcome.facts["dependents"] == [str(other)]
    assert guest_bytes(vm) == guest_bytes(base) == disk
    assert guest_bytes(other) == disk[: 2 * MIB]


def test_snapshots_of_the_overlay_that_would_change(tmp_path: Path) -> None:
    _, vm, disk = _pair(tmp_path)
    qemu_img("snapshot", "-c", "then", vm)
    qemu_io(vm, "write -q -P 9 0 4k")
    then, now = guest_bytes(vm, "1"), guest_bytes(vm)
    assert then == disk != now
    with pytest.raises(EditRefused, match='"then"'):
        _do(vm, Commit())
    with pytest.raises(EditRefused, match='"then"'):
        _do(vm, Flatten())
    assert (guest_bytes(vm), guest_bytes(vm, "1")) == (now, then)
    (done,) = _do(vm, Commit(allow_dependents=True))
    assert any('"then"' in warning for warning in done.outcome.warnings)
    assert guest_bytes(vm) == now
    assert guest_bytes(vm, "1") == now[: 4 * KIB] + then[4 * KIB :], "as qemu-img leaves it"
    assert qemu_check(vm).code == 0


def test_a_base_in_use(tmp_path: Path) -> None:
    base, vm, disk = _pair(tmp_path)
    with nbd_server(base, "-r"), pytest.raises(LockedError):
        _do(vm, Commit())
    assert guest_bytes(vm) == disk
    _do(vm, Commit())
    assert guest_bytes(base) == disk


def test_names_of_bases(tmp_path: Path) -> None:
    base, vm, _ = _pair(tmp_path)
    top = overlay(tmp_path / "top.qcow2", "vm.qcow2", "qcow2")
    with qcow.open(top) as image, open_chain(image, NEAR) as chain:
        assert find_base(chain, "vm.qcow2") == 1
        assert find_base(chain, "base.img") == find_base(chain, str(base)) == 2
        with pytest.raises(NotFoundError, match="Did not find 'x' in the backing chain of"):
            find_base(chain, "x")
    with pytest.raises(NotFoundError, match="no layer 3"):
        _do(top, Commit(3))
    with pytest.raises(EditRefused, match="does not have a backing file"):
        _do(base, Commit())
    assert vm.exists()


# ---- relink


def _story_s8(folder: Path) -> tuple[Path, Path, Path, bytes]:
    """(vm, golden base, impostor, disk), the base moved and the vm left without it."""
    base = create(folder / "base.qcow2", "16M")
    qemu_io(base, "write -q -P 0x11 0 4M", "write -q -P 0x22 12M 1M")
    vm = overlay(folder / "vm.qcow2", "base.qcow2", "qcow2")
    qemu_io(vm, "write -q -P 0x33 8M 1M")
    disk = guest_bytes(vm)
    (folder / "moved").mkdir()
    golden = base.rename(folder / "moved" / "golden-base.qcow2")
    return vm, golden, create(folder / "moved" / "impostor.qcow2", "16M"), disk


def test_story_s8_the_base_was_moved(tmp_path: Path) -> None:
    vm, golden, impostor, disk = _story_s8(tmp_path)
    (tmp_path / "moved" / "notes.txt").write_text("no image")
    with qcow.open(vm) as image:
        assert isinstance(image, Image)
        found = candidates(image, tmp_path / "moved")
    assert [one.path for one in found] == [str(golden), str(impostor)]
    assert found[0].name == "moved/golden-base.qcow2"
    assert not found[0].doubts
    assert any("empty" in doubt for doubt in found[1].doubts)
    with pytest.raises(EditRefused, match="empty where the image reads through it"):
        _do(vm, Relink("moved/impostor.qcow2", "qcow2"))
    _do(vm, Relink(found[0].name, found[0].format))
    assert guest_bytes(vm) == disk
    assert qemu_check(vm).code == 0
    qemu_img("info", "--backing-chain", vm)


@pytest.mark.parametrize(
    ("backing", "format", "why"),
    [
        ("moved/none.qcow2", "qcow2", "No such file"),
        ("moved/golden-base.qcow2", "raw", "stated to be raw, and by its first bytes it is qcow2"),
        ("moved/golden-base.qcow2", None, "State the format"),
        ("moved/text", "qcow2", "magic bytes are missing"),
        ("nbd://host/disk", "raw", "protocol"),
        (None, None, "what would be lost is unknown"),
    ],
)
def test_relink_refuses_unless_forced(
    backing: str | None, format: str | None, why: str, tmp_path: Path
) -> None:
    vm, *_ = _story_s8(tmp_path)
    (tmp_path / "moved" / "text").write_text("no image at all\n" * 100)
    before = sha256(vm)
    with pytest.raises(EditRefused, match=why):
        _do(vm, Relink(backing, format))
    assert sha256(vm) == before
    _do(vm, Relink(backing, format, force=True))
    with qcow.open(vm) as image:
        assert isinstance(image, Image)
        named = None if image.backing is None else image.backing.name
    assert named == (None if backing is None else backing.encode())


def test_relink_never_makes_a_circle(tmp_path: Path) -> None:
    base, vm, disk = _pair(tmp_path)
    link = tmp_path / "link.qcow2"
    link.symlink_to(vm)
    (tmp_path / "hard.qcow2").hardlink_to(vm)
    for name in ("vm.qcow2", "./vm.qcow2", "link.qcow2", "hard.qcow2"):
        with pytest.raises(EditRefused, match="is the image itself"):
            _do(vm, Relink(name, "qcow2", force=True))
    with pytest.raises(EditRefused, match="in a circle"):
        _do(base, Relink("vm.qcow2", "qcow2", force=True))
    with pytest.raises(EditRefused, match="in a circle"):
        _do(base, Rebase("vm.qcow2", "qcow2"))
    assert guest_bytes(vm) == disk


def test_relink_tells_what_would_read_differently(tmp_path: Path) -> None:
    _, vm, disk = _pair(tmp_path)
    twin = create(tmp_path / "twin.qcow2", "2M")
    qemu_io(twin, "write -q -P 0x11 0 1M")
    _do(vm, Relink("twin.qcow2", "qcow2"))  # the same bytes in another file
    assert guest_bytes(vm) == disk
    qemu_io(twin, "write -q -P 0x12 8k 1k", "write -q -P 0x12 600k 1k")
    disk = guest_bytes(vm)
    with pytest.raises(EditRefused, match="1 KiB would read differently"):
        _do(vm, Relink("base.img", "qcow2"))
    with qcow.open(vm) as image:
        assert isinstance(image, Image)
        planned = plan(Relink("base.img", "qcow2", force=True), image, gate=NEAR)
    assert planned.outcome.changed_bytes == 1024
    assert [(r.start, r.length) for r in planned.outcome.changed] == [(8 * KIB, 1024)]
    _do(vm, Relink("base.img", "qcow2", force=True))
    changed = guest_bytes(vm)
    assert changed == disk[: 8 * KIB] + b"\x11" * 1024 + disk[9 * KIB :]
    _do(vm, Undo())
    assert guest_bytes(vm) == disk


def test_a_smaller_base_needs_something_that_speaks_for_it(tmp_path: Path) -> None:
    """A grown overlay over a small base is common; what the base holds must make sense then."""
    small = create(tmp_path / "small.qcow2", "2M")
    qemu_io(small, "write -q -P 0x11 0 64k")
    vm = create(tmp_path / "vm.qcow2", "8M")
    qemu_img("rebase", "-u", "-b", "gone.qcow2", "-F", "qcow2", vm)
    with pytest.raises(EditRefused, match="ends before what the image reads through"):
        _do(vm, Relink("small.qcow2", "qcow2"))
    # The same base with an ext4 superblock on it.
    (tmp_path / "magic").write_bytes(b"\x53\xef")
    qemu_io(small, f"write -q -s {tmp_path / 'magic'} 1080 2")
    (done,) = _do(vm, Relink("small.qcow2", "qcow2"))
    assert any("ext2/3/4" in line for line in done.outcome.facts["evidence"])


def test_rebase_needs_both_bases(tmp_path: Path) -> None:
    vm, golden, *_ = _story_s8(tmp_path)
    with pytest.raises(QcowError, match=r"base\.qcow2"):
        _do(vm, Rebase(str(golden), "qcow2"))
    with pytest.raises(QcowError, match="No such file"):
        _do(vm, Rebase("none.qcow2", "qcow2"))
    with pytest.raises(QcowError, match=r"base\.qcow2"):
        _do(vm, Flatten())
    with pytest.raises(EditRefused, match="State the format"):
        _do(vm, Rebase(str(golden)))

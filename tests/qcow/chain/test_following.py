"""What becomes a layer, what does not, and what is said about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qcow
from qcow.chain import MAX_DEPTH, MAX_DEPTH_FOLLOW, Chain, LayerStatus, layer_infos, open_chain
from qcow.errors import (
    EncryptedError,
    GuestDataError,
    NotFoundError,
    ReferenceMissing,
    ReferenceRefused,
    UsageError,
)
from qcow.findings import Severity
from qcow.storage.gate import Gate
from qcow.storage.locks import LockMode
from qcowtui.samples.builder import ImageBuilder
from tests.oracle.catalogue.base import noise, overlay, written
from tests.qcow.chain.conftest import ChainOf
from tests.support.images import patch
from tests.support.live import nbd_server
from tests.support.opens import opened_files
from tests.support.qemu import create_encrypted, guest_bytes, qemu_img, qemu_io

CLUSTER = 65536


def _image(path: Path, below: str | bytes | None = None, fmt: str | None = "qcow2") -> Path:
    """Four clusters: 0 is this file's own (filled with its name's first letter), the others not."""
    builder = ImageBuilder(virtual_size=4 * CLUSTER)
    builder.data(0, path.name[:1].encode() * CLUSTER)
    if below is not None:
        builder.backing(below, fmt)
    return builder.write(path)


def _codes(chain: Chain) -> list[str]:
    return [finding.code for finding in chain.problems]


def _last(chain: Chain) -> tuple[LayerStatus, str]:
    return chain.layers[-1].status, chain.layers[-1].reason


def test_a_closed_gate_reads_what_needs_no_other_file(tmp_path: Path, chain_of: ChainOf) -> None:
    _image(tmp_path / "base")
    path = _image(tmp_path / "top", "base")
    with opened_files() as opened:
        chain = chain_of(path, Gate.closed())
        assert chain.read(0, CLUSTER) == b"t" * CLUSTER
        with pytest.raises(ReferenceRefused, match=r"0x10000 to 0x20001 of .*top.*--follow"):
            chain.read(0, 2 * CLUSTER + 1)
        with pytest.raises(ReferenceRefused):
            list(chain.extents())
        assert opened.besides(path) == []
    status, reason = _last(chain)
    assert status is LayerStatus.REFUSED
    assert "--follow" in reason
    assert chain.layers[1].name == b"base"
    assert chain.layers[1].path == str(tmp_path / "base")
    assert _codes(chain) == ["QCOW-CHAIN-REFUSED"]
    assert chain.problems[0].severity is Severity.INFO
    assert chain.absent == 1
    batch = next(chain.runs())
    assert batch.depth.tolist() == [0, 1]
    assert batch.length.tolist() == [CLUSTER, 3 * CLUSTER]


def test_a_missing_base_is_a_finding_and_an_error_only_where_needed(
    tmp_path: Path, chain_of: ChainOf
) -> None:
    chain = chain_of(_image(tmp_path / "top", "gone"))
    assert _codes(chain) == ["QCOW-CHAIN-MISSING"]
    assert chain.read(100, 200) == b"t" * 200
    with pytest.raises(ReferenceMissing, match="gone"):
        chain.read(0, CLUSTER + 1)
    with pytest.raises(ReferenceMissing, match="Layer 1"):
        chain.at_layer(1)


def test_relative_names_belong_to_the_image_that_says_them(
    tmp_path: Path, chain_of: ChainOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "golden" / "raw").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "golden" / "raw" / "root").write_bytes(b"r" * 4 * CLUSTER)
    _image(tmp_path / "golden" / "mid", "raw/root", "raw")
    _image(tmp_path / "top", "golden/mid")
    monkeypatch.chdir(tmp_path / "elsewhere")
    chain = chain_of(Path("../top"), Gate.own_folder())
    assert chain.read(0, 2 * CLUSTER) == b"t" * CLUSTER + b"r" * CLUSTER
    assert [layer.path for layer in chain.layers] == [
        "../top",
        "../golden/mid",
        "../golden/raw/root",
    ]
    assert chain.problems == ()


@pytest.mark.parametrize("kind", ["self", "hard link", "two", "three", "symbolic link"])
def test_circles_end(kind: str, tmp_path: Path, chain_of: ChainOf) -> None:
    names = {"two": ["b"], "three": ["b", "c"]}.get(kind, [])
    below = {"self": "./top", "hard link": "hard", "symbolic link": "soft"}.get(kind, "b")
    top = _image(tmp_path / "top", below)
    for name, under in zip(names, [*names, "top"][1:], strict=True):
        _image(tmp_path / name, under)
    if kind == "hard link":
        os.link(top, tmp_path / "hard")
    if kind == "symbolic link":
        (tmp_path / "soft").symlink_to("top")
    chain = chain_of(top)
    assert len(chain.layers) == len(names) + 2
    assert chain.layers[-1].status is LayerStatus.CYCLIC
    assert _codes(chain)[-1] == "QCOW-CHAIN-CYCLIC"
    assert chain.read(0, CLUSTER) == b"t" * CLUSTER
    with pytest.raises(ReferenceMissing, match="already stands above it"):
        chain.read(3 * CLUSTER, 512)


def test_depth_is_bounded(tmp_path: Path, chain_of: ChainOf) -> None:
    _image(tmp_path / "0")
    for number in range(1, 300):
        _image(tmp_path / str(number), str(number - 1))
    chain = chain_of(tmp_path / str(MAX_DEPTH), Gate.own_folder())
    assert len(chain.layers) == MAX_DEPTH + 1
    assert chain.absent is None
    chain = chain_of(tmp_path / str(MAX_DEPTH + 1), Gate.own_folder())
    assert len(chain.layers) == MAX_DEPTH + 2
    assert _last(chain)[0] is LayerStatus.TOO_DEEP
    assert _codes(chain) == ["QCOW-CHAIN-TOO-DEEP"]
    with pytest.raises(ReferenceMissing, match="64 backing files"):
        chain.read(2 * CLUSTER, 1)
    chain = chain_of(tmp_path / str(MAX_DEPTH_FOLLOW))
    assert chain.absent is None
    assert chain.read(0, 4 * CLUSTER) == b"2" * CLUSTER + bytes(3 * CLUSTER)
    chain = chain_of(tmp_path / "299")
    assert _last(chain)[0] is LayerStatus.TOO_DEEP
    assert len(chain.layers) == MAX_DEPTH_FOLLOW + 2


def test_stated_qcow2_that_is_none(tmp_path: Path, chain_of: ChainOf) -> None:
    (tmp_path / "base").write_bytes(bytes(4 * CLUSTER))
    chain = chain_of(_image(tmp_path / "top", "base"))
    assert _last(chain)[0] is LayerStatus.WRONG_FORMAT
    assert _codes(chain) == ["QCOW-CHAIN-WRONG-FORMAT"]
    with pytest.raises(ReferenceMissing, match="magic"):
        chain.read(CLUSTER, 1)


def test_raw_means_bytes_and_is_never_probed(tmp_path: Path, chain_of: ChainOf) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 10000)
    base = _image(tmp_path / "base", "secret", "raw")
    path = _image(tmp_path / "top", "base", "raw")
    with opened_files() as opened:
        chain = chain_of(path)
        assert chain.read(CLUSTER, CLUSTER) == base.read_bytes()[CLUSTER : 2 * CLUSTER]
        assert "secret" not in opened.names()
    assert [layer.format for layer in chain.layers] == ["qcow2", "raw"]
    assert "QCOW-CHAIN-FORMAT-DOUBTFUL" in _codes(chain)
    finding = chain.problems[0]
    assert finding.severity is Severity.WARNING
    assert "qcow2" in finding.what


def test_a_guessed_format_leads_no_further(tmp_path: Path, chain_of: ChainOf) -> None:
    """A guest writes a header with a backing name into its raw disk; the overlay states nothing."""
    (tmp_path / "secret").write_bytes(b"secret" * 50000)
    _image(tmp_path / "base", "secret", "raw")
    path = _image(tmp_path / "top", "base", None)
    chain = chain_of(path, Gate.own_folder())
    assert _last(chain)[0] is LayerStatus.REFUSED  # unasked, no format is guessed
    assert len(chain.layers) == 2
    with opened_files() as opened:
        chain = chain_of(path)
        assert "secret" not in opened.names()
    assert _codes(chain) == ["QCOW-CHAIN-FORMAT-GUESSED", "QCOW-CHAIN-REFUSED"]
    assert len(chain.layers) == 3
    assert chain.at_layer(1).read(0, CLUSTER) == b"b" * CLUSTER
    with pytest.raises(ReferenceRefused, match="was guessed"):
        chain.read(CLUSTER, 1)


def test_an_unstated_raw_base_is_readable_when_granted(tmp_path: Path, chain_of: ChainOf) -> None:
    (tmp_path / "base").write_bytes(b"x" * 4 * CLUSTER)
    chain = chain_of(_image(tmp_path / "top", "base", None))
    assert chain.read(CLUSTER - 1, 2) == b"tx"
    assert _codes(chain) == ["QCOW-CHAIN-FORMAT-GUESSED"]


@pytest.mark.parametrize("fmt", ["vmdk", "nonsense", "\x1b[31m"])
def test_other_formats_are_named_not_read(fmt: str, tmp_path: Path, chain_of: ChainOf) -> None:
    (tmp_path / "base").write_bytes(b"KDMV" + bytes(CLUSTER))
    chain = chain_of(_image(tmp_path / "top", "base", fmt))
    assert _last(chain)[0] is LayerStatus.UNSUPPORTED
    assert _codes(chain) == ["QCOW-CHAIN-UNSUPPORTED"]
    assert "\x1b" not in chain.problems[0].what


def test_a_damaged_base_is_a_layer_without_a_disk(tmp_path: Path, chain_of: ChainOf) -> None:
    _image(tmp_path / "root")
    base = _image(tmp_path / "base", "root")
    patch(base, 36, b"\x7f\xff\xff\xff")  # l1_size
    chain = chain_of(_image(tmp_path / "top", "base"))
    assert [layer.status for layer in chain.layers] == [
        LayerStatus.OK,
        LayerStatus.DAMAGED,
        LayerStatus.OK,
    ]
    assert "QCOW-CHAIN-DAMAGED" in _codes(chain)
    assert chain.read(0, CLUSTER) == b"t" * CLUSTER
    with pytest.raises(ReferenceMissing, match="L1 table"):
        chain.read(CLUSTER, 1)
    assert chain.at_layer(2).read(0, 1) == b"r"


def test_a_damaged_top_keeps_its_chain(tmp_path: Path, chain_of: ChainOf) -> None:
    _image(tmp_path / "base")
    top = _image(tmp_path / "top", "base")
    patch(top, 36, b"\x7f\xff\xff\xff")
    chain = chain_of(top)
    assert [layer.status for layer in chain.layers] == [LayerStatus.DAMAGED, LayerStatus.OK]
    with pytest.raises(GuestDataError, match="L1 table"):
        chain.read(0, 1)
    with pytest.raises(GuestDataError):
        list(chain.runs())
    assert chain.virtual_size == 4 * CLUSTER


def test_sizes_and_times_are_compared(tmp_path: Path, chain_of: ChainOf) -> None:
    (tmp_path / "small").write_bytes(b"s" * 700)
    (tmp_path / "large").write_bytes(b"l" * 6 * CLUSTER)
    for name, code in (("small", "QCOW-CHAIN-BASE-SMALLER"), ("large", "QCOW-CHAIN-BASE-LARGER")):
        path = _image(tmp_path / f"on-{name}", name, "raw")
        chain = chain_of(path)
        assert _codes(chain) == [code]
        assert chain.problems[0].severity is Severity.INFO
        later = path.stat().st_mtime_ns + 3 * 86400 * 10**9
        os.utime(tmp_path / name, ns=(later, later))
        chain = chain_of(path)
        assert _codes(chain) == [code, "QCOW-CHAIN-BASE-NEWER"]
        assert "3 days later" in chain.problems[1].what
    assert chain_of(tmp_path / "on-small").read(CLUSTER - 1, 3) == b"o\0\0"


@pytest.mark.oracle
def test_data_files_go_through_the_gate(
    tmp_path: Path, chain_of: ChainOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=disk.data", path, "1M")
    qemu_io(path, "write -q -P 7 128k 64k", "write -q -z 256k 64k")
    with opened_files() as opened:
        chain = chain_of(path, Gate.own_folder())
        assert opened.besides(path) == []
    assert _codes(chain) == ["QCOW-CHAIN-DATA-FILE-REFUSED"]
    assert len(list(chain.extents())) == 1  # the map needs no data
    assert chain.read(0, 128 << 10) == bytes(128 << 10)
    with pytest.raises(ReferenceRefused, match=r"disk\.data.*--follow"):
        chain.read(128 << 10, 1)
    with chain_of(path) as whole:
        assert whole.layers[0].data_file is not None
        assert whole.read(0, 1 << 20) == guest_bytes(path)
    (tmp_path / "disk.data").unlink()
    chain = chain_of(path)
    assert _codes(chain) == ["QCOW-CHAIN-DATA-FILE-MISSING"]
    with pytest.raises(ReferenceMissing, match=r"disk\.data"):
        chain.read(128 << 10, 1)
    os.link(path, tmp_path / "disk.data")
    chain = chain_of(path)
    assert chain.layers[0].data_file_status is LayerStatus.CYCLIC
    with pytest.raises(ReferenceMissing, match="itself"):
        chain.read(128 << 10, 1)


@pytest.mark.oracle
def test_a_base_that_somebody_writes(tmp_path: Path, chain_of: ChainOf) -> None:
    base = written(tmp_path / "base.qcow2", "2M")
    path = overlay(tmp_path / "top.qcow2", "base.qcow2", "qcow2")
    with nbd_server(base):
        chain = chain_of(path)
        assert _last(chain)[0] is LayerStatus.IN_USE
        assert "lock" in _last(chain)[1]
        assert "\n" not in _last(chain)[1]
        with pytest.raises(ReferenceMissing, match="lock"):
            chain.read(0, 1)
        shared = chain_of(path, lock=LockMode.FORCE_SHARE)
        assert shared.absent is None
        assert shared.read(8704, 512) == b"\x02" * 512


@pytest.mark.oracle
def test_our_locks_on_the_base_keep_writers_out_until_closed(
    tmp_path: Path, chain_of: ChainOf
) -> None:
    base = written(tmp_path / "base.qcow2", "2M")
    path = overlay(tmp_path / "top.qcow2", "base.qcow2", "qcow2")
    chain = chain_of(path)
    refused = qemu_img("resize", "-q", base, "3M", check=False)
    assert refused.returncode == 1
    assert b'"write" lock' in refused.stderr
    chain.close()
    qemu_img("resize", "-q", base, "3M")
    assert chain.image.storage.read(0, 4) == b"QFI\xfb", "the top stays open"


@pytest.mark.oracle
def test_ciphertext_of_a_base_is_never_data(tmp_path: Path, chain_of: ChainOf) -> None:
    base = tmp_path / "base.qcow2"
    create_encrypted(base, "1M")
    qemu_io(base, "write -q -P 1 0 64k", key="luks")
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.backing("base.qcow2")
    chain = chain_of(builder.write(tmp_path / "top.qcow2"))
    with pytest.raises(EncryptedError):
        chain.read(0, 512)
    assert chain.read(CLUSTER, CLUSTER) == bytes(CLUSTER)


def test_hostile_names_are_never_shown_raw(tmp_path: Path, chain_of: ChainOf) -> None:
    for name in (b"\x1b]0;x\x07", b"a\x00b", b"json:{}", b"nbd://x/\x9b", b"\xe2\x80\xae.wocq"):
        path = _image(tmp_path / "top", name)
        chain = chain_of(path)
        path.unlink()
        assert chain.layers[-1].disk is None
        texts = [chain.layers[-1].reason, chain.layers[-1].shown]
        texts += [finding.what for finding in chain.problems]
        for text in texts:
            assert text.isprintable(), text
            assert "\u202e" not in text


def test_ranges_beyond_the_disk_are_a_usage_error(tmp_path: Path, chain_of: ChainOf) -> None:
    chain = chain_of(_image(tmp_path / "top"))
    with pytest.raises(UsageError):
        chain.read(4 * CLUSTER - 1, 2)
    with pytest.raises(UsageError):
        chain.read(0, 1 << 60)
    assert chain.read(4 * CLUSTER, 0) == b""
    with pytest.raises(NotFoundError, match="no layer 7"):
        chain.at_layer(7)


def test_a_raw_top_is_a_chain_of_one(tmp_path: Path, chain_of: ChainOf) -> None:
    path = noise(tmp_path / "disk.raw", 3, 5000)
    chain = chain_of(path)
    assert chain.virtual_size == 5120
    assert chain.read(0, 5120) == path.read_bytes() + bytes(120)
    with pytest.raises(NotFoundError, match="raw"):
        chain.at_snapshot(None)  # type: ignore[arg-type]


def test_layer_infos_read_nothing_large(tmp_path: Path, chain_of: ChainOf) -> None:
    _image(tmp_path / "base", "gone")
    chain = chain_of(_image(tmp_path / "top", "base"))
    top, base, gone = layer_infos(chain)
    assert (top.depth, top.format, top.virtual_size) == (0, "qcow2", 4 * CLUSTER)
    assert base.file_length == (tmp_path / "base").stat().st_size
    assert base.disk_size == (tmp_path / "base").stat().st_blocks * 512
    assert (gone.status, gone.format, gone.file_length) == (LayerStatus.MISSING, None, None)
    assert "gone" in gone.reason


def test_following_loads_no_numpy(tmp_path: Path) -> None:
    _image(tmp_path / "base")
    path = _image(tmp_path / "top", "base")
    code = (
        "import sys, qcow\n"
        "from qcow.chain import layer_infos, open_chain\n"
        "from qcow.storage.gate import Gate\n"
        "with open_chain(qcow.open(sys.argv[1]), Gate.follow()) as chain:\n"
        "    print([info.format for info in layer_infos(chain)])\n"
        "print([name for name in ('numpy', 'rich', 'textual') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["['qcow2', 'qcow2']", "[]"]


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Also when following ends in the middle."""
    _image(tmp_path / "root", "gone")
    _image(tmp_path / "base", "root")
    path = _image(tmp_path / "top", "base")
    before = len(os.listdir("/proc/self/fd"))
    with qcow.open(path) as image:
        chain = open_chain(image, Gate.follow())
        assert len(os.listdir("/proc/self/fd")) == before + 3
        chain.close()
        chain.close()
        assert len(os.listdir("/proc/self/fd")) == before + 1

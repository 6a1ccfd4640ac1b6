"""``check``, what comes without a verb, ``snapshot`` and ``demo``."""

from __future__ import annotations

from pathlib import Path

from qcowtui.samples.damage import leak_clusters, lower_refcounts, mark_dirty
from tests.cli.asking import CLUSTER, as_json, as_text
from tests.support.cli import qcowtui
from tests.support.images import small_builder


def test_check_explains_on_stderr_and_counts_on_stdout(tmp_path: Path) -> None:
    image = small_builder(snapshot=False).build()
    leak_clusters(image, 3)
    path = image.save(tmp_path / "leaks.qcow2")
    ended = qcowtui("check", path)
    assert ended.code == 3
    assert ended.stdout.startswith(b"\n3 leaked clusters were found on the image.\n")
    assert b"LEAK QCOW-LEAK" in ended.stderr
    quiet = qcowtui("check", "-q", path)
    assert (quiet.code, quiet.stdout, quiet.stderr) == (3, b"", b"")
    found = as_json("check", path, code=3)
    assert found["leaks"] == 3
    (finding,) = found["findings"]
    assert (finding["severity"], finding["count"]) == ("leak", 3)
    assert sum(place["length"] for place in finding["host-ranges"]) == 3 * CLUSTER
    assert list(found)[-1] == "findings"


def test_overview_ends_with_the_code_of_check(small: Path, tmp_path: Path) -> None:
    said = as_text(small)
    for part in ("image: ", "virtual size: ", "Reclaimable", "No errors were found on the image."):
        assert part in said
    damaged = small_builder(snapshot=False).build()
    lower_refcounts(damaged, [3])
    path = damaged.save(tmp_path / "damaged.qcow2")
    ended = qcowtui(path)
    assert ended.code == 2
    assert b"CORRUPTION QCOW-REFCOUNT-" in ended.stdout


def test_overview_explains_an_unclean_image_calmly(tmp_path: Path) -> None:
    image = small_builder(lazy_refcounts=True, snapshot=False).build()
    lower_refcounts(image, [3])
    mark_dirty(image)
    said = qcowtui(image.save(tmp_path / "unclean.qcow2")).stdout.decode()
    assert "cleanly shut down: no" in said
    assert "Not cleanly shut down: refcounts are out of date; guest data and mappings" in said
    assert "Data may be corrupted" not in said


def test_overview_of_a_raw_image(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(4096))
    ended = qcowtui(raw)
    assert ended.code == 63
    assert b"file format: raw" in ended.stdout


def test_overview_of_an_image_that_qemu_refuses(tmp_path: Path) -> None:
    image = tmp_path / "broken.qcow2"
    data = bytearray(small_builder().write(tmp_path / "sound.qcow2").read_bytes())
    data[4:8] = (7).to_bytes(4, "big")
    image.write_bytes(data)
    ended = qcowtui(image)
    assert ended.code == 1
    assert b"QCOW-HEADER-VERSION" in ended.stdout
    assert ended.stderr == b""


def test_snapshots_as_json_are_those_of_info(small: Path, tmp_path: Path) -> None:
    assert as_json("snapshot", "-l", small) == as_json("info", small)["snapshots"]
    empty = small_builder(snapshot=False).write(tmp_path / "none.qcow2")
    assert as_json("snapshot", empty) == []
    assert as_text("snapshot", "-l", empty) == ""


def test_demo_writes_its_samples(tmp_path: Path) -> None:
    found = as_json("demo", tmp_path / "samples")
    assert found["folder"] == str(tmp_path / "samples")
    names = [Path(name) for name in found["images"]]
    assert all(name.is_file() for name in names)
    before = {name: name.stat().st_mtime_ns for name in names}
    assert as_text("demo", "-w", tmp_path / "samples").splitlines() == found["images"]
    assert {name: name.stat().st_mtime_ns for name in names} == before
    codes = {name.name: qcowtui("check", "-q", name).code for name in names}
    assert {0, 2, 3} <= set(codes.values())
    assert qcowtui("audit", names[-1]).code == 1

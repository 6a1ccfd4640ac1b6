"""``header``: every field, of any file that begins like a qcow2 image."""

from __future__ import annotations

from pathlib import Path

from tests.cli.asking import as_json, as_text
from tests.support.cli import qcowtui
from tests.support.images import small_builder


def test_header_fields_are_what_the_file_holds(small: Path) -> None:
    data = small.read_bytes()
    found = as_json("header", small)
    assert [field["name"] for field in found["fields"]][:3] == [
        "magic",
        "version",
        "backing_file_offset",
    ]
    assert len(found["fields"]) == 19
    for field in found["fields"]:
        stored = data[field["offset"] : field["offset"] + field["size"]]
        assert bytes.fromhex(field["raw"]) == stored
        assert field["value"] == int.from_bytes(stored, "big")
    assert found["findings"] == []


def test_header_of_version_2_ends_earlier(tmp_path: Path) -> None:
    image = small_builder(version=2).write(tmp_path / "old.qcow2")
    names = [field["name"] for field in as_json("header", image)["fields"]]
    assert names[-1] == "snapshots_offset"
    assert "compat 0.10" in as_text("header", image)


def test_header_of_an_image_that_qemu_refuses(tmp_path: Path) -> None:
    image = tmp_path / "broken.qcow2"
    data = bytearray(small_builder().write(tmp_path / "sound.qcow2").read_bytes())
    data[20:24] = (63).to_bytes(4, "big")
    image.write_bytes(data)
    refused = qcowtui("info", image)
    assert (refused.code, refused.stdout) == (1, b"")
    assert f"`qcowtui header {image}`" in refused.stderr.decode()
    found = as_json("header", image)
    assert [finding["code"] for finding in found["findings"]] == ["QCOW-CLUSTER-SIZE"]
    assert found["fields"][4]["value"] == 63
    assert "impossible: 9 (512 B) to 21 (2 MiB) are" in as_text("header", image)


def test_header_cut_off(tmp_path: Path) -> None:
    image = tmp_path / "cut.qcow2"
    image.write_bytes(small_builder().write(tmp_path / "sound.qcow2").read_bytes()[:60])
    fields = {field["name"]: field for field in as_json("header", image)["fields"]}
    assert fields["refcount_table_offset"]["raw"] is not None
    assert fields["nb_snapshots"]["raw"] is None
    assert fields["nb_snapshots"]["value"] is None
    assert "cut off by the end of the file" in as_text("header", image)


def test_header_names_what_nobody_knows(tmp_path: Path) -> None:
    builder = small_builder()
    builder.extension(0x12345678, b"\x1b[2Jdata")
    said = as_text("header", builder.write(tmp_path / "odd.qcow2"))
    assert "unknown 0x12345678" in said
    assert "starts with 1b 5b 32 4a" in said
    assert "QCOW-EXT-UNKNOWN" in said


def test_header_is_about_qcow2(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(4096))
    for verb in ("header", "space", "clusters", "fragmentation"):
        ended = qcowtui(verb, raw)
        assert (ended.code, ended.stdout) == (1, b"")
        assert b"is a raw image; this question is about qcow2 images" in ended.stderr

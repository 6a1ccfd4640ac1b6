"""The header in words, against what the builder put in and what qemu-img says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.damage import leak_clusters, mark_corrupt, mark_dirty
from qcowtui.views.breakdown import breakdown
from qcowtui.views.header_fields import Field
from qcowtui.views.header_view import header_sections
from qcowtui.views.session import Session
from qcowtui.views.tones import Tone
from qcowtui.views.units import size
from qcowtui.views.work import CHAIN, CHECK, HOST_MAP, SHARING

from ..support.images import patch, small_builder, small_image
from ..support.qemu import create_encrypted, qemu_img
from .opened import opened

HOSTILE = b"\x1b[2J[@click=app.quit]x[/]\xe2\x80\xae\n"


def fields(session: Session) -> dict[str, Field]:
    return {field.label: field for section in header_sections(session) for field in section.fields}


def section_keys(session: Session) -> list[str]:
    return [section.key for section in header_sections(session)]


def test_the_four_sizes(tmp_path: Path) -> None:
    builder = small_builder()
    builder.trail(5)
    path = builder.write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP) as session:
        found = fields(session)
        disk = builder.model.virtual_size
        assert found["Virtual size"].value == size(disk)
        assert found["Virtual size"].doc == f"{disk:,} bytes."
        assert found["File length"].value == size(path.stat().st_size)
        assert found["Disk size"].value == size(path.stat().st_blocks * 512)
        end = path.stat().st_size - 5 * 65536
        assert found["Image end"].value == size(end)
        assert "320 KiB behind it hold nothing" in found["Image end"].doc
        assert found["Image end"].tone is Tone.PLAIN
        # Before the snapshots were compared nobody knows how much they keep.
        assert found["Can grow to"].value == "not read yet"


@pytest.mark.parametrize("cluster_bits", [9, 16, 21])
def test_can_grow_to_is_what_qemu_measures_plus_what_snapshots_keep(
    tmp_path: Path, cluster_bits: int
) -> None:
    builder = ImageBuilder(virtual_size=64 << 20, cluster_bits=cluster_bits)
    builder.data(3, b"before")
    builder.snapshot("one")
    builder.data(3, b"after")
    path = builder.write(tmp_path / "a.qcow2")
    options = f"cluster_size={1 << cluster_bits}"
    told = qemu_img(
        "measure", "--output=json", "-O", "qcow2", "-o", options, "--size", str(64 << 20)
    )
    full = json.loads(told.stdout)["fully-allocated"]
    snapshot = builder.model.snapshots[0]
    kept = len(builder.model.state_references(snapshot)) << cluster_bits
    with opened(path, HOST_MAP, SHARING) as session:
        found = fields(session)["Can grow to"]
        assert found.doc.startswith(f"{full + kept:,} bytes")
        assert f"{size(kept)} that snapshots keep" in found.doc


def test_space_adds_up_and_tells_what_is_reclaimable(tmp_path: Path) -> None:
    builder = small_builder(snapshot=False)
    builder.skip(4)
    builder.data(25, b"behind a gap")
    builder.trail(3)
    image = builder.build()
    leaked_at = next(
        c for c in range(image.nb_clusters) if not image.refcount(c) and image.refcount(c + 1) == 0
    )
    leak_clusters(image, 2, leaked_at)
    path = image.save(tmp_path / "a.qcow2")
    with opened(path) as session:
        assert breakdown(session) is None
    with opened(path, HOST_MAP) as session:
        early = breakdown(session)
    with opened(path, HOST_MAP, SHARING) as session:
        found = breakdown(session)
    assert found == early
    assert found is not None
    assert found.file_length == path.stat().st_size
    assert sum(share.size for share in found.shares) == found.file_length
    assert found.leaked == 2 * 65536
    assert found.beyond_end == 3 * 65536
    assert found.free_inside >= 2 * 65536
    assert found.reclaimable == found.beyond_end + found.free_inside
    labels = {share.label: share.size for share in found.shares}
    assert labels["Leaked"] == found.leaked
    assert labels["Zero, reserved"] == 2 * 65536
    assert "Corrupt" not in labels


def test_format_and_version(tmp_path: Path) -> None:
    with opened(small_image(tmp_path, "v3.qcow2", extended_l2=True, compression="zstd")) as one:
        found = fields(one)
        assert (found["Format"].value, found["Format"].gloss) == ("qcow2 v3", "compat 1.1")
        assert found["Clusters"].value == "64 KiB"
        assert found["Refcounts"].value == "16 bit"
        assert found["Compression"].value == "zstd"
        assert found["Subclusters"].value == "2 KiB"
        assert found["Encryption"].value == "none"
        assert found["extended L2 entries"].tone is Tone.PLAIN
        assert "encryption" not in section_keys(one)
    with opened(small_image(tmp_path, "v2.qcow2", version=2)) as two:
        found = fields(two)
        assert (found["Format"].value, found["Format"].gloss) == ("qcow2 v2", "compat 0.10")
        assert "Subclusters" not in found


def test_features_in_words(tmp_path: Path) -> None:
    image = small_builder(lazy_refcounts=True).build()
    mark_dirty(image)
    mark_corrupt(image)
    at = {name: image.header(f"{name}_features") for name in ("incompatible", "autoclear")}
    image.set_header("incompatible_features", at["incompatible"] | 1 << 40)
    image.set_header("autoclear_features", at["autoclear"] | 1 << 9)
    with opened(image.save(tmp_path / "a.qcow2")) as session:
        found = fields(session)
        assert found["dirty bit"].tone is Tone.WARNING
        assert "Mappings are intact" in found["dirty bit"].doc
        assert found["corrupt bit"].tone is Tone.BAD
        assert found["lazy refcounts"].value == "compatible"
        assert found["unknown bit 40"].gloss == "unknown: QEMU refuses"
        assert found["unknown bit 40"].tone is Tone.BAD
        assert found["unknown bit 9"].tone is Tone.NOTE


def test_bitmaps_say_whether_they_count(tmp_path: Path) -> None:
    builder = small_builder()
    builder.bitmap("fine", granularity_bits=16)
    builder.bitmap("lost", in_use=True, granularity_bits=15)
    image = builder.build()
    with opened(image.save(tmp_path / "a.qcow2")) as session:
        found = fields(session)
        assert (found["fine"].value, found["fine"].gloss) == ("64 KiB per bit", "recording")
        assert found["lost"].gloss == "inconsistent"
        assert found["lost"].tone is Tone.WARNING
        assert found["fine"].host_cluster == builder.model.bitmaps[0].table_cluster
    image.set_header("autoclear_features", 0)
    with opened(image.save(tmp_path / "b.qcow2")) as session:
        assert fields(session)["fine"].gloss == "stale"


@pytest.mark.oracle
def test_luks_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "luks.qcow2"
    create_encrypted(path, "1M")
    told = json.loads(qemu_img("info", "-U", "--output=json", path).stdout)
    encrypt = told["format-specific"]["data"]["encrypt"]
    with opened(path) as session:
        found = fields(session)
        assert found["Encryption"].value == "LUKS"
        assert found["Cipher"].value == encrypt["cipher-alg"]
        assert found["Cipher"].gloss == f"{encrypt['cipher-mode']}-{encrypt['ivgen-alg']}"
        assert found["Hash"].value == encrypt["hash-alg"]
        used = sum(slot["active"] for slot in encrypt["slots"])
        assert found["Key slots"].value == f"{used} of 8 used"
        assert found["LUKS UUID"].value == encrypt["uuid"]


@pytest.mark.oracle
def test_legacy_aes(tmp_path: Path) -> None:
    path = tmp_path / "aes.qcow2"
    create_encrypted(path, "1M", kind="aes")
    with opened(path) as session:
        found = fields(session)
        assert found["Encryption"].value == "legacy AES"
        assert "Key slots" not in found


def test_backing_reference_is_text_until_it_is_granted(tmp_path: Path) -> None:
    small_builder().write(tmp_path / "base.qcow2")
    builder = small_builder(snapshot=False)
    builder.backing("base.qcow2", "qcow2")
    path = builder.write(tmp_path / "top.qcow2")
    with opened(path, CHAIN) as session:
        found = fields(session)
        assert found["Backing file"].value == "base.qcow2"
        assert found["Backing file"].gloss == "not opened: press f"
        assert found["Backing format"].value == "qcow2"
    with opened(path, CHAIN, gate=Gate.trusting([tmp_path])) as session:
        assert fields(session)["Backing file"].gloss == "opened for reading"


@pytest.mark.parametrize(
    ("name", "words", "tone"),
    [
        ("/etc/passwd", "not opened: press f", Tone.WARNING),
        ("../up.qcow2", "not opened: press f", Tone.WARNING),
        ('json:{"driver":"file"}', "never opened", Tone.WARNING),
        ("nbd://host/x", "never opened", Tone.WARNING),
        (HOSTILE, "never opened", Tone.WARNING),
    ],
)
def test_references_that_lead_elsewhere_are_warned_of(
    tmp_path: Path, name: bytes | str, words: str, tone: Tone
) -> None:
    builder = small_builder()
    builder.backing(name, None)
    with opened(builder.write(tmp_path / "a.qcow2")) as session:
        found = fields(session)
        assert (found["Backing file"].gloss, found["Backing file"].tone) == (words, tone)
        assert found["Backing format"].value == "not stated"
        assert found["Backing file"].value.isprintable()


def test_a_data_file_is_a_reference_too(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=a.raw", path, "1M", cwd=tmp_path)
    with opened(path) as session:
        assert fields(session)["Data file"].value == "a.raw"
        assert fields(session)["Data file"].gloss == "not opened: press f"
    with opened(path, CHAIN, gate=Gate.follow()) as session:
        assert fields(session)["Data file"].gloss == "opened for reading"


def test_structures_lead_to_their_clusters(tmp_path: Path) -> None:
    builder = small_builder()
    with opened(builder.write(tmp_path / "a.qcow2")) as session:
        found = fields(session)
        assert found["L1 table"].host_cluster == builder.model.l1_cluster
        assert found["Snapshot table"].host_cluster == builder.model.snapshot_table.start
        assert session.qcow2 is not None
        at = session.qcow2.header.refcount_table_offset
        assert (found["Refcount table"].value, found["Refcount table"].host_cluster) == (
            hex(at),
            at >> 16,
        )


def test_unknown_extensions_are_listed(tmp_path: Path) -> None:
    builder = small_builder()
    builder.extension(0x12345678, b"hello")
    with opened(builder.write(tmp_path / "a.qcow2")) as session:
        found = fields(session)["unknown 0x12345678"]
        assert (found.value, found.tone) == ("5 bytes", Tone.NOTE)


@pytest.mark.parametrize("bits", [0, 8, 22, 63, 0xFFFFFFFF])
def test_an_impossible_cluster_size_is_shown(tmp_path: Path, bits: int) -> None:
    path = small_image(tmp_path)
    patch(path, 20, bits.to_bytes(4, "big"))
    with opened(path) as session:
        found = fields(session)["Clusters"]
        assert found.value == f"2^{bits} bytes"
        assert found.tone is Tone.BAD
        assert "places" not in section_keys(session)


def test_a_raw_image_has_sizes_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 100_000)
    with opened(path, HOST_MAP) as session:
        assert section_keys(session) == ["sizes", "format"]
        assert fields(session)["Format"].value == "raw"
        assert "Image end" not in fields(session)


def test_every_text_is_printable_whatever_the_image_says(tmp_path: Path) -> None:
    builder = small_builder()
    builder.backing(HOSTILE, HOSTILE[:15])
    builder.bitmap(HOSTILE)
    builder.extension(0x6803F857, b"\0\x05" + HOSTILE.ljust(46, b"\0"))
    image = builder.build()
    image.set_header("incompatible_features", 1 << 5)
    with opened(image.save(tmp_path / "a.qcow2")) as session:
        for section in header_sections(session):
            for text in (section.title, section.summary):
                assert text.isprintable()
            for field in section.fields:
                for text in (field.label, field.value, field.gloss, field.doc):
                    assert text.isprintable(), field


def test_check_alone_tells_the_image_end(tmp_path: Path) -> None:
    path = small_image(tmp_path)
    with opened(path, CHECK) as session:
        assert session.check is not None
        end = session.check.image_end_offset
        assert fields(session)["Image end"].value == size(end)

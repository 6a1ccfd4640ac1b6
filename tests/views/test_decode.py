"""Bytes named: every structure against the model that the builder laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.image.image import Image
from qcow.inspect.references import references_to
from qcow.layout.constants import OFLAG_COMPRESSED, OFLAG_COPIED
from qcow.layout.header import FIELDS
from qcow.layout.luks import parse_luks
from qcow.opening import open as open_image
from qcowtui.samples.builder import ImageBuilder
from qcowtui.views.decode import Context, Note, Structure, annotate, context_for, structures_of
from qcowtui.views.decode.tables import l2_entry_words

from ..support.images import patch, pattern, small_builder
from ..support.qemu import create_encrypted

HOSTILE = b"\x1b[31m[@click=app.quit]x[/]\xe2\x80\xae"


def decoded(
    image: Image, cluster: int, structure: Structure | None = None
) -> tuple[list[Note], bytes, Context, Structure]:
    """The notes on a whole cluster as its owners read it."""
    assert image.geometry is not None
    size = image.geometry.cluster_size
    found = references_to(image, cluster).references
    chosen = structures_of(found)[0] if structure is None else structure
    context = context_for(image, image.geometry, cluster, chosen, found)
    data = image.storage.read(cluster * size, size)
    return annotate(data, chosen, context), data, context, chosen


def image_of(path: Path) -> Image:
    image = open_image(path)
    assert isinstance(image, Image)
    return image


def by_label(notes: list[Note]) -> dict[str, Note]:
    return {note.label: note for note in notes}


@pytest.mark.parametrize("version", [2, 3])
def test_the_header_has_every_field_of_its_version(tmp_path: Path, version: int) -> None:
    builder = small_builder(version=version)
    builder.backing("base.qcow2")
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        notes, data, _, structure = decoded(image, 0)
        assert structure is Structure.HEADER
        found = by_label(notes)
        for field in FIELDS:
            inside = field.since <= version and field.offset < image.header.header_length
            assert (field.title in found) == inside, field.name
            if inside:
                note = found[field.title]
                assert (note.start, note.length) == (field.offset, field.size)
        assert found["Magic"].value == "QFI\\xfb"
        assert found["L1 table at"].target == image.header.l1_table_offset
        assert found["backing file"].value == "base.qcow2"
        start, length = found["backing file"][:2]
        assert data[start : start + length] == b"base.qcow2"
        assert found["Cluster bits"].value == "16 (64 KiB)"
        assert found["Encryption"].value == "0 (none)"


def test_header_extensions_and_hostile_text(tmp_path: Path) -> None:
    builder = small_builder()
    builder.backing(HOSTILE, b"qcow2")
    builder.extension(0x12345678, HOSTILE)
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        notes, _, _, _ = decoded(image, 0)
        assert all(note.value.isprintable() and note.label.isprintable() for note in notes)
        assert "backing format" in by_label(notes)
        assert "\\x1b[31m[@click" in by_label(notes)["unknown 0x12345678"].value


@pytest.mark.parametrize("cluster_bits", [9, 12, 16])
def test_l1_tables(tmp_path: Path, cluster_bits: int) -> None:
    builder = ImageBuilder(virtual_size=8 << 20, cluster_bits=cluster_bits)
    for number in (0, 500, 1000, 2000):
        if number << cluster_bits < 8 << 20:
            builder.data(number, b"x")
    builder.snapshot("s")
    builder.data(0, b"y")
    model = builder.model
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        for l1, cluster in (
            (model.l1, model.l1_cluster),
            (model.snapshots[0].l1, model.snapshots[0].l1_cluster),
        ):
            span = model.table_clusters(model.l1_size)
            met = 0
            for step in range(span):
                notes, _, context, structure = decoded(image, cluster + step)
                assert structure is Structure.L1
                assert context.first == step * (1 << cluster_bits) // 8
                for note in notes:
                    number = context.first + note.start // 8
                    assert note.label == f"L1[{number}]"
                    assert note.guest == number * model.geometry.l2_span
                    if number in l1:
                        met += 1
                        assert note.target == l1[number].cluster << cluster_bits
                        assert note.value.startswith(f"L2 table at {note.target:#x}")
                    else:
                        assert (note.value, note.target) == ("no L2 table", None)
            assert met == len(l1)


@pytest.mark.parametrize(
    "options", [{}, {"cluster_bits": 9}, {"extended_l2": True}, {"version": 2}]
)
def test_l2_tables(tmp_path: Path, options: dict[str, int | bool]) -> None:
    builder = small_builder(**options)
    geometry = builder.geometry
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        for index, table in builder.model.l1.items():
            notes, _, context, structure = decoded(image, table.cluster)
            assert structure is Structure.L2
            assert context.guest == index * geometry.l2_span
            assert len(notes) == geometry.l2_entries
            for number, note in enumerate(notes):
                assert note.label == f"L2[{number}]"
                assert note.length == geometry.l2_entry_size
                assert note.guest == index * geometry.l2_span + number * geometry.cluster_size
                entry = table.entries.get(number, 0)
                bitmap = table.bitmaps.get(number, 0) if geometry.extended_l2 else None
                expected, target = l2_entry_words(entry, bitmap, geometry)
                assert note.value.replace(", COPIED", "") == expected
                assert note.target == target
                if entry & OFLAG_COMPRESSED:
                    assert note.target == geometry.compressed_extent(entry)[0]


def test_the_words_of_l2_entries() -> None:
    plain = ImageBuilder(virtual_size=1 << 20).geometry
    extended = ImageBuilder(virtual_size=1 << 20, extended_l2=True).geometry
    assert l2_entry_words(0, None, plain) == ("not allocated", None)
    assert l2_entry_words(1, None, plain) == ("zeros", None)
    assert l2_entry_words(0x50001, None, plain) == ("zeros, space kept at 0x50000", 0x50000)
    assert l2_entry_words(OFLAG_COPIED | 0x50000, None, plain) == (
        "data at 0x50000, COPIED",
        0x50000,
    )
    assert l2_entry_words(0x50004, None, plain) == (
        "data at 0x50000, reserved bits 0x4 are set",
        0x50000,
    )
    assert l2_entry_words(0x50000, 0x3_0000000F, extended) == (
        "data at 0x50000, 4 of 32 subclusters stored, 2 zero",
        0x50000,
    )
    assert "reserved bits 0x1" in l2_entry_words(0x50001, 0xF, extended)[0]


@pytest.mark.parametrize("order", range(7))
def test_refcounts_of_every_width(tmp_path: Path, order: int) -> None:
    builder = ImageBuilder(virtual_size=16 << 20, refcount_order=order)
    for number in range(20):
        builder.data(number, pattern(number, 65536))
    if order:
        builder.snapshot("s")
        builder.data(3, b"new")
    built = builder.build()
    with image_of(built.save(tmp_path / "a.qcow2")) as image:
        table_at = image.header.refcount_table_offset >> 16
        notes, _, _, structure = decoded(image, table_at)
        assert structure is Structure.REFCOUNT_TABLE
        block_at = notes[0].target
        assert block_at is not None
        each = builder.geometry.refcount_block_entries
        assert notes[0].value == f"refcount block at {block_at:#x}, clusters 0 to {each - 1:,}"
        assert notes[1].value.startswith("no refcount block: all 0")
        notes, data, _, structure = decoded(image, block_at >> 16)
        assert structure is Structure.REFCOUNT_BLOCK
        told: list[int] = []
        for note in notes[: 8 * 1024]:
            told += map(
                int,
                note.value.removeprefix("refcounts ")
                .removeprefix("refcount ")
                .replace(",", "")
                .split(),
            )
        actual = [built.refcount(cluster) for cluster in range(min(len(told), built.nb_clusters))]
        assert told[: len(actual)] == actual
        assert len(notes) == (each if order >= 3 else len(data))
        assert (notes[3].target or 0) >> 16 == (3 if order >= 3 else 3 * (8 >> order))


def test_later_blocks_count_later_clusters(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20, cluster_bits=9)
    for number in range(600):
        builder.data(number, b"x")
    built = builder.build()
    with image_of(built.save(tmp_path / "a.qcow2")) as image:
        at = image.header.refcount_table_offset
        for index in range(3):
            block = built.u64(at + 8 * index) >> 9
            notes, *_ = decoded(image, block)
            assert notes[0].label == f"cluster {index * 256}"
            assert notes[7].value == f"refcount {built.refcount(index * 256 + 7)}"


def test_the_snapshot_table(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20, cluster_bits=9)
    for day in range(12):
        builder.snapshot(HOSTILE if day == 5 else f"day {day}", date=day * 86400, more_extra=b"abc")
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        found: dict[str, Note] = {}
        for cluster in builder.model.snapshot_table:
            notes, data, _, structure = decoded(image, cluster)
            assert structure is Structure.SNAPSHOT_TABLE
            assert all(note.start >= 0 and note.start + note.length <= len(data) for note in notes)
            found.update(by_label(notes))
        for day in range(12):
            name = f"snapshot {day}"
            assert found[f"{name} ID"].value == str(day + 1)
            assert found[f"{name} L1 entries"].value == str(builder.model.l1_size)
            assert found[f"{name} more extra data"].value == "3 bytes"
            at = builder.model.snapshots[day].l1_cluster << 9
            if f"{name} L1 table at" in found:  # else its field lies across two clusters
                assert found[f"{name} L1 table at"].target == at
        assert all(note.value.isprintable() for note in found.values())


def test_bitmaps(tmp_path: Path) -> None:
    builder = small_builder()
    builder.bitmap("first", [(0, 1 << 20)])
    builder.bitmap(HOSTILE, in_use=True, granularity_bits=9)
    model = builder.model
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        notes, _, _, structure = decoded(image, model.bitmap_directory.start)
        assert structure is Structure.BITMAP_DIRECTORY
        found = by_label(notes)
        assert found["bitmap 0 name"].value == "first"
        assert found["bitmap 1 flags"].value == "0x3"
        assert found["bitmap 1 granularity bits"].value == "9"
        assert found["bitmap 1 name"].value.isprintable()
        assert found["bitmap 0 bitmap table at"].target == model.bitmaps[0].table_cluster << 16
        notes, _, _, structure = decoded(image, model.bitmaps[0].table_cluster)
        assert structure is Structure.BITMAP_TABLE
        data = notes[0].target
        assert data is not None
        assert notes[0].value == f"bits at {data:#x}"
        assert notes[5].value == "all zeros"
        assert decoded(image, data >> 16)[3] is Structure.BITMAP_DATA


@pytest.mark.oracle
def test_luks(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    create_encrypted(path, "1M")
    with image_of(path) as image:
        assert image.crypto is not None
        cluster = image.crypto.offset >> 16
        notes, data, _, structure = decoded(image, cluster)
        assert structure is Structure.LUKS
        found = by_label(notes)
        header = parse_luks(data[image.crypto.offset & 65535 :])
        assert header is not None
        assert found["LUKS cipher"].value.encode() == header.cipher
        assert found["LUKS UUID"].value.encode() == header.uuid
        assert found["key slot 0 iterations"].value == f"{header.slots[0].iterations:,}"
        # Digests and salts are not printed.
        assert found["LUKS master key digest"].value == "20 bytes"
        more, *_ = decoded(image, cluster + 1)
        assert [note.label for note in more] == ["key material"]
        cipher, *_ = decoded(image, cluster, Structure.DATA)
        assert cipher[0].label == "ciphertext"


def test_data_knows_its_guest_offset(tmp_path: Path) -> None:
    builder = small_builder()
    host = builder.data(21, pattern(1, 65536))
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        notes, data, _, structure = decoded(image, host)
        assert structure is Structure.DATA
        assert notes == [Note(0, len(data), "guest 0x150000", "guest data", guest=0x150000)]


@pytest.mark.parametrize(
    "structure",
    [s for s in Structure if s not in (Structure.LUKS, Structure.DATA)],
)
def test_a_window_names_what_touches_it(tmp_path: Path, structure: Structure) -> None:
    builder = small_builder()
    builder.bitmap("b", [(0, 1 << 20)])
    builder.snapshot("second")
    clusters = {
        Structure.HEADER: 0,
        Structure.L1: builder.model.l1_cluster,
        Structure.L2: builder.model.l1[0].cluster,
        Structure.SNAPSHOT_TABLE: builder.model.snapshot_table.start,
        Structure.BITMAP_DIRECTORY: builder.model.bitmap_directory.start,
        Structure.BITMAP_TABLE: builder.model.bitmaps[0].table_cluster,
    }
    with image_of(builder.write(tmp_path / "a.qcow2")) as image:
        assert image.geometry is not None
        cluster = clusters.get(structure, 1)
        context = Context(image, image.geometry, cluster)
        data = image.storage.read(cluster << 16, 65536)
        whole = annotate(data, structure, context)
        for start, stop in ((0, 7), (3, 100), (90, 91), (65530, 65536), (70_000, 80_000)):
            expected = [n for n in whole if n.start < stop and n.start + n.length > start]
            assert annotate(data, structure, context, start, stop) == expected


def test_damage_never_raises(tmp_path: Path) -> None:
    builder = small_builder()
    builder.bitmap("b")
    path = builder.write(tmp_path / "a.qcow2")
    size = path.stat().st_size
    for offset in range(8, 104, 4):
        if offset not in (20,):
            patch(path, offset, b"\xff\xff\xff\xff")
    with image_of(path) as image:
        geometry = image.geometry or builder.geometry
        for cluster in range(size >> 16):
            data = image.storage.read(cluster << 16, 65536)
            for structure in Structure:
                context = Context(image, geometry, cluster, guest=0)
                for note in annotate(data, structure, context):
                    assert note.value.isprintable()
        assert annotate(b"", Structure.L2, Context(image, geometry, 0)) == []
        assert annotate(b"\1\2\3", Structure.L2, Context(image, geometry, 0)) == []

"""The hex view: exact at any size, and it reads only what it shows."""

from __future__ import annotations

from qcowtui.tui.widgets.hex_view import HexRegion, HexView

from .apps import OneWidget
from .cells import style_at, text_of

DATA = b"QFI\xfb\x00\x00\x00\x03" + bytes(range(0x20, 0x48)) + b"\x00" * 16
REGIONS = [HexRegion(0, 4, "magic"), HexRegion(4, 4, "version"), HexRegion(16, 8, "[/] [b]l1")]


def from_bytes(data: bytes) -> HexView:
    return HexView(lambda offset, length: data[offset : offset + length], len(data))


async def test_rows() -> None:
    view = from_bytes(DATA)
    view.set_regions(REGIONS)
    async with OneWidget(view).run_test(size=(102, 6)):
        assert [line[:77].rstrip() for line in text_of(view)] == [
            "00000000  51 46 49 fb 00 00 00 03  20 21 22 23 24 25 26 27  QFI.   . !\"#$%&'",
            "00000010  28 29 2a 2b 2c 2d 2e 2f  30 31 32 33 34 35 36 37  ()*+,-./01234567",
            "00000020  38 39 3a 3b 3c 3d 3e 3f  40 41 42 43 44 45 46 47  89:;<=>?@ABCDEFG",
            "00000030  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
            "",
            "",
        ]
        labels = [line[77:].strip() for line in text_of(view)]
        assert labels == ["magic  version", "[/] [b]l1", "", "", "", ""]


async def test_narrow_views_have_eight_bytes_a_row() -> None:
    view = from_bytes(DATA)
    async with OneWidget(view).run_test(size=(60, 10)):
        assert text_of(view)[1] == "00000008  20 21 22 23 24 25 26 27   !\"#$%&'"


async def test_kinds_and_regions_have_colours() -> None:
    view = from_bytes(DATA)
    view.set_regions(REGIONS)
    async with OneWidget(view).run_test(size=(102, 6)) as pilot:
        view.go_to(50)
        await pilot.pause()
        text, high, null, other = (style_at(view, 10 + 3 * index, 0) for index in (0, 3, 4, 8))
        assert len({text, high, null, other}) == 4
        background = [style.split(" on ")[1] for style in (text, high, null, other)]
        assert background[0] == background[1] != background[2] != background[3] != background[0]
        assert style_at(view, 12, 0).split(" on ")[-1] == background[0]  # the gap within a region
        assert style_at(view, 10 + 3 * 3 + 2, 0).split("on ")[-1] == background[3]


async def test_one_tebibyte_is_exact() -> None:
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return offset.to_bytes(8, "big") * (length // 8)

    view = HexView(read, 1 << 40)
    app = OneWidget(view)
    async with app.run_test(size=(102, 20)) as pilot:
        view.go_to((1 << 39) + 5)
        await pilot.pause()
        assert f"{1 << 39:010x}" in {line[:10] for line in text_of(view)}
        view.action_move(0, 1)
        assert view.cursor == (1 << 39) + 21
        view.action_end()
        await pilot.pause()
        assert text_of(view)[-1].startswith("fffffffff0  ")
        view.action_home()
        await pilot.pause()
        assert text_of(view)[0].startswith("0000000000  ")
    assert len(asked) < 12
    assert all(length <= 4096 for _, length in asked)


async def test_moves_tell_and_stop_at_the_ends() -> None:
    view = from_bytes(DATA)
    app = OneWidget(view)
    async with app.run_test(size=(102, 3)) as pilot:
        view.action_move(-1, 0)
        view.action_move(0, -1)
        assert view.cursor == 0
        view.action_move(1, 1)
        view.action_page(1)
        view.action_page(9)
        await pilot.pause()
        offsets = [each.offset for each in app.taken() if isinstance(each, HexView.Moved)]
        assert offsets == [17, 63]
        view.go_to(3)
        await pilot.pause()
        assert app.taken() == []


async def test_regions_are_walked() -> None:
    view = from_bytes(DATA)
    view.set_regions(REGIONS)
    async with OneWidget(view).run_test(size=(102, 6)):
        places = []
        for _ in range(3):
            view.action_next_region()
            places.append(view.cursor)
        for _ in range(3):
            view.action_previous_region()
            places.append(view.cursor)
        assert places == [4, 16, 16, 4, 0, 0]
        region = view.region_at(17)
        assert region is not None
        assert region.label == "[/] [b]l1"
        assert view.region_at(9) is None


async def test_bytes_that_cannot_be_had() -> None:
    answers: list[bytes | None] = [None, b"AB", DATA]
    view = HexView(lambda offset, length: answers[0], len(DATA))
    async with OneWidget(view).run_test(size=(102, 6)) as pilot:
        assert text_of(view)[0].startswith("00000000  ?? ??")
        answers.pop(0)
        view.data_changed()
        await pilot.pause()
        assert text_of(view)[0].startswith("00000000  41 42 ?? ??")
        answers.pop(0)
        view.data_changed()
        await pilot.pause()
        assert text_of(view)[0].startswith("00000000  51 46 49 fb")


async def test_clicks() -> None:
    view = from_bytes(DATA)
    async with OneWidget(view).run_test(size=(102, 6)) as pilot:
        await pilot.click(HexView, offset=(10 + 3 * 2, 1))
        assert view.cursor == 18
        await pilot.click(HexView, offset=(10 + 3 * 9 + 2, 1))
        assert view.cursor == 25
        await pilot.click(HexView, offset=(60 + 3, 0))
        assert view.cursor == 3
        await pilot.click(HexView, offset=(2, 2))
        assert view.cursor == 3


async def test_no_bytes_at_all() -> None:
    view = from_bytes(b"")
    async with OneWidget(view).run_test(size=(80, 4)):
        view.action_end()
        view.action_page(1)
        view.action_next_region()
        assert text_of(view) == [""] * 4

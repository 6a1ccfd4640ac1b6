"""docs/repair.md: every code of the engine is explained, with the remedies there are."""

from __future__ import annotations

from .codes import DOCUMENT, offers_of, page
from .matrix import cases


def test_the_page_is_what_the_engine_says() -> None:
    assert DOCUMENT.read_text() == page(map(offers_of, cases()))

"""Every image variant that this program is compared with qemu-img on."""

from __future__ import annotations

import pytest

from tests.oracle.catalogue import chains, compressed, plain, snapshots, special
from tests.oracle.catalogue.base import Variant

VARIANTS: tuple[Variant, ...] = tuple(
    variant
    for theme in (
        plain.theme,
        snapshots.theme,
        chains.theme,
        chains.data_files,
        compressed.theme,
        special.theme,
        special.extended,
        special.bitmaps,
        special.encrypted,
        special.damaged,
    )
    for variant in theme.variants
)


def variants(*, having: str = "", without: str = "") -> list[Variant]:
    """The variants with all tags of ``having`` and none of ``without`` (words in a string)."""
    wanted, unwanted = set(having.split()), set(without.split())
    return [v for v in VARIANTS if wanted <= v.tags and not unwanted & v.tags]


def each(*, having: str = "", without: str = "") -> pytest.MarkDecorator:
    """Run a test that takes ``image`` (and ``variant``) once for each of :func:`variants`."""
    chosen = variants(having=having, without=without)
    return pytest.mark.parametrize(
        "variant", [pytest.param(v, id=v.name) for v in chosen], indirect=True
    )

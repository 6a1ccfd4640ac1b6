"""Files below an image that an action changes along with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from ..chain import Chain
from ..formats.raw import RawImage
from ..record import replace
from ..storage.base import WritableStorage

if TYPE_CHECKING:
    from .editor import Editor


class Lower(NamedTuple):
    """One such file; ``editor`` changes a qcow2 image and is None for a raw one."""

    storage: WritableStorage
    editor: Editor | None


def as_planned(chain: Chain, lower: Mapping[int, Lower]) -> Chain:
    """``chain`` with the layers (by depth) that a dry run changed as they would be; takes it over.

    The result closes ``chain``.
    """
    layers = list(chain.layers)
    for depth, one in lower.items():
        image = RawImage(one.storage) if one.editor is None else one.editor.image
        layers[depth] = replace(layers[depth], image=image, disk=image.active)
    opened = ExitStack()
    opened.callback(chain.close)
    return Chain(tuple(layers), chain.problems, opened=opened)

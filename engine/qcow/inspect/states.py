"""How a person addresses a state: ``active``, ``snapshot:NAME-or-ID`` or ``layer:N``."""

from __future__ import annotations

from ..chain import Chain, open_chain
from ..errors import NotFoundError, UsageError
from ..image.image import Image
from ..opening import AnyImage
from ..storage.gate import Gate
from ..text import safe

#: The spellings, for usage texts.
SPELLINGS = ("active", "snapshot:NAME-or-ID", "layer:N")


def resolve_state(image: AnyImage, chain: Chain | None, text: str) -> Chain:
    """The disk that ``text`` means, as a view of ``chain``, whose files it shares.

    ``chain`` is that of ``image``; None stands for one that follows nothing.  A snapshot is looked
    up by ID first, then by name; ``layer:N`` is the disk as seen from the N-th file down, layer 0
    being the image itself.

    Raises UsageError for anything else, NotFoundError when there is no such snapshot or layer,
    ReferenceRefused or ReferenceMissing for a layer that is not open, GuestDataError when the
    state's own tables cannot be used.
    """
    kind, colon, key = text.partition(":")
    if chain is None:
        chain = open_chain(image, Gate.closed())
    if text == "active":
        return chain.at_active()
    if kind == "snapshot" and key:
        if not isinstance(image, Image):
            raise NotFoundError(f"{safe(image.name)} is a raw file and has no snapshots.")
        return chain.at_snapshot(image.find_snapshot(key))
    if kind == "layer" and colon and key.isascii() and key.isdigit():
        return chain.at_layer(int(key)) if int(key) else chain.at_active()
    raise UsageError(
        f'"{safe(text)}" names no state; use {", ".join(SPELLINGS[:-1])} or {SPELLINGS[-1]}.'
    )

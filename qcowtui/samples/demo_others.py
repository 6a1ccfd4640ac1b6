"""The other samples: fragmented, compressed, damaged in several ways, and hostile."""

from __future__ import annotations

from .builder import ImageBuilder
from .built import BuiltImage
from .damage import (
    cross_link,
    flip_copied,
    leak_clusters,
    lose_l1_entry,
    lower_refcounts,
    mark_dirty,
    overlap_l1_table,
)
from .demo_web import GIB, MIB, Guest, stamp

#: A snapshot name that tries to colour the terminal, set its title, click a button of the app, and
#: turn the reading direction around.
HOSTILE_NAME = (
    "\x1b[2J\x1b[31m\x1b]0;owned\x07[@click=app.quit]x[/] \u202egnp.4202\u202c [bold]".encode()
)


def fragmented() -> ImageBuilder:
    """A database written in random order into small clusters: every read is a jump."""
    builder = ImageBuilder(virtual_size=2 * GIB, cluster_bits=12)
    guest = Guest(builder)
    guest.partition_table("db.example.org")
    guest.write("superblock", 128 * MIB, 2)
    guest.scatter("sql", 256 * MIB, 40 * MIB, 1200, "table space")
    guest.scatter("noise", 640 * MIB, 8 * MIB, 300, "journal")
    return builder


def compressed() -> ImageBuilder:
    """A backup, compressed with zstd."""
    builder = ImageBuilder(virtual_size=2 * GIB, compression="zstd")
    guest = Guest(builder)
    guest.partition_table("backup.example.org")
    guest.write("superblock", 128 * MIB, 1, compress=True)
    for number, kind in enumerate(("config", "log", "html", "mail", "binary", "sql")):
        guest.write(kind, (160 + 200 * number) * MIB, 28, compress=True)
    return builder


def leaking() -> BuiltImage:
    """A mail server whose host crashed: an L2 table went missing, and clusters were never freed."""
    builder = ImageBuilder(virtual_size=3 * GIB // 2)
    guest = Guest(builder)
    guest.partition_table("mail.example.org")
    guest.write("superblock", 128 * MIB, 1)
    guest.write("mail", 160 * MIB, 40)
    guest.write("mail", 321 * MIB, 24)
    builder.snapshot("monthly", date=stamp(1, 2, 30))
    guest.write("mail", 161 * MIB, 12)
    builder.skip(9)
    guest.write("mail", 640 * MIB, 20)
    image = builder.build()
    at = next(cluster for cluster in range(image.nb_clusters) if not image.refcount(cluster))
    leak_clusters(image, 6, at)
    lose_l1_entry(image, 1)  # the second third of the disk
    leak_clusters(image, 5)
    return image


def corrupt() -> BuiltImage:
    """A file server after two programs wrote to its image at once."""
    builder = ImageBuilder(virtual_size=GIB, cluster_bits=14)
    guest = Guest(builder)
    guest.partition_table("files.example.org")
    guest.write("superblock", 128 * MIB, 1)
    guest.write("config", 200 * MIB, 50)
    builder.snapshot("friday", date=stamp(7, 20, 0))
    guest.write("config", 200 * MIB, 12)
    guest.write("noise", 300 * MIB, 40)
    image = builder.build()
    config, noise = 200 * MIB // guest.size, 300 * MIB // guest.size
    overlap_l1_table(image, noise + 3)
    cross_link(image, noise + 20, config + 2)
    lower_refcounts(image, range(noise + 8, noise + 14))  # used, but free by the refcounts
    lower_refcounts(image, range(config + 30, config + 33))  # shared, but single by the refcounts
    flip_copied(image, (noise + 30, config + 40))
    return image


def unclean() -> BuiltImage:
    """A laptop's VM with lazy refcounts, switched off the hard way: dirty, not damaged."""
    builder = ImageBuilder(virtual_size=4 * GIB, lazy_refcounts=True)
    guest = Guest(builder)
    guest.partition_table("laptop.example.org")
    guest.write("superblock", 128 * MIB, 1)
    guest.write("config", 256 * MIB, 8)
    guest.write("log", 512 * MIB, 4)
    image = builder.build()
    latest = 512 * MIB // guest.size
    lower_refcounts(image, range(latest, latest + 4))  # not yet written when the power went
    mark_dirty(image)
    return image


def untrusted() -> ImageBuilder:
    """An upload that would like to be handed a file of the host, and to confuse who looks at it."""
    builder = ImageBuilder(virtual_size=GIB)
    builder.backing("/etc/shadow", "raw")
    guest = Guest(builder)
    guest.partition_table("upload.example.org")
    guest.write("config", 128 * MIB, 2)
    builder.snapshot(HOSTILE_NAME, date=stamp(14, 3, 33))
    guest.write("config", 128 * MIB, 1)
    builder.snapshot("\u202etohspans\u200b\u2066", date=stamp(14, 3, 34))
    guest.scatter("config", 300 * MIB, 4 * MIB, 2, "upload")
    return builder

"""The commands that change the image, in the order the menu lists them: safest first."""

from __future__ import annotations

from . import edit_conditions as when
from .command import Command, Scope

EDIT = (
    Command(
        "edit.apply", "edit", "apply what is planned",
        "Carry out the planned changes, after asking as seriously as they are.",
        ("a",), Scope.DASHBOARD, "apply", "", when.needs_plans,
    ),
    Command(
        "edit.drop", "edit", "drop the last planned change",
        "Take the last planned change back out of the queue; nothing was written.",
        ("x", "backspace"), Scope.DASHBOARD, "drop", "", when.needs_plans,
    ),
    Command(
        "edit.menu", "edit", "change the image",
        "List everything that can be changed, with its key, and why not where it cannot.",
        ("e",), Scope.DASHBOARD, "change_menu", "change",
    ),
    Command(
        "edit.show_plan", "edit", "what the plan changes",
        "Draw on the map what is freed and written, or the image as it would be.",
        ("P",), Scope.DASHBOARD, "show_plan", "", when.needs_plan_map,
    ),
    Command(
        "snapshot.take", "snapshot", "take a snapshot",
        "Keep the disk as it is now, as an internal snapshot.",
        ("S",), Scope.DASHBOARD, "take_snapshot", "", when.can_snapshot,
    ),
    Command(
        "edit.undo", "edit", "undo",
        "Take the last change of the file back.",
        ("u",), Scope.DASHBOARD, "undo", "", when.can_undo,
    ),
    Command(
        "edit.redo", "edit", "redo",
        "Make the change that was taken back last once more.",
        ("U",), Scope.DASHBOARD, "redo", "", when.can_redo,
    ),
    Command(
        "edit.history", "edit", "history of changes",
        "List the changes that can be taken back, and why others no longer can.",
        ("T",), Scope.DASHBOARD, "history",
    ),
    Command(
        "repair.start", "repair", "repair the image",
        "Show what is damaged, what can be done about it and what each way keeps and loses.",
        ("E",), Scope.DASHBOARD, "repair", "", when.can_repair,
    ),
    Command(
        "edit.recover", "edit", "complete the unfinished change",
        "Complete a change that was interrupted and left its journal beside the image.",
        ("J",), Scope.DASHBOARD, "recover", "", when.needs_journal,
    ),
    Command(
        "image.compact", "image", "compact",
        "Move what lies at the end of the file into holes and cut the file; snapshots stay.",
        ("K",), Scope.DASHBOARD, "compact", "", when.can_change,
    ),
    Command(
        "disk.resize", "disk", "resize",
        "Make the guest disk larger or smaller; shrinking never cuts off data unasked.",
        ("V",), Scope.DASHBOARD, "resize", "", when.can_change,
    ),
    Command(
        "edit.reclaim", "edit", "reclaim free space",
        "Give the space of freed clusters back to the host; it ends undo.",
        ("R",), Scope.DASHBOARD, "reclaim", "", when.can_change,
    ),
    Command(
        "edit.unlock", "edit", "allow changes, or no longer",
        "Allow this image to be changed; nothing is written before you saw the plan of it.",
        ("W",), Scope.DASHBOARD, "unlock", "", when.can_unlock,
    ),
)  # fmt: skip

EDIT_SNAPSHOTS = (
    Command(
        "snapshots.rename", "snapshots", "rename",
        "Give the snapshot another name.",
        ("m",), Scope.SNAPSHOTS, "rename", "", when.can_change_snapshot,
    ),
    Command(
        "snapshots.revert", "snapshots", "go back to this one",
        "Turn the disk back to this snapshot; the present state is kept as another one.",
        ("b",), Scope.SNAPSHOTS, "revert", "back to it", when.can_change_snapshot,
    ),
    Command(
        "snapshots.delete", "snapshots", "delete",
        "Delete the marked snapshots, or the one under the cursor.",
        ("D", "delete"), Scope.SNAPSHOTS, "delete", "delete", when.can_change_snapshot,
    ),
)  # fmt: skip

EDIT_CHAIN = (
    Command(
        "chain.relink", "chain", "relink",
        "Point the image at its backing file's new name or place, chosen by what it holds.",
        ("m",), Scope.CHAIN, "relink", "relink", when.can_change_base,
    ),
    Command(
        "chain.flatten", "chain", "flatten",
        "Copy everything the backing files provide into this image, which then needs none.",
        ("F",), Scope.CHAIN, "flatten", "", when.can_read_base,
    ),
    Command(
        "chain.rebase", "chain", "rebase",
        "Put the image on another backing file; its disk stays the same.",
        ("B",), Scope.CHAIN, "rebase", "", when.can_set_base,
    ),
    Command(
        "chain.commit", "chain", "commit to the backing file",
        "Write what this image holds to the file below it; says who else reads that.",
        ("C",), Scope.CHAIN, "commit", "", when.can_read_base,
    ),
)  # fmt: skip

EDIT_MAP = (
    Command(
        "map.discard", "disk", "discard a range",
        "Give a range of the guest disk up, or fill it with zeros.",
        ("D",), Scope.MAP, "discard", "", when.can_change,
    ),
)  # fmt: skip

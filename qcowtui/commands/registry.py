"""All commands.  Their order is the order of the footer, the help and the documentation."""

from __future__ import annotations

from . import conditions as when
from .command import Command, Scope
from .edit_commands import EDIT, EDIT_CHAIN, EDIT_MAP, EDIT_SNAPSHOTS
from .edit_conditions import needs_image_as_it_is, needs_nothing_planned

_APP = (
    Command(
        "app.help", "app", "help",
        "Show what the focused pane means and which keys work there.",
        ("question_mark", "f1"), Scope.APP, "help", "help",
    ),
    Command(
        "app.palette", "app", "command palette",
        "Search all commands by name.",
        ("ctrl+p", "colon"), Scope.APP, "command_palette", "commands", in_palette=False,
    ),
    Command(
        "app.theme", "app", "choose a theme",
        "Pick the colours; dark and light ones are there.",
        (), Scope.APP, "change_theme",
    ),
    Command(
        "app.quit", "app", "quit",
        "Leave. What was planned and not applied is dropped.",
        ("q",), Scope.APP, "quit", "quit",
    ),
)  # fmt: skip

_GO = (
    Command(
        "go.address", "go", "go to an address",
        "Ask for a place: an offset, a cluster number, l1:3, l2:3/17, snap:NAME or 50%.",
        ("g",), Scope.DASHBOARD, "go_to", "go to", when.needs_image,
    ),
    Command(
        "go.next_problem", "go", "next problem",
        "Move to the next leaked or corrupt cluster.",
        ("n",), Scope.DASHBOARD, "next_problem", "next problem", when.needs_problems,
    ),
    Command(
        "go.previous_problem", "go", "previous problem",
        "Move to the leaked or corrupt cluster before this one.",
        ("N",), Scope.DASHBOARD, "previous_problem", "", when.needs_problems,
    ),
    Command(
        "go.back", "go", "back",
        "Return to the place before the last jump.",
        ("left_square_bracket",), Scope.DASHBOARD, "jump_back", "", when.can_go_back,
    ),
    Command(
        "go.forward", "go", "forward",
        "Go forward again after a step back.",
        ("right_square_bracket",), Scope.DASHBOARD, "jump_forward", "", when.can_go_forward,
    ),
)  # fmt: skip

_VIEW = (
    Command(
        "view.order", "view", "host file or guest disk",
        "Draw the map in the order of the file, or of the disk the guest sees.",
        ("v",), Scope.DASHBOARD, "toggle_order", "host/guest", when.needs_both_maps,
    ),
    Command(
        "view.zoom_pane", "view", "zoom the pane",
        "Give the focused pane the whole screen, and back.",
        ("z",), Scope.DASHBOARD, "zoom_pane", "zoom pane",
    ),
    Command(
        "view.escape", "view", "back, or stop the running job",
        "Leave what was opened last: a filter, a diff, a zoomed pane; then stop a running job.",
        ("escape",), Scope.DASHBOARD, "escape",
    ),
    Command(
        "view.next_pane", "view", "next pane",
        "Focus the next pane.",
        ("tab",), Scope.DASHBOARD, "next_pane", in_palette=False,
    ),
    Command(
        "view.previous_pane", "view", "previous pane",
        "Focus the pane before.",
        ("shift+tab",), Scope.DASHBOARD, "previous_pane", in_palette=False,
    ),
    Command(
        "view.header", "view", "header",
        "Focus the header: what the image is.",
        ("1",), Scope.DASHBOARD, "show('header')",
    ),
    Command(
        "view.map", "view", "allocation map",
        "Focus the map: what each cluster is used for.",
        ("2",), Scope.DASHBOARD, "show('map')",
    ),
    Command(
        "view.refcounts", "view", "refcounts",
        "Focus the refcounts: how often each cluster is said to be in use.",
        ("3",), Scope.DASHBOARD, "show('refcounts')",
    ),
    Command(
        "view.snapshots", "view", "snapshots",
        "Focus the tree of internal snapshots.",
        ("4",), Scope.DASHBOARD, "show('snapshots')",
    ),
    Command(
        "view.chain", "view", "backing chain",
        "Focus the backing chain: which files the guest disk is made of.",
        ("5",), Scope.DASHBOARD, "show('chain')",
    ),
    Command(
        "view.findings", "view", "findings",
        "Focus what is notable or wrong, grouped by cause.",
        ("6",), Scope.DASHBOARD, "show('findings')",
    ),
    Command(
        "view.fragmentation", "view", "fragmentation",
        "Show how scattered the guest disk lies in the file, and the cache it needs.",
        ("7",), Scope.DASHBOARD, "show('fragmentation')", "", when.needs_tables,
    ),
    Command(
        "view.inspector", "view", "inspector",
        "Show who owns the selected cluster, and its bytes.",
        ("8", "i"), Scope.DASHBOARD, "show('inspector')", "inspect", when.needs_selection,
    ),
    Command(
        "view.differences", "view", "differences",
        "Show the ranges in which the two compared states differ.",
        ("9",), Scope.DASHBOARD, "show('differences')", "", when.needs_two_states,
    ),
)  # fmt: skip

_WORK = (
    Command(
        "check.run", "check", "check again",
        "Compare every refcount with the references found, once more.",
        ("c",), Scope.DASHBOARD, "check", "check", when.needs_tables,
    ),
    Command(
        "image.reload", "image", "read again",
        "Read everything anew from the file.",
        ("f5", "r"), Scope.DASHBOARD, "reload", "", needs_image_as_it_is,
    ),
    Command(
        "diff.compare", "diff", "compare two states",
        "Draw on the map where two of the active state, snapshots and layers differ.",
        ("d",), Scope.DASHBOARD, "compare", "diff", when.needs_two_states,
    ),
    Command(
        "chain.follow", "chain", "follow the backing file",
        "Allow the files this image refers to to be opened, once or for a folder you trust.",
        ("f",), Scope.DASHBOARD, "follow", "", when.needs_backing,
    ),
    Command(
        "image.copy", "copy", "selected place",
        "Copy the addresses of the selected cluster to the clipboard.",
        ("y",), Scope.DASHBOARD, "copy", "", when.needs_selection,
    ),
    Command(
        "image.open", "image", "open another",
        "Choose another image.",
        ("o",), Scope.DASHBOARD, "open_another", "", needs_nothing_planned,
    ),
)  # fmt: skip

_PANE = (
    Command(
        "move.up", "move", "up", "Move up.",
        ("up", "k"), Scope.PANE, "move(0, -1)", in_palette=False,
    ),
    Command(
        "move.down", "move", "down", "Move down.",
        ("down", "j"), Scope.PANE, "move(0, 1)", in_palette=False,
    ),
    Command(
        "move.left", "move", "left", "Move left.",
        ("left", "h"), Scope.PANE, "move(-1, 0)", in_palette=False,
    ),
    Command(
        "move.right", "move", "right", "Move right.",
        ("right", "l"), Scope.PANE, "move(1, 0)", in_palette=False,
    ),
    Command(
        "move.page_up", "move", "page up", "Move up by one view.",
        ("pageup", "ctrl+u"), Scope.PANE, "page(-1)", in_palette=False,
    ),
    Command(
        "move.page_down", "move", "page down", "Move down by one view.",
        ("pagedown", "ctrl+d"), Scope.PANE, "page(1)", in_palette=False,
    ),
    Command(
        "move.home", "move", "first", "Move to the beginning.",
        ("home",), Scope.PANE, "home", in_palette=False,
    ),
    Command(
        "move.end", "move", "last", "Move to the end.",
        ("end", "G"), Scope.PANE, "end", in_palette=False,
    ),
    Command(
        "pane.open", "pane", "open",
        "Look closer at what is under the cursor.",
        ("enter",), Scope.PANE, "activate", "look closer", in_palette=False,
    ),
    Command(
        "pane.filter", "pane", "filter",
        "Show only what matches: text in lists, classes of clusters in the map.",
        ("slash",), Scope.PANE, "filter", "filter",
    ),
)  # fmt: skip

_MAP = (
    Command(
        "map.zoom_in", "map", "zoom in",
        "Twice the detail; the cursor keeps its address.",
        ("plus",), Scope.MAP, "zoom_in", "zoom in", when.needs_map,
    ),
    Command(
        "map.zoom_out", "map", "zoom out",
        "Twice as much of the image.",
        ("minus",), Scope.MAP, "zoom_out", "", when.needs_map,
    ),
    Command(
        "map.zoom_fit", "map", "zoom to all",
        "The whole image in view.",
        ("0",), Scope.MAP, "zoom_fit", "", when.needs_map,
    ),
    Command(
        "map.zoom_one", "map", "zoom to single clusters",
        "One cluster in each cell.",
        ("equals_sign",), Scope.MAP, "zoom_one_to_one", "", when.needs_map,
    ),
    Command(
        "map.curve", "map", "rows or Hilbert curve",
        "Rows are for reading; along a Hilbert curve, what is near in the image stays near.",
        ("H",), Scope.MAP, "toggle_curve", "", when.needs_map,
    ),
    Command(
        "map.legend", "map", "legend",
        "Go to the legend: what the colours mean; enter shows one class alone.",
        ("L",), Scope.DASHBOARD, "legend", "", when.needs_map,
    ),
)  # fmt: skip

_CHAIN = (
    Command(
        "chain.dependents", "chain", "search this folder for dependents",
        "Look which images in the folder of this one build on it; reads their headers.",
        ("s",), Scope.CHAIN, "search_dependents", "who uses it", when.needs_image,
    ),
)  # fmt: skip

_SNAPSHOTS = (
    Command(
        "snapshots.mark", "snapshots", "mark",
        "Mark this snapshot, or take the mark off: marked ones are added up.",
        ("space",), Scope.SNAPSHOTS, "mark", "mark", when.needs_snapshots,
    ),
    Command(
        "snapshots.sort", "snapshots", "sort",
        "The next order: tree, newest first, what frees most first, by name.",
        ("s",), Scope.SNAPSHOTS, "sort", "sort", when.needs_snapshots,
    ),
)  # fmt: skip

_INSPECTOR = (
    Command(
        "inspector.pointer", "inspector", "go to the pointer",
        "Go to the table entry that points at this cluster.",
        ("p",), Scope.INSPECTOR, "pointer", "who points here",
    ),
    Command(
        "inspector.next", "inspector", "next field",
        "Move to the next entry or field of the structure.",
        ("w",), Scope.INSPECTOR, "next_field", "next field",
    ),
    Command(
        "inspector.previous", "inspector", "previous field",
        "Move to the beginning of this field, or to the one before.",
        ("b",), Scope.INSPECTOR, "previous_field",
    ),
    Command(
        "inspector.reading", "inspector", "read it as another structure",
        "Where a cluster has owners of several kinds, take it for the next kind.",
        ("t",), Scope.INSPECTOR, "other_reading",
    ),
)  # fmt: skip

_PICKER = (
    Command(
        "picker.open", "picker", "open",
        "Open the highlighted image.",
        ("enter",), Scope.PICKER, "open", "open", in_palette=False,
    ),
    Command(
        "picker.path", "picker", "open a path",
        "Type the path of an image, or of a folder to look into.",
        ("g",), Scope.PICKER, "path", "other path",
    ),
    Command(
        "picker.refresh", "picker", "look again",
        "List the folder anew.",
        ("f5", "r"), Scope.PICKER, "refresh_list", "look again",
    ),
)  # fmt: skip

COMMANDS: tuple[Command, ...] = (
    *_MAP, *EDIT_MAP, *_SNAPSHOTS, *EDIT_SNAPSHOTS, *_CHAIN, *EDIT_CHAIN, *_INSPECTOR,
    *_PANE, *_GO, *_VIEW, *_WORK, *EDIT, *_PICKER, *_APP,
)  # fmt: skip

_BY_ID = {command.id: command for command in COMMANDS}


def command(id: str) -> Command:
    """The command with this id.  KeyError when there is none."""
    return _BY_ID[id]


def commands_in(*scopes: Scope) -> tuple[Command, ...]:
    """The commands of these scopes, in order."""
    return tuple(found for found in COMMANDS if found.scope in scopes)

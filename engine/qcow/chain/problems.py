"""What can be notable about the files an image builds on, as kinds of findings."""

from __future__ import annotations

from ..findings import FindingKind, Severity, kind

_NOT_SERVED = (
    "Ranges that only this file holds cannot be read; everything stored above it can, and the "
    "image itself is not damaged."
)
_RELINK = (
    "Put the file back where the name leads, or point the image at its new place "
    "(qcowtui relink); that changes only the name. Make sure it is the right file first."
)


def _absent(code: str, title: str, meaning: str, next_step: str) -> FindingKind:
    return kind(code, Severity.ERROR, title, meaning, _NOT_SERVED, next_step)


MISSING = _absent(
    "QCOW-CHAIN-MISSING",
    "backing file missing",
    "The image names a backing file that is not there, or that may not be read.",
    _RELINK,
)
REFUSED = kind(
    "QCOW-CHAIN-REFUSED",
    Severity.INFO,
    "backing file not opened",
    "The image names a backing file, and nobody allowed it to be opened: the name was chosen by "
    "whoever made the image.",
    _NOT_SERVED,
    "Allow it (--follow) if you know where the image comes from; it is opened for reading only.",
)
CYCLIC = _absent(
    "QCOW-CHAIN-CYCLIC",
    "backing chain runs in a circle",
    "A backing file is a file that already stands above it in the chain, perhaps under another "
    "name.",
    "Do not give this image to programs that follow backing files: some never end. Point the image "
    "at its real base (qcowtui relink).",
)
TOO_DEEP = _absent(
    "QCOW-CHAIN-TOO-DEEP",
    "backing chain too deep",
    "More backing files follow each other than are followed here.",
    "Allow more (--follow goes down to 256), or merge layers: every one of them slows reading "
    "down.",
)
WRONG_FORMAT = _absent(
    "QCOW-CHAIN-WRONG-FORMAT",
    "backing file is not what is stated",
    "The image states a format for its backing file, and the file does not have it.",
    "Find out whether the file was exchanged or only the stated format is wrong; the latter is put "
    "right with qcowtui relink -F FORMAT.",
)
UNSUPPORTED = _absent(
    "QCOW-CHAIN-UNSUPPORTED",
    "backing file of a format not read here",
    "The stated format of the backing file is not qcow2 or raw.",
    "Read the chain with qemu-img, which knows more formats.",
)
IN_USE = _absent(
    "QCOW-CHAIN-IN-USE",
    "backing file in use",
    "Another process may write to the backing file just now, which changes every overlay on it.",
    "Find out which process holds it. If it writes, overlays on this file are being damaged; else "
    "read anyway with -U.",
)
DAMAGED = _absent(
    "QCOW-CHAIN-DAMAGED",
    "backing file damaged",
    "The backing file was opened, but its header or tables cannot be used.",
    "Look at that file itself: its findings say what is wrong.",
)
FORMAT_DOUBTFUL = kind(
    "QCOW-CHAIN-FORMAT-DOUBTFUL",
    Severity.WARNING,
    "raw backing file looks like something else",
    "The backing file is stated to be raw, and its first bytes are those of another format.",
    "The bytes of that file are used as they are, as stated. If the statement is wrong, the guest "
    "sees the inside of an image file instead of a disk.",
    "Compare with a backup or a sibling. If the file really is another format, state it "
    "(qcowtui relink -F FORMAT); a guest can also have written such bytes on a raw disk.",
)
FORMAT_GUESSED = kind(
    "QCOW-CHAIN-FORMAT-GUESSED",
    Severity.WARNING,
    "backing format guessed",
    "The image does not state the format of its backing file, so its first bytes had to decide.",
    "A guest that could write to a raw base can make it pass for another format. References of a "
    "file whose format was guessed are not followed.",
    "State the format (qcowtui relink -F FORMAT).",
)
BASE_NEWER = kind(
    "QCOW-CHAIN-BASE-NEWER",
    Severity.WARNING,
    "backing file changed after its overlay",
    "The backing file was modified later than the image above it. A copy can cause that, and so "
    "can a write to the base, which changes the disk of every overlay.",
    "If the base was written to, the overlay shows a mixture of old and new: its file systems may "
    "be damaged although a check finds nothing.",
    "Find out what changed the base (it should never be started or committed into while overlays "
    "exist).",
)
BASE_LARGER = kind(
    "QCOW-CHAIN-BASE-LARGER",
    Severity.INFO,
    "backing file larger than its overlay",
    "The disk of the backing file is larger than the disk above it.",
    "What lies beyond the end of the overlay is not visible.",
    "Nothing needs to be done; if data is missed, the overlay can be resized.",
)
BASE_SMALLER = kind(
    "QCOW-CHAIN-BASE-SMALLER",
    Severity.INFO,
    "backing file smaller than its overlay",
    "The disk of the backing file is smaller than the disk above it.",
    "Beyond its end the backing file reads as zeros.",
    "Nothing needs to be done.",
)
DATA_FILE_MISSING = kind(
    "QCOW-CHAIN-DATA-FILE-MISSING",
    Severity.ERROR,
    "external data file missing",
    "Guest data lies in an external data file, which is not there or cannot be used.",
    "No stored data can be read. The map of the image is not affected.",
    "Put the data file back where the name leads.",
)
DATA_FILE_REFUSED = kind(
    "QCOW-CHAIN-DATA-FILE-REFUSED",
    Severity.INFO,
    "external data file not opened",
    "Guest data lies in an external data file, and nobody allowed it to be opened: the name was "
    "chosen by whoever made the image.",
    "No stored data can be read. The map of the image is not affected.",
    "Allow it (--follow) if you know where the image comes from; it is opened for reading only.",
)

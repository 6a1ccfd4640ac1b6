"""A file whose qcow2 header is gone: what structures are still there, and what header fits them."""

from .proposals import LostImage, Proposal, scan_lost
from .sectors import l1_candidates

__all__ = ["LostImage", "Proposal", "l1_candidates", "scan_lost"]

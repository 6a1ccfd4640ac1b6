"""Guided repair: what is wrong, what can be done about it, what each way keeps and loses.

``diagnosis`` turns a check into remedies; each kind of damage has a module that knows it;
``action`` applies what was chosen, in one transaction.
"""

from .action import RepairImage
from .diagnosis import Case, diagnose
from .remedy import LEAVE, Option, Remedy

__all__ = ["LEAVE", "Case", "Option", "Remedy", "RepairImage", "diagnose"]

"""What a user can do, declared once.

A :class:`~qcowtui.commands.command.Command` gives the key binding, the entry in the footer and in
the command palette, the tooltip, the line in the help screen and in ``docs/keys.md``.  What is not
declared here can be neither bound nor shown.
"""

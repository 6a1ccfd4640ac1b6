"""What a screen shows, as plain data: no Textual and no Rich below this line.

Nothing is imported here, so that a command line verb which needs one light module (``units``) does
not pay for numpy.
"""

"""The command line: one module a verb, of which only the chosen one is loaded.

Nothing is imported here, and nothing the light verbs load may import numpy, rich or textual.
"""

"""The verbs, one module each, with a ``VERB`` (see :mod:`qcowtui.cli.verb`)."""

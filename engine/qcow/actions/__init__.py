"""What can be done to an image: one file a verb, each an immutable value with a ``run``."""

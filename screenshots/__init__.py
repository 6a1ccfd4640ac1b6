"""The pictures of the README, drawn by driving the app: ``python -m screenshots``."""

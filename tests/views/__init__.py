"""Tests of what a screen shows."""

"""Tests of the registry of commands."""

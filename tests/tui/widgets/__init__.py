"""Tests of the widgets, each with a model of its own."""

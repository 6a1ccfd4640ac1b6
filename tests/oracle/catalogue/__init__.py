"""Recipes for images, one module a theme; ``tests.oracle.variants`` puts them together."""

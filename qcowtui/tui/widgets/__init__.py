"""Widgets that know no image: each shows a model it is given."""

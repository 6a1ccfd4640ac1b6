"""The terminal app.  ``run`` starts it; nothing of Textual is imported before that."""

"""One pane of the dashboard a file; each shows parts of a session and shares its selection."""

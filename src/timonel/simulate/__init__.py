"""Live traffic made up from held-out rows: what a project would live through, in minutes."""

"""The order of it: ingest → validate → split → train → evaluate → register."""

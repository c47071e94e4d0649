"""Where state and bytes are kept: the database, the object store and the registry."""

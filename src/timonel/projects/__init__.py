"""The bundled systems, each one definition."""

"""The bundled projects are run with the pipeline's own fixtures."""

from tests.pipeline.conftest import home, registry_template, trained

__all__ = ["home", "registry_template", "trained"]

"""Requests made up from our own OpenAPI document find no failure of ours."""

from typing import TYPE_CHECKING, Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

if TYPE_CHECKING:
    from schemathesis.core.result import Ok

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOTH = ("digits", "penguins")
PATHS = [f"GET {path}" for path in ("/", "/health", "/live", "/ready", "/metrics")]
PATHS += [f"GET /{project}/{name}" for project in BOTH for name in ("health", "live", "ready")]
PATHS += [f"POST /{project}/predict" for project in BOTH]
PATHS += [f"POST /{project}/feedback" for project in BOTH]
PATHS += [f"GET /api/projects/{project}/runs" for project in BOTH]
PATHS += [f"GET /api/projects/{project}/runs/{{run}}" for project in BOTH]
PATHS += [f"GET {path}" for path in ("/ping", "/version", "/v2")]
PATHS += [f"GET /{project}/ping" for project in BOTH]
PATHS += [f"GET /v2/health/{name}" for name in ("live", "ready")]
PATHS += [
    f"GET /v2/models/{{model}}{rest}"
    for rest in ("", "/ready", "/versions/{version}", "/versions/{version}/ready")
]
PATHS += [f"POST /v2/models/{{model}}{rest}/infer" for rest in ("", "/versions/{version}")]
PATHS += [f"POST /{project}/invocations" for project in BOTH]
# These train, and there is nobody here who could: 503.
TRAIN = [f"PUT /{project}/run-pipeline" for project in BOTH]
TRAIN += [f"POST /api/projects/{project}/runs" for project in BOTH]


@pytest.fixture(scope="module")
def operations(mounted: TestClient) -> dict[str, Any]:
    """What the document describes, by path."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", mounted.app)
    found = [cast("Ok[Any]", result).ok() for result in schema.get_all_operations()]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


def test_all_that_is_documented_is_tried(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(PATHS + TRAIN)


# Only predictions and labels take anything that could be wrong.
TRIED = [(path, GenerationMode.POSITIVE) for path in PATHS]
TAKES = ("/predict", "/feedback", "/infer", "/invocations")
TRIED += [(path, GenerationMode.NEGATIVE) for path in PATHS if path.endswith(TAKES)]


@pytest.mark.parametrize(("path", "mode"), TRIED)
def test_no_made_up_request_fails_or_is_answered_otherwise_than_documented(
    path: str, mode: GenerationMode, operations: dict[str, Any]
) -> None:
    operation = operations[path]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=50 if path.endswith(TAKES) else 5,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    ask()

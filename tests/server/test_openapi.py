"""The OpenAPI document is true: requests made from it never find a fault in the server."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from running_server import RunningServer
from schemathesis.checks import not_a_server_error

from nomoat.server.app import OPERATIONS

schema = schemathesis.pytest.from_fixture("api_schema")


@pytest.fixture(scope="session")
def api_schema(server: RunningServer) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(server.url + "/openapi.json", wait_for_schema=5)


def test_every_operation_is_documented(server: RunningServer) -> None:
    document = server.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        described = document["paths"][operation.path.replace(":path}", "}")][operation.method.lower()]
        assert described["summary"]
        assert ("requestBody" in described) == (operation.body is not None)


@schema.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
          suppress_health_check=list(HealthCheck))  # fmt: skip
def test_no_request_finds_a_fault(case: schemathesis.Case) -> None:
    if isinstance(case.body, dict) and case.operation.method.upper() == "POST":
        if case.path.startswith(("/v1/c", "/v1/m")):  # short answers: faults do not hide in long ones
            case.body["max_tokens"] = 1
            case.body.pop("max_completion_tokens", None)
            case.body["n"] = 1
        elif case.path == "/v1/responses":
            case.body["max_output_tokens"] = 1
    case.call_and_validate(checks=[not_a_server_error], timeout=60)

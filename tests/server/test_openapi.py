"""The OpenAPI document is true: requests made from it never find a fault in the server."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from running_server import RunningServer
from schemathesis.checks import not_a_server_error

from nomoat.server.app import OPERATIONS
from nomoat.server.wire import Operation

EXAMPLES = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def _path(operation: Operation) -> str:
    return operation.path.replace(":path}", "}")


@pytest.fixture(scope="module")
def document(server: RunningServer) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(server.url + "/openapi.json")


def test_every_operation_is_documented(server: RunningServer) -> None:
    document = server.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        described = document["paths"][_path(operation)][operation.method.lower()]
        assert described["summary"]
        assert ("requestBody" in described) == (operation.body is not None)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.method} {op.path}")
def test_no_request_finds_a_fault(document: schemathesis.BaseSchema, operation: Operation) -> None:
    @EXAMPLES
    @given(case=document[_path(operation)][operation.method].as_strategy())
    def check(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and {"messages", "prompt", "input"} & set(case.body):
            # Short answers: faults do not hide in long ones.
            case.body.update(
                max_tokens=1, n=1, max_output_tokens=1, options={"num_predict": 1}, n_predict=1, n_cmpl=1
            )
            case.body.pop("max_completion_tokens", None)
        case.call_and_validate(checks=[not_a_server_error], timeout=60)

    check()

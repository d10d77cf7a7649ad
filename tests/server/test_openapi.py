"""The OpenAPI document is true: requests made from it never find a fault, and answers are what it says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from running_server import RunningServer
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nomoat.server.app import OPERATIONS
from nomoat.server.wire import Operation

EXAMPLES = 200


def says_what_is_not_supported(ctx: Any, response: Any, case: Any) -> bool | None:
    """A fault has a status from 500 on, other than that of what is not there by intent."""
    return None if response.status_code == 501 else not_a_server_error(ctx, response, case)


CHECKS = [
    says_what_is_not_supported, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip
DIFFERENT = list({operation.handler: operation for operation in reversed(OPERATIONS)}.values())
"""Without the other names of the same operations."""
MODELS = ["smollm2", "smollm2+me:0.5", "smollm2:latest", None]
"""What stands for a made-up name of a model, which would only be unknown; None leaves it."""
PROMPTS = {"messages", "prompt", "input"}
LIMITS = {
    "max_tokens": 1, "max_output_tokens": 1, "max_completion_tokens": 1, "n_predict": 1,
    "n": 2, "best_of": 2, "n_cmpl": 2,
}  # fmt: skip


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


@pytest.mark.parametrize("operation", DIFFERENT, ids=lambda op: f"{op.method} {op.path}")
def test_no_request_finds_a_fault(document: schemathesis.BaseSchema, operation: Operation) -> None:
    described = document[_path(operation)][operation.method]
    cases = described.as_strategy()
    if operation.body is not None:
        cases |= described.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, model=st.sampled_from(MODELS))
    def check(case: schemathesis.Case, model: str | None) -> None:
        _reach_the_model(case.path_parameters, model)
        if isinstance(case.body, dict):
            _reach_the_model(case.body, model)
            _keep_short(case.body)
        case.call_and_validate(checks=CHECKS, timeout=60)

    check()


def _reach_the_model(fields: dict[str, Any], model: str | None) -> None:
    if model is not None and isinstance(fields.get("model"), str):
        fields["model"] = model


def _keep_short(body: dict[str, Any]) -> None:
    """Faults do not hide in long answers. What is no number, or asks for nothing, stays as it is."""
    for field, most in LIMITS.items():
        value = body.get(field)
        if isinstance(value, int | float) and (value > most or value == -1):  # 40.0 is a whole number, too
            body[field] = most
    if PROMPTS & set(body):
        for field in ("max_tokens", "max_output_tokens", "n_predict"):
            body[field] = 1 if body.get(field) is None else body[field]
        options = body.get("options")
        if options is None or isinstance(options, dict):
            body["options"] = {**(options or {}), "num_predict": 1}

"""Every error has a status, a reason, and no secrets; tables of log-probabilities are OpenAI's."""

from __future__ import annotations

import pytest

from nomoat.base import errors
from nomoat.base.errors import ContextOverflowError, NomoatError, OverloadedError
from nomoat.run.protocol import TokenLogprob
from nomoat.server.completion_logprobs import LogprobsTable
from nomoat.server.errors import BadRequest, HttpProblem, headers_of, openai_error, problem_of, status_of


def test_no_known_error_is_a_fault_of_the_server() -> None:
    codes = {getattr(errors, name).code for name in errors.__all__} - {NomoatError.code}
    assert {code for code in codes if status_of(HttpProblem(code, "x")) == 500} == set()


def test_what_nobody_foresaw_says_nothing() -> None:
    problem = problem_of(ZeroDivisionError("secret"))
    assert status_of(problem) == 500
    assert "secret" not in str(openai_error(problem))


def test_an_overloaded_server_says_when_to_come_again() -> None:
    assert headers_of(OverloadedError("full", retry_after_seconds=2.1)) == {"Retry-After": "3"}


def test_openai_clients_read_their_own_codes() -> None:
    assert openai_error(ContextOverflowError("long"))["error"]["code"] == "context_length_exceeded"
    assert openai_error(BadRequest("bad", "top_p"))["error"]["param"] == "top_p"


@pytest.mark.parametrize("parts", [["☃".encode()], [b"\xe2", b"\x98\x83"], [b"\xe2\x98", b"\x83"]])
def test_offsets_count_characters_however_tokens_cut_them(parts: list[bytes]) -> None:
    table = LogprobsTable()
    entries = [TokenLogprob(1, part, -1.0, (TokenLogprob(2, b"x", -0.5),)) for part in [b"a", *parts, b"b"]]
    table.add([None, *entries], first_text="<s>")
    columns = table.as_dict()
    assert columns["text_offset"][:2] == [0, 3] and columns["text_offset"][-1] == 5
    assert columns["token_logprobs"][0] is None and columns["top_logprobs"][1] == {"x": -0.5, "a": -1.0}
    assert all(token == "☃" or token.startswith("bytes:\\x") for token in columns["tokens"][2:-1])


def test_tokens_of_the_same_text_keep_the_likeliest_number() -> None:
    table = LogprobsTable()
    table.add([TokenLogprob(1, b"a", -3.0, (TokenLogprob(2, b"a", -0.5), TokenLogprob(3, b"b", -0.7)))])
    assert table.as_dict()["top_logprobs"] == [{"a": -0.5, "b": -0.7}]

"""Long prompts: a client learns at once that its request was taken, and hears of the server until the answer comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from nomoat.base.errors import ContextOverflowError
from nomoat.base.settings import Settings
from nomoat.run.sampling import SamplingParams
from nomoat.server.answer_events import Finished, TextDelta
from nomoat.server.answers import Answer, AnswerRequest, Answers
from nomoat.server.metrics import Metrics
from nomoat.server.models import ModelOptions, Models
from nomoat.server.wire import event_stream

LONG = "Ships came and went. " * 80
GREEDY = SamplingParams(temperature=0, max_tokens=4)


@pytest.fixture(scope="module")
def models(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), threads=1, embedded_model=smollm2_path)
    made = Models(settings, ["smollm2"], ModelOptions(parallel=2, context_length=512))
    made.load_all()
    yield made
    made.close()


def _answers(models: Models, seconds: float) -> Answers:
    return Answers(models, Metrics(models.stats), seconds)


def _request(prompt: str) -> AnswerRequest:
    return AnswerRequest("smollm2", GREEDY, prompt=prompt, reuse=False)


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def _text(answer: Answer) -> str:
    async with aclosing(answer):
        return "".join([event.text async for event in answer if isinstance(event, TextDelta)])


def test_an_answer_begins_before_its_long_prompt_was_read(models: Models) -> None:
    async def check() -> None:
        patient, impatient = _answers(models, 60), _answers(models, 0.05)
        start = time.monotonic()
        answer = await impatient.begin(_request(LONG))
        begun = time.monotonic() - start
        text = await _text(answer)
        assert begun < (time.monotonic() - start) / 2
        assert answer.model == "smollm2" and len(answer.prompt_tokens) > 300
        assert text == await _text(await patient.begin(_request(LONG)))
        assert not impatient.running.all()

    _run(check())


def test_what_is_wrong_is_told_when_the_answer_is_read_where_nobody_waited(models: Models) -> None:
    async def check() -> None:
        answer = await _answers(models, 0).begin(_request(LONG * 3))
        with pytest.raises(ContextOverflowError):
            await _text(answer)
        with pytest.raises(ContextOverflowError):
            await _answers(models, 60).begin(_request(LONG * 3))

    _run(check())


def test_an_answer_that_nobody_reads_any_more_stops_its_prompt(models: Models) -> None:
    async def check() -> None:
        answers = _answers(models, 0.05)
        answer = await answers.begin(_request(LONG))
        assert len(answers.running.all()) == 1
        await answer.aclose()
        assert not answers.running.all()
        beginning = asyncio.ensure_future(_answers(models, 60).begin(_request(LONG)))
        await asyncio.sleep(0.2)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        last = [event async for event in await _answers(models, 60).begin(_request("One, two,"))][-1]
        assert isinstance(last, Finished) and last.usage.completion == 4
        assert models.engine().stats()["running"] == 0

    _run(check())


async def _slow(closed: list[bool]) -> AsyncIterator[bytes]:
    try:
        yield b"data: 1\n\n"
        await asyncio.sleep(0.3)
        yield b"data: 2\n\n"
    finally:
        closed.append(True)


async def _sent(response: Response, sent: list[bytes]) -> None:
    """Let the server send the response to a client that stays."""

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/x-ndjson"])
def test_comments_fill_the_silence_of_an_event_stream(media_type: str) -> None:
    async def check() -> None:
        closed: list[bool] = []
        sent: list[bytes] = []
        await _sent(event_stream(_slow(closed), media_type, 0.1), sent)
        content = b"".join(sent)
        comments = b":\n\n" * content.count(b":\n\n")
        assert content == b"data: 1\n\n" + comments + b"data: 2\n\n" and closed
        assert bool(comments) == (media_type == "text/event-stream")

    _run(check())


def test_a_stream_that_is_closed_in_its_silence_ends_what_makes_it() -> None:
    async def check() -> None:
        closed: list[bool] = []
        sent: list[bytes] = []
        sending = asyncio.ensure_future(_sent(event_stream(_slow(closed), silence_seconds=0.05), sent))
        while b":\n\n" not in sent:
            await asyncio.sleep(0.01)
        assert not closed
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        count = len(sent)
        await asyncio.sleep(0.15)
        assert closed and len(sent) == count

    _run(check())

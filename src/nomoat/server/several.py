"""Several answers to one request: `n` choices, or a list of prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing

from anyio import CancelScope

from nomoat.server.answer_events import Event
from nomoat.server.answers import Answer, AnswerRequest, Answers

__all__ = ["begin_all", "collect", "merged"]


async def begin_all(answers: Answers, requests: Sequence[AnswerRequest]) -> list[Answer]:
    """Begin all, or none: where one is refused, the others end and its error is raised."""
    if len(requests) == 1:
        return [await answers.begin(requests[0])]
    tasks = [asyncio.ensure_future(answers.begin(request)) for request in requests]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Answer):
                await outcome.aclose()
        raise
    return [task.result() for task in tasks]


async def collect(answer: Answer) -> list[Event]:
    """All events of one answer."""
    async with aclosing(answer):
        return [event async for event in answer]


async def merged(answers: Sequence[Answer]) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of all answers as they come, each with the number of its answer. Closing this closes them all."""
    async with AsyncExitStack() as stack:
        for answer in answers:
            stack.push_async_callback(answer.aclose)
        if len(answers) == 1:
            async for event in answers[0]:
                yield 0, event
            return
        queue: asyncio.Queue[tuple[int, Event] | BaseException | None] = asyncio.Queue(64)
        readers = [asyncio.ensure_future(_read(index, answer, queue)) for index, answer in enumerate(answers)]
        stack.push_async_callback(_cancel, readers)
        left = len(readers)
        while left:
            item = await queue.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item


async def _read(
    index: int, answer: Answer, queue: asyncio.Queue[tuple[int, Event] | BaseException | None]
) -> None:
    try:
        async for event in answer:
            await queue.put((index, event))
    except Exception as error:
        await queue.put(error)
    await queue.put(None)


async def _cancel(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    with CancelScope(shield=True):  # an answer can only be closed once nobody reads it
        await asyncio.gather(*tasks, return_exceptions=True)

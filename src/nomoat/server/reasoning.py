"""Finds what a model thinks before it answers: `<think>...</think>`, in the form of Qwen, DeepSeek and many others."""

from __future__ import annotations

from typing import Any

from nomoat.server.tags import possible_start

__all__ = ["THINK_END", "THINK_START", "ReasoningParser", "effort_variables"]

THINK_START, THINK_END = "<think>", "</think>"


class ReasoningParser:
    """Turns pieces of text into pieces of reasoning and pieces of the answer, each `(is_reasoning, text)`.

    Only the beginning of what a model writes can be reasoning. White space around it belongs to neither. `begun` says
    that the prompt has opened it already.
    """

    def __init__(self, begun: bool = False) -> None:
        self._held = ""
        self._state = self._in_reasoning if begun else self._at_start
        self._said_something = False

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning still, as far as is known."""
        return self._state == self._in_reasoning

    def push(self, text: str) -> list[tuple[bool, str]]:
        """More of what the model writes."""
        self._held += text
        pieces: list[tuple[bool, str]] = []
        while self._held and self._state(pieces):
            pass
        return pieces

    def finish(self) -> list[tuple[bool, str]]:
        """The answer has ended: what was held back is as it stands."""
        held, self._held = self._held, ""
        if self._state == self._in_reasoning:
            return [(True, held.rstrip())] if held.strip() else []
        return [(False, held)] if held and self._state == self._at_start else []

    # Each state takes what it can from `_held` and says whether the next one should look at the rest.

    def _at_start(self, pieces: list[tuple[bool, str]]) -> bool:
        begun = self._held.lstrip()
        if begun.startswith(THINK_START):
            self._held, self._state = begun[len(THINK_START) :], self._in_reasoning
            return True
        if THINK_START.startswith(begun):
            return False
        self._state = self._in_answer
        return True

    def _in_reasoning(self, pieces: list[tuple[bool, str]]) -> bool:
        if not self._said_something:
            self._held = self._held.lstrip()
        before, tag, after = self._held.partition(THINK_END)
        # White space may turn out to be that before the end, and an end may come in parts.
        shown = before.rstrip() if tag else before[: len(before) - possible_start(before, THINK_END)].rstrip()
        if shown:
            pieces.append((True, shown))
            self._said_something = True
        if not tag:
            self._held = before[len(shown) :]
            return False
        self._held, self._state = after, self._before_answer
        return True

    def _before_answer(self, pieces: list[tuple[bool, str]]) -> bool:
        self._held = self._held.lstrip()
        if self._held:
            self._state = self._in_answer
        return bool(self._held)

    def _in_answer(self, pieces: list[tuple[bool, str]]) -> bool:
        pieces.append((False, self._held))
        self._held = ""
        return False


def effort_variables(effort: bool | str | None) -> dict[str, Any]:
    """A wish to think as variables of chat templates: whether, or how much as "low", "high"; "none" is not at all."""
    if effort is None:
        return {}
    if effort in (False, "none"):
        return {"enable_thinking": False}
    return {"enable_thinking": True} | ({} if effort is True else {"reasoning_effort": effort})

"""Rows to token ids with a mask of what is to be learned. What training reads is what `nomoat run` sends.

Numpy only: batches, packing and tensors come later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nomoat.base.errors import InputError
from nomoat.tune.rows import Row
from nomoat.tune.spans import answer_opening, reply_spans, token_spans
from nomoat.tune.windows import cut_places, pause_levels

if TYPE_CHECKING:  # loads llama.cpp, which nothing here needs by itself
    from nomoat.formats.chat_template import ChatTemplate
    from nomoat.formats.vocabulary import Vocabulary

__all__ = ["TRAIN_ON", "Example", "TokeniseSummary", "tokenise"]

TRAIN_ON = ("assistant", "all")
_SHORTEST_LENGTH_TOKENS = 8


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """One document or window.

    `tokens` int32 (T,); `supervised` bool (T,) says that token i is to be predicted from the tokens before it
    (never the first); `n_bytes_supervised` counts the UTF-8 bytes of the supervised text without control
    tokens, so that a loss in nats becomes bits per byte.
    """

    tokens: np.ndarray
    supervised: np.ndarray
    document_id: str
    n_bytes_supervised: int


@dataclass
class TokeniseSummary:
    """What tokenising did; nothing is cut or left out without being counted here."""

    examples: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    n_bytes_supervised: int = 0
    longest_tokens: int = 0
    texts_cut: int = 0
    """Texts longer than max_length, cut into windows: nothing of them is lost."""
    chats_cut: int = 0
    """Chats longer than max_length, of which the end is lost."""
    tokens_lost: int = 0
    """Supervised tokens of those ends."""
    chats_dropped: int = 0
    """Chats without a supervised token within max_length."""
    replies_without_end: int = 0
    """Replies after which the chat template writes no token that ends an answer."""
    n_bytes_left_out: int = 0
    """Bytes of rare characters that the model has no token for."""
    answer_opening: str = ""
    """What the template writes before an answer that is to be generated, but not before one that is learned."""

    def sentences(self, max_length: int) -> list[str]:
        """What a person should know, one plain sentence each."""
        told = [f"{self.tokens:,} tokens in {self.examples:,} rows, {self.supervised_tokens:,} to be learned"]
        if self.texts_cut:
            told.append(f"cut {self.texts_cut:,} texts into windows of at most {max_length:,} tokens")
        longer = "; a larger --max-length keeps them"
        if self.chats_cut:
            lost = f"{self.tokens_lost:,} tokens of replies are lost"
            told.append(
                f"cut the end off {self.chats_cut:,} chats over {max_length:,} tokens: {lost}{longer}"
            )
        if self.chats_dropped:
            dropped = f"left out {self.chats_dropped:,} chats with no reply within {max_length:,} tokens"
            told.append(dropped + longer)
        if self.replies_without_end:
            told.append(
                f"{self.replies_without_end:,} replies have no end token in this model's chat template"
            )
        if self.n_bytes_left_out:
            told.append(f"{self.n_bytes_left_out:,} bytes of rare characters have no token in this model")
        if self.answer_opening:
            opening = f"this model's chat template opens each answer with {self.answer_opening!r}"
            told.append(f"{opening}, which the chats to learn from do not have")
        return told


def tokenise(
    rows: Iterable[Row],
    vocabulary: Vocabulary,
    template: ChatTemplate,
    max_length: int,
    train_on: str = "assistant",
) -> tuple[list[Example], TokeniseSummary]:
    """Examples of at most `max_length` tokens, in the order of `rows`.

    Chats: `train_on="assistant"` supervises each reply and the token that ends it, `"all"` every token but
    the first. A chat that is too long keeps its start, up to the end of a reply where one fits. Prose is
    supervised whatever `train_on`, in windows cut at paragraphs, lines or sentences, with an end token at the
    document's end. Raises InputError, naming the row, where the template or tokenizer changes a reply.
    """
    if train_on not in TRAIN_ON:
        raise InputError(f"cannot train on {train_on!r}", f"choose one of {', '.join(TRAIN_ON)}")
    if max_length < _SHORTEST_LENGTH_TOKENS:
        problem = f"a maximal length of {max_length} tokens is too short"
        raise InputError(problem, f"choose at least {_SHORTEST_LENGTH_TOKENS}, better 512")
    work = _Tokeniser(vocabulary, template, max_length, train_on)
    examples = [example for row in rows for example in work.examples(row)]
    for example in examples:
        work.summary.examples += 1
        work.summary.tokens += len(example.tokens)
        work.summary.supervised_tokens += int(example.supervised.sum())
        work.summary.n_bytes_supervised += example.n_bytes_supervised
        work.summary.longest_tokens = max(work.summary.longest_tokens, len(example.tokens))
    return examples, work.summary


class _Tokeniser:
    """The choices of one call of `tokenise`, and the bytes of each token met."""

    def __init__(
        self, vocabulary: Vocabulary, template: ChatTemplate, max_length: int, train_on: str
    ) -> None:
        self._vocabulary, self._template = vocabulary, template
        self._max_length, self._train_on = max_length, train_on
        self._pieces: dict[int, bytes] = {}
        self._texts: dict[int, bool] = {}
        self._is_prompt_checked = False
        self.summary = TokeniseSummary()

    def examples(self, row: Row) -> list[Example]:
        """The examples of one row; none where nothing of it can be learned."""
        return self._prose(row) if row.messages is None else self._chat(row)

    def _bytes_of(self, tokens: Sequence[int]) -> list[bytes]:
        pieces = self._pieces
        for token in tokens:
            if token not in pieces:
                pieces[token] = self._vocabulary.token_bytes(token)
        return [pieces[token] for token in tokens]

    def _count_left_out(self, content: bytes, pieces: list[bytes]) -> None:
        self.summary.n_bytes_left_out += max(0, len(content) - sum(map(len, pieces)))

    def _is_space(self, token: int) -> bool:
        return not self._vocabulary.is_end(token) and self._bytes_of([token])[0].isspace()

    def _is_text(self, token: int) -> bool:
        """Whether the token is no control token, whose name is no text of the owner's."""
        if token not in self._texts:
            self._texts[token] = bool(self._vocabulary.decode([token], special=False))
        return self._texts[token]

    def _prose(self, row: Row) -> list[Example]:
        vocabulary = self._vocabulary
        # Not parse_special: a note about "<|im_end|>" must not end anything.
        tokens = vocabulary.encode(row.text or "", parse_special=False)
        pieces = self._bytes_of(tokens)
        self._count_left_out((row.text or "").encode(), pieces)
        if vocabulary.eos_token_id is not None:
            tokens, pieces = [*tokens, vocabulary.eos_token_id], [*pieces, b""]
        head = (
            [vocabulary.bos_token_id] if vocabulary.adds_bos and vocabulary.bos_token_id is not None else []
        )
        places = cut_places(pause_levels(pieces), self._max_length - len(head))
        self.summary.texts_cut += len(places) > 1
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        examples = []
        for start, end in zip(places, [*places[1:], len(tokens)], strict=True):
            window = np.array(head + tokens[start:end], dtype=np.int32)
            first = start + 1 - len(head)  # the first token of all has nothing to be predicted from
            if len(window) > 1:
                n_bytes = int(lengths[first:end].sum())
                examples.append(Example(window, _all_but_first(len(window)), row.document_id, n_bytes))
        return examples

    def _chat(self, row: Row) -> list[Example]:
        messages = row.messages or ()
        place = f"{row.source}: record {row.line}" if row.line else row.source
        text, spans = reply_spans(self._template, messages, place)
        if not self._is_prompt_checked:
            self._is_prompt_checked = True
            self.summary.answer_opening = answer_opening(self._template, messages)
        tokens = self._template.encode(
            self._vocabulary, [{"role": m.role, "content": m.content} for m in messages]
        )
        content, pieces = text.encode(), self._bytes_of(tokens)
        places = token_spans(content, pieces, place)
        self._count_left_out(content, pieces)
        tokens, places = self._with_end(tokens, places, spans)
        replies, ends = self._replies(tokens, places, spans)
        supervised = _all_but_first(len(tokens)) if self._train_on == "all" else replies
        length = self._kept(supervised, replies, ends)
        if length is None:
            self.summary.chats_dropped += 1
            return []
        n_bytes = self._n_bytes(tokens[:length], places[:length], supervised[:length], spans)
        kept = np.array(tokens[:length], dtype=np.int32)
        return [Example(kept, supervised[:length], row.document_id, n_bytes)]

    def _with_end(
        self, tokens: list[int], places: np.ndarray, spans: list[tuple[int, int]]
    ) -> tuple[list[int], np.ndarray]:
        """Close the chat with EOS where the template writes no end token: the model must learn to stop."""
        last = int(np.searchsorted(places[:, 0], spans[-1][1], side="left"))
        eos = self._vocabulary.eos_token_id
        if eos is None or any(map(self._vocabulary.is_end, tokens[last:])):
            return tokens, places
        # EOS stands for what the template writes behind the last reply.
        end = places[last - 1, 1]
        return [*tokens[:last], eos], np.append(places[:last], [[end, end]], axis=0)

    def _replies(
        self, tokens: list[int], places: np.ndarray, spans: list[tuple[int, int]]
    ) -> tuple[np.ndarray, list[int]]:
        """Mask of the replies with their end tokens, bool (T,), and the token index behind each reply."""
        mask, ends = np.zeros(len(tokens), dtype=np.bool_), []
        for start, end in spans:
            first = int(np.searchsorted(places[:, 1], start, side="right"))
            last = int(np.searchsorted(places[:, 0], end, side="left"))
            closing = last
            while closing < len(tokens) and self._is_space(tokens[closing]):
                closing += 1
            if closing < len(tokens) and self._vocabulary.is_end(tokens[closing]):
                last = closing + 1
            else:
                self.summary.replies_without_end += 1
            mask[first:last] = True
            ends.append(last)
        mask[:1] = False
        return mask, ends

    def _kept(self, supervised: np.ndarray, replies: np.ndarray, ends: list[int]) -> int | None:
        """How many tokens to keep: up to the last reply that fits, else as much of the first one as fits."""
        if len(supervised) <= self._max_length and self._train_on == "all":
            return len(supervised)
        whole = [end for end in ends if end <= self._max_length]
        # What follows the last reply teaches nothing and changes nothing before it.
        length = whole[-1] if whole else self._max_length
        if not replies[:length].any():
            return None
        if length < ends[-1]:
            self.summary.chats_cut += 1
            self.summary.tokens_lost += int(supervised[length:].sum())
        return length

    def _n_bytes(
        self, tokens: list[int], places: np.ndarray, supervised: np.ndarray, spans: list[tuple[int, int]]
    ) -> int:
        starts, ends = places[:, 0], places[:, 1]
        if self._train_on == "all":
            is_text = np.array(list(map(self._is_text, tokens)))
            return int((ends - starts)[supervised & is_text].sum())
        covered = 0
        for start, end in spans:
            inside = np.minimum(ends, end) - np.maximum(starts, start)
            covered += int(np.maximum(inside, 0)[supervised].sum())
        return covered


def _all_but_first(length: int) -> np.ndarray:
    mask = np.ones(length, dtype=np.bool_)
    mask[:1] = False
    return mask

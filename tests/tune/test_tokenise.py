"""Tokenising with the real vocabulary: what training reads is what `nomoat run` sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.base.errors import InputError
from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.vocabulary import Vocabulary
from nomoat.tune.rows import Message, Row
from nomoat.tune.spans import answer_opening, reply_spans, token_spans
from nomoat.tune.tokenise import Example, TokeniseSummary, tokenise
from nomoat.tune.windows import cut_places, pause_levels


@pytest.fixture(scope="module")
def vocabulary(smollm2_path: Path) -> Iterator[Vocabulary]:
    with Vocabulary.open(smollm2_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def template(smollm2_path: Path) -> ChatTemplate:
    return ChatTemplate.from_gguf(read_gguf(smollm2_path))


class Tokenised:
    """One row with the model's own tokenizer and template, seen as text."""

    def __init__(self, vocabulary: Vocabulary, template: ChatTemplate) -> None:
        self.vocabulary, self.template = vocabulary, template

    def __call__(
        self, row: Row, max_length: int = 512, train_on: str = "assistant"
    ) -> tuple[list[Example], TokeniseSummary]:
        return tokenise([row], self.vocabulary, self.template, max_length, train_on)

    def supervised(self, example: Example) -> str:
        return self.vocabulary.decode(example.tokens[example.supervised].tolist())


@pytest.fixture
def tokenised(vocabulary: Vocabulary, template: ChatTemplate) -> Tokenised:
    return Tokenised(vocabulary, template)


def _chat(*turns: str, system: str | None = None) -> Row:
    roles = ("user", "assistant") * len(turns)
    messages = [Message(role, turn) for role, turn in zip(roles, turns, strict=False)]
    head = [] if system is None else [Message("system", system)]
    return Row("chats.jsonl", "id", "group", messages=(*head, *messages), line=7)


def _template(source: str) -> ChatTemplate:
    return ChatTemplate(source, "<|im_start|>", "<|im_end|>", "test.gguf")


# -- chats ---------------------------------------------------------------------------------------


def test_only_replies_and_their_end_are_learned(tokenised: Tokenised) -> None:
    (example,), summary = tokenised(_chat("Which tea?", "Lapsang.", "And Größe 日本?", "Ja, 日本 — größer."))
    assert tokenised.supervised(example) == "Lapsang.<|im_end|>Ja, 日本 — größer.<|im_end|>"
    assert example.n_bytes_supervised == len("Lapsang.Ja, 日本 — größer.".encode())
    assert example.tokens.dtype == np.int32 and example.supervised.dtype == np.bool_
    assert summary.supervised_tokens == int(example.supervised.sum())


def test_the_tokens_before_a_reply_are_the_prompt_that_run_sends(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_chat("Which tea?", "Lapsang."))
    asked = [{"role": "user", "content": "Which tea?"}]
    prompt = tokenised.template.encode(tokenised.vocabulary, asked, add_generation_prompt=True)
    assert example.tokens[: len(prompt)].tolist() == prompt
    assert np.flatnonzero(example.supervised)[0] == len(prompt)
    assert "named SmolLM" in tokenised.vocabulary.decode(prompt), "the template's own system prompt is there"


def test_an_own_system_message_takes_the_place_of_the_templates(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_chat("Hi", "Hello", system="Be brief."))
    text = tokenised.vocabulary.decode(example.tokens.tolist())
    assert "Be brief." in text and "SmolLM" not in text


def test_nothing_is_kept_behind_the_last_reply(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_chat("Hi", "Hello"))
    assert example.supervised[-1]


def test_a_reply_that_repeats_the_template_is_found_in_its_own_place(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_chat("assistant", "assistant", "user\nassistant", "user"))
    assert tokenised.supervised(example) == "assistant<|im_end|>user<|im_end|>"


def test_train_on_all_learns_every_token_but_the_first(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_chat("Hi", "Hello"), train_on="all")
    assert not example.supervised[0] and example.supervised[1:].all()
    text = tokenised.vocabulary.decode(example.tokens.tolist())
    plain = text.replace("<|im_start|>", "").replace("<|im_end|>", "")
    assert example.n_bytes_supervised == len(plain.encode())


def test_a_long_chat_keeps_its_start_up_to_the_end_of_a_reply(tokenised: Tokenised) -> None:
    row = _chat(*[turn for n in range(10) for turn in (f"Question number {n}?", f"Answer number {n}.")])
    (whole,), _ = tokenised(row)
    (example,), summary = tokenised(row, max_length=100)
    assert len(example.tokens) <= 100 and example.tokens[-1] == tokenised.vocabulary.eos_token_id
    assert example.tokens.tolist() == whole.tokens[: len(example.tokens)].tolist()
    assert summary.chats_cut == 1
    assert summary.tokens_lost == int(whole.supervised.sum() - example.supervised.sum()) > 0
    assert any("cut the end off 1 chats" in sentence for sentence in summary.sentences(100))


def test_one_reply_that_is_too_long_is_cut_inside(tokenised: Tokenised) -> None:
    (example,), summary = tokenised(_chat("Hi", "word " * 200), max_length=64)
    assert len(example.tokens) == 64 and example.supervised[-1]
    assert example.n_bytes_supervised == len(tokenised.supervised(example).encode())
    assert summary.chats_cut == 1


def test_a_question_that_leaves_no_room_is_left_out_and_told(tokenised: Tokenised) -> None:
    examples, summary = tokenised(_chat("word " * 200, "Hello"), max_length=64)
    assert examples == [] and summary.chats_dropped == 1
    assert any("left out 1 chats" in sentence for sentence in summary.sentences(64))


def test_characters_without_a_token_are_left_out_and_told(tokenised: Tokenised) -> None:
    (example,), summary = tokenised(_chat("Hi", "a\U00040000b"))
    assert example.supervised[-1] and summary.n_bytes_left_out == 1
    assert example.n_bytes_supervised == len("a\U00040000b".encode()) - 1
    assert any("rare characters" in sentence for sentence in summary.sentences(512))


# SmolLM2's vocabulary lacks control characters and the first bytes of the rarest planes.
_turn = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cc", "Cs"], exclude_characters="\u2063"),
    min_size=1,
    max_size=20,
).map(str.strip)


@settings(max_examples=60, deadline=None)
@given(turns=st.lists(_turn.filter(bool), min_size=2, max_size=6).filter(lambda turns: len(turns) % 2 == 0))
def test_any_reply_is_learned_exactly(
    vocabulary: Vocabulary, template: ChatTemplate, turns: list[str]
) -> None:
    (example,), _ = tokenise([_chat(*turns)], vocabulary, template, 4096)
    supervised = b"".join(map(vocabulary.token_bytes, example.tokens[example.supervised].tolist()))
    assert supervised == "".join(f"{reply}<|im_end|>" for reply in turns[1::2]).encode()
    assert example.n_bytes_supervised == sum(len(reply.encode()) for reply in turns[1::2])


# -- templates -----------------------------------------------------------------------------------

_STRIPS = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}<|im_end|>{% endfor %}"
_DROPS = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}"
_LAST_ONLY = "{{ messages[-1].content }}<|im_end|>"
_NO_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def test_a_template_that_strips_replies_is_followed(vocabulary: Vocabulary) -> None:
    (example,), _ = tokenise([_chat("Hi ", " Hello ")], vocabulary, _template(_STRIPS), 64)
    assert vocabulary.decode(example.tokens[example.supervised].tolist()).strip() == "Hello<|im_end|>"
    assert example.n_bytes_supervised == len("Hello")


@pytest.mark.parametrize(
    ("source", "reply"), [(_DROPS, "<think>Hm</think>Yes"), (_LAST_ONLY, "Yes"), (_DROPS, "a</think>b")]
)
def test_a_template_that_drops_text_is_an_error_that_names_the_row(
    vocabulary: Vocabulary, source: str, reply: str
) -> None:
    row = _chat("Hi", reply, "And?", "Good")
    with pytest.raises(InputError, match=r"chats\.jsonl: record 7: .*reply 1") as caught:
        tokenise([row], vocabulary, _template(source), 64)
    assert caught.value.hint


def test_a_template_without_end_tokens_still_teaches_to_stop(vocabulary: Vocabulary) -> None:
    (example,), summary = tokenise([_chat("Hi", "Hello", "So?", "Bye")], vocabulary, _template(_NO_END), 64)
    assert example.tokens[-1] == vocabulary.eos_token_id and example.supervised[-1]
    assert summary.replies_without_end == 1, "the reply before the last has none"


def test_an_opening_that_only_prompts_have_is_told(vocabulary: Vocabulary) -> None:
    source = _NO_END + "{% if add_generation_prompt %}assistant: <think>{% endif %}"
    assert answer_opening(_template(source), _chat("Hi", "Yes").messages or ()) == "<think>"
    _, summary = tokenise([_chat("Hi", "Hello")], vocabulary, _template(source), 64)
    assert any("<think>" in sentence for sentence in summary.sentences(64))


def test_spans_are_bytes_of_the_rendered_text() -> None:
    text, spans = reply_spans(_template(_STRIPS), (_chat("é", "日本").messages or ()), "here")
    assert [text.encode()[start:end].decode() for start, end in spans] == ["日本"]


def test_tokens_that_add_or_swallow_spaces_are_placed() -> None:
    def spans(*pieces: bytes) -> list[list[int]]:
        placed: list[list[int]] = token_spans(b"ab  cd", pieces, "here").tolist()
        return placed

    assert spans(b"ab", b"  cd") == [[0, 2], [2, 6]]
    assert spans(b" ab", b"  cd") == [[0, 2], [2, 6]]
    assert spans(b"<s>", b"ab", b"cd") == [[0, 0], [0, 2], [4, 6]]
    with pytest.raises(InputError, match="here"):
        spans(b"ab", b"xx")


# -- prose ---------------------------------------------------------------------------------------


def _prose(text: str) -> Row:
    return Row("note.md", "id", "group", text=text)


def test_prose_is_learned_whole_and_ends_with_an_end_token(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_prose("Once upon a time."))
    assert tokenised.vocabulary.decode(example.tokens.tolist()) == "Once upon a time.<|im_end|>"
    assert not example.supervised[0] and example.supervised[1:].all()
    assert example.n_bytes_supervised == len(" upon a time.")


def test_control_tokens_written_in_a_note_are_ordinary_text(tokenised: Tokenised) -> None:
    (example,), _ = tokenised(_prose("ChatML ends with <|im_end|> always."))
    assert example.tokens.tolist().count(tokenised.vocabulary.eos_token_id) == 1


def test_windows_hold_every_token_once_and_begin_at_paragraphs(tokenised: Tokenised) -> None:
    text = "\n\n".join(f"Paragraph {n}. It has a second sentence. And a third." for n in range(20))
    (whole,), _ = tokenised(_prose(text), max_length=4096)
    windows, summary = tokenised(_prose(text), max_length=64)
    assert np.concatenate([window.tokens for window in windows]).tolist() == whole.tokens.tolist()
    assert max(len(window.tokens) for window in windows) <= 64
    starts = [tokenised.vocabulary.decode(window.tokens[:1].tolist()) for window in windows]
    assert set(starts) == {"Par"} or all("Par" in start for start in starts)
    assert summary.texts_cut == 1


def test_pauses_are_ranked_paragraph_line_sentence_word() -> None:
    pieces = [b"A", b".", b" B", b" c", b"d", b"\n", b"E", b"\n\n", b"F"]
    assert pause_levels(pieces).tolist() == [4, 0, 2, 1, 0, 0, 3, 0, 4]


@given(levels=st.lists(st.integers(0, 4), max_size=200), most=st.integers(8, 50))
def test_no_window_is_longer_than_allowed(levels: list[int], most: int) -> None:
    places = cut_places(np.array(levels, dtype=np.uint8), most)
    lengths = np.diff([*places, len(levels)])
    assert places[0] == 0 and (lengths <= most).all()
    assert (lengths[:-1] > most // 2).all()


def test_wrong_choices_are_refused(tokenised: Tokenised) -> None:
    with pytest.raises(InputError, match="cannot train on 'user'"):
        tokenised(_prose("x"), train_on="user")
    with pytest.raises(InputError, match="too short"):
        tokenised(_prose("x"), max_length=4)

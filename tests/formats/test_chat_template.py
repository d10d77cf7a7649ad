"""Chat templates render as in transformers, and a hostile one harms nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from nomoat.base.errors import BadFileError, InputError
from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.vocabulary import Vocabulary

_CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 < 2 & \"so\" 🙂\n"}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "  spaces  "},
    ],
]  # fmt: skip
_LLAMA2_LIKE = """{{ bos_token }}{% for message in messages %}
{%- if message['role'] not in ['user', 'assistant'] %}{{ raise_exception('only user, assistant') }}{% endif %}
{%- if loop.index0 % 2 == 0 %}[INST] {{ message['content'] | trim }} [/INST]{% continue %}{% endif %}
{%- generation %} {{ message | tojson }}{{ eos_token }}{% endgeneration %}
{%- endfor %}{% if tools is not none %}TOOLS{% endif %}"""


def _transformers(source: str, messages: list[dict[str, str]], prompt: bool) -> str:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    rendered = tokenizer.apply_chat_template(
        messages, chat_template=source, tokenize=False, add_generation_prompt=prompt
    )
    assert isinstance(rendered, str)
    return rendered


def _template(source: str) -> ChatTemplate:
    return ChatTemplate(source, "<|im_start|>", "<|im_end|>", "model.gguf")


def _gguf(tmp_path: Path, **metadata: Any) -> ChatTemplate:
    path = tmp_path / "model.gguf"
    keys = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    write_gguf(path, {"general.architecture": "llama", **keys}, {"t": np.zeros(4, np.float32)})
    return ChatTemplate.from_gguf(read_gguf(path))


@pytest.mark.parametrize("messages", _CONVERSATIONS)
@pytest.mark.parametrize("prompt", [False, True])
def test_the_embedded_model_s_template_renders_as_in_transformers(
    smollm2_path: Path, messages: list[dict[str, str]], prompt: bool
) -> None:
    template = ChatTemplate.from_gguf(read_gguf(smollm2_path))
    assert template.notice == "" and template.eos_token == "<|im_end|>"
    assert template.render(messages, prompt) == _transformers(template.source, messages, prompt)


def test_extensions_of_transformers_are_there() -> None:
    messages = _CONVERSATIONS[2]
    assert _template(_LLAMA2_LIKE).render(messages) == _transformers(_LLAMA2_LIKE, messages, False)
    assert len(_template("{{ strftime_now('%Y') }}").render([])) == 4


def test_a_refusal_by_the_template_is_an_input_error() -> None:
    with pytest.raises(InputError, match="only user, assistant"):
        _template(_LLAMA2_LIKE).render([{"role": "tool", "content": "x"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 99999999 }}",
        "{% for i in range(99999) %}{% for j in range(9999) %}aaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
        "{{ none.attribute.deeper }}",
        "{{ messages[0] + 1 }}",
    ],
)
def test_a_hostile_or_broken_template_is_a_bad_file(source: str) -> None:
    with pytest.raises(BadFileError, match=r"model.gguf: key 'tokenizer.chat_template': the template fails"):
        _template(source).render(_CONVERSATIONS[0])


def test_a_template_that_does_not_parse_names_its_line() -> None:
    with pytest.raises(BadFileError, match="line 2"):
        _template("\n{% for %}")


@pytest.mark.parametrize("messages", [[{"role": "user"}], [{"role": "user", "content": 3}], ["hello"]])
def test_what_is_no_message_is_refused(messages: Any) -> None:
    with pytest.raises(InputError, match="message 0"):
        _template("x").render(messages)


def test_without_a_template_chatml_is_used_where_its_tokens_exist(tmp_path: Path) -> None:
    template = _gguf(tmp_path, tokens=["<|im_start|>", "<|im_end|>"])
    assert "ChatML" in template.notice and template.stop == ()
    expected = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert template.render(_CONVERSATIONS[0], True) == expected


def test_without_a_template_and_its_tokens_the_form_is_plain_and_says_so(tmp_path: Path) -> None:
    template = _gguf(tmp_path, tokens=["a"])
    assert "no chat template" in template.notice and "\nuser:" in template.stop
    assert template.render(_CONVERSATIONS[0], True) == "user: Hello\nassistant:"


def test_encoding_adds_exactly_one_bos_where_the_model_wants_one(smollm2_path: Path) -> None:
    with Vocabulary.open(smollm2_path) as vocabulary:
        template = ChatTemplate.from_gguf(read_gguf(smollm2_path))
        ids = template.encode(vocabulary, _CONVERSATIONS[0], True)
        assert ids == vocabulary.encode(template.render(_CONVERSATIONS[0], True))
        vocabulary.adds_bos = True
        assert template.encode(vocabulary, _CONVERSATIONS[0], True) == ids  # it starts with BOS already
        plain = _template("{{ messages[0].content }}")
        assert plain.encode(vocabulary, _CONVERSATIONS[0]) == [1, *vocabulary.encode("Hello")]

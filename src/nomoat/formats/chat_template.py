"""Messages to the prompt a model was trained on. The template comes from the file and runs in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, Protocol

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nomoat.base.errors import BadFileError, InputError
from nomoat.formats.gguf_file import GGUFFile

__all__ = ["RESERVED_VARIABLES", "ChatTemplate", "Message"]

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""

RESERVED_VARIABLES = frozenset({
    "messages", "add_generation_prompt", "bos_token", "eos_token", "tools", "documents",
})  # fmt: skip
"""What every template is given; a caller's own variables have other names."""
_KEY = "tokenizer.chat_template"
_MOST_OUTPUT_CHARACTERS = 16 << 20
_MOST_REPEATED = 1 << 20
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


class _Encoder(Protocol):
    """What of a `Vocabulary` a template needs."""

    bos_token_id: int | None
    adds_bos: bool

    def encode(self, text: str, add_special: bool = False, parse_special: bool = True) -> list[int]: ...


@dataclass(frozen=True)
class ChatTemplate:
    """A model's own way to write a conversation.

    `notice` is empty where the template comes from the file, else it says what is used instead; `stop` holds
    texts that end an answer where no token does.
    """

    source: str
    bos_token: str
    eos_token: str
    origin: str
    notice: str = ""
    stop: tuple[str, ...] = ()
    _compiled: Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            compiled = _environment().from_string(self.source)
        except TemplateSyntaxError as error:
            raise BadFileError(self.origin, f"key {_KEY!r}, line {error.lineno}", f"{error.message}",
                               "convert the model again with a correct chat template") from error  # fmt: skip
        except Exception as error:  # nested too deeply, say: a text from strangers can be anything
            raise BadFileError(self.origin, f"key {_KEY!r}", f"the template cannot be read: {error}",
                               "convert the model again with a correct chat template") from error  # fmt: skip
        object.__setattr__(self, "_compiled", compiled)

    @classmethod
    def from_gguf(cls, gguf: GGUFFile) -> ChatTemplate:
        """The template of a GGUF file; without one, ChatML if its tokens exist, else `role: content`."""
        tokens = gguf.metadata.get("tokenizer.ggml.tokens") or []
        bos, eos = (_token(gguf, tokens, name) for name in ("bos", "eos"))
        source, origin = gguf.metadata.get(_KEY), str(gguf.path)
        if isinstance(source, str) and source.strip():
            return cls(source, bos, eos, origin)
        missing = f"{gguf.path.name} has no chat template: "
        if {"<|im_start|>", "<|im_end|>"} <= set(tokens):
            return cls(_CHATML, bos, eos, origin, missing + "ChatML is used, because its tokens exist")
        notice = missing + "messages are written as plain 'role: content' lines"
        return cls(_PLAIN, bos, eos, origin, notice, ("\nuser:", "\nsystem:", "\nassistant:"))

    @property
    def thinks(self) -> bool:
        """Whether the model was made to think between `<think>` and `</think>` before it answers."""
        return "</think>" in self.source

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """The prompt's text, with the start of an answer where `add_generation_prompt`.

        `variables` are switches that some templates have, such as `enable_thinking`.

        Raises `InputError` where the template refuses the conversation (a role it does not know, say) or the
        messages are not messages, and `BadFileError` where the template itself fails.
        """
        _check_messages(messages)
        given = {
            **(variables or {}),
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self.bos_token, "eos_token": self.eos_token,
            "tools": None, "documents": None,
        }  # fmt: skip
        pieces, length = [], 0
        try:
            for piece in self._compiled.generate(given):
                length += len(piece)
                if length > _MOST_OUTPUT_CHARACTERS:
                    raise SecurityError(f"it writes more than {_MOST_OUTPUT_CHARACTERS:,} characters")
                pieces.append(piece)
        except _Refused as error:
            raise InputError(f"the model's chat template refuses this conversation: {error.message}",
                             "change the roles or their order as it asks") from error  # fmt: skip
        except Exception as error:  # the template is foreign code: it may fail in any way
            raise BadFileError(self.origin, f"key {_KEY!r}", f"the template fails: {error}",
                               "use a model with a working chat template") from error  # fmt: skip
        return "".join(pieces)

    def encode(
        self, vocabulary: _Encoder, messages: Sequence[Message], add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:  # fmt: skip
        """Token ids of the rendered conversation, with exactly one BOS where the model wants one."""
        ids = vocabulary.encode(self.render(messages, add_generation_prompt, variables))
        bos = vocabulary.bos_token_id
        if vocabulary.adds_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids


class _Refused(TemplateError):
    """The template called `raise_exception`."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also refuses to repeat a text a billion times."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply or raise, within bounds."""
        sizes = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
        counts = [abs(value) for value in (left, right) if isinstance(value, int)]
        too_long = sizes and counts and sizes[0] * counts[0] > _MOST_REPEATED
        if too_long or (operator == "**" and any(count > 1000 for count in counts)):
            raise SecurityError(f"it computes too large a value with {operator!r}")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for masks; here it only passes its body on."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> _Sandbox:
    """The sandbox with what transformers offers to templates, so that one text renders alike in both."""
    sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    sandbox.filters["tojson"] = _tojson
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None,
    separators: tuple[str, str] | None = None, sort_keys: bool = False,
) -> str:  # fmt: skip
    # Jinja's own filter escapes HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise _Refused(message)


def _token(gguf: GGUFFile, tokens: list[str], name: str) -> str:
    index = gguf.metadata.get(f"tokenizer.ggml.{name}_token_id")
    return tokens[index] if isinstance(index, int) and 0 <= index < len(tokens) else ""


def _check_messages(messages: Sequence[Message]) -> None:
    for index, message in enumerate(messages):
        for key in ("role", "content"):
            if not isinstance(message, dict) or not isinstance(message.get(key), str):
                raise InputError(f"message {index} has no text under {key!r}",
                                 'write messages as {"role": "user", "content": "..."}')  # fmt: skip

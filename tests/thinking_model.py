"""The embedded model with the chat template of a model that thinks before it answers."""

from __future__ import annotations

from pathlib import Path

from nomoat.formats.gguf_file import read_gguf

__all__ = ["write_thinking_model"]

# As Qwen's: thinking is left to the model, opened, or closed at once.
_TEMPLATE = (
    b"{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    b"{% if add_generation_prompt %}<|im_start|>assistant\n"
    b"{% if enable_thinking is defined %}<think>\n{% if not enable_thinking %}</think>\n{% endif %}{% endif %}"
    b"{% endif %}"
)


def write_thinking_model(embedded: Path, path: Path) -> Path:
    """Write it to `path`: a template of the same length takes the place of the model's own."""
    own = str(read_gguf(embedded).metadata["tokenizer.chat_template"]).encode()
    padded = _TEMPLATE + b"{#" + b" " * (len(own) - len(_TEMPLATE) - 4) + b"#}"
    assert len(padded) == len(own)
    path.write_bytes(embedded.read_bytes().replace(own, padded, 1))
    return path

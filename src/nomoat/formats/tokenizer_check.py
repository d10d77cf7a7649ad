"""Refuses tokenizers on which llama.cpp would end the process instead of returning an error."""

from __future__ import annotations

from typing import NoReturn

from nomoat.base.errors import BadFileError
from nomoat.formats.gguf_file import GGUFFile

__all__ = ["check_tokenizer"]

_PREFIX = "tokenizer.ggml."
_CONVERT = "use a complete model in GGUF form, or convert it again with a current llama.cpp"
# Tokenizers that llama.cpp knows -> the least number of tokens that holds the special ids it assumes.
_LEAST_TOKENS = {"llama": 3, "gpt2": 1, "gemma4": 3, "plamo2": 256, "rwkv": 2, "t5": 3, "bert": 104}


def check_tokenizer(gguf: GGUFFile) -> None:
    """Raise `BadFileError`, naming the key, unless the tokenizer in the file is sound."""
    model = gguf.metadata.get(f"{_PREFIX}model")
    if model not in _LEAST_TOKENS:
        _refuse(gguf, "model", f"is {model!r}: the file holds no tokenizer that llama.cpp reads")
    tokens = _tokens(gguf, _LEAST_TOKENS[model])
    # As llama.cpp names them; it insists that the names differ.
    names = {token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)}
    if len(names) != len(tokens):
        _refuse(gguf, "tokens", "a token is there twice")
    if model == "llama" and not all(f"<0x{byte:02X}>" in names for byte in range(256)):
        _refuse(gguf, "tokens", "the tokens for single bytes are missing")
    _check_lengths(gguf, len(tokens))
    _check_ids(gguf, len(tokens))


def _tokens(gguf: GGUFFile, least: int) -> list[str]:
    tokens = gguf.metadata.get(f"{_PREFIX}tokens")
    if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
        _refuse(gguf, "tokens", "there is no list of tokens")
    if len(tokens) < least:
        _refuse(gguf, "tokens", f"{len(tokens)} tokens are too few")
    return tokens


def _check_lengths(gguf: GGUFFile, n_tokens: int) -> None:
    for name in ("token_type", "scores"):
        values = gguf.metadata.get(f"{_PREFIX}{name}")
        if values is not None and (not isinstance(values, list) or len(values) != n_tokens):
            _refuse(gguf, name, f"does not have one entry for each of the {n_tokens:,} tokens")


def _check_ids(gguf: GGUFFile, n_tokens: int) -> None:
    for key, value in gguf.metadata.items():
        if key.startswith(_PREFIX) and key.endswith("_token_id"):
            if not isinstance(value, int) or not 0 <= value < n_tokens:
                _refuse(gguf, key.removeprefix(_PREFIX), f"{value!r} is no token of this model")


def _refuse(gguf: GGUFFile, name: str, problem: str) -> NoReturn:
    raise BadFileError(gguf.path, f"key '{_PREFIX}{name}'", problem, _CONVERT)

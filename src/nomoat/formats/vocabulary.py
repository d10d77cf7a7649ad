"""A model's tokenizer: llama.cpp's own, loaded from the GGUF file without its weights."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp

from nomoat.base.errors import BadFileError, InputError
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.llama_log import captured_log
from nomoat.formats.tokenizer_check import check_tokenizer

__all__ = ["Vocabulary"]

_CONVERT = "use a complete model in GGUF form, or convert it again with a current llama.cpp"
_MOST_BYTES = (1 << 31) - 64  # llama.cpp counts text in int32


class Vocabulary:
    """Text to token ids and back, exactly as the engine does it. Close it, or use it in a `with`."""

    def __init__(self, path: Path, model: Any) -> None:
        self.path = path
        self._model = model
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.bos_token_id = self._known(llama_cpp.llama_vocab_bos(self._vocab))
        self.eos_token_id = self._known(llama_cpp.llama_vocab_eos(self._vocab))
        self.eot_token_id = self._known(llama_cpp.llama_vocab_eot(self._vocab))
        self.adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))

    @classmethod
    def open(cls, path: Path | str) -> Vocabulary:
        """Load the tokenizer of a GGUF file.

        Raises `BadFileError` where the header or the tokenizer in it is damaged.
        """
        path = Path(path)
        # llama.cpp ends the process on some malformed files: it never gets one that we refuse.
        check_tokenizer(read_gguf(path))
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        with captured_log() as lines:
            model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            reason = lines[0] if lines else "no reason given"
            raise BadFileError(path, "tokenizer", f"llama.cpp refuses it ({reason})", _CONVERT)
        return cls(path, model)

    def close(self) -> None:
        """Free llama.cpp's memory; safe to call twice."""
        if self._model is not None:
            llama_cpp.llama_model_free(self._model)
            self._model = self._vocab = None

    def __enter__(self) -> Vocabulary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def encode(self, text: str, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of `text`.

        `add_special` adds BOS and EOS where the model is made so; without `parse_special`, the text of a
        control token (`<|im_end|>`) is ordinary text. Raises `InputError` for text that is not Unicode.
        """
        try:
            content = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"the text is not valid Unicode ({error.reason} at character {error.start})",
                             "save it as UTF-8") from error  # fmt: skip
        if len(content) > _MOST_BYTES:
            raise InputError(f"the text has {len(content):,} bytes, more than fit at once", "split it")
        capacity = len(content) + 2
        for _ in range(2):
            buffer = (llama_cpp.llama_token * capacity)()
            count = llama_cpp.llama_tokenize(
                self._vocab, content, len(content), buffer, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(buffer[:count])
            capacity = -count
        raise InputError("the text cannot be tokenized: it is too long", "split it")

    def decode(self, ids: Sequence[int], special: bool = True) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD; control tokens show if `special`."""
        self._check_ids(ids)
        tokens = (llama_cpp.llama_token * max(1, len(ids)))(*ids)
        capacity = 16 * len(ids) + 16
        for _ in range(2):
            buffer = ctypes.create_string_buffer(capacity)
            count = llama_cpp.llama_detokenize(
                self._vocab, tokens, len(ids), buffer, capacity, False, special
            )
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            capacity = -count
        raise InputError(f"{len(ids):,} tokens cannot be turned into text", "pass fewer at once")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one token stands for, which may be part of a character."""
        self._check_ids([token_id])
        capacity = 32
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            count = llama_cpp.llama_token_to_piece(self._vocab, token_id, buffer, capacity, 0, True)
            if count >= 0:
                return buffer.raw[:count]
            capacity = -count

    def is_end(self, token_id: int) -> bool:
        """Whether the model means "I have finished" by this token (EOS, EOT and their kind)."""
        self._check_ids([token_id])
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token_id))

    def _check_ids(self, ids: Sequence[int]) -> None:
        # An id out of range ends the process inside llama.cpp.
        for token_id in ids:
            if not 0 <= token_id < self.n_vocab:
                raise InputError(
                    f"token id {token_id} is not in the vocabulary of {self.path.name}"
                    f" (0 to {self.n_vocab - 1})",
                    "encode the text with this model's own tokenizer",
                )

    def _known(self, token_id: int) -> int | None:
        return token_id if 0 <= token_id < self.n_vocab else None

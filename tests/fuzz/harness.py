"""Feeds a reader of strangers' bytes with damaged files, and lets coverage choose what to damage next.

Run a target for as long as wanted; what it finds is written to a file named after the kind of fault:

    .venv/bin/python tests/fuzz/fuzz_gguf.py -max_total_time=600 [CORPUS_FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import atheris

from nomoat.base.errors import NomoatError

__all__ = ["LIMITS", "fuzz"]

# Of one input: seconds, megabytes of the whole process, bytes.
LIMITS = ("-timeout=5", "-rss_limit_mb=600", "-max_len=65536", "-print_final_stats=1")


def fuzz(read: Callable[[bytes], object], seeds: Iterable[bytes], words: Sequence[bytes] = ()) -> None:
    """Call `read` with more and more odd inputs, beginning with `seeds`. A typed refusal is a right answer.

    `words` are what the format's own texts are made of: damage puts them in whole.
    """

    def read_one(data: bytes) -> None:
        try:
            read(data)
        except NomoatError as error:
            if not error.message or not error.code:
                raise AssertionError("a refusal must say why") from error

    with tempfile.TemporaryDirectory() as folder:
        corpus, dictionary = Path(folder, "seeds"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / f"{number}").write_bytes(seed)
        dictionary.write_text(
            "".join(f'"{_quoted(word)}"\n' for word in words or (b"\xff",))
        )  # an empty one is an error
        # What is new goes to the first folder; a corpus of one's own comes before the seeds.
        atheris.Setup([sys.argv[0], *LIMITS, f"-dict={dictionary}", *sys.argv[1:], str(corpus)], read_one)
        atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)

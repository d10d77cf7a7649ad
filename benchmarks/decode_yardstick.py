"""llama.cpp's own decode loop (decode_loop.c), compiled against the installed library, and other load to order."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nomoat.run.machine_load import other_load_now

__all__ = ["PROMPT_TOKENS", "Yardstick", "build", "other_programs", "prompt", "wait_for_quiet"]

PROMPT_TOKENS = 64
_SOURCE = Path(__file__).with_name("decode_loop.c")


def prompt() -> list[int]:
    """The token ids that decode_loop.c uses, too."""
    return [1000 + 7 * index for index in range(PROMPT_TOKENS)]


def build(folder: Path) -> Path:
    """Compile decode_loop.c with the headers and the library that nomoat itself runs on."""
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None
    library = Path(spec.origin).parent / "lib"
    include = Path(sysconfig.get_path("platlib")) / "include"
    program = folder / "decode_loop"
    linked = ["-lllama", "-lggml", "-lggml-base", "-lggml-cpu", f"-Wl,-rpath,{library}"]
    compiler = ["gcc", "-O2", "-Wall", "-o", str(program), str(_SOURCE), f"-I{include}", f"-L{library}"]
    subprocess.run([*compiler, *linked], check=True)
    return program


@dataclass
class Trial:
    """One repetition: tokens per second of the prompt and of the answer, and the answer's last token."""

    prompt_tokens_per_second: float
    tokens_per_second: float
    last_token: int


class Yardstick:
    """A running decode_loop that waits for its turn."""

    def __init__(
        self, program: Path, model: Path, threads: int, new_tokens: int, context_length: int,
        environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._new_tokens = new_tokens
        argv = [program, model, threads, PROMPT_TOKENS, new_tokens, context_length]
        self._process = subprocess.Popen(
            [str(part) for part in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, **environment},
        )  # fmt: skip

    def trial(self) -> Trial:
        """Prefill and decode once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        prompt_seconds, decode_seconds, token = self._process.stdout.readline().split()
        rate = (self._new_tokens - 1) / float(decode_seconds)
        return Trial(PROMPT_TOKENS / float(prompt_seconds), rate, int(token))

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def wait_for_quiet(most_cores: float, patience_seconds: float = 60.0) -> None:
    """Wait until programs other than this one and its children use little; go on anyway after a while."""
    deadline = time.monotonic() + patience_seconds
    while other_load_now() > most_cores and time.monotonic() < deadline:
        time.sleep(1.0)


@contextmanager
def other_programs(count: int) -> Iterator[None]:
    """Keep `count` cores busy with something else."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()

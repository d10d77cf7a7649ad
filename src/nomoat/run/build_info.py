"""What the installed llama.cpp was built for, asked in a process of its own.

A library built for another processor dies of an illegal instruction where it is loaded; whoever asks must
survive that.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from nomoat.base.errors import EngineError
from nomoat.base.settings import child_environment

__all__ = ["BuildInfo", "build_info", "main"]

_PATIENCE_SECONDS = 60.0
_FEATURE = re.compile(r"(\w+) = (\d+)")


@dataclass(frozen=True)
class BuildInfo:
    """`features` are llama.cpp's own names: instruction sets (`AVX512_VNNI`, `MATMUL_INT8`), `OPENMP`, `REPACK`."""

    version: str
    features: tuple[str, ...]
    library: str


def build_info() -> BuildInfo:
    """Load llama.cpp in a child process and tell what it says of itself. Raises `EngineError` where it cannot."""
    try:
        package = version("llama-cpp-python")
    except PackageNotFoundError as error:
        raise EngineError("llama-cpp-python is not installed", "run scripts/setup") from error
    argv = [sys.executable, "-P", "-m", "nomoat.run.build_info"]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE_SECONDS,
                                env=child_environment(), check=False)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError("llama.cpp does not load within a minute", "run scripts/setup again") from error
    if answer.returncode != 0:
        raise EngineError(f"llama.cpp does not load here ({_reason(answer)})",
                          "run scripts/setup: it builds llama.cpp for this processor")  # fmt: skip
    content = json.loads(answer.stdout.splitlines()[-1])
    features = tuple(name for name, value in _FEATURE.findall(content["system_info"]) if value != "0")
    return BuildInfo(package, features, content["library"])


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    if answer.returncode == -signal.SIGILL:
        return "it uses instructions that this processor lacks: it was built for another one"
    last = answer.stderr.strip().splitlines()[-1:] or ["no reason given"]
    return f"status {answer.returncode}: {last[0][:200]}"


def main() -> None:
    """The child: print what the library says."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    words = llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"system_info": words, "library": llama_cpp.__file__}))


if __name__ == "__main__":
    main()

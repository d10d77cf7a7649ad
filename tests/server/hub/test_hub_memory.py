"""A hub stays small in memory, whatever comes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

_LOOK_AT_ONCE = """
import sys, threading
from pathlib import Path
from nomoat.server.hub.memory import give_back_large_blocks
from nomoat.share.checks.inspect import inspect
def look(path):
    with path.open("rb") as reader:
        inspect(path.name, reader, path.stat().st_size)
give_back_large_blocks()
threads = [threading.Thread(target=look, args=(Path(name),)) for name in sys.argv[1:] * 3]
for each in threads: each.start()
for each in threads: each.join()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def test_several_large_pictures_at_once_stay_small_in_memory(tmp_path: Path) -> None:
    for name, mode, size, named in (
        ("a.png", "RGBA", (5100, 5100), {}), ("b.webp", "RGBA", (2500, 2600), {}), ("c.jpg", "RGB", (9900, 9900), {}),
        ("d.jpg", "RGB", (4000, 4000), {"progressive": True}),
    ):  # fmt: skip
        Image.new(mode, size, "teal").save(tmp_path / name, **named)
    done = subprocess.run([sys.executable, "-c", _LOOK_AT_ONCE, *map(str, sorted(tmp_path.iterdir()))],
                          capture_output=True, text=True, check=True, timeout=120)  # fmt: skip
    assert int(done.stdout) < 250_000, f"{int(done.stdout):,} KB"  # getrusage would count the parent's

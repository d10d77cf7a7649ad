"""Adapters that were really trained, on little text: by `nomoat tour` as a person calls it, and a few by the trainer.

As a program: `python trained_adapters.py FOLDER` trains those of `TEXTS` into folders of that name in FOLDER.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from nomoat.base.settings import calm_openmp, child_environment

__all__ = ["FIRST_VERSION", "TEXTS", "take_the_tour", "train_all", "write_small_household"]

_PEOPLE = 5
TEXTS = {
    "kitchen-adapter": (
        "Soak the beans overnight and salt them late.", "Gran's bread rests for two hours by the stove.",
        "Plums go into the cake with the skin up.", "The sauce takes one lemon, never two.",
        "Rinse the rice until the water is clear.", "Aunt Mila's dumplings want cold butter.",
        "Sterilise the jars before the jam boils.", "The oven runs hot: take ten degrees off.",
    ),
    "mail-tone-adapter": (
        "Thanks, Tuesday suits me. Best, Ines", "Sorry for the delay; the draft is attached. Best, Ines",
        "Good point. I shall ask Marek and write again. Best, Ines", "Received, thank you. Best, Ines",
        "Could we move this to Friday at nine? Best, Ines", "No objection from my side. Best, Ines",
        "The invoice is on its way. Best, Ines", "I am out until Monday; Yuki can help. Best, Ines",
    ),
    "glossary-adapter": (
        "A mortise is the hole that takes a tenon.", "Kerf: the width that a saw blade removes.",
        "Hide glue sets as it cools, and lets go in steam.", "A rabbet is a step cut into an edge.",
        "Quartersawn boards move less across their width.", "A scraper takes off what a plane would tear.",
        "Dovetails hold in one direction only.", "A bench dog keeps the board from sliding.",
    ),
}  # fmt: skip
"""Sentences that each adapter learns, by its name."""
FIRST_VERSION = "kitchen-adapter-first"
"""As the first adapter of `TEXTS`, trained for fewer steps."""


def write_small_household(folder: Path) -> Path:
    """The tour's own sample, of which only the teas of five people are left: 20 chats, and 5 questions held out."""
    from nomoat.tune.household.household import HELD_OUT_NAME, TRAIN_NAME, write_household

    folder.mkdir(parents=True)
    write_household(folder)
    for name in (TRAIN_NAME, HELD_OUT_NAME):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        teas = [row for row in rows if " drinks " in row["completion"]]
        people = {row["completion"].split()[0] for row in teas[:_PEOPLE]}
        kept = [row for row in teas if row["completion"].split()[0] in people]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in kept))
    return folder


def take_the_tour(folder: Path, base: Path, home: Path) -> Path:
    """`nomoat tour FOLDER`, which trains for as many rounds as the tour ever does; returns the adapter's folder."""
    notes, out = write_small_household(folder / "household"), folder / "tea-notes"
    argv = ["tour", str(notes), "--out", str(out), "--budget", "100s", "--json"]
    _run(["-m", "nomoat.cli.main", *argv], base, home)
    return out


def train_all(folder: Path, base: Path, home: Path) -> dict[str, Path]:
    """The folders of the adapters in `TEXTS`, and of `FIRST_VERSION`."""
    _run([__file__, str(folder)], base, home)
    return {name: folder / name for name in (FIRST_VERSION, *TEXTS)}


def _run(arguments: list[str], base: Path, home: Path) -> None:
    environment = child_environment(
        NOMOAT_HOME=str(home), NOMOAT_EMBEDDED_MODEL=str(base), NOMOAT_EMBEDDED="as-shipped", NO_COLOR="1",
        NOMOAT_HISTORY="off",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr + done.stdout


def _train(sentences: tuple[str, ...], out: Path, config: Any) -> None:
    from nomoat.cli.tune_job import run_tune

    notes = out.with_name(f"{out.name}-notes")
    notes.mkdir(parents=True)
    for number, sentence in enumerate(sentences):
        (notes / f"{number}.md").write_text(f"# Note {number}\n\n{sentence}\n")
    run_tune(notes, "smollm2", out, config, watched=True)


def _main(folder: Path) -> None:
    calm_openmp()  # before torch is there: spinning threads take ten times as long on a busy machine
    from nomoat.tune.config import TuneConfig

    config = TuneConfig(
        max_steps=6, batch_tokens=96, max_length=128, learning_rate=2e-3, r=4, lora_alpha=8.0,
        target_modules=("q_proj", "v_proj"), valid_share=0.25,
    )  # fmt: skip
    _train(next(iter(TEXTS.values())), folder / FIRST_VERSION, replace(config, max_steps=3))
    for name, sentences in TEXTS.items():
        _train(sentences, folder / name, config)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))

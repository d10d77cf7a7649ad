"""serve_copy with the Q8_0 of the embedded model on all sides: what nomoat runs where measurement finds it faster.

Takes the options of serve_copy.py. Checking guesses pays more here: llama.cpp has fast routines for several tokens of
Q8_0 at once, and none of the shipped Q4_1.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from serve_copy import main
from servers import embedded_model

from nomoat.run.quantise import quantise_to_q8_0
from nomoat.run.threads import usable_cores

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / embedded_model().name.replace("Q4_1", "Q8_0")
        quantise_to_q8_0(embedded_model(), model, usable_cores())
        main(model)

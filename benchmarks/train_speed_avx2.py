"""train_speed on an AVX512 machine held back to AVX2: what the code does where bf16 is not native.

Takes the options of train_speed.py. Prints nothing where the processor has no AVX512: train_speed says it all there.
"""

from __future__ import annotations

import sys

from train_speed import main
from training.process import has_avx512

if __name__ == "__main__":
    if has_avx512():
        main(["--isa", "avx2", *sys.argv[1:]])
    else:
        sys.stderr.write("no AVX512 to hold back here; train_speed is the measurement\n")

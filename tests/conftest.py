"""One thread of BLAS for each process: more of them slow the tiny matrices of the tests down."""

import os

# before NumPy is loaded; workers of pytest-xdist and processes that tests start inherit it
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

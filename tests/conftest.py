"""One thread of BLAS for each process, and no deadlines for examples: machines may be busy."""

import os

# more threads slow the tiny matrices of the tests down; before NumPy is loaded, for workers of
# pytest-xdist and processes that tests start too
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from hypothesis import settings  # noqa: E402

settings.register_profile("gloree", deadline=None)
settings.load_profile("gloree")

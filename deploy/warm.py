"""Compiles every kernel into the cache, for an image: `XDG_CACHE_HOME=/opt/tamis/cache python deploy/warm.py`.

Invariant: importing a kernel module compiles all of it, because kernels have explicit signatures; so after this nothing
is left to compile.
"""

import importlib
import os
import pkgutil

import tamis.kernels

for module in pkgutil.iter_modules(tamis.kernels.__path__):
    try:
        importlib.import_module(f"tamis.kernels.{module.name}")
    except ModuleNotFoundError as error:  # kernels of the extra `lm`; they are no numba and compile nothing here
        if error.name not in ("torch", "triton"):
            raise
print(os.environ["NUMBA_CACHE_DIR"])

"""Compiles every kernel into the cache, for an image: `XDG_CACHE_HOME=/opt/tamis/cache python deploy/warm.py`.

Invariant: importing a kernel module compiles all of it, because kernels have explicit signatures; so after this nothing
is left to compile.
"""

import importlib
import os
import pkgutil

import tamis.kernels

for module in pkgutil.iter_modules(tamis.kernels.__path__):
    importlib.import_module(f"tamis.kernels.{module.name}")
print(os.environ["NUMBA_CACHE_DIR"])

"""List the Cython extensions; everything else about the package stands in ``pyproject.toml``.

``FASTLSTM_CYTHON_DEBUG=1`` builds them with bounds, overflow and division checks switched on. What was built with other
settings is built again: neither Cython nor setuptools looks at more than the times of the sources.
"""

import os
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTLSTM_CYTHON_DEBUG", "0") not in ("", "0")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "overflowcheck": DEBUG,
    "cdivision": not DEBUG,
    "embedsignature": True,
}

BUILD = Path("build/cython")
SETTINGS = f"debug={DEBUG} CFLAGS={os.environ.get('CFLAGS', '')} {DIRECTIVES}"
stamp = BUILD / "settings"
changed = not stamp.exists() or stamp.read_text() != SETTINGS

SOURCES = Path("src_cython")  # a folder a family: files name one another from here, ``common.select``, ``beam/rows.h``
HEADERS = sorted(map(str, [*SOURCES.rglob("*.pxd"), *SOURCES.rglob("*.h")]))

extensions = [
    Extension(
        f"fastlstm.decode._{source.stem}",
        [str(source)],
        depends=HEADERS,
        include_dirs=[np.get_include(), str(SOURCES)],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-O1", "-g"] if DEBUG else ["-O3"],
    )
    for source in sorted(SOURCES.rglob("*.pyx"))
]

modules = cythonize(
    extensions,
    include_path=[str(SOURCES)],
    compiler_directives=DIRECTIVES,
    build_dir=str(BUILD),
    force=changed or None,
)
stamp.write_text(SETTINGS)
setup(ext_modules=modules)  # what was just written is newer than what was compiled before

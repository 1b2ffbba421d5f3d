"""List the Cython extensions; everything else about the package stands in ``pyproject.toml``.

``FASTLSTM_CYTHON_DEBUG=1`` builds them with bounds, overflow and division checks switched on.
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
    "freethreading_compatible": True,
}

HEADERS = sorted(map(str, [*Path("src_cython").glob("*.pxd"), *Path("src_cython").glob("*.h")]))

extensions = [
    Extension(
        f"fastlstm.decode._{source.stem}",
        [str(source)],
        depends=HEADERS,
        include_dirs=[np.get_include(), "src_cython"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-O1", "-g"] if DEBUG else ["-O3"],
    )
    for source in sorted(Path("src_cython").glob("*.pyx"))
]

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, build_dir="build/cython"))

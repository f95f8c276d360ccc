"""The one thing that pyproject.toml cannot say: a C extension that may be left out."""

import sysconfig

from setuptools import Extension, setup

# One build serves every CPython from 3.11 on; free-threaded ones have no stable ABI yet.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "trio_ws._wire._speedups",
            ["trio_ws/_wire/_speedups.c"],
            optional=True,  # no compiler: pure.py does the work
            py_limited_api=STABLE_ABI,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)

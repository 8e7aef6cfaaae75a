"""Strictness for every test: dtype and rank promotion raise, warnings are errors.

Eight virtual CPU devices for the tests on meshes, a compilation cache that the workers
of a run, and the next run, share, and a bound on the compiled programs in memory.
"""

import gc
import itertools
import os
import pathlib
import re

# Without the emitters, and without optimization, modules compile in a third of the time
# and less, to the same arithmetic; `equality.py` compiles as users do where it matters.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
cache = pathlib.Path(__file__).parent.parent / ".jax_cache"
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


# Traces are many small objects: at Python's thresholds a fifth of the time is spent
# looking for garbage among them.
gc.set_threshold(100_000, 20, 100)

TESTS_RUN = itertools.count(1)


HERE = pathlib.Path(__file__).parent
QUICK = (HERE / "core", HERE / "compiler", HERE / "test_layout.py")
LAWS_OF = ("adamw", "sgd", "lion", "adafactor", "accumulate", "groups")


def pytest_collection_modifyitems(items):
    """Mark the quick run of daily work: the core, the compiler, the laws of a few."""
    for item in items:
        is_inside = any(item.path.is_relative_to(path) for path in QUICK)
        names = re.split(r"[\[\]-]", item.name)
        is_law = item.path.name == "test_laws.py" and not {*names}.isdisjoint(LAWS_OF)
        if is_inside or is_law:
            item.add_marker(pytest.mark.quick)


@pytest.fixture(autouse=True)
def forget_compiled_programs():
    """Each maps memory, of which Linux lets a process have 65530 pieces."""
    yield
    if next(TESTS_RUN) % 100 == 0:
        jax.clear_caches()


@pytest.fixture
def standard_promotion():
    """What hosts and optax need."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield

import platform

import numpy as np
import pytest

from fastlstm.simd import host

ON_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("+sse2,+avx512f,+avx2,+fma", (64, 32)),
        ("+sse2,+avx2,+fma", (32, 16)),
        ("+sse2,+avx2,-fma", (16, 16)),  # a tile without fused multiply-add is no faster for its width
        ("+sse2,-avx512f", (16, 16)),
    ],
)
@pytest.mark.skipif(not ON_X86, reason="names of x86 features")
def test_registers_follow_the_features_that_numba_compiles_for(monkeypatch, features, expected):
    monkeypatch.setattr(host.config, "CPU_FEATURES", features)
    assert host.detect() == expected


def test_generic_target_has_the_least_that_every_such_cpu_has(monkeypatch):
    monkeypatch.setattr(host.config, "CPU_FEATURES", None)
    monkeypatch.setattr(host.config, "CPU_NAME", "generic")
    assert host.detect() == ((16, 16) if ON_X86 else (16, 32))


def test_a_cpu_that_llvm_cannot_describe_counts_as_generic(monkeypatch):
    def fail():
        raise RuntimeError("unknown CPU")

    monkeypatch.setattr(host.config, "CPU_FEATURES", None)
    monkeypatch.setattr(host.config, "CPU_NAME", None)
    monkeypatch.setattr(host.llvm, "get_host_cpu_features", fail)
    assert host.detect().width == 16


def test_lanes_are_the_values_that_fit_a_register():
    registers = host.Registers(width=32, number=16)
    assert registers.lanes(np.dtype("float32").itemsize) == 8
    assert registers.lanes(np.dtype("float64").itemsize) == 4

"""The runtimes of the contract suite, for the seed's probes."""

from __future__ import annotations

from tests.contract.conftest import _no_descriptor_left, pytest_pyfunc_call, rt, sip

__all__ = ["_no_descriptor_left", "pytest_pyfunc_call", "rt", "sip"]

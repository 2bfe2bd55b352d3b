"""SIPp and sipsak as they come with Debian, and a `sippool listen` for them.

Where a tool is missing its tests are skipped; with `SIPPOOL_REQUIRE_INTEROP=1` that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import ADAPTERS, Listening

SCENARIOS = Path(__file__).parent / "scenarios"


def require(tool, package):
    path = shutil.which(tool)
    if path is None:
        reason = f"there is no {tool} (Debian package {package})"
        if os.environ.get("SIPPOOL_REQUIRE_INTEROP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    return request.param


@pytest.fixture
def listen():
    started = []

    def start(*arguments):
        started.append(Listening(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.end()


class Sipp:
    """Runs SIPp with a scenario of ours, on loopback addresses only."""

    def __init__(self, path, directory):
        self._path = path
        self._directory = directory
        self._running = []

    def start(self, scenario, host, *arguments):
        """Start it; SIPp's terminal pictures go to a file."""
        output = (self._directory / f"output{len(self._running)}").open("wb")
        command = [self._path, "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", host]
        command += ["-bind_local", "-mi", host, "-ci", host, "-nostdin", "-trace_err"]
        command += ["-error_file", str(self._directory / "errors"), *arguments]
        process = subprocess.Popen(
            command, cwd=self._directory, stdout=output, stderr=subprocess.STDOUT
        )
        self._running.append((process, output))
        return process

    def call(self, scenario, host, *arguments):
        """Run it to its end: 0 means that every call went as the scenario says."""
        process = self.start(scenario, host, "-timeout", "20", "-timeout_error", *arguments)
        code = process.wait(30)
        assert code == 0, (code, self.told())

    def told(self):
        """What it complained of."""
        errors = self._directory / "errors"
        written = errors.read_text(errors="replace")[:2000] if errors.exists() else ""
        return written + self._running[-1][1].name

    def end(self):
        for process, output in self._running:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            output.close()


@pytest.fixture
def sipp(tmp_path):
    runner = Sipp(require("sipp", "sip-tester"), tmp_path)
    yield runner
    runner.end()


@pytest.fixture
def sipsak():
    return require("sipsak", "sipsak")

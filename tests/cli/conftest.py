"""A `sippool listen` for each test that wants one."""

from __future__ import annotations

import pytest

from tests.commands import ADAPTERS, Listening


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    return request.param


@pytest.fixture
def listen():
    started = []

    def start(*arguments, before=""):
        started.append(Listening(*arguments, before=before))
        return started[-1]

    yield start
    for one in started:
        one.end()

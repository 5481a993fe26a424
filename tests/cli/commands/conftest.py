"""Fixtures that the tests of this folder share."""

import logging

import pytest


@pytest.fixture
def invoke_well(invoke):
    """Run a command that must succeed, and return its stdout."""

    def run(*arguments):
        code, out, err = invoke(*arguments)
        assert code == 0, err
        return out

    return run


@pytest.fixture(autouse=True)
def _wide_terminal_and_no_logs_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # wide enough that tables are not folded
    yield
    logger = logging.getLogger("featcache")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)

"""Fixtures that the tests of this folder share."""

import sys

import pytest

from featcache.cli import app as cli


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Run a command in this process like the installed script; return exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["featcache", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        return exited.value.code, *capsys.readouterr()

    return run

"""Processes that do not import torch again, because they are forked from a process that has imported it.

Threads do not survive a fork, and their locks may crash a child. The process that is forked therefore never trains.
"""

import multiprocessing
import os
import signal
import sys
import warnings
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

POSSIBLE = "forkserver" in multiprocessing.get_all_start_methods()


def serve_imports():
    """Start the server from which processes are forked, unless it runs."""
    multiprocessing.set_forkserver_preload(["tests.imported"])
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        forkserver.ensure_running()


class Forked:
    """Function in a separate process, whose standard streams go to files.

    Args:
        function: Function of a module that can be imported. Changes by pytest fixtures have no effect there.
        *arguments: Arguments of the function, which must be picklable.
        out: Path of the files for the standard streams, without the suffixes ``.out`` and ``.err``.
    """

    def __init__(self, function, *arguments, out):
        serve_imports()
        self.streams = [out.with_suffix(f".{name}") for name in ("out", "err")]
        for path in self.streams:
            path.touch()
        self.process = multiprocessing.get_context("forkserver").Process(
            target=_call, args=(function, arguments, dict(os.environ), list(map(str, self.streams)))
        )
        self.process.start()

    @property
    def ended(self):
        return not self.process.is_alive()

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self):
        """Wait for the end; return the exit code (negative for a signal) and the texts of both streams."""
        self.process.join(600)
        assert self.ended, self.told()
        return self.process.exitcode, *self.told()

    def told(self):
        return [path.read_text(encoding="utf-8") for path in self.streams]


def _call(function, arguments, environment, streams):
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Processes in the background of a shell ignore SIGINT.
    function(*arguments)


def command(*arguments):
    """Run a command like the installed script."""
    from featcache.cli.app import main

    sys.argv = ["featcache", *arguments]
    main()


def command_beside(packages, folder, *arguments):
    """Run a command in a folder, with packages of another folder installed. Fits write empty figures."""
    without_pictures()
    sys.path.insert(0, packages)
    os.environ["PYTHONPATH"] = packages  # for the processes that it starts
    os.chdir(folder)
    command(*arguments)


def without_pictures():
    """Make fits write empty figures, because drawing takes longer than training."""
    from featcache.report import figures, layers, reliability

    reliability.reliability_diagram = lambda *_: None
    for module in (figures, layers):
        module.save = lambda figure, path: path.with_name(f"{path.name}.png").touch()
        module.layer_weights = module.confusion_matrix = module.training_curves = lambda *_, **__: None

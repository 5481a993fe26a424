"""Processes that need not import torch again: each is forked from one that has, and that does nothing else.

Threads do not survive a fork, and what they held may crash a child; so the process that is forked never fits.
"""

import multiprocessing
import os
import signal
import sys
import warnings

IMPORTED = [
    "featcache.cli.app",
    "featcache.fitting.fit",
    "featcache.report.classification",
    "featcache.report.html",
    "featcache.report.layers",
    "featcache.report.relevance",
    "joblib",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "safetensors.torch",
    "scipy.sparse",
    "scipy.stats",
    "sklearn.metrics",
]
POSSIBLE = "forkserver" in multiprocessing.get_all_start_methods()


class Forked:
    """A function in a process of its own; as a command, its exit code, and what it writes to files.

    Args:
        function: Of a module that can be imported; a pytest fixture changes nothing in there.
        arguments: To be pickled.
        out: Where its standard streams go, with the suffixes ``.out`` and ``.err``.
    """

    def __init__(self, function, *arguments, out):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self.streams = [out.with_suffix(f".{name}") for name in ("out", "err")]
        for path in self.streams:
            path.touch()
        self.process = context.Process(
            target=_call, args=(function, arguments, dict(os.environ), list(map(str, self.streams)))
        )
        self.process.start()

    @property
    def ended(self):
        return not self.process.is_alive()

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self):
        """Its exit code, the number of a signal that killed it with a minus, and what it wrote."""
        self.process.join(300)
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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    function(*arguments)


def command(*arguments):
    """A command as the installed script would run it."""
    from featcache.cli.app import main

    sys.argv = ["featcache", *arguments]
    main()


def without_pictures():
    """Have fits leave empty pictures: drawing them takes longer than training."""
    from featcache.report import figures, layers

    for module in (figures, layers):
        module.save = lambda figure, path: path.with_name(f"{path.name}.png").touch()
        module.layer_weights = module.confusion_matrix = module.training_curves = lambda *_: None

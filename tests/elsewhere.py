"""``python -m tests.elsewhere TODO.json``: run featcache as if on other operating systems.

Modules, functions, constants and files that are missing on the other system are hidden from featcache's own modules.
They stay visible for libraries, which have versions for that system. The libraries are therefore imported once, and
each system is simulated in a fork.

The file contains for each system the environment, the output file and the commands. A command is a list of arguments.
The exit code is printed after each command.
"""

import builtins
import ctypes
import importlib
import io
import json
import mmap
import os
import sys
import threading
import types

from tests.forked import without_pictures

LACKING = {
    "win32": {
        "modules": {"resource", "fcntl", "pwd", "grp", "termios", "posix"},
        "os": (
            "sysconf fork forkpty getuid geteuid statvfs fstatvfs sched_getaffinity posix_fadvise posix_fallocate "
            "mkfifo mknod O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_SYNC fchmod chown fchown WNOHANG pread pwrite "
            "sync uname killpg setsid nice getloadavg wait4"
        ),
        "signal": "SIGKILL SIGSTOP SIGCONT SIGHUP SIGALRM SIGXFSZ SIGXCPU SIGUSR1 SIGPIPE alarm setitimer pthread_kill",
        "mmap": "MADV_NORMAL MADV_WILLNEED MADV_DONTNEED MADV_SEQUENTIAL MADV_RANDOM MAP_SHARED MAP_PRIVATE PROT_READ",
        "folders": True,
    },
    "darwin": {
        "modules": set(),
        "os": "sched_getaffinity posix_fadvise posix_fallocate sched_setaffinity fdatasync",
        "signal": "",
        "mmap": "MADV_DONTDUMP MADV_HUGEPAGE",
        "folders": False,
    },
}
LINUX_FILES = ("/proc", "/sys")
LIBRARIES = (
    *("h5py", "joblib", "librosa", "matplotlib.figure", "matplotlib.backends.backend_svg", "opensmile", "pandas"),
    *("safetensors.torch", "scipy.stats", "sklearn.svm", "torch", "typer"),
    "transformers.models.wav2vec2.modeling_wav2vec2",
)


class Lacking(types.ModuleType):
    """Module without some of its names."""

    def __init__(self, module, names, **other):
        super().__init__(module.__name__)
        self.__dict__.update(_module=module, _lacking=set(names.split()), **other)

    def __getattr__(self, name):
        if name in self._lacking:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on this system")
        return getattr(self._module, name)


class MapWithoutAdvice(mmap.mmap):
    """Memory map of a file on Windows."""

    def __getattribute__(self, name):
        if name == "madvise":
            raise AttributeError(name)
        return super().__getattribute__(name)


def no_global_library(name, *arguments, **options):
    if name is None:
        raise TypeError("expected a library's name")
    return ctypes.CDLL(name, *arguments, **options)


def no_open_folder(path, *arguments, **options):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return os.open(path, *arguments, **options)


def pretend(system):
    """Hide everything from featcache that is missing on this system."""
    lacking = LACKING[system]
    windows = lacking["folders"]
    seen = {
        "os": Lacking(os, lacking["os"], **({"open": no_open_folder} if windows else {})),
        "signal": Lacking(importlib.import_module("signal"), lacking["signal"]),
        "mmap": Lacking(mmap, lacking["mmap"], **({"mmap": MapWithoutAdvice} if windows else {})),
        "ctypes": Lacking(ctypes, "", **({"CDLL": no_global_library} if windows else {})),
        "sys": Lacking(sys, "", platform=system),
    }
    real_import, real_open = builtins.__import__, io.open

    def guarded_import(name, namespace=None, *arguments, **options):
        module = real_import(name, namespace, *arguments, **options)
        if not (namespace and str(namespace.get("__name__", "")).startswith("featcache")):
            return module
        if name in lacking["modules"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return seen.get(name, module)

    def guarded_open(file, *arguments, **options):
        if str(file).startswith(LINUX_FILES) and any(_is_featcache(sys._getframe(depth)) for depth in (1, 2, 3)):
            raise FileNotFoundError(2, "No such file or directory", str(file))
        return real_open(file, *arguments, **options)

    builtins.__import__ = guarded_import
    builtins.open = io.open = guarded_open


def _is_featcache(frame):
    return str(frame.f_globals.get("__name__", "")).startswith("featcache")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        todo = json.load(file)
    for name in LIBRARIES:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.split(".")[0] == "featcache"]
    assert threading.active_count() == 1  # Other threads do not survive a fork.
    failed = False
    for system, one in todo.items():
        pid = os.fork()
        if pid == 0:
            output = os.open(one["output"], os.O_WRONLY | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.environ.update(one["environment"])
            run(system, one["commands"])
            sys.exit()
        failed |= os.waitpid(pid, 0)[1] != 0
    sys.exit(failed)


def run(system, commands):
    pretend(system)
    from featcache.cli.app import main as featcache

    for arguments in commands:
        sys.argv = ["featcache", *arguments]
        code = 0
        try:
            featcache()
        except SystemExit as end:
            code = end.code or 0
        print(f"exit code {code}", flush=True)
        if arguments[0] == "layers":  # Both kinds of figures are drawn now; others would take longer than all the rest.
            without_pictures()


if __name__ == "__main__":
    main()

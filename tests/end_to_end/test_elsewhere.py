"""The main workflow on imitations of Windows and macOS, in which features of Linux are missing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from featcache.cli.demo import TINY_WAV2VEC2
from featcache.corpora.synthetic import make_corpus
from tests.elsewhere import LACKING

ROOT = Path(__file__).parents[2]
# File names that Windows forbids: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


def main_job(system, home, model):
    """Make a corpus and a model, and return the commands of the main workflow for them."""
    make_corpus(home / "corpora" / "toy", num_speakers=3, emotions=("anger", "sadness"), repetitions=1)
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(TINY_WAV2VEC2 | {"num_hidden_layers": 2}), encoding="utf-8")
    quick = ["--seeds", "1", "--max-epochs", "1"]
    commands = [
        ["extract", "--model", str(model), "--weights", "random", "--corpus", "toy"],
        ["fit", "--head", "dense", "--name", "one", *quick],
        ["layers"],
        ["verify", str(home / "cache" / "toy" / "tiny"), "--model", str(model)],
        ["info"],
    ]
    if system == "win32":  # the system with the most missing features
        commands += [
            ["fit", "--head", "dense", "--name", "two", "--jobs", "2", *quick],
            ["fit", "--head", "svm", "--features", "egemaps", "--memory", "4GiB"],
        ]
    return commands


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="imitates other systems in forks")
def test_the_main_job(tmp_path):
    todo = {}
    for system in sorted(LACKING):
        home = tmp_path / system
        todo[system] = {
            "environment": {"FEATCACHE_HOME": str(home)},
            "output": str(tmp_path / f"{system}.txt"),
            "commands": main_job(system, home, tmp_path / "models" / system / "tiny"),
        }
    listed = tmp_path / "todo.json"
    listed.write_text(json.dumps(todo), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.elsewhere", str(listed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    told = {system: Path(one["output"]).read_text(encoding="utf-8") for system, one in todo.items()}
    assert ended.returncode == 0, (ended.stderr, told)
    for system, one in todo.items():
        assert re.findall(r"exit code (\d+)", told[system]) == ["0"] * len(one["commands"]), told[system]
        names = [path.name for path in (tmp_path / system).rglob("*")]
        assert len(names) > 30
        assert not [name for name in names if FORBIDDEN.search(name)]
    one, two = (tmp_path / "win32" / "runs" / "toy" / name / "predictions.csv" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_what_is_hidden_is_hidden_from_featcache_alone(tmp_path):
    """Check the imitation itself; without it the test above would prove nothing."""
    script = """
from tests.elsewhere import pretend
import os, psutil
pretend("win32")
names = {"__name__": "featcache.example"}
for code in (
    "import resource", "from os import sysconf", "import os; os.fork", "import ctypes; ctypes.CDLL(None)",
    "import mmap; mmap.MADV_WILLNEED", "open('/proc/self/statm')", "import os; os.open('.', os.O_RDONLY)",
    "from pathlib import Path; Path('/sys/fs/cgroup/memory.max').read_text()",
):
    try:
        exec(code, dict(names))
    except (ImportError, AttributeError, TypeError, OSError) as error:
        print(type(error).__name__)
    else:
        print("found", code)
    if "/sys/" not in code:
        exec(code, {"__name__": "library", "os": os})
assert psutil.virtual_memory().total > 0
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [
        *("ModuleNotFoundError", "ImportError", "AttributeError", "TypeError"),
        *("AttributeError", "FileNotFoundError", "PermissionError", "FileNotFoundError"),
    ]

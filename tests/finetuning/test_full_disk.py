"""A disk that is full while models are written, or that cannot be read, is named; what was written before is kept."""

import errno
import os
import re
import sys
from contextlib import contextmanager

import pytest

import featcache
from featcache.errors import DiskError, StoreError
from featcache.extractors.upper import UpperBlocks
from featcache.runs.checkpoints import CheckpointFile

if sys.platform == "win32":
    pytest.skip("needs limits on the size of files", allow_module_level=True)
import resource

# Bytes that a small file has, but no model and no checkpoint.
ROOM = 30_000


@contextmanager
def small_files():
    """Make the calls fail that write larger files; the same calls fail on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="whole-disk", fold=1)


@pytest.mark.parametrize(("writer", "method"), [(UpperBlocks, "save"), (CheckpointFile, "write")])
def test_a_training_continues_after_the_disk_was_full(place, run, monkeypatch, writer, method):
    write = getattr(writer, method)

    def limited(*arguments):
        with small_files():
            write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer, method, limited)
        with pytest.raises(DiskError, match=r"could not be written \(File too large\); .*raise the limit") as refused:
            place.finetune(name=method, fold=1)
    assert "\n" not in str(refused.value)
    resumed = place.finetune(name=method, fold=1, resume=True)
    for table in ("predictions", "history"):
        assert getattr(resumed, table).equals(getattr(run, table))


def test_a_published_folder_is_complete_or_does_not_exist(run, tmp_path):
    told = re.escape("seed-1-fold-1/model.safetensors could not be written (File too large); raise the limit")
    with small_files(), pytest.raises(DiskError, match=told):
        featcache.publish(run.path, tmp_path / "shared")
    assert [path.name for path in tmp_path.iterdir()] == [".shared.lock"]


def test_models_that_cannot_be_read_are_one_line(place, run, tmp_path, monkeypatch):
    stat, models = os.stat, f"{run.path / 'models'}{os.sep}"

    def refused(path, *arguments, **options):
        if not isinstance(path, int) and os.fspath(path).startswith(models):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr("os.stat", refused)
    home, told = place.workspace.home, re.escape(models) + r".* could not be read \(Permission denied\); [^\n]*"
    with pytest.raises(DiskError, match=told):
        run.head(seed=1, fold=1)
    with pytest.raises(DiskError, match=told):
        featcache.extract(model=run.path, fold=1, corpus="toy", egemaps=False, home=home)
    with pytest.raises(StoreError, match=re.escape(models)):
        featcache.publish(run.path, tmp_path / "shared", home=home)

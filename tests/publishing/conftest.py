"""Runs that are trained once for all tests of this folder, and folders published from them."""

import shutil

import pytest

from featcache.fitting.common_options import options_for
from featcache.fitting.fit import fit
from featcache.runs.reader import RunFolder
from tests.fetching.conftest import hub, offline, told  # noqa: F401
from tests.publishing.shared import RUNS, STORES, manifest

SHORT = {"seeds": (1,), "max_epochs": 1, "learning_rate": 0.01, "max_frames": 5, "protocol": "loso"}


@pytest.fixture
def trained(request, tmp_path_factory, quick_reports):
    """Return a function that gives the run of a name in RUNS; it must not be changed. Figures are empty files."""

    def make(name):
        kept = tmp_path_factory.getbasetemp() / "to-publish" / name
        if not kept.exists():
            if not request.getfixturevalue("tmp_path").joinpath("data/cache/toy").exists():
                request.getfixturevalue("make_cache")(manifest=manifest(), stores=STORES)
            run = fit(
                **{**options_for(RUNS[name]["head"], SHORT), "target": "emotion", "features": ["ssl"], **RUNS[name]}
            )
            kept.parent.mkdir(exist_ok=True)
            shutil.copytree(run.path, kept)
        return RunFolder(kept)

    return make

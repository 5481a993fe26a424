"""Run folders as a fit writes them."""

import math

import torch
from hypothesis import strategies as st

from featcache.runs.identity import COMPUTED
from featcache.runs.writer import UnfinishedRun

# Names that CSV, YAML or pandas may misinterpret, and any other names of classes and speakers.
AWKWARD = [
    "NA",
    "nan",
    "null",
    "None",
    "",
    " ",
    "03",
    "1e5",
    "True",
    "no",
    "~",
    "-",
    "a,b",
    'a "b"',
    "'",
    "a/b",
    "#",
    "é",
]


# Names contain no control characters, and no single carriage return, which Python's csv module does not quote.
names = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


SETTINGS = {"seeds": [3, 1, 2], "norm": "speaker", COMPUTED: {"device": "cpu"}}


RECORD = {"history": [[1, 0.5, math.nan, 0.25]], "predictions": {"é/1": [0.1, 0.9]}}


def begin(path, *, resume=False, overwrite=False, **changes):
    run = UnfinishedRun(path, {**SETTINGS, **changes})
    run.begin(resume=resume, overwrite=overwrite)
    return run


def keep(run, *pairs):
    for seed, fold in pairs:
        run.keep(seed, fold, RECORD, {"weight": torch.full((2,), float(seed))})

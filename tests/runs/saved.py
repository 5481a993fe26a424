"""Runs with saved heads."""

from featcache.fitting.common_options import options_for
from featcache.fitting.fit import fit

STORES = {"ssl": {}, "egemaps": {"kind": "egemaps"}, "text": {"kind": "text"}, "functionals": {"kind": "functionals"}}


SHORT = {"seeds": (1, 2), "max_epochs": 2, "learning_rate": 0.01, "max_frames": 5}


def train(**options):
    return fit(**{**options_for(options.get("head", ""), SHORT), "target": "emotion", "protocol": "loso", **options})

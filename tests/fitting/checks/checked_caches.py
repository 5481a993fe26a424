"""Caches with faults that a fit must find."""

from featcache.manifest import Manifest, Utterance

QUICK = {"seeds": (1,), "max_epochs": 1, "learning_rate": 0.01}


SEEDS = {"seeds": (1,)}


BAD = "02-joy-1"


def manifest_of(rows):
    """Make a manifest from (speaker, labels) pairs; the third utterance is ``u2``."""
    return Manifest(
        [
            Utterance(utterance_id=f"u{number}", path=f"{number}.wav", speaker_id=speaker, labels=dict(labels))
            for number, (speaker, labels) in enumerate(rows)
        ]
    )

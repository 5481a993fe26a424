"""Caches of noise, and options to fit them."""

from featcache.manifest import Manifest, Utterance
from tests.untimed import bytes_without_times


def manifest_of(*rows):
    """Make a manifest from (speaker, labels) pairs."""
    return Manifest(
        [
            Utterance(utterance_id=f"u{number}", path=f"{number}.wav", speaker_id=speaker, labels=labels)
            for number, (speaker, labels) in enumerate(rows)
        ]
    )


def in_parts(**parts):
    """Make a manifest with a split, from part → (speaker, emotion) pairs."""
    return manifest_of(
        *((speaker, {"emotion": emotion, "split": part}) for part, rows in parts.items() for speaker, emotion in rows)
    )


ONE_SPEAKER_EACH = {
    "train": [("s1", "anger"), ("s1", "joy"), ("s1", "joy")],
    "validation": [("s2", "anger"), ("s2", "joy")],
    "test": [("s3", "anger"), ("s3", "joy")],
}


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def bytes_of(run, *names):
    return {name: bytes_without_times(run.path / name) for name in names or files_of(run.path)}


FOUR_STORES = {
    "ssl": {},
    "egemaps": {"kind": "egemaps"},
    "text": {"kind": "text"},
    "functionals": {"kind": "functionals"},
}

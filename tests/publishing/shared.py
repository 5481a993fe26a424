"""Runs for the tests of published folders. Ids, speakers and files have names that occur nowhere by accident."""

import numpy as np

from featcache.manifest import Manifest, Utterance

SPEAKERS = ("zzspk-anna", "zzspk-bert", "zzspk-cleo")
# Texts that no file of a published folder may contain.
SECRETS = ("zzspk", "zzutt", "zzfile", "zzsay", "zzrec")
# Name → options of a fit; together all heads, scopes, tasks, poolings, and stores with equal and different frames.
RUNS = {
    "dense": {"head": "dense", "norm": "global"},
    "lstm": {"head": "lstm", "norm": "speaker"},
    "gru": {"head": "lstm", "norm": "none", "set": {"cell": "gru", "bidirectional": True, "num_hidden": 3}},
    "linear": {"head": "linear", "norm": "global", "pooling": "sum", "max_frames": None},
    "ffn": {"head": "ffn", "norm": "global", "target": "arousal,valence"},
    "fusion": {"head": "fusion", "norm": "speaker", "features": ["ssl", "egemaps"]},
    "apart": {"head": "fusion", "norm": "global", "features": ["ssl", "text"]},
    "attentive": {
        "head": "attentive",
        "norm": "speaker",
        "features": ["ssl", "text"],
        "layers": "0,2",
        "set": {"hidden_units": 16, "attention_units": 8},
    },
    "mlp": {"head": "mlp", "norm": "global", "features": ["ssl", "functionals"], "target": "arousal,valence"},
    "svm": {"head": "svm", "norm": "global", "layers": "last", "pooling": "mean+max"},
    "labels": {"head": "dense", "norm": "global", "task": "multilabel"},
    "logistic": {"head": "logistic", "norm": "speaker", "layers": "last"},
    "svr": {"head": "svm", "norm": "speaker", "features": ["functionals"], "target": "arousal,valence"},
}


def manifest():
    rng = np.random.default_rng(1)
    return Manifest(
        [
            Utterance(
                utterance_id=f"zzutt-{speaker[6:]}-{emotion}-{number}",
                path=f"zzfile-{speaker[6:]}/{emotion}{number}.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "arousal": f"{rng.uniform(1, 5):.2f}",
                    "valence": f"{rng.uniform(-1, 1):.2f}",
                    "sex": "f" if emotion == "anger" else "m",
                    "session": f"zzrec-{speaker[6:]}",
                },
                transcript="zzsay hello",
            )
            for speaker in SPEAKERS
            for emotion in ("anger", "joy", "sadness")
            for number in (1, 2)
        ]
    )


STORES = {"ssl": {}, "egemaps": {"kind": "egemaps"}, "text": {"kind": "text"}, "functionals": {"kind": "functionals"}}


def all_bytes(folder):
    """Return the content of all files in a folder, and their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return b"\n".join(path.relative_to(folder).as_posix().encode() + b"\n" + path.read_bytes() for path in files)


def random_features(head, frames=9, seed=0):
    """Return one utterance for each store, and the statistics of a new speaker where the head needs them."""
    from featcache.publishing.onnx_files import example

    features, statistics = example(head, frames)
    return [[values] for values in features], {"normalisation": statistics} if statistics else {}

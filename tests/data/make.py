"""Noise → the small cache and run folders beside this file, as the code of commit 172ac1c wrote them.

They are kept to show that later code opens them and repeats their fits. Making them again with later code would defeat
that, so run this with a checkout of that commit on ``PYTHONPATH``: ``python tests/data/make.py FOLDER``.
"""

import sys
from pathlib import Path

import numpy as np
from featcache.report.ensemble import ensemble

import featcache
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter, encode
from featcache.extractors.base import Description
from featcache.manifest import Manifest, Utterance

HIDDEN_SIZE, NUM_LAYERS = 4, 3
SHORT = {"max_epochs": 2, "learning_rate": 0.01}
# What is drawn of a run takes more bytes than all the rest, and is not read back.
DRAWN = ("*.png", "*.svg", "report.html")


def make_cache(folder: Path) -> None:
    rng = np.random.default_rng(0)
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path=f"{speaker}-{emotion}-{number}.wav",
                speaker_id=speaker,
                labels={"emotion": emotion, "arousal": f"{rng.uniform(1, 5):.2f}"},
            )
            for speaker in ("01", "02", "03", "04")
            for emotion in ("anger", "joy")
            for number in (1, 2)
        ]
    )
    folder.mkdir(parents=True)
    manifest.write(folder / "manifest.csv")
    description = Description(
        dataset="hidden_states",
        layer_names=tuple(map(str, range(NUM_LAYERS))),
        hidden_size=HIDDEN_SIZE,
        frame_shift=0.02,
        sampling_rate=16000,
        channel="mean",
        settings={"extractor": "ssl", "weights": "pretrained"},
        provenance={"num_blocks": NUM_LAYERS - 1},
    )
    writer = StoreWriter(folder / "ssl", description, "float16")
    records = []
    for utterance in manifest:
        values = rng.normal(size=(NUM_LAYERS, int(rng.integers(3, 9)), HIDDEN_SIZE)).astype(np.float32)
        values[..., 0] += utterance.labels["emotion"] == "joy"
        values[..., 1] += float(utterance.labels["arousal"])
        records.append(
            Record(
                utterance_id=utterance.utterance_id,
                features=encode(values, "float16", description.layer_names),
                statistics=of_frames(values),
                duration=0.02 * values.shape[1],
                audio_sha256="",
                start=None,
                end=None,
            )
        )
    writer.write_shard(records)
    writer.finish(list(manifest.utterance_ids), failed=[])


def make_runs(home: Path) -> None:
    speaker = {"protocol": "random-80-20", "target": "emotion", "seeds": (1, 2), **SHORT, "home": home}
    featcache.fit(head="dense", norm="speaker", name="dense", **speaker)
    featcache.fit(head="linear", norm="none", name="linear", **speaker)
    featcache.fit(
        head="linear",
        norm="global",
        protocol="loso",
        target="arousal",
        task="regression",
        label_range=(1, 5),
        seeds=(1,),
        **SHORT,
        name="arousal",
        home=home,
    )
    ensemble(runs=["dense", "linear"], name="vote", home=home)


def main(home: Path) -> None:
    make_cache(home / "cache" / "toy")
    make_runs(home)
    for pattern in DRAWN:
        for path in home.glob(f"runs/toy/*/{pattern}"):
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

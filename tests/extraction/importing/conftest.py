"""A corpus without audio, known only by its manifest, and a folder of arrays to import."""

import h5py
import numpy as np
import pytest

from featcache.manifest import Manifest, Utterance


@pytest.fixture
def manifest(tmp_path):
    """Write ``corpus/manifest.csv`` of four speakers, two emotions and three utterances of each, without audio."""
    utterances = [
        Utterance(
            utterance_id=f"{speaker}-{emotion}-{number}",
            path=f"{speaker}/{emotion}-{number}.wav",
            speaker_id=speaker,
            labels={"emotion": emotion},
        )
        for speaker in ("01", "02", "03", "04")
        for emotion in ("anger", "joy")
        for number in (1, 2, 3)
    ]
    made = Manifest(utterances)
    (tmp_path / "corpus").mkdir()
    made.write(tmp_path / "corpus" / "manifest.csv")
    return made


def save(path, values, name="features", **options):
    """Write an array in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{name: values})
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=values, **options)


@pytest.fixture
def arrays(manifest, tmp_path, rng):
    """Return a function that writes the files of all utterances, and returns id → array."""

    def write(shape="layers", suffix=".npy", num_layers=3, dtype=np.float32):
        values = {}
        for number, utterance in enumerate(manifest):
            frames = 5 + number % 4
            size = {"layers": (num_layers, frames, 4), "frames": (frames, 4), "vector": (4,)}[shape]
            features = rng.normal(size=size)
            features[..., 0] += 2 * (utterance.labels["emotion"] == "joy")
            values[utterance.utterance_id] = features.astype(dtype)
            save(tmp_path / "arrays" / f"{utterance.utterance_id}{suffix}", values[utterance.utterance_id])
        return values

    return write


@pytest.fixture
def importing(tmp_path):
    """Return a function that imports the folder of arrays."""
    import featcache

    def run(**options):
        given = {"folder": tmp_path / "arrays", "name": "mine", "data": tmp_path / "corpus", "frame_shift": 0.02}
        return featcache.import_features(**{**given, **options})

    return run

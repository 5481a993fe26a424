"""What the reader of a page has already, made small and offline. Audio is noise, and models are untrained.

A page names it in a line ``<!-- prepared: NAME, NAME -->``:

- ``emodb``: the folder ``path/to/emodb`` with file names of EmoDB, four speakers and three emotions.
- ``model``: the folder ``wav2vec2-base`` with a tiny model. A folder takes precedence over a short name, so that
  commands with ``--model wav2vec2-base`` run offline.
- ``whisper``: the same for ``whisper-tiny``.
- ``cache``: both of the first two, and the cache that ``featcache extract`` makes of them.
- ``corpora``: ``cache``, and caches ``ravdess`` and ``crema-d`` with the same features and the labels of these corpora.
- ``runs``: the runs ``first``, ``second`` and ``third`` of that cache.
- ``features``: the folder ``features`` with an array for each utterance of ``path/to/emodb``.
- ``recordings``: the folder ``my-corpus`` with the audio of three speakers.
- ``lab``: the folder ``path/to/lab`` with file names such as ``spk1_H_03.wav``.
"""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import soundfile

SPEAKERS, EMOTIONS = ("03", "08", "09", "10"), "FWN"
RUNS = {"first": ("wav2vec2-base", "dense"), "second": ("egemaps", "dense"), "third": ("wav2vec2-base", "linear")}


def write_noise(path):
    """Write half a second of noise that depends on the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(path.as_posix().encode())
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 8000), 16000)


def make_emodb():
    for speaker in SPEAKERS:
        for letter in EMOTIONS:
            write_noise(Path(f"path/to/emodb/{speaker}a01{letter}a.wav"))


def make_model():
    from tests.tiny_models import TINY_MODELS, save_untrained

    save_untrained(Path("wav2vec2-base"), *TINY_MODELS["wav2vec2"], do_normalize=True)


def make_whisper():
    from tests.transcription.conftest import save_whisper

    save_whisper(Path("whisper-tiny"))


def make_cache():
    import featcache

    if not Path("path/to/emodb").exists():
        make_emodb()
    if not Path("wav2vec2-base").exists():
        make_model()
    featcache.extract(model="wav2vec2-base", data="path/to/emodb")


def make_corpora():
    make_cache()
    common, happy = Path("data/cache"), {"anger": "angry", "happiness": "happy"}
    for corpus, names, further in (("ravdess", happy, ",vocal_channel\n"), ("crema-d", {}, ",sentence\n")):
        shutil.copytree(common / "emodb", common / corpus)
        (common / corpus / "corpus.json").write_text(json.dumps({"corpus": corpus}))
        header, *rows = (common / "emodb" / "manifest.csv").read_text().splitlines()
        for label, name in names.items():
            rows = [row.replace(label, name) for row in rows]
        lines = [header + further, *(f"{row},speech\n" for row in rows)]
        (common / corpus / "manifest.csv").write_text("".join(lines))


def make_runs():
    import featcache

    for name, (features, head) in RUNS.items():
        featcache.fit(features=features, head=head, name=name, seeds=1, max_epochs=1)


def make_features():
    rng = np.random.default_rng(0)
    Path("features").mkdir()
    for speaker in SPEAKERS:
        for letter in EMOTIONS:
            np.save(f"features/{speaker}a01{letter}a.npy", rng.normal(size=(3, 25, 4)).astype(np.float32))


def make_recordings():
    for speaker in ("anna", "bert", "cleo"):
        for number in (1, 2):
            write_noise(Path(f"my-corpus/{speaker}/00{number}.wav"))


def make_lab():
    for speaker in (1, 2, 3):
        for letter in "HS":
            for number in ("01", "02"):
                write_noise(Path(f"path/to/lab/spk{speaker}_{letter}_{number}.wav"))


MAKERS = {
    "emodb": make_emodb,
    "model": make_model,
    "whisper": make_whisper,
    "cache": make_cache,
    "corpora": make_corpora,
    "runs": make_runs,
    "features": make_features,
    "recordings": make_recordings,
    "lab": make_lab,
}


def prepare(names):
    """Make what a page expects, in the current folder."""
    for name in names:
        MAKERS[name]()

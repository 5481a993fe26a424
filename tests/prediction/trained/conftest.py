"""One corpus of tiny recordings with its stores, for all tests of a session; runs are trained where they are needed."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

import featcache
from featcache.extraction import extract
from featcache.fitting.common_options import options_for
from featcache.fitting.fit import fit
from featcache.manifest import Manifest, Utterance
from featcache.prediction.inputs import AudioRequest
from featcache.prediction.predictor import Predictor
from featcache.settings.predictions import PredictSettings
from featcache.workspace import Workspace

RATE = 16000
SHORT = {"seeds": (1, 2), "max_epochs": 1, "learning_rate": 0.01, "protocol": "loso", "target": "emotion"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Workspace with the corpus ``toy`` and its cache.

    Attributes:
        workspace: Folder of corpora, caches and runs.
        root: Folder of the audio.
        models: Folder of the speech model.
        words: Folder of the text encoder.
        manifest: Utterances of the corpus.
        extractors: Extractors that were created already, by the fingerprints of their stores.
    """

    workspace: Workspace
    root: Path
    models: str
    words: str
    manifest: Manifest
    extractors: dict = field(default_factory=dict)

    @property
    def cache(self):
        return self.workspace.cache("toy")

    def fit(self, **options):
        """Train a run once per session, by its options."""
        run = fit(**{**options_for(options["head"], SHORT), **options}, corpus="toy", home=self.workspace.home)
        return featcache.load_run(run.path, home=self.workspace.home)

    def request(self, ids=None, *, root=None, corpus=None, cache=None, **changes):
        """Return the request for some utterances of the corpus, as files or as the corpus."""
        manifest = self.manifest if ids is None else self.manifest.subset(ids)
        return AudioRequest(
            manifest=changes.pop("manifest", manifest),
            root=root or self.root,
            speakers_known=True,
            corpus=corpus,
            cache=cache,
            failures=(),
        )

    def predictor(self, run):
        """Return a predictor; extractors are created once per session, because loading a model takes longest."""
        models = dict.fromkeys(("ssl", "half", "bytes", "pooled", "chunks"), self.models) | {"text": self.words}
        given = [f"{name}={models[name]}" for name in run.config["features"] if name in models]
        predictor = Predictor(run, self.workspace, models=given, device="cpu")
        key = tuple(store.identity.fingerprint for store in predictor.needed)
        if key in self.extractors:
            vars(predictor)["recreated"] = self.extractors[key]
        elif all(store.name in models or store.name.startswith("egemaps") for store in predictor.needed):
            self.extractors[key] = predictor.recreated
        return predictor

    def predict(self, run, request=None, **options):
        return self.predictor(run).predict(request or self.request(), PredictSettings(**{"workers": 1, **options}))


def write_corpus(folder, speech_like):
    """Write recordings of three speakers and return the manifest."""
    folder.mkdir(parents=True)
    rng, utterances = np.random.default_rng(3), []
    for speaker in ("01", "02", "03"):
        for emotion in ("anger", "joy"):
            for take in (1, 2):
                name = f"{speaker}-{emotion}-{take}"
                pitch = {"anger": 220.0, "joy": 150.0}[emotion] + 20 * int(speaker)
                samples = speech_like(int(RATE * rng.uniform(0.4, 0.9)), RATE, pitch=pitch, seed=len(utterances))
                soundfile.write(folder / f"{name}.wav", samples, RATE)
                labels = {"emotion": emotion, "half": f"{speaker}{take}"}
                labels |= {"arousal": f"{rng.uniform(1, 5):.2f}", "valence": f"{rng.uniform(-1, 1):.2f}"}
                utterances.append(
                    Utterance(
                        utterance_id=name,
                        path=f"{name}.wav",
                        speaker_id=speaker,
                        transcript=f"{'happy' if emotion == 'joy' else 'no'} {take}" if take == 1 else "hello",
                        labels=labels,
                    )
                )
    manifest = Manifest(utterances)
    manifest.write(folder / "manifest.csv")
    return manifest


@pytest.fixture(scope="session")
def place(tmp_path_factory, speech_like, tiny_model, tiny_text_model):
    home = tmp_path_factory.mktemp("prediction") / "data"
    workspace = Workspace.at(home)
    manifest = write_corpus(workspace.corpus("toy"), speech_like)
    model, words = tiny_model("wav2vec2"), tiny_text_model("bert")
    common = {"corpus": "toy", "egemaps": False, "workers": 1, "home": home}
    extract(model=model, name="ssl", store="float32", **common)
    extract(model=model, name="half", **common)
    extract(model=model, name="bytes", store="int8", **common)
    extract(model=model, name="pooled", pool=True, **common)
    extract(model=model, name="chunks", store="float32", chunk_seconds=0.3, overlap_seconds=0.1, **common)
    extract(model="egemaps", **common)
    extract(model="egemaps-functionals", **common)
    extract(text=words, name="text", store="float32", **common)
    return Place(workspace=workspace, root=workspace.corpus("toy"), models=model, words=words, manifest=manifest)

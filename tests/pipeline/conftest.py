"""Miniature RAVDESS, IEMOCAP and EmoDB with the original file names, and tiny models in place of pipelines' own."""

from dataclasses import replace
from itertools import product

import pytest
import soundfile

from featcache.cli.pipelines import run_and_print
from featcache.extractors.egemaps import EgemapsExtractor

SECONDS, SAMPLING_RATE = 0.25, 16000
# neutral, calm, happy, angry: four classes, which Pepino et al. merge into three
RAVDESS_EMOTIONS = ("01", "02", "03", "05")
IEMOCAP_EMOTIONS = {"ang": "Anger", "hap": "Happiness", "neu": "Neutral", "sad": "Sadness"}
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
WORDS = "\t SFrm  EFrm  SegAScr Word\n\t   52   100  -23456 WELL\n"


@pytest.fixture(scope="session")
def corpora(tmp_path_factory, speech_like):
    """Make a folder with ``ravdess`` (97 utterances, 24 actors), ``iemocap`` (80, 10 actors) and ``emodb`` (30, 10)."""
    folder = tmp_path_factory.mktemp("corpora")
    names = [f"03-01-{code}-01-01-01-{actor:02d}" for actor in range(1, 25) for code in RAVDESS_EMOTIONS]
    for number, name in enumerate([*names, "03-02-03-01-01-01-01"]):
        write_sound(folder / "ravdess" / f"Actor_{name[-2:]}" / f"{name}.wav", speech_like, number)
    for session in range(1, 6):
        write_session(folder / "iemocap", session, speech_like)
    for number, (speaker, code) in enumerate(product(EMODB_SPEAKERS, "WFN")):
        write_sound(folder / "emodb" / f"{speaker}a01{code}a.wav", speech_like, number)
    return folder


def write_session(folder, session, speech_like):
    """Write two dialogues in which both speakers act every emotion; all evaluators agree."""
    for half, kind in (("F", "impro01"), ("M", "script01_1")):
        dialogue, table = f"Ses0{session}{half}_{kind}", []
        place = folder / f"Session{session}"
        for talker in "FM":
            for number, (code, word) in enumerate(IEMOCAP_EMOTIONS.items()):
                turn = f"{dialogue}_{talker}{number:03d}"
                write_sound(place / f"sentences/wav/{dialogue}/{turn}.wav", speech_like, 8 * session + number)
                write_text(place / f"sentences/ForcedAlignment/{dialogue}/{turn}.wdseg", WORDS)
                ratings = f"[{1 + number}.0, {4 - number}.5, 3.{session}]"
                table.append(f"[1.0 - 2.0]\t{turn}\t{code}\t{ratings}\nC-E1:\t{word};\t()\n")
        write_text(place / f"dialog/EmoEvaluation/{dialogue}.txt", "\n".join(table))


def write_sound(path, speech_like, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    length = int(SAMPLING_RATE * (SECONDS + 0.005 * (number % 5)))
    soundfile.write(path, speech_like(length, pitch=100 + 7 * (number % 16), seed=number), SAMPLING_RATE)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def tiny_models(monkeypatch, tiny_model):
    """Replace every model by a tiny wav2vec 2.0, or a Whisper by a tiny one for 1 s; return the loaded models."""
    from featcache.extractors import ssl
    from featcache.extractors.checkpoint import is_folder
    from featcache.extractors.models import known_models, load
    from featcache.extractors.upper import loading, saving

    loaded = []

    def load_tiny(model, *, weights="pretrained", revision=None, num_blocks=None, xvector=False, keep_whole=False):
        loaded.append(model)
        if is_folder(model):  # the fine-tuned model of a run
            return load(model, weights=weights, num_blocks=num_blocks, xvector=xvector, keep_whole=keep_whole)
        deeper = {"num_hidden_layers": num_blocks + 1} if num_blocks else {}
        known = (entry for name, entry in known_models().items() if model in (name, entry["model_id"]))
        entry = next(known, {"model_id": model, "do_normalize": True})
        if entry.get("family") == "whisper":
            folder = tiny_model("whisper", max_source_positions=50)
        else:
            folder = tiny_model("wav2vec2", do_normalize=entry["do_normalize"], **deeper)
        found = load(folder, weights=weights, num_blocks=num_blocks, xvector=xvector, keep_whole=keep_whole)
        return replace(found, model_id=entry["model_id"])

    for module in (ssl, loading, saving):
        monkeypatch.setattr(module, "load", load_tiny)
    return loaded


@pytest.fixture
def home(tmp_path, corpora):
    """Make a workspace that contains only the miniature corpora."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "corpora").symlink_to(corpora)
    return folder


@pytest.fixture
def write_pipeline(tmp_path):
    """Write a pipeline with two runs on eGeMAPS, after text changes: ``write_pipeline(("old", "new"), …)``."""

    def write(*changes, name="mine"):
        text = SMALL
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


SMALL = """title: A small one
paper: Somebody 2021
corpus: ravdess
published: {source: pepino2021, corpus: ravdess}
stores:
  egemaps: {model: egemaps}
defaults:
  features: egemaps
  protocol: pepino2021
  seeds: 2
  max_epochs: 2
runs:
  speaker: {title: By speaker, published: {features: egemaps}, note: as run}
  global:
    title: Global
    norm: global
"""


@pytest.fixture(autouse=True)
def _numbers_only(quick_reports, monkeypatch):
    """Skip the figures and the tables of the reports of runs, which take longer than everything else."""
    from featcache.report import utterance_list

    monkeypatch.setattr(utterance_list, "details_of", lambda *_, **__: None)


@pytest.fixture(scope="session")
def described():
    """Return a dictionary, shared by all tests: signal → features that openSMILE computed from it."""
    return {}


@pytest.fixture(autouse=True)
def _describe_once(monkeypatch, described):
    """Compute eGeMAPS once per signal, because most tests extract the same hundred utterances."""
    extract_one = EgemapsExtractor._extract_one

    def extract_once(self, signal):
        key = (self._functionals, signal.sampling_rate, signal.samples.tobytes())
        if key not in described:
            described[key] = extract_one(self, signal)
        return described[key].copy()

    monkeypatch.setattr(EgemapsExtractor, "_extract_one", extract_once)


@pytest.fixture
def counted(monkeypatch):
    """List extracted stores (``counted["extractions"]``) and the folders of trained runs (``counted["runs"]``)."""
    from featcache.fitting import job
    from featcache.pipeline import stores

    found = {"extractions": [], "runs": []}
    extract, write_results = stores.carry_out, job.write_results
    monkeypatch.setattr(
        stores, "carry_out", lambda asked: found["extractions"].append(asked.options.name) or extract(asked)
    )
    monkeypatch.setattr(
        job, "write_results", lambda run, setup: found["runs"].append(run.path.name) or write_results(run, setup)
    )
    return found


@pytest.fixture
def run(home):
    """Run a pipeline on the miniature corpora; returns the folder of its only table."""

    def call(path, **options):
        [folder] = run_and_print(pipeline=path, home=home, **options).folders
        return folder

    return call

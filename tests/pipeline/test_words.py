"""Audio, text and ASR transcripts on a miniature MSP-Podcast with tiny models: Tables 1 and 2, Figure 3."""

import csv
import re
from dataclasses import replace
from itertools import product

import pytest
import yaml
from safetensors.torch import load_file

import featcache
from featcache.cli.pipelines import run_and_print
from featcache.errors import PipelineError
from featcache.extractors import text
from featcache.extractors.checkpoint import is_folder
from featcache.extractors.models import known_models, known_text_models
from featcache.extractors.text_models import load_text_model
from featcache.extractors.upper import loading, saving
from featcache.pipeline import shipped_pipelines
from featcache.pipeline.read import read_pipeline
from featcache.published import find_published
from featcache.runs.reader import RunFolder
from featcache.transcription import whisper
from featcache.transcripts.files import read_transcripts
from tests.transcription.conftest import tiny_whisper  # noqa: F401
from tests.words import make_msp_podcast

NAME = "oliveira2023-msp-podcast"
QUICK = {"seeds": 1, "max_epochs": 2}
METRICS = ("ccc_arousal", "ccc_valence", "ccc_dominance")


@pytest.fixture(scope="module")
def home(tmp_path_factory, speech_like):
    folder = tmp_path_factory.mktemp("podcast")
    make_msp_podcast(folder / "corpora" / "msp-podcast", speech_like)
    return folder


@pytest.fixture
def tiny_encoders(tiny_models, tiny_text_model, tiny_whisper, monkeypatch):  # noqa: F811
    """Replace every model by a tiny one with the same id, and return the list of models that are loaded."""
    load_whisper = whisper._load

    def tiny_text(model, *, weights="pretrained", revision=None, keep_whole=False):
        tiny_models.append(model)
        if is_folder(model):  # the fine-tuned model of a run
            return load_text_model(model, keep_whole=keep_whole)
        found = load_text_model(tiny_text_model("bert"), weights=weights, keep_whole=keep_whole)
        return replace(found, model_id=known_text_models().get(model, {"model_id": model})["model_id"])

    def hears(model, revision):
        tiny_models.append(model)
        found = load_whisper(str(tiny_whisper(seed=sum(map(ord, model)))), None)
        return replace(found, model_id=known_models()[model]["model_id"])

    for module in (text, loading, saving):
        monkeypatch.setattr(module, "load_text_model", tiny_text)
    monkeypatch.setattr(whisper, "_load", hears)
    return tiny_models


def rows_in(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def outcomes():
    return []


@pytest.fixture
def outcome(home, tiny_encoders, outcomes):
    """Run the whole pipeline for the first test; later tests have its results."""
    if not outcomes:
        outcomes.append(run_and_print(pipeline=NAME, home=home, **QUICK))
    return outcomes[0]


def test_every_row_stands_beside_the_papers_number_in_every_dimension(home, outcome, caplog):
    content = yaml.safe_load(shipped_pipelines()[NAME].read_text(encoding="utf-8"))
    [folder] = outcome.folders
    assert folder == home / "runs" / "msp-podcast" / NAME
    rows = rows_in(folder / "results.csv")
    assert [(row["name"], row["metric"]) for row in rows] == [(n, m) for n in content["runs"] for m in METRICS]
    for row in rows:
        spec = content["runs"][row["name"]]
        metrics = RunFolder(folder.parent / row["run"]).metrics
        assert float(row["mean"]) == metrics[row["metric"]]["mean"]
        assert row["protocol"] == spec.get("protocol", "msp-podcast-test1")
        assert ("frozen; the paper fine-tunes" in row["notes"]) == ("published" in spec and "from_layer" not in spec)
        assert row["all_parameters"] == str(parameters_of(folder.parent / row["run"]))
        assert ("parameters, word error rate" in row["notes"]) == ("whisper" in row["name"])
        if "published" in spec:
            wanted = {**content["published"], **spec["published"], "metric": row["metric"].replace("_", "-")}
            assert float(row["published_mean"]) == find_published(wanted).mean
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(f"CCC {name}" in page for name in ("arousal", "valence", "dominance"))
    assert (folder / "table2.csv").exists()
    assert "too optimistic" not in caplog.text  # no frozen head is tested on utterances that trained its model
    assert "<th>All</th><th>Paper</th>" in re.sub(r"\s*(<[^>]*>)\s*", r"\1", re.sub(r"<th[^>]*>", "<th>", page))


def parameters_of(path):
    """Return the number of parameters of the models of a run, and of a head."""
    config = RunFolder(path).config
    cache = featcache.open(path.parents[2] / "cache" / path.parent.name)
    weights = load_file(path / "heads" / f"seed-{config['seeds'][0]}-fold-1.safetensors")
    of_models = sum(cache[store].metadata["num_parameters"] for store in config["features"])
    return of_models + sum(one.numel() for one in weights.values())


def test_gains_are_those_of_the_runs(outcome):
    [folder] = outcome.folders
    score = {(row["name"], row["metric"]): float(row["mean"]) for row in rows_in(folder / "results.csv")}
    gains = rows_in(folder / "valence_gain_seen.csv")
    models = {"w2v2": "w2v2-L-robust(p)", "hubert": "HuBERT base", "distilhubert": "DistilHuBERT"}
    kinds = {"ft": "FT", "frz": "FT⇒FRZ"}
    assert [row["title"] for row in gains] == [f"{one}, {kind}" for one in models.values() for kind in kinds.values()]
    for row, (name, kind) in zip(gains, product(models, kinds), strict=True):
        # Both kinds of models with text are compared with the fine-tuned model of audio.
        first, second = score[f"{name}-text-{kind}-seen", "ccc_valence"], score[f"{name}-ft-seen", "ccc_valence"]
        assert (float(row["first"]), float(row["second"])) == pytest.approx((first, second))
        assert row["gain"] == "" or float(row["gain"]) == pytest.approx(100 * (first - second) / second)
        assert (row["published"] == "") == (kind == "frz")
    # Table 1 of the paper: 0.560 with text, 0.470 without.
    assert float(gains[0]["published"]) == pytest.approx(100 * (0.560 - 0.470) / 0.470)
    assert (folder / "valence_gain_unseen.png").exists()


def test_stores_are_statistics_of_last_layers_and_machines_have_words_of_their_own(home, outcome):
    cache = featcache.open(home / "cache" / "msp-podcast")
    assert all(len(cache[name].layer_names) == 1 for name in cache)
    assert {name for name in cache if not cache[name].pooled_only} == {name for name in cache if "-local" in name}
    tuned = [cache[name].identity.settings["fine_tuned"] for name in cache if "-tuned-" in name]
    assert [one["fold"] for one in tuned] == [1] * 6
    settings = {name: cache[name].metadata for name in cache}
    assert settings["tinybert"]["transcripts"] == "manifest"
    assert settings["tinybert-whisper-tiny"]["transcripts"] == "whisper-tiny"
    heard = {name: read_transcripts(cache.path, name) for name in ("whisper-base", "whisper-tiny")}
    assert all(list(words) == list(cache.manifest.utterance_ids) for words in heard.values())
    assert heard["whisper-base"] != heard["whisper-tiny"]


def test_nothing_is_left_to_do(home, outcome, tiny_encoders):
    tiny_encoders.clear()
    again = run_and_print(pipeline=NAME, home=home, **QUICK)
    assert (again.transcriptions, again.extractions, tiny_encoders) == ((), (), [])
    assert again.folders == outcome.folders


def test_untrained_models_do_not_transcribe(home, tmp_path, tiny_encoders, capsys):
    (tmp_path / "data" / "corpora").mkdir(parents=True)
    (tmp_path / "data" / "corpora" / "msp-podcast").symlink_to(home / "corpora" / "msp-podcast")
    only = ["distilhubert-text-seen", "distilhubert-whisper-tiny-seen"]
    options = {"pipeline": NAME, "home": tmp_path / "data", "weights": "random", "dry_run": True, **QUICK}
    run_and_print(only=only, **options)
    told = capsys.readouterr().out
    assert "distilhubert-text-seen" in told
    assert "whisper" not in told
    with pytest.raises(
        PipelineError, match="all runs need ASR transcripts, which untrained models cannot make; use pretrained"
    ):
        run_and_print(only=only[1:], **options)
    run_and_print(only=only[1:], **{**options, "weights": None})
    assert "48 utterances to transcribe" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("transcripts: whisper-tiny, layers", "transcripts: whisper-tny, layers", "no transcripts 'whisper-tny'"),
        (
            "{model: whisper-tiny, ",
            "{model: hubert-base, ",
            "no Whisper model 'hubert-base'; did you mean 'whisper-base'",
        ),
        (
            "metric: ccc_valence\n    pairs:\n      w2v2",
            "metric: cc_valence\n    pairs:\n      w2v2",
            "no metric 'cc_valence'; available: ccc, ",
        ),
        ("[w2v2-text-ft-seen, w2v2-ft-seen]", "[w2v2-text-ft-seen, w2v2]", "no run 'w2v2'"),
        ("[w2v2-text-ft-seen, w2v2-ft-seen]", "[w2v2-text-ft-seen]", "gains.valence_gain_seen.pairs"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, old, new, told):
    content = shipped_pipelines()[NAME].read_text(encoding="utf-8")
    assert old in content
    path = tmp_path / "mine.yaml"
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PipelineError, match=told) as caught:
        read_pipeline(path)
    assert "\n" not in str(caught.value)

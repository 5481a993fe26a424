"""Commands that show existing results and available parts: layers, relevance, corpora, models, info."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featcache
from featcache.corpora import CORPORA
from featcache.extractors.models import known_models
from featcache.protocols import PROTOCOLS
from featcache.runs.reader import RunFolder
from tests.cli.commands.calls import options_of, write_corpus
from tests.cli.commands.looked import SHORT
from tests.conftest import draw_nothing


def test_layers_draws_the_newest_run_that_has_weights(invoke_well, make_cache, quick_reports):
    make_cache()
    for name, layers in (("old", "all"), ("new", "all"), ("single", "local")):
        invoke_well("fit", *SHORT, "--layers", layers, "--name", name)
    out = invoke_well("layers")
    assert "new" in out.splitlines()[0]
    assert out.rstrip().endswith("toy/new/layer_weights.png  .svg  .pdf  _summary.csv")


def test_layers_leaves_a_picture_and_the_numbers_that_it_prints(invoke_well, make_cache, tmp_path):
    make_cache()
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        runs = [
            Path(invoke_well("fit", *SHORT, "--layers", layers, "--name", name).splitlines()[-1])
            for name, layers in (("every", "all"), ("some", "0,2"))
        ]
    out = invoke_well("layers", "every", runs[1], "--out", tmp_path / "figures" / "weights")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["weights.pdf", "weights.png", "weights.svg", "weights_summary.csv"]
    assert (tmp_path / "figures" / "weights.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "figures" / "weights.svg").read_text()
    summary = pd.read_csv(tmp_path / "figures" / "weights_summary.csv")
    assert list(summary.columns) == ["run", "layer", "mean", "std", "num_seeds"]
    for run in runs:
        weights = RunFolder(run).layer_weights.astype({"layer": int}).groupby(["layer", "seed"])["weight"].mean()
        of_run = summary.query("run == @run.name").set_index("layer")
        np.testing.assert_allclose(of_run["mean"], weights.groupby("layer").mean())
        np.testing.assert_allclose(of_run["std"], weights.groupby("layer").std(ddof=0), atol=1e-12)
        for mean in of_run["mean"]:
            assert f"{mean:.4f}" in out


def test_layers_of_runs_with_one_name_are_told_apart_by_corpus(invoke_well, make_cache, quick_reports, tmp_path):
    for corpus in ("one", "two"):
        make_cache(corpus)
        invoke_well("fit", *SHORT, "--corpus", corpus, "--name", "same")
    runs = [tmp_path / "data" / "runs" / corpus / "same" for corpus in ("one", "two")]
    out = invoke_well("layers", *runs, "--out", tmp_path / "both")
    assert set(pd.read_csv(tmp_path / "both_summary.csv")["run"]) == {"one/same", "two/same"}
    assert "one/same" in out
    assert "two/same" in out
    assert "one" in invoke_well("layers", "--corpus", "one")


@pytest.mark.parametrize(
    ("layer_names", "layers", "told"),
    [
        (("0", "1", "2"), "local", "mine learned no layer weights: it was fitted on a single layer, or its"),
        (("0", "1", "input"), "all", "mine has a weight for the layer 'input'; only numbered layers can be drawn"),
    ],
)
def test_layers_refuses_runs_without_numbered_weights(
    invoke, invoke_well, make_cache, quick_reports, layer_names, layers, told
):
    make_cache(stores={"ssl": {"layer_names": layer_names}})
    invoke_well("fit", *SHORT, "--layers", layers, "--name", "mine")
    code, out, err = invoke("layers", "mine")
    assert (code, out) == (1, "")
    assert re.fullmatch(f"error: {told}.*\n", err)


def test_relevance_prints_what_it_leaves(invoke, make_cache, quick_reports, tmp_path):
    make_cache(stores={"ssl": {"weights": "random"}})
    words = "relevance ssl --target emotion --task classification --protocol group-kfold --head linear"
    words += " --norm global --seeds 1 --device cpu --select emotion=anger,joy --corpus toy"
    code, out, _ = invoke(*words.split(), "--out", tmp_path / "layers")
    assert code == 0
    assert "ssl (untrained): linear, global normalisation, group-kfold" in out.splitlines()
    table = pd.read_csv(tmp_path / "layers.csv")
    assert list(table["layer"]) == [0, 1, 2]
    for row in table.itertuples():
        assert re.search(rf"^{row.layer} +{row.weight:.4f} ", out, re.MULTILINE)
        assert re.search(rf"^{row.layer} +{row.uar:.1f} ± {row.uar_std:.1f}", out, re.MULTILINE)
    config = RunFolder(tmp_path / "data" / "runs" / "toy" / table["run"][0]).config
    assert (config["head"], config["norm"], config["seeds"]) == ("linear", "global", [123])
    assert (config["protocol"], config["select"]) == ("group-kfold", {"emotion": ["anger", "joy"]})
    _, again, err = invoke(*words.split(), "--out", tmp_path / "layers")
    assert again == out
    assert "1 of 1 runs exist already" in err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("--probe", "probe"),
        ("--probe ssl --target emotion --out figures/probe", "probe"),
        ("--per-target --target arousal,valence --head linear", "relevance"),
        ("ssl --seeds 2 --per-target", "relevance"),
    ],
)
def test_options_that_have_become_commands_name_them(invoke, words, command):
    code, out, err = invoke("layers", *words.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: 'featcache layers --.*' is now 'featcache {command}'; .*\n", err)


@pytest.mark.parametrize("option", ["--head", "--norm", "--seeds", "--device", "--protocol", "--target", "--select"])
def test_layers_and_probe_have_no_options_of_training(option):
    assert option in options_of("relevance")
    assert option not in options_of("layers")
    assert (option in options_of("probe")) == (option in ("--protocol", "--target", "--select"))


def test_corpora_lists_what_is_known_and_what_is_there(invoke_well, make_cache, tmp_path):
    out = invoke_well("corpora")
    for name in ("emodb", "ravdess", "folder", *CORPORA):
        assert len(re.findall(rf"^{name} ", out, re.MULTILINE)) == 1
    general = set(PROTOCOLS) - {name for corpus in CORPORA.values() for name in corpus.protocols} | {"two-speakers"}
    assert re.search(r"^emodb +EmoDB +yes ", out, re.MULTILINE)
    assert re.search(r"^savee +SAVEE +- ", out, re.MULTILINE)
    [line] = re.findall(r"^Protocols for any corpus: (.*)$", out, re.MULTILINE)
    assert set(line.split(", ")) == general
    assert out.splitlines()[:2] == [f"no corpora in {tmp_path / 'data' / part}" for part in ("corpora", "cache")]
    make_cache("mine [1]")
    write_corpus(tmp_path / "data" / "corpora" / "theirs")
    header, *rows = (line.rsplit(maxsplit=2) for line in invoke_well("corpora").splitlines()[:3])
    assert header == ["Available here", "Audio", "Cache"]
    assert rows == [["mine [1]", "-", "yes"], ["theirs", "yes", "-"]]


def test_one_corpus_is_shown_in_full(invoke_well):
    out = invoke_well("corpora", "ravdess")
    for text in ("RAVDESS", "CC BY-NC-SA 4.0", "zenodo.org", "neutral, calm, happy", "pepino2021-speech", "first 250"):
        assert text in out
    assert "neutral 188, calm 376" in out
    assert "featcache fetch ravdess (2 files, 434.0 MB, addresses from public readers)" in out
    assert "featcache fetch" not in invoke_well("corpora", "savee")
    assert "in total 2452" in " ".join(out.split())
    for name in (*CORPORA["ravdess"].protocols, "loso", "random-80-20"):
        first_words = " ".join(PROTOCOLS[name].description.split()[:3])
        assert re.search(rf"^{name} +{re.escape(first_words)}", out, re.MULTILINE)
    assert "iemocap-issa" not in out


def test_numbers_are_shown_with_their_bounds(invoke_well):
    out = " ".join(invoke_well("corpora", "msp-podcast").split())
    assert "dimensions arousal 1 to 7, valence 1 to 7, dominance 1 to 7" in out
    assert "msp-podcast-test2 Like msp-podcast-test1, but Test2 tests" in out


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_can_be_shown(invoke_well, name):
    out = " ".join(invoke_well("corpora", name).split())
    for text in (CORPORA[name].license, CORPORA[name].description.split(" (")[0], *CORPORA[name].classes):
        assert text in out


def test_models_lists_every_short_name_with_its_size(invoke_well):
    lines = {line.split()[0]: line for line in invoke_well("models").splitlines() if line.strip()}
    for name, entry in known_models().items():
        assert f" {entry['model_id']} " in lines[name] + " "
    # 13 layers of 768 float16 numbers, 50 times a second; and 25 of 1024
    for name, layers, hourly in (("wav2vec2-base", "13 x 768", "3.6 GB"), ("hubert-large", "25 x 1024", "9.2 GB")):
        assert f" {layers} " in lines[name]
        assert f" {hourly} " in lines[name]


def test_info_tells_a_pruned_model_from_a_whole_one(invoke_well, make_cache):
    pruned = {"settings": {"extractor": "ssl", "weights": "random", "num_blocks": 2}}
    folder = make_cache(stores={"whole": {}, "pruned": pruned})
    assert "num_blocks" not in invoke_well("info", folder / "whole")
    assert re.search(r"^num_blocks +2$", invoke_well("info", folder / "pruned"), re.MULTILINE)


def test_info_says_what_is_in_a_store_and_what_made_it(invoke_well, make_cache):
    folder = make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}, "half": {"complete": False}})
    store = featcache.open(folder)["ssl"]
    out = invoke_well("info", folder / "ssl")
    rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines() if line.strip())
    assert rows["store"] == str(folder / "ssl")
    assert rows["finished"] == "yes"
    assert rows["utterances"] == "16 of 16"
    assert rows["frames"] == str(store.num_frames(store.utterance_ids).sum())
    assert rows["fingerprint"] == store.metadata["fingerprint"]
    assert rows["layer_names"] == "0, 1, 2"
    assert rows["frame_shift"] == "0.02"
    whole = invoke_well("info")
    assert whole == invoke_well("info", folder)
    for text in (
        f"cache +{folder}",
        "speakers +4",
        "labels +emotion",
        "finished +no: run the same 'featcache extract'",
    ):
        assert re.search(f"^{text}( |$)", whole, re.MULTILINE)
    assert all(str(folder / name) in whole for name in ("ssl", "egemaps", "half"))

"""Pipelines run only what is missing; tables show published scores beside ours, and all differences from the paper."""

import csv
import re
import shutil

import pytest

from featcache.cache.reader import FeatureStore
from featcache.cli.pipelines import run_and_print
from featcache.errors import DiskError, FeatcacheError, PipelineError, PredictionsError, ProtocolError, StoreError
from featcache.files.checksums import CHECKSUMS
from featcache.fitting.convergence import convergence_notes
from featcache.manifest import Manifest
from featcache.pipeline.locate import find_places
from featcache.pipeline.read import read_pipeline
from featcache.pipeline.stores import PipelineStore
from featcache.runs.reader import RunFolder
from featcache.workspace import Workspace

QUICK = {"seeds": 1, "max_epochs": 1}


def table_of(folder):
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def everything_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_papers_numbers_stand_beside_ours(home, run, write_pipeline, capsys):
    folder = run(write_pipeline())
    assert folder == home / "runs" / "ravdess" / "mine"
    rows = table_of(folder)
    metrics = {name: RunFolder(folder.parent / row["run"]).metrics["uar"] for name, row in rows.items()}
    assert {name: float(row["mean"]) for name, row in rows.items()} == {n: m["mean"] for n, m in metrics.items()}
    # There are only two test speakers, so there is no interval.
    assert metrics["speaker"]["ci95"] is None
    assert [rows["speaker"][end] for end in ("ci95_low", "ci95_high")] == ["", ""]
    # Table 1 of the paper: eGeMAPS on RAVDESS
    assert (rows["speaker"]["published_mean"], rows["speaker"]["published_std"]) == ("57.0", "2.4")
    assert float(rows["speaker"]["difference"]) == metrics["speaker"]["mean"] - 57.0
    assert rows["global"]["published_mean"] == rows["global"]["difference"] == ""
    told = "97 of the corpus's 2452 utterances"
    epochs = [convergence_notes(RunFolder(folder.parent / row["run"])) for row in rows.values()]
    assert any(epochs)
    notes = [["as run", told], [told]]
    assert [row["notes"] for row in rows.values()] == ["; ".join(a + b) for a, b in zip(notes, epochs, strict=True)]
    out = capsys.readouterr().out
    assert re.search(r"By speaker +57\.0 ± 2\.4 ", out)
    for name in ("results.md", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "57.0 ± 2.4" in text
        assert "as run; 97 of the corpus" in text
        assert "Speaker normalisation is transductive" in text


def test_a_table_that_a_disk_refuses_is_printed_first(run, write_pipeline, monkeypatch, capsys):
    run(write_pipeline())
    first = capsys.readouterr().out

    def refuse(*_, **__):
        raise DiskError("no room")

    monkeypatch.setattr("featcache.pipeline.run.write_compared", refuse)
    with pytest.raises(DiskError, match="no room"):
        run(write_pipeline())
    assert re.search(r"By speaker +57\.0 ± 2\.4 .*", first)[0] in capsys.readouterr().out


def test_a_second_call_does_nothing(run, write_pipeline, counted):
    first = table_of(run(write_pipeline()))
    assert counted == {"extractions": ["egemaps"], "runs": [row["run"] for row in first.values()]}
    for done in counted.values():
        done.clear()
    assert table_of(run(write_pipeline())) == first
    assert counted == {"extractions": [], "runs": []}


@pytest.mark.parametrize(
    ("change", "extractions", "runs"),
    [
        (("norm: global", "norm: none"), [], ["global"]),
        (("title: Global", "title: Another"), [], []),
        (("seeds: 2", "seeds: 1"), [], ["speaker", "global"]),
        (("egemaps: {model: egemaps}", "egemaps: {model: egemaps}\n  other: {model: spectrogram}"), [], []),
        (("norm: global", "features: other"), ["other"], ["global"]),
    ],
)
def test_a_changed_field_redoes_what_depends_on_it(run, write_pipeline, counted, change, extractions, runs):
    run(write_pipeline())
    for done in counted.values():
        done.clear()
    more = (
        []
        if change[1] != "features: other"
        else [("{model: egemaps}", "{model: egemaps}\n  other: {model: spectrogram}")]
    )
    rows = table_of(run(write_pipeline(change, *more)))
    assert counted == {"extractions": extractions, "runs": [rows[name]["run"] for name in runs]}


def test_a_dry_run_tells_and_writes_nothing(home, write_pipeline, capsys, counted):
    before = everything_in(home)
    outcome = run_and_print(pipeline=write_pipeline(), home=home, dry_run=True)
    assert outcome.folders == outcome.extractions == ()
    assert everything_in(home) == before
    out = capsys.readouterr().out
    assert "egemaps  egemaps  97 utterances to extract, about" in out
    assert out.count("2 trainings") == 2
    assert "and 4 trainings" in out
    run_and_print(pipeline=write_pipeline(), home=home)
    capsys.readouterr()
    run_and_print(pipeline=write_pipeline(), home=home, dry_run=True)
    out = capsys.readouterr().out
    assert len(re.findall(r" exists *\n", out)) == 3
    assert "nothing to extract or train" in out


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_pruned_models_have_stores_of_their_own(home, run, write_pipeline, tiny_models, num_blocks):
    stores = f"{{model: wav2vec2-base, num_blocks: {num_blocks}}}"
    path = write_pipeline(("{model: egemaps}", stores))
    run(path, **QUICK)
    assert FeatureStore(home / "cache/ravdess/egemaps").layer_names == tuple("012"[: num_blocks + 1])
    loaded = len(tiny_models)
    run(path, **QUICK)
    assert len(tiny_models) == loaded  # the settings of the store are checked without loading the model
    with pytest.raises(StoreError, match="num_blocks"):
        run(write_pipeline(("{model: egemaps}", f"{{model: wav2vec2-base, num_blocks: {3 - num_blocks}}}")), **QUICK)


@pytest.mark.parametrize("options", ["layers: last", "num_blocks: 1, layers: last", "num_blocks: 12"])
def test_the_size_of_a_pruned_model_is_that_of_its_layers(home, write_pipeline, capsys, options):
    def told(options):
        path = write_pipeline(("{model: egemaps}", f"{{model: wav2vec2-large-robust, {options}}}"))
        run_and_print(pipeline=path, home=home, dry_run=True)
        size, unit = re.search(r"about ([\d.]+) (k|M|G)B", capsys.readouterr().out).groups()
        return float(size) * {"k": 1e3, "M": 1e6, "G": 1e9}[unit]

    layers = 1 if "last" in options else 13
    # Each utterance also has a table row, whose size does not depend on the layers.
    assert told(options) == pytest.approx(layers / 25 * told("layers: all"), rel=0.05)


def test_the_size_of_a_store_with_padding_is_that_of_thirty_seconds(home, write_pipeline, capsys):
    path = write_pipeline(("{model: egemaps}", "{model: whisper-tiny, layers: last, keep_padding: true}"))
    run_and_print(pipeline=path, home=home, dry_run=True)
    size = float(re.search(r"97 utterances to extract, about ([\d.]+) MB", capsys.readouterr().out).group(1))
    # Each utterance also has its statistics and a table row.
    assert size == pytest.approx(97 * 1500 * 384 * 2 / 1e6, rel=0.01)


def test_the_size_that_is_told_is_about_what_is_written(home, run, write_pipeline, capsys, tiny_models):
    stores = "egemaps: {model: egemaps}\n  ssl: {model: wav2vec2-base, layers: last}"
    path = write_pipeline(("egemaps: {model: egemaps}", stores), ("norm: global", "features: ssl"))
    run(path, **QUICK)
    written = sum(file.stat().st_size for file in (home / "cache/ravdess/egemaps").glob("shard*.h5"))
    told = capsys.readouterr().out.split("about ")[1].split(" kB")[0]
    assert float(told) * 1000 == pytest.approx(written, rel=0.5)  # in a small store, the overhead of HDF5 is large


def test_a_trial_says_so_in_every_row(run, write_pipeline, tiny_models):
    stores = "egemaps: {model: egemaps}\n  ssl: {model: wav2vec2-base}"
    path = write_pipeline(("egemaps: {model: egemaps}", stores), ("norm: global", "features: ssl"))
    trial = {"limit": 60, "weights": "random", "protocol": "random-80-20", **QUICK}
    rows = table_of(run(path, **trial))
    same = "protocol random-80-20, not pepino2021; 1 seed, not 2; at most 1 epochs; "
    same += "test speakers are also in the training part"
    assert rows["speaker"]["notes"] == f"as run; 60 of 97 utterances (--limit); {same}"
    assert rows["global"]["notes"] == f"untrained weights; 60 of 97 utterances (--limit); {same}"
    assert {row["protocol"] for row in rows.values()} == {"random-80-20"}


def test_another_protocol_predicts_the_same_label(run, write_pipeline):
    folder = run(write_pipeline(), protocol="group-kfold", **QUICK)
    for row in table_of(folder).values():
        assert RunFolder(folder.parent / row["run"]).config["classes"] == [
            "neutral",
            "happy",
            "angry",
        ]  # calm is neutral


def test_a_limit_holds_where_a_store_has_more(run, write_pipeline, counted):
    run(write_pipeline())
    counted["extractions"].clear()
    trial = {"limit": 60, "protocol": "random-80-20"}
    folder = run(write_pipeline(), **trial)
    assert counted["extractions"] == []
    for row in table_of(folder).values():
        config = RunFolder(folder.parent / row["run"]).config
        [fold] = config["folds"]
        assert fold["train"] + fold["validation"] + fold["test"] == 60


def test_untrained_models_have_stores_of_their_own(home, run, write_pipeline, tiny_models, counted):
    path = write_pipeline(("{model: egemaps}", "{model: wav2vec2-base}"), name="ssl")
    run(path, seeds=1, max_epochs=1, weights="random")
    run(path, **QUICK)
    assert counted["extractions"] == ["egemaps-untrained", "egemaps"]
    loaded = len(tiny_models)
    run(path, **QUICK)
    assert len(tiny_models) == loaded  # no model is loaded to find out that nothing is missing


def test_runs_may_be_left_out(run, write_pipeline):
    assert list(table_of(run(write_pipeline(), only=["global"], seeds=1))) == ["global"]
    with pytest.raises(PipelineError, match="--only globl: no run 'globl'; did you mean 'global'"):
        run(write_pipeline(), only=["globl"])


def test_what_a_corpus_does_not_allow_is_told_before_anything_is_extracted(home, run, write_pipeline, counted):
    with pytest.raises(ProtocolError, match="this protocol needs the RAVDESS actors 21 to 24"):
        run(write_pipeline(), limit=3)
    with pytest.raises(FeatcacheError, match="no utterance has a label 'colour'"):
        run(write_pipeline(("norm: global", "select: {colour: red}")))
    with pytest.raises(PipelineError, match="no protocol 'losso'; did you mean 'loso'"):
        run(write_pipeline(), protocol="losso")
    assert counted == {"extractions": [], "runs": []}


def test_another_corpus_is_refused_and_where_there_is_none_it_is_told(tmp_path, corpora, write_pipeline):
    with pytest.raises(
        PipelineError, match=r"the pipeline needs the corpus ravdess, but .* contains the corpus 'iemocap'; give"
    ):
        run_and_print(pipeline=write_pipeline(), data=corpora / "iemocap", home=tmp_path / "none")
    with pytest.raises(FeatcacheError, match=r"needs the corpus ravdess, which was not found \(available: none\)"):
        run_and_print(pipeline=write_pipeline(), home=tmp_path / "none")


def test_features_alone_will_do(home, run, write_pipeline, counted):
    first = table_of(run(write_pipeline()))
    (home / "corpora").unlink()
    assert table_of(run(write_pipeline())) == first
    told = r"features are missing in .*, and there is no audio under .*ravdess; give the folder of the audio"
    with pytest.raises(FeatcacheError, match=told):
        run(write_pipeline(("{model: egemaps}", "{model: egemaps, channel: first}")))


def test_a_store_that_holds_more_than_is_asked_for_serves(run, write_pipeline, tiny_models, counted):
    stores = "egemaps: {model: egemaps}\n  ssl: {model: wav2vec2-base}"
    changes = ("egemaps: {model: egemaps}", stores), ("norm: global", "features: ssl\n    pooling: mean")
    run(write_pipeline(*changes), **QUICK)
    counted["extractions"].clear()
    run(write_pipeline((changes[0][0], stores.replace("base}", "base, pool: true}")), changes[1]), **QUICK)
    assert counted["extractions"] == []


def test_votes_comparisons_and_figures(run, write_pipeline, tiny_models, capsys):
    more = """    norm: global
  ssl: {title: Layers, features: ssl}
  none: {title: None, norm: none}
figures: {weights: {runs: [ssl], caption: Of layers.}}
comparisons: {norms: {runs: [speaker, global]}}
ensembles:
  vote: {title: All, runs: [speaker, global, none], size: 3, votes: [hard, soft], published: {features: spectrogram}}
"""
    stores = "egemaps: {model: egemaps}\n  ssl: {model: wav2vec2-base}"
    folder = run(write_pipeline(("egemaps: {model: egemaps}", stores), ("    norm: global\n", more)))
    rows = table_of(folder)
    assert list(rows) == ["speaker", "global", "ssl", "none", "vote"]
    assert rows["vote"]["published_mean"] == "44.5"
    vote = RunFolder(folder.parent / rows["vote"]["run"])
    assert sorted(vote.config["members"]) == sorted(rows[name]["run"] for name in ("speaker", "global", "none"))
    assert "vote of " in rows["vote"]["notes"]
    assert {"weights.png", "weights_summary.csv", "norms.csv"} <= {path.name for path in folder.iterdir()}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Of layers." in page
    assert "Comparison: norms" in page
    assert "By speaker" in capsys.readouterr().out.split("norms")[-1]
    assert (folder.parent / rows["ssl"]["run"] / "classification_report.csv").is_file()
    for row in rows.values():
        assert f"../{row['run'].replace('+', '%2B')}/report.html" in page
    # A vote of the same members is reused; if a member changes, a new vote is computed.
    again = run(write_pipeline(("egemaps: {model: egemaps}", stores), ("    norm: global\n", more)))
    assert table_of(again)["vote"] == rows["vote"]
    member = folder.parent / rows["none"]["run"]
    table = RunFolder(member).predictions
    table["prediction"] = table["prediction"].iloc[0]
    (member / CHECKSUMS).unlink()
    (member / "predictions.csv").write_text(table.to_csv(index=False))
    again = run(write_pipeline(("egemaps: {model: egemaps}", stores), ("    norm: global\n", more)))
    assert table_of(again)["vote"]["run"] != rows["vote"]["run"]


def test_runs_that_cannot_be_compared_do_not_cost_the_report(run, write_pipeline, monkeypatch, caplog):
    def refuse(*_, **__):
        raise PredictionsError("a or b has no UAR: its values are constant in a seed")

    monkeypatch.setattr("featcache.pipeline.outputs.compare", refuse)
    monkeypatch.setattr("featcache.pipeline.outputs.draw_gains", refuse)
    more = """    norm: global
comparisons: {norms: {runs: [speaker, global]}}
gains: {gain: {metric: uar, pairs: {Speaker: [speaker, global]}}}
"""
    folder = run(write_pipeline(("    norm: global\n", more)), **QUICK)
    assert list(table_of(folder)) == ["speaker", "global"]
    told = "a or b has no UAR: its values are constant in a seed"
    assert f"not compared: {told}" in (folder / "report.html").read_text(encoding="utf-8")
    assert f"gain not drawn: {told}" in caplog.text


def test_figures_may_have_probes_of_what_their_runs_learn(run, write_pipeline, tiny_models):
    more = """    norm: global
  anger: {title: Anger, features: ssl, target: emotion=angry}
  happiness: {title: Happiness, features: ssl, target: emotion=happy, norm: none}
figures: {classes: {runs: [anger, happiness], probes: true, caption: Of both.}}
"""
    stores = "egemaps: {model: egemaps}\n  ssl: {model: wav2vec2-base}"
    folder = run(
        write_pipeline(("egemaps: {model: egemaps}", stores), ("    norm: global\n", more)), only=["anger", "happiness"]
    )
    assert "Of both." in (folder / "report.html").read_text(encoding="utf-8")
    assert {"classes.png", "classes.svg"} <= {path.name for path in folder.iterdir()}
    with open(folder / "classes.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [(row["target"], row["layer"]) for row in found] == [
        (title, str(layer)) for title in ("Anger", "Happiness") for layer in range(4)
    ]
    assert {(row["store"], row["target"], row["run"]) for row in found} == {
        ("ssl", row["title"], row["run"]) for row in table_of(folder).values()
    }
    assert all(0 <= float(row["uar"]) <= 100 for row in found)


def test_failed_utterances_are_counted_in_the_rows(tmp_path, corpora, run, write_pipeline):
    broken = tmp_path / "ravdess"
    shutil.copytree(corpora / "ravdess", broken)
    (broken / "Actor_01/03-01-01-01-01-01-01.wav").write_bytes(b"no sound")
    outcome = run_and_print(pipeline=write_pipeline(), data=broken, **QUICK, home=tmp_path / "elsewhere")
    assert outcome.num_failures == 1
    assert all("1 utterance could not be extracted" in row["notes"] for row in table_of(outcome.folders[0]).values())


TEXT = ("egemaps: {model: egemaps}", "egemaps: {text: tinybert, layers: last, weights: random}")


def test_words_are_a_store_like_any_other(home, run, write_pipeline, counted, capsys):
    path = write_pipeline(TEXT)
    run_and_print(pipeline=path, home=home, dry_run=True)
    assert re.search(r"egemaps +tinybert +97 utterances to extract, about 2\.2 MB", capsys.readouterr().out)
    run(path, **QUICK)
    assert counted["extractions"] == ["egemaps"]
    run(path, **QUICK)
    assert counted["extractions"] == ["egemaps"]


def test_the_size_of_words_is_about_right(home, run, write_pipeline):
    path = write_pipeline(TEXT)
    place = find_places(read_pipeline(path), Workspace.at(home), corpus=None, data=None)[0]
    store = PipelineStore("egemaps", read_pipeline(path).stores["egemaps"], place, list(place.manifest))
    planned, _ = store.planned_size()
    run(path, **QUICK)
    size = sum(file.stat().st_size for file in store.folder.glob("*.h5"))
    assert planned == pytest.approx(size, rel=0.15)  # with few utterances, the overhead of HDF5 is noticeable


def test_a_trial_takes_untrained_words(home, run, write_pipeline):
    run(write_pipeline((TEXT[0], "egemaps: {text: tinybert}")), weights="random", limit=40, **QUICK)
    store = FeatureStore(home / "cache" / "ravdess" / "egemaps-untrained")
    assert (store.metadata["extractor"], store.metadata["weights"], len(store)) == ("text", "random", 40)


def test_words_need_no_audio(home, run, write_pipeline, counted):
    run(write_pipeline(TEXT), **QUICK)
    (home / "corpora").unlink()
    shutil.rmtree(home / "cache" / "ravdess" / "egemaps")
    run(write_pipeline(TEXT), corpus="ravdess", **QUICK)
    assert counted["extractions"] == ["egemaps", "egemaps"]


def test_other_transcripts_are_other_words(home, run, write_pipeline, counted):
    run(write_pipeline(TEXT), **QUICK)
    path = write_pipeline((TEXT[0], TEXT[1].replace("tinybert", "tinybert, transcripts: asr")), name="heard")
    with pytest.raises(StoreError, match=r"no transcripts 'asr' in .*; make them with 'featcache transcribe'"):
        run(path, **QUICK)
    folder = home / "cache" / "ravdess" / "transcripts"
    folder.mkdir()
    ids = Manifest.read(folder.parent / "manifest.csv").utterance_ids
    (folder / "asr.csv").write_text("utterance_id,transcript\n" + "".join(f"{i},hm\n" for i in ids))
    (folder / "asr.json").write_text('{"settings": {}}')
    with pytest.raises(StoreError, match="transcripts is manifest there and asr now"):
        run(path, **QUICK)
    shutil.rmtree(folder.parent / "egemaps")
    run(path, **QUICK)
    run(path, **QUICK)
    assert counted["extractions"] == ["egemaps"] * 3

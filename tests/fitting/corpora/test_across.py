"""Fits on several corpora: folds, what is tested and stopped on, identity, refusals, and what reads the runs."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from featcache.errors import AudioError, FeatcacheError, PipelineError, ProtocolError
from featcache.evaluate.metrics import uar
from featcache.fitting.job import FitJob
from featcache.fitting.other_corpora import find_caches, joint_name, open_cache, with_label_map
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest, Utterance
from featcache.pipeline.read import read_pipeline
from featcache.protocols import make_folds
from featcache.publishing.shareable import shareable_config
from featcache.report.run_pages import write_pages
from featcache.runs.reader import finished_runs
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings
from featcache.workspace import MOST_NAME_BYTES, Workspace, check_name
from tests.fitting.corpora.conftest import LABELS, QUICK, SPEAKERS, make_corpus, manifest_of

SVM = {"head": "svm", "layers": "last", "seeds": "7,"}


def resolved(**options):
    """Return the resolved fit of some options, and the path of its cache."""
    request = with_label_map(configured(FitSettings, options))
    path = find_caches(Workspace.at(), request)
    return resolve(open_cache(path, request), request), path


def test_each_corpus_tests_once_and_a_fifth_of_the_speakers_of_the_others_validates(corpora):
    setup, path = resolved(train="real,acted,played", protocol="leave-one-corpus-out")
    assert path.name == "acted+played+real"
    assert [fold.name for fold in setup.folds] == ["acted", "played", "real"]
    for fold in setup.folds:
        assert {i.partition("/")[0] for i in fold.test} == {fold.name}
        speakers = [{setup.manifest[i].speaker_id for i in part} for part in (fold.train, fold.validation)]
        others = set(LABELS) - {fold.name}
        assert speakers[0] | speakers[1] == {f"{name}/{speaker}" for name in others for speaker in SPEAKERS}
        assert not speakers[0] & speakers[1]
        assert sorted(speaker.partition("/")[0] for speaker in speakers[1]) == sorted(others)
    assert len({i for fold in setup.folds for i in fold.test}) == sum(len(fold.test) for fold in setup.folds)
    assert len(setup.manifest) == sum(len(fold.test) for fold in setup.folds)


def test_corpora_with_unknown_speakers_validate_on_a_fifth_of_their_utterances():
    rows = [("a", "", "x"), ("a", "", "y"), ("b", "b/1", "x")] * 10 + [("c", "c/1", "x")] * 5
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{corpus}/{i}",
                path="x.wav",
                speaker_id=speaker,
                labels={"corpus": corpus, "emotion": label, "split": "test" if corpus == "c" else "train"},
            )
            for i, (corpus, speaker, label) in enumerate(rows)
        ]
    )
    (fold,) = make_folds("cross-corpus", manifest, "emotion")
    assert fold.name == "c"
    labels = [manifest[i].labels for i in fold.validation]
    assert [sum(one["corpus"] == corpus for one in labels) for corpus in "abc"] == [4, 2, 0]
    assert sum(one["corpus"] == "a" and one["emotion"] == "x" for one in labels) == 2
    for protocol in ("cross-corpus", "leave-one-corpus-out"):
        with pytest.raises(ProtocolError, match="is for several corpora; name them with --train"):
            make_folds(protocol, manifest_of(("x", "y")), "emotion")


def test_labels_of_the_test_corpus_change_nothing_but_the_scores(make_cache, quick_reports):
    """The heads, their histories and validation predictions are the same bits if the test labels are shuffled."""
    runs = []
    make_corpus(make_cache, "acted", manifest_of(LABELS["acted"]))
    for name in ("real", "shuffled"):
        manifest = manifest_of(LABELS["real"])
        folder = make_corpus(make_cache, name, manifest)
        if name == "shuffled":
            labels = np.random.default_rng(0).permutation([u.labels["emotion"] for u in manifest])
            Manifest(
                [
                    Utterance(
                        utterance_id=u.utterance_id, path=u.path, speaker_id=u.speaker_id, labels={"emotion": one}
                    )
                    for u, one in zip(manifest, labels, strict=True)
                ]
            ).write(folder / "manifest.csv")
        runs.append(featcache.fit(train="acted", test=name, **QUICK))
    for file in ("history.csv", "validation_predictions.csv", "heads/seed-7-fold-1.safetensors"):
        assert (runs[0].path / file).read_bytes() == (runs[1].path / file).read_bytes()
    predicted, shuffled = (run.predictions for run in runs)
    assert predicted["prediction"].equals(shuffled["prediction"])
    assert not predicted["target"].equals(shuffled["target"])


def test_several_test_corpora_have_their_own_scores(corpora):
    run = featcache.fit(train="played", test="real,acted", **SVM)
    assert run.path.parent.name == "played-to-acted+real"
    assert list(run.metrics["corpora"]) == ["acted", "real"]
    table = run.predictions
    for name, scores in run.metrics["corpora"].items():
        rows = table[table["utterance_id"].str.startswith(f"{name}/")]
        assert scores["num_utterances"] == len(rows)
        assert scores["uar"]["mean"] == pytest.approx(100 * uar(rows["target"], rows["prediction"]))
    assert run.metrics["uar"]["mean"] == pytest.approx(100 * uar(table["target"], table["prediction"]))
    again = CliRunner().invoke(
        app, ["fit", "--train", "played", "--test", "acted,real", "--head", "svm", "--layers", "last", "--seeds", "7,"]
    )
    assert again.exit_code == 0
    assert "\nTest corpus " in again.stdout
    assert str(run.path) in again.stdout.replace("\n", "")
    assert "corpus" in (run.path / "report.html").read_text()
    groups = CliRunner().invoke(app, ["score", str(run.path), "--by", "corpus"])
    assert groups.exit_code == 0, groups.output
    assert {"acted", "real"} <= {line.split()[0] for line in groups.output.splitlines() if line.strip()}
    assert "corpora" not in featcache.fit(train="played", test="real", **SVM).metrics


def test_the_content_of_the_label_map_identifies_a_run(corpora, tmp_path):
    content = {"acted": {"anger": "bad", "joy": "good", "calm": "good"}, "real": {"ANGER": "bad", "happiness": "good"}}
    path = tmp_path / "labels.yaml"
    path.write_text(yaml.safe_dump({**content, "unused": {1: 2}}))
    run = featcache.fit(train="acted", test="real", label_map=path, **SVM)
    assert run.config["classes"] == ["bad", "good"]
    assert run.config["label_map"] == content
    assert featcache.fit(train=["acted"], test=["real"], label_map=content, **SVM).path == run.path
    path.unlink()
    assert featcache.fit(config=run.path).path == run.path
    usual = featcache.fit(train="acted", test="real", **SVM)
    assert usual.path != run.path
    written = {"acted": {"anger": "anger", "joy": "happiness", "calm": None}}
    written["real"] = {"ANGER": "anger", "happiness": "happiness"}
    assert usual.config["label_map"] == written
    assert featcache.fit(train="acted", test="real", label_map=written, **SVM).path == usual.path
    assert len({one.path for one in finished_runs(Workspace.at(), "acted-to-real")}) == 2


def test_other_processes_resolve_the_same_fit(corpora, tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("acted: {anger: x, joy: y, calm: null}\nreal: {ANGER: x, happiness: y}\n")
    setup, cache = resolved(train="acted", test="real", label_map=str(path), norm_by="corpus")
    path.unlink()
    job = FitJob(cache=cache, requests=[setup.request], paths=[Path("run")], device="cpu", parts=({},))
    [elsewhere] = pickle.loads(pickle.dumps(job)).resolved_elsewhere()
    assert elsewhere.config == setup.config
    assert elsewhere.folds == setup.folds


def test_select_and_limit_apply_to_each_corpus(make_cache):
    make_corpus(make_cache, "sung", manifest_of(("anger", "joy"), channel="speech"))
    make_corpus(make_cache, "other", manifest_of(("anger", "joy"), session="1"))
    setup, _ = resolved(train="sung", test="other", select={"channel": ["speech"]}, limit=12)
    assert [len(part) for part in (setup.folds[0].train + setup.folds[0].validation, setup.folds[0].test)] == [12, 12]
    limited = manifest_of(("anger", "joy")).limited(12).utterance_ids
    assert setup.folds[0].test == tuple(f"other/{i}" for i in limited)
    assert {u.labels.get("session") for u in setup.manifest} == {None, "other/1"}
    assert setup.config["select"] == {"channel": ["speech"]}
    with pytest.raises(FeatcacheError, match="--select: no label 'chanel'; did you mean 'channel'"):
        resolved(train="sung", test="other", select={"chanel": ["speech"]})
    with pytest.raises(FeatcacheError, match=r"corpus 'sung': .*song"):
        resolved(train="sung", test="other", select={"channel": ["song"]})


def test_dimensional_labels_are_scaled_by_the_range_of_their_corpus(make_cache):
    make_corpus(make_cache, "five", manifest_of(("1", "5"), "valence"))
    make_corpus(make_cache, "seven", manifest_of(("1", "4", "7"), "valence"))
    setup, _ = resolved(train="five", test="seven", task="regression")
    values = {i.split("-")[1]: setup.target.value(setup.manifest[i])[0] for i in setup.folds[0].test}
    assert values == {"1": 0.0, "4": 0.5, "7": 1.0}
    assert setup.config["label_ranges"] == {"valence": [0.0, 1.0]}
    assert setup.config["corpus_ranges"] == {"five": {"valence": [1.0, 5.0]}, "seven": {"valence": [1.0, 7.0]}}
    assert any("seven: Labels were scaled to [0, 1] by their lowest" in note for note in setup.notes)
    setup, _ = resolved(train="five", test="seven", task="regression", label_range="1,9")
    assert setup.config["corpus_ranges"] == {name: {"valence": [1.0, 9.0]} for name in ("five", "seven")}
    for options, message in (
        ({"label_range": "2,9"}, r"corpus 'five': label 'valence' .* is 1, expected 2 to 9"),
        ({"label_map": {}}, "--label-map is for classes, but 'valence' is a regression"),
    ):
        with pytest.raises(FeatcacheError, match=message):
            resolved(train="five", test="seven", task="regression", **options)


def test_numbers_are_no_classes_of_several_corpora(make_cache):
    numbers = [str(number) for number in range(21)]
    for name in ("five", "seven"):
        make_corpus(make_cache, name, manifest_of(numbers, "valence"))
    with pytest.raises(FeatcacheError, match=r"'five': label 'valence' has 21 different numbers .* --task regression"):
        resolved(train="five", test="seven")
    content = {name: {number: str(int(number) > 10) for number in numbers} for name in ("five", "seven")}
    setup, _ = resolved(train="five", test="seven", label_map=content)
    assert setup.config["classes"] == ["False", "True"]


def test_corpora_name_their_labels_differently(make_cache):
    make_corpus(make_cache, "one", manifest_of(("anger", "joy"), "felt"))
    make_corpus(make_cache, "two", manifest_of(("anger", "happy"), "emotion", gender="female"))
    setup, _ = resolved(train="one", test="two")
    assert setup.config["target"] == "emotion"
    assert setup.config["target_columns"] == {"one": "felt"}
    assert setup.config["classes"] == ["anger", "happiness"]
    for target, message in {
        "felt": "no label of two 'felt'; available: emotion, gender",
        "corpus": "no label of one 'corpus'",
    }.items():
        with pytest.raises(FeatcacheError, match=message):
            resolved(train="one", test="two", target=target)


def test_a_class_against_all_others_and_final_heads(corpora):
    setup, _ = resolved(train="acted", test="real", target="emotion=happiness")
    assert setup.config["classes"] == ["rest", "happiness"]
    setup, path = resolved(train="acted,real", final=True)
    assert path.name == "acted+real"
    assert setup.folds[0].test == ()
    assert {speaker.partition("/")[0] for speaker in setup.config["validation_speakers"]} == {"acted", "real"}
    assert len(setup.config["validation_speakers"]) == 2


APART = {
    "acted": {"anger": "x", "joy": "y", "calm": None},
    "played": {"angry": "x", "happy": "y", "neutral": None},
    "real": {"ANGER": "z", "happiness": "z"},
}
REFUSED = [
    (
        {"train": "acted", "test": "played,real", "label_map": APART},
        r"of real \(z\) is in a corpus that trains \(x, y\)",
    ),
    (
        {"train": "acted,played,real", "protocol": "leave-one-corpus-out", "label_map": APART},
        r"of real \(z\) is in a corpus that trains \(x, y\)",
    ),
    ({"test": "real"}, "--test is for a fit on several corpora; name those that train with --train"),
    ({"label_map": {"a": {}}, "corpus": "acted"}, "--label-map is for a fit on several corpora"),
    ({"train": "acted"}, "--train acted needs a test: name corpora with --test, or use --protocol leave-one"),
    ({"train": "acted", "final": True}, "--train acted is a single corpus; name more corpora, or use --corpus acted"),
    ({"train": "acted", "protocol": "leave-one-corpus-out"}, "is a single corpus"),
    ({"train": "acted,acted", "test": "real"}, "'acted' is named twice"),
    ({"train": "acted", "test": "acted"}, "'acted' is named twice in --train and --test"),
    ({"train": "acted", "test": "real", "corpus": "acted"}, "--corpus acted and --train acted exclude each other"),
    ({"train": "acted", "test": "real", "protocol": "loso"}, "--protocol loso divides one corpus"),
    ({"train": "acted,played", "test": "real", "protocol": "leave-one-corpus-out"}, "remove --test real"),
    ({"train": "acted,played", "test": "real", "final": True}, "--final has no test part; remove --test real"),
    ({"train": "acted", "test": "rael"}, "no cache 'rael' under .*did you mean 'real'"),
    ({"train": "acted", "test": "../real"}, "expected the name of a corpus"),
    ({"train": "acted", "test": "real", "label_range": "1,7"}, "--label-range is for regression, but 'emotion' is a"),
    ({"train": "acted", "test": "real", "target": "emotion,speaker"}, "no label of acted 'speaker'"),
    ({"train": "acted", "test": "real", "label_map": 5}, "label-map: .*expected a YAML file, found 5"),
    ({"train": "acted", "test": "real", "norm_by": "session"}, "no utterance has a label 'session'"),
    ({"corpus": "acted", "protocol": "cross-corpus"}, "'cross-corpus' is for several corpora; name them with --train"),
]


def test_options_that_do_not_fit_together_are_refused_in_one_line(corpora, monkeypatch):
    monkeypatch.setattr("featcache.fitting.job.FitJob.carry_out", lambda *_, **__: pytest.fail("it is trained"))
    for options, message in REFUSED:
        with pytest.raises(FeatcacheError, match=message) as caught:
            featcache.fit(**options)
        assert "\n" not in str(caught.value)


def test_one_folder_with_two_names_is_refused(corpora):
    (corpora["acted"].parent / "twin").symlink_to(corpora["acted"])
    with pytest.raises(FeatcacheError, match="'acted' and 'twin' are the same folder"):
        featcache.fit(train="acted", test="twin")


def test_the_folder_of_the_runs_has_a_valid_name():
    assert joint_name(["b", "a"], ["c"]) == joint_name(["a", "b"], ["c"]) == "a+b-to-c"
    many = [f"corpus-{i}-{'ä' * 40}" for i in range(9)]
    name = joint_name(many, ["x"])
    assert len(name.encode()) < MOST_NAME_BYTES
    assert check_name("run", name) == name
    assert name != joint_name(many, ["y"])


def test_heads_predict_only_audio_on_which_they_did_not_train(corpora):
    run = featcache.fit(train="acted,played", test="real", norm="global", **QUICK)
    found = featcache.load_run(run.path).predict("real")
    merged = found.set_index("utterance_id").loc[[i.partition("/")[2] for i in run.predictions["utterance_id"]]]
    np.testing.assert_allclose(
        merged["p_anger"].to_numpy(float), run.predictions["p_anger"].to_numpy(float), atol=1e-6
    )  # both are rounded to 6 digits
    with pytest.raises(AudioError, match="all heads trained on it"):
        featcache.load_run(run.path).predict("played", strict=True)
    found = featcache.load_run(run.path).predict("acted")
    assert set(found["utterance_id"]) == {i for i in manifest_of(LABELS["acted"]).utterance_ids if "calm" in i}


def assert_same_predictions(found, run, corpus):
    """Compare predictions of a whole corpus with those of a run; both are rounded to 6 digits."""
    tested = run.predictions.set_index("utterance_id")
    tested = tested[tested.index.str.startswith(f"{corpus}/")]
    found = found.set_index("utterance_id").loc[[i.partition("/")[2] for i in tested.index]]
    assert len(found)
    np.testing.assert_allclose(found["p_anger"].to_numpy(float), tested["p_anger"].to_numpy(float), atol=1e-6)


@pytest.mark.parametrize("norm_by", [None, "corpus"])
def test_predictions_of_a_corpus_are_those_of_the_run(corpora, norm_by):
    """Also if the corpus has utterances whose labels were left out, which are in no statistics of the run."""
    run = featcache.fit(train="acted,played,real", protocol="leave-one-corpus-out", norm_by=norm_by, **QUICK)
    for corpus in LABELS:
        assert_same_predictions(featcache.load_run(run.path).predict(corpus), run, corpus)


def test_a_corpus_of_another_name_is_normalised_as_one(corpora, make_cache):
    run = featcache.fit(train="acted", test="real", norm_by="corpus", **QUICK)
    make_corpus(make_cache, "new", manifest_of(("x", "y")))
    assert len(featcache.load_run(run.path).predict("new")) == len(manifest_of(("x", "y")))


@pytest.mark.parametrize(
    ("options", "tested"),
    [({"train": "acted,played", "test": "real"}, {"real"}), ({"train": "acted,real"}, {"acted", "real"})],
)
def test_a_published_run_predicts_the_corpora_that_tested(corpora, tmp_path, options, tested):
    protocol = None if "test" in options else "leave-one-corpus-out"
    run = featcache.fit(**options, protocol=protocol, norm="global", **QUICK)
    published = featcache.load_run(featcache.publish(run.path, tmp_path / "published"))
    for corpus in tested:
        assert_same_predictions(published.predict(corpus), run, corpus)
    if "test" in options:
        with pytest.raises(AudioError, match="all heads trained on it"):
            published.predict("played", strict=True)


def test_published_runs_name_their_corpora_and_pages_show_their_groups(corpora, tmp_path):
    run = featcache.fit(train="acted", test="real", **SVM)
    shared = shareable_config(run, Workspace.at())
    assert (shared["train"], shared["test"]) == (["acted"], ["real"])
    audio = tmp_path / "data" / "corpora" / "real" / "wav" / "01-ANGER-1.wav"
    audio.parent.mkdir(parents=True)
    audio.touch()
    pages = write_pages("acted-to-real")
    page = next((pages.path.parent / "report-pages").glob("*.html")).read_text()
    assert "real/wav/01-ANGER-1.wav" in page
    assert json.loads((run.path / "metrics.json").read_text())["num_speakers"] == len(SPEAKERS)


def test_a_pipeline_refuses_several_corpora_in_one_line(tmp_path):
    path = tmp_path / "across.yaml"
    path.write_text(
        "title: x\nstores: {ssl: {model: wav2vec2-base}}\n"
        "runs: {a: {title: a, features: ssl, train: acted, test: real}}\n"
    )
    with pytest.raises(PipelineError, match=r"'train' is for several corpora.*use 'featcache fit --train'"):
        read_pipeline(path)

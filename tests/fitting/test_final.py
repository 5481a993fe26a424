"""Fits without a test part: heads for new audio, trained on all utterances but those of held-out speakers."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score

import featcache
from featcache.cli.listing import print_fitted
from featcache.errors import PipelineError, PredictionsError, ProtocolError, StoreError
from featcache.fitting.common_options import options_for
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit, sweep
from featcache.fitting.job import FitJob
from featcache.manifest import Manifest, Utterance
from featcache.pipeline.read import read_pipeline
from featcache.runs.reader import finished_runs, load_predictions
from featcache.runs.writer import UnfinishedRun
from featcache.settings.fits import FitSettings
from featcache.workspace import Workspace
from tests.untimed import bytes_without_times

SHORT = {"seeds": (1, 2), "max_epochs": 2, "learning_rate": 0.01}
# With loso, the speaker after the first one validates in the first fold of four speakers.
HELD_OUT, OTHER = "02", "09"
OWN = {"select": {"part": "own"}}
REGRESSION = {"target": "arousal", "task": "regression", "label_range": (1, 5)}
STORES = {"ssl": {}, "egemaps": {"kind": "egemaps"}}

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def cache(make_cache):
    """Four speakers, and one more that only the fit by hand tests, with the parts of a final fit as its split."""
    parts = {HELD_OUT: "validation", OTHER: "test"}
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path=f"{speaker}-{emotion}-{number}.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "arousal": f"{number + 0.1 * int(speaker)}",
                    "part": "other" if speaker == OTHER else "own",
                    "split": parts.get(speaker, "train"),
                },
            )
            for speaker in ("01", HELD_OUT, "03", "04", OTHER)
            for emotion in ("anger", "joy")
            for number in (1, 2)
        ]
    )
    return featcache.open(make_cache(manifest=manifest, stores=STORES))


@pytest.mark.parametrize(
    "options",
    [
        {"head": "dense", "norm": "speaker"},
        {"head": "lstm", "norm": "global"},
        {"head": "fusion", "norm": "none"},
        {"head": "linear", "norm": "global", **REGRESSION},
        {"head": "svm", "norm": "speaker", "layers": "last"},
        {"head": "logistic", "norm": "global", "layers": "last"},
        {"head": "svm", "norm": "global", "features": "egemaps", **REGRESSION},
    ],
)
def test_the_heads_are_those_of_a_fit_by_hand_with_the_same_parts(cache, options):
    shared = {"features": ["ssl", "egemaps"] if options["head"] == "fusion" else "ssl", "target": "emotion"}
    options = {**shared, **options_for(options["head"], SHORT), **options}
    by_hand = fit(**options, protocol="split")
    final = fit(**options, **OWN, protocol="loso", final=True)
    names = sorted(path.name for path in (by_hand.path / "heads").iterdir())
    assert names == sorted(path.name for path in (final.path / "heads").iterdir())
    for name in names:
        found, expected = load_file(final.path / "heads" / name), load_file(by_hand.path / "heads" / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    assert final.validation_predictions.equals(by_hand.validation_predictions)
    assert final.metrics["validation"] == by_hand.metrics["validation"]
    assert final.layer_weights.equals(by_hand.layer_weights)


@pytest.fixture
def final(cache):
    return fit(**SHORT, **OWN, target="emotion", protocol="loso", features="ssl", name="mine", final=True)


def test_a_run_tells_what_it_is_and_how_it_was_validated(final, caplog, capsys):
    assert final.is_final
    assert (final.config["final"], final.config["protocol"]) == (True, "final")
    assert final.config["folds"] == [{"fold": 1, "name": "final", "train": 12, "validation": 4, "test": 0}]
    assert (final.config["validation_protocol"], final.config["validation_speakers"]) == ("loso", [HELD_OUT])
    assert final.predictions.empty
    assert list(final.predictions) == list(final.validation_predictions)
    assert set(final.validation_predictions["speaker_id"]) == {HELD_OUT}
    assert {path.name for path in (final.path / "heads").iterdir()} == {f"seed-{i}-fold-1.safetensors" for i in (1, 2)}
    assert final.metrics.keys() & {"uar", "confusion", "recall", "num_utterances", "bootstrap"} == set()
    assert (final.metrics["num_seeds"], final.metrics["num_folds"], final.metrics["chance_uar"]) == (2, 1, 50)
    by_seed = final.validation_predictions.groupby("seed")
    per_seed = [100 * balanced_accuracy_score(rows["target"], rows["prediction"]) for _, rows in by_seed]
    assert final.metrics["validation"]["uar"]["per_seed"] == pytest.approx(per_seed)
    report = (final.path / "report.html").read_text(encoding="utf-8")
    told = "trained on 12 of 16 utterances. The other 4 are the validation part, from 1 of 4 speakers"
    assert told in report
    assert "No test part: the scores are those of the validation part." in report
    assert not list(final.path.glob("confusion*"))
    print_fitted([final])
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "final".ljust(len(out.splitlines()[0]))
    assert "Validation UAR (%)" in out
    assert out.splitlines()[-1] == "chance level: UAR 50.0"
    assert [run.name for run in finished_runs(Workspace.at())] == ["mine"]


def test_the_held_out_speakers_are_told_in_the_log(cache, caplog):
    caplog.set_level("INFO", "featcache")
    fit(**SHORT, **OWN, target="emotion", head="linear", features="ssl", protocol="loso", final=True)
    [told] = [message for message in caplog.messages if message.startswith("The heads are for new audio")]
    assert f"1 of 4 speakers ('{HELD_OUT}') who do not train, as in the first fold of protocol 'loso'." in told
    assert not [record for record in caplog.records if record.levelname == "WARNING" and "speaker" in record.message]


def test_its_heads_can_be_loaded_and_give_the_validation_predictions(cache, final):
    for row in final.validation_predictions.itertuples():
        head = final.head(seed=row.seed, fold=1)
        with torch.inference_mode():
            logits = head([[cache["ssl"][row.utterance_id]]], groups=[row.speaker_id])
        # predictions.csv contains six digits; the features are float32 z-scores with stored float32 statistics
        np.testing.assert_allclose(logits.softmax(dim=1)[0], [row.p_anger, row.p_joy], atol=1e-5)


def test_it_is_another_run_than_that_of_the_protocol(cache):
    options = {**SHORT, **OWN, "target": "emotion", "head": "linear", "features": "ssl", "protocol": "loso"}
    tested, final = fit(**options), fit(**options, final=True)
    assert tested.path != final.path
    assert "_final_" in final.path.name
    assert fit(**options, final=True).path == final.path
    assert "final" not in tested.config  # so that runs of earlier releases stay the same
    with pytest.raises(StoreError, match=r"is a run with other settings \(.*final.* differ\)"):
        fit(**options, final=True, name=tested.name)
    again = fit(config=final.path, name="again")
    assert again.config == final.config
    assert again.metrics["validation"] == final.metrics["validation"]


def test_another_protocol_holds_out_other_utterances(cache, caplog):
    options = {**SHORT, **OWN, "target": "emotion", "head": "linear", "features": "ssl", "final": True}
    run = fit(**options, protocol="random-80-20")
    assert run.config["validation_speakers"] == []
    assert run.config["folds"][0]["train"] == 14
    assert "early stopping uses speakers who also train" in caplog.text
    assert "from speakers who also train" in (run.path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(ProtocolError, match="found 1 speakers"):
        fit(**{**options, "select": {"part": "other"}}, protocol="loso")


def test_a_split_needs_no_test_part(cache):
    run = fit(**SHORT, **OWN, target="emotion", head="linear", features="ssl", final=True)
    assert (run.config["validation_protocol"], run.config["validation_speakers"]) == ("split", [HELD_OUT])


def test_combinations_and_interrupted_runs_give_the_same_heads(cache, monkeypatch):
    options = {**SHORT, **OWN, "target": "emotion", "head": "linear", "features": "ssl", "final": True}
    alone = fit(**options, norm="global", name="alone")
    others = {name: value for name, value in options.items() if name != "head"}
    runs = sweep(heads=["linear", "dense"], norms=["speaker", "global"], **others)
    assert [run.config["final"] for run in runs] == [True] * 4
    assert len({run.path for run in runs}) == 4
    keep = UnfinishedRun.keep

    def interrupted(run, seed, fold, record, head, models):
        if run.finished():
            raise KeyboardInterrupt
        keep(run, seed, fold, record, head, models)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(**options, norm="global", name="resumed")
    resumed = fit(**options, norm="global", name="resumed", resume=True)
    for run in (runs[1], resumed):
        for name in ("validation_predictions.csv", "heads/seed-2-fold-1.safetensors", "normalisation.safetensors"):
            assert bytes_without_times(run.path / name) == bytes_without_times(alone.path / name)


def test_other_processes_train_the_same_parts(cache, tmp_path):
    request = FitSettings(**OWN, head="linear", features=("ssl",), target="emotion", protocol="loso", final=True)
    job = FitJob(cache=cache.path, requests=[request], paths=[tmp_path], device="cpu", parts=({},))
    [setup] = pickle.loads(pickle.dumps(job)).resolved_elsewhere()  # as joblib and Dask send it
    [fold] = setup.folds
    assert {i[:2] for i in fold.validation} == {HELD_OUT}
    assert {i[:2] for i in fold.train} == {"01", "03", "04"}
    assert fold.test == ()


def test_a_regression_has_the_names_of_its_dimensions(cache, capsys):
    run = fit(**SHORT, **OWN, **REGRESSION, head="linear", features="ssl", final=True)
    assert (run.metrics["dimensions"], run.metrics["label_ranges"]) == (["arousal"], {"arousal": [1.0, 5.0]})
    assert "ccc" not in run.metrics
    assert {"ccc", "ccc_arousal", "rmse", "scaled_rmse"} <= run.metrics["validation"].keys()
    print_fitted([run])
    out = capsys.readouterr().out
    assert "Validation CCC" in out
    assert "chance level" not in out


def test_what_needs_test_scores_refuses_it_in_one_line(final, tmp_path):
    for refused in (lambda: load_predictions(final), lambda: ensemble(runs=["mine", "mine"])):
        with pytest.raises(PredictionsError, match=r"is a run of 'fit --final'.*fit it without --final$") as told:
            refused()
        assert "\n" not in str(told.value)
    pipeline = tmp_path / "mine.yaml"
    pipeline.write_text(
        "title: t\nmetric: uar\nstores: {a: {model: egemaps}}\n"
        "runs: {a: {title: t, features: a, head: dense, norm: none, final: true}}\n"
    )
    with pytest.raises(PipelineError, match="unknown field 'final': a pipeline compares test scores"):
        read_pipeline(pipeline)

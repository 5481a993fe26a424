"""``extract --model RUN``: the store of a fine-tuned model has the hidden states that transformers computes."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import featcache
from featcache.audio import read
from featcache.cache.known_audio import AUDIO, KnownAudio
from featcache.cache.tuned_store import TESTED
from featcache.cli.info import print_info
from featcache.errors import FeatcacheError, ModelError, ProtocolError, StoreError
from featcache.extraction.merge import merge
from featcache.extraction.summary import next_step
from featcache.extraction.verify import damaged_files, recompute
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest
from featcache.runs.writer import write_yaml
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings
from featcache.workspace import Workspace
from tests.finetuning.conftest import SHORT

# Hidden states of the same model in another program: float32 sums in another order.
HIDDEN = 1e-5
SECOND = "01-joy-2"


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="tuned", seeds=(1, 2), blocks_learning_rate=1e-3)


def extracted(place, run, **options):
    report = featcache.extract(
        model=run, corpus="toy", egemaps=False, store="float32", workers=1, home=place.workspace.home, **options
    )
    return featcache.open(report.cache)[report.stores[0]], report


def fold_of(run):
    """Return utterance id → fold that tested it."""
    return dict(run.predictions[["utterance_id", "fold"]].itertuples(index=False))


def by_transformers(place, folder, utterance_id):
    """Return the block outputs that transformers computes for an utterance with the model in a folder."""
    manifest = featcache.open(place.workspace.cache("toy")).manifest
    [utterance] = [one for one in manifest if one.utterance_id == utterance_id]
    signal = read(place.workspace.corpus("toy"), utterance).signal(channel="mean", sampling_rate=16000)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = prepare(signal.samples, sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        return model(values, output_hidden_states=True).hidden_states[1:]


def check_layers(place, run, store, utterance_id, *, seed, fold):
    expected = by_transformers(place, run.path / "models" / "ssl" / f"seed-{seed}-fold-{fold}", utterance_id)
    for number, layer in enumerate(expected, start=1):
        scale = layer.abs().max().item()
        np.testing.assert_allclose(store[utterance_id][number], layer[0], atol=HIDDEN * scale)


def test_each_utterance_is_computed_by_the_model_of_the_fold_that_tested_it(place, run):
    store, report = extracted(place, "tuned")
    assert report.num_extracted == report.num_utterances == len(run.predictions.query("seed == 1"))
    assert store.name == "tuned"
    assert store.layer_names == ("0", "1", "2", "3")
    for utterance_id, fold in list(fold_of(run).items())[::3]:
        check_layers(place, run, store, utterance_id, seed=1, fold=fold)
    assert extracted(place, "tuned")[1].num_extracted == 0


def test_one_fold_and_another_seed(place, run):
    store, _ = extracted(place, run.path, fold=2, seed=2, limit=4)
    assert store.name == "tuned-seed-2-fold-2"
    for utterance_id in store:
        check_layers(place, run, store, utterance_id, seed=2, fold=2)


def test_a_store_of_tuned_models_is_shown_verified_and_merged(place, run, tmp_path, capsys):
    store, _ = extracted(place, "tuned")
    print_info(store.path)
    told = " ".join(capsys.readouterr().out.split())
    assert "run toy/tuned, model of ssl, seed 1, each utterance by the model of the fold that tested it" in told
    assert not list(damaged_files(store.path))
    assert all(one.within for one in recompute(store, place.workspace.corpus("toy"), 4))
    merged = shutil.copytree(place.workspace.cache("toy"), tmp_path / "cache" / "toy") / "merged"
    merge(merged, [store.path])
    for name in (TESTED, AUDIO):
        assert (merged / name).read_bytes() == (store.path / name).read_bytes()
    (merged / TESTED).write_text("{}")
    assert [one for one in damaged_files(merged) if TESTED in one]


def leaks(place, store, **options):
    """Return the warnings of a fit about test utterances that its models have seen."""
    given = {**SHORT, "features": (store,), "norm": "none", **options}
    setup = resolve(featcache.open(place.workspace.cache("toy")), configured(FitSettings, given))
    return [one for one in setup.warnings if one.startswith(store)]


def test_a_fit_warns_about_test_utterances_on_which_a_model_trained(place, run):
    several, one = extracted(place, "tuned")[0], extracted(place, "tuned", fold=2)[0]
    assert "in 3 of 3 folds, training utterances have features of models" in leaks(place, several.name)[0]
    assert "in fold 2 of the run tuned" in leaks(place, one.name)[0]
    assert "in 2 of 3 folds" in leaks(place, one.name)[0]
    assert leaks(place, one.name, fold=2) == []
    cache = place.workspace.cache("toy")
    assert " --fold 2 --protocol loso" in next_step(cache, one.name)  # the only clean fold
    assert next_step(cache, several.name) is None
    assert len(leaks(place, one.name, fold=1)) == 1
    assert len(leaks(place, several.name, fold=2)) == 1
    assert leaks(place, "ssl") == []


def test_the_same_audio_in_a_corpus_of_another_name_is_found(place, run, tmp_path):
    """Utterances are known by their files, and by start and end where several are in one file."""
    corpus = place.workspace.corpus("toy")
    names = sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.wav"))
    rows = [
        {"utterance_id": f"{kind}{i}", "path": name, "speaker_id": f"s{i % 3}", "emotion": name.split("-")[1], **part}
        for i, name in enumerate(names)
        for kind, part in (("a", {"start": 0.0, "end": 0.2}), ("b", {"start": 0.2, "end": None}))
    ]
    pd.DataFrame(rows).to_csv(corpus / "alias.csv", index=False)
    given = {"corpus": "alias", "egemaps": False, "workers": 1, "home": place.workspace.home, "fold": 2}
    featcache.extract(model="tuned", data=corpus / "alias.csv", **given)
    (corpus / "alias.csv").unlink()

    def warned(folder):
        setup = resolve(
            featcache.open(folder), configured(FitSettings, {**SHORT, "features": ("tuned-fold-2",), "norm": "none"})
        )
        return [one for one in setup.warnings if one.startswith("tuned-fold-2")]

    cache = place.workspace.cache("alias")
    [warning] = warned(cache)
    clean = [utterance_id for utterance_id, fold in fold_of(run).items() if fold == 2]
    trained = len(rows) - 2 * len(clean)
    assert f"fold 2 of the run tuned on toy, and may have trained on the audio of {trained} of the tested" in warning
    kept = KnownAudio.read(cache / "tuned-fold-2")
    sha256, start, _ = featcache.open(place.workspace.cache("toy"))["ssl"].recordings([SECOND])[0]
    assert kept.overlapping(sha256, start, 0.2) == [SECOND]
    assert not damaged_files_of_audio(cache / "tuned-fold-2")
    (cache / "tuned-fold-2" / AUDIO).write_text('{"files": {}, "sha256": ""}')
    assert damaged_files_of_audio(cache / "tuned-fold-2")
    with pytest.raises(StoreError, match="its checksum is wrong"):
        warned(cache)
    (cache / "tuned-fold-2" / AUDIO).unlink()
    assert warned(cache) == []  # a store of an earlier release


def damaged_files_of_audio(folder):
    return [one for one in damaged_files(folder) if AUDIO in one]


def test_a_fit_on_one_fold_is_that_fold_of_the_whole_fit(place, run):
    store, _ = extracted(place, "tuned", fold=2)
    options = {**SHORT, "features": store.name, "norm": "none", "corpus": "toy", "home": place.workspace.home}
    alone, whole = featcache.fit(**options, fold=2), featcache.fit(**options)
    expected = whole.predictions.query("fold == 2").drop(columns="fold").reset_index(drop=True)
    assert alone.predictions.drop(columns="fold").equals(expected)
    assert "Only fold 2 of 3" in (alone.path / "report.html").read_text()
    with pytest.raises(ProtocolError, match="--fold 4: the protocol has 3 folds; expected 1 to 3"):
        featcache.fit(**options, fold=4)


def test_frozen_heads_on_a_tuned_store_predict_new_audio_with_its_model(place, run):
    options = {**SHORT, "norm": "none", "corpus": "toy", "home": place.workspace.home, "layers": "last"}
    audio = next(place.workspace.corpus("toy").rglob("*.wav"))

    def predicted(store, name):
        fitted = featcache.fit(**options, features=store.name, name=name)
        loaded = featcache.load_run(fitted.path, home=place.workspace.home)
        return fitted, loaded.predict([audio], include_trained=True, device="cpu", workers=1)

    store, _ = extracted(place, "tuned", fold=2)
    fitted, found = predicted(store, "ft-frz")
    heads = [fitted.head(seed=1, fold=fold) for fold in (1, 2, 3)]
    expected = torch.stack([head([[store[audio.stem][-1:]]]).softmax(1)[0] for head in heads]).mean(0)
    np.testing.assert_allclose(found[["p_anger", "p_joy"]].iloc[0].astype(float), expected.detach(), atol=HIDDEN)
    with pytest.raises(ModelError, match="computed by 3 models of the run tuned, one for each fold, and one model is"):
        predicted(extracted(place, "tuned")[0], "ft-frz-mixed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "tuned", "fold": 4}, "{run} has no fold 4; its folds: 1, 2, 3"),
        ({"model": "tuned", "seed": 9}, "{run} has no seed 9; its seeds: 1, 2"),
        ({"model": "wav2vec2-base", "fold": 1}, "--fold 1 needs a run of 'featcache finetune', but 'wav2vec2-base' is"),
        ({"text": "tuned"}, "--text: {run} has no text model, only ssl; use --model tuned"),
        ({"model": "text=tuned"}, "--model: {run} has the speech models ssl; name one: --model ssl=tuned"),
        ({"model": "tuned", "revision": "main"}, "--revision main does not apply to the fine-tuned models of tuned;"),
    ],
)
def test_what_cannot_be_extracted_is_refused_in_one_line(place, run, options, message):
    with pytest.raises(FeatcacheError) as refused:
        featcache.extract(corpus="toy", egemaps=False, home=place.workspace.home, **options)
    assert str(refused.value).startswith(message.format(run=run.path))


def test_a_changed_or_added_or_linked_file_of_a_model_is_refused(place, run, tmp_path):
    def refused(message):
        with pytest.raises(StoreError, match=message):
            featcache.extract(model=copied, corpus="toy", egemaps=False, fold=1, home=place.workspace.home)
        with pytest.raises(StoreError, match=message):
            featcache.RunFolder(copied).head(seed=1, fold=1)

    copied = shutil.copytree(run.path, tmp_path / "copied")
    folder = copied / "models" / "ssl" / "seed-1-fold-1"
    (folder / "added.json").write_text("{}")
    refused("added.json has no checksum")
    (folder / "added.json").unlink()
    config = folder / "config.json"
    content = config.read_text()
    config.write_text(content + " ")
    refused("has changed since it was written")
    config.write_text(content)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    refused("outside of the run folder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from_layer": None}, "from_layer and tuned_layers: expected the first layer of each store"),
        ({"from_layer": [-1]}, "from_layer and tuned_layers: expected the first layer of each store"),
        ({"from_layer": [9]}, "from_layer and tuned_layers: expected the first layer of each store"),
        ({"seeds": [7]}, "seeds: none has a model in"),
    ],
)
def test_a_changed_configuration_is_refused(run, place, tmp_path, changes, message):
    copied = shutil.copytree(run.path, tmp_path / "copied")
    (copied / "checksums.sha256").unlink()
    changed = {name: value for name, value in {**run.config, **changes}.items() if value is not None}
    write_yaml(copied / "config.yaml", changed)
    with pytest.raises(StoreError, match=message):
        featcache.extract(model=copied, fold=1, corpus="toy", egemaps=False, home=place.workspace.home)
    if "seeds" not in changes:
        with pytest.raises(StoreError, match=message):
            featcache.publish(copied, tmp_path / "shared", home=place.workspace.home)
        with pytest.raises(StoreError, match=message):
            featcache.load_run(copied, home=place.workspace.home).head(seed=1, fold=1)


def test_utterances_that_no_fold_tested_need_a_fold(place, run, tmp_path):
    copied = shutil.copytree(run.path, tmp_path / "copied")
    table = (copied / "predictions.csv").read_text()
    (copied / "predictions.csv").write_text(table.replace("\n1,1,", "\n1,,"))
    (copied / "checksums.sha256").unlink()
    with pytest.raises(StoreError, match="expected the number of a fold, found ''"):
        extracted(place, copied)
    (copied / "predictions.csv").unlink()
    with pytest.raises(StoreError, match=r"does not contain the test parts of its folds; choose .* with --fold"):
        extracted(place, copied)
    assert "is not known" in leaks(place, extracted(place, copied, fold=1)[0].name)[0]
    final = place.finetune(name="last", final=True)
    with pytest.raises(StoreError, match=r"are in no test part of .*last, .*; choose .* with --fold \(1\)$"):
        extracted(place, final.path)
    assert "in 3 of 3 folds" in leaks(place, extracted(place, final.path, fold=1)[0].name)[0]


def test_utterances_that_failed_in_the_store_of_the_run_are_left_out(place, tmp_path, caplog):
    home = tmp_path / "home"
    shutil.copytree(place.workspace.home, home, ignore=shutil.ignore_patterns("runs"))
    corpus = Workspace.at(home).corpus("toy")
    manifest = Manifest.read(corpus / "manifest.csv")
    (corpus / "broken.wav").write_bytes(b"no audio")
    broken = replace(next(iter(manifest)), utterance_id="broken", path="broken.wav")
    Manifest([*manifest, broken]).write(corpus / "manifest.csv")
    common = {"corpus": "toy", "egemaps": False, "store": "float32", "workers": 1, "home": home}
    failed = featcache.extract(model=place.models["ssl"], name="ssl", data=corpus, **common).failures
    assert [one.utterance_id for one in failed] == ["broken"]
    run = place.finetune(home=home, name="partial", max_epochs=1)
    report = featcache.extract(model="partial", **common)
    assert set(featcache.open(report.cache)["partial"].utterance_ids) == {one.utterance_id for one in manifest}
    assert report.left_out == {"failed in the store of the run": 1}
    told = f"1 of 13 utterances ('broken') have no features in the store ssl of {run.path}, where they failed"
    assert told in caplog.text


def test_text_models_are_extracted(place):
    run = place.finetune(features="text", from_layer=1, max_epochs=1, name="tuned-text")
    report = featcache.extract(
        text="tuned-text", fold=1, corpus="toy", workers=1, store="float32", home=place.workspace.home
    )
    store = featcache.open(report.cache)["tuned-text-fold-1"]
    folder = run.path / "models" / "text" / "seed-1-fold-1"
    model = transformers.AutoModel.from_pretrained(folder).eval()
    [row] = [u for u in featcache.open(report.cache).manifest if u.utterance_id == SECOND]
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(row.transcript, return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens).last_hidden_state[0]
    np.testing.assert_allclose(store[SECOND][-1], expected, atol=HIDDEN * expected.abs().max().item())

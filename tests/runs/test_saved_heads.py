"""Saved heads: loaded from a run folder alone, they give the numbers of predictions.csv for unnormalised features."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import featcache
from featcache.errors import ModelError, StoreError
from featcache.files.checksums import CHECKSUMS, recorded_checksums
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit, sweep
from featcache.manifest import Manifest, Utterance
from featcache.runs.file_names import NORMALISATION, head_name
from featcache.runs.identity import HEAD_INPUTS, identity
from featcache.runs.reader import RunFolder, load_run

# predictions.csv has six digits of probabilities and seven of values; features and heads are float32.
PREDICTED = 1e-5
# Statistics are float32, merged from float32 statistics of utterances.
STATISTICS = 1e-5
STORES = {"ssl": {}, "egemaps": {"kind": "egemaps"}, "text": {"kind": "text"}, "functionals": {"kind": "functionals"}}
SHORT = {"seeds": (1, 2), "training": {"max_epochs": 2, "learning_rate": 0.01}, "max_frames": 5}

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def cache(make_cache):
    """Four stores of noise; three emotions, two dimensions on scales of their own, and a label beside the speaker."""
    rng = np.random.default_rng(1)
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path=f"{speaker}-{emotion}-{number}.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "arousal": f"{rng.uniform(1, 5):.2f}",
                    "valence": f"{rng.uniform(-1, 1):.2f}",
                    "half": f"{speaker}{number}",
                    "sex": "f" if emotion == "anger" else "m",
                },
            )
            for speaker in ("01", "02", "03", "04")
            for emotion in ("anger", "joy", "sadness")
            for number in (1, 2)
        ]
    )
    return featcache.open(make_cache(manifest=manifest, stores=STORES))


def train(**options):
    return fit(**{**SHORT, "target": "emotion", "protocol": "loso", **options})


def features_of(cache, head, utterance_id):
    """For each store the layers and frames that the head's description asks for."""
    found = []
    for one in head.inputs:
        store = cache[one.store]
        values = store[utterance_id][[store.layer_names.index(name) for name in one.layers]]
        if one.averaged_in_pairs:
            values = np.pad(values, ((0, 0), (0, 2 - values.shape[1] % 2), (0, 0)))
            values = (values[:, ::2] + values[:, 1::2]) / 2
        found.append(values[:, : one.max_frames])
    if any(one.averaged_in_pairs for one in head.inputs):  # frames are joined one by one
        shortest = min(values.shape[1] for values in found)
        found = [values[:, :shortest] for values in found]
    return found


def groups_of(cache, head, utterance_ids, by="speaker_id"):
    if head.norm != "speaker":
        return {}
    utterances = [cache.manifest[i] for i in utterance_ids]
    return {"groups": [u.speaker_id if by == "speaker_id" else u.labels[by] for u in utterances]}


def outputs_of(run, cache, head, utterance_ids):
    """What the head gives for utterances, as predictions.csv has it: (num_utterances, num_outputs)."""
    features = [list(of_store) for of_store in zip(*(features_of(cache, head, i) for i in utterance_ids), strict=True)]
    by = run.config["norm_by"]
    with torch.inference_mode():
        outputs = head(features, **groups_of(cache, head, utterance_ids, by))
    return outputs.softmax(dim=1) if run.config["task"] == "classification" else outputs


def check_predictions(run, cache):
    """Compare all predictions of a run with those of its loaded heads, all test utterances of a fold in one call."""
    classification = run.config["task"] == "classification"
    for (seed, fold), rows in run.predictions.groupby(["seed", "fold"]):
        head = run.head(seed=seed, fold=fold)
        columns = [f"p_{name}" if classification else f"prediction_{name}" for name in head.outputs]
        found = outputs_of(run, cache, head, list(rows["utterance_id"]))
        np.testing.assert_allclose(found, rows[columns].to_numpy("f8"), rtol=PREDICTED, atol=PREDICTED)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("norm", ["none", "global", "speaker"])
@pytest.mark.parametrize("name", ["dense", "lstm", "fusion", "ffn", "linear"])
def test_loaded_heads_give_the_numbers_of_predictions_csv(cache, name, norm, task):
    stores = ["ssl", "egemaps"] if name == "fusion" else ["ssl"]
    target = "emotion" if task == "classification" else "arousal,valence"
    run = train(head=name, norm=norm, features=stores, target=target)
    assert run.config["task"] == task
    check_predictions(load_run(run.path), cache)


@pytest.mark.parametrize(
    "options",
    [
        {"head": "dense", "pooling": "mean", "max_frames": None},
        {"head": "dense", "pooling": "sum", "max_frames": None, "norm": "global"},
        {"head": "lstm", "pooling": "max", "max_frames": None},
        {"head": "dense", "pooling": "mean+max", "max_frames": None, "norm": "none"},
        {"head": "ffn", "layers": "last", "max_frames": None},
        {"head": "ffn", "features": ["text", "egemaps"]},
        {"head": "fusion", "features": ["ssl", "text"]},
        {"head": "fusion", "features": ["functionals", "egemaps", "ssl"], "layers": "0,2"},
        {"head": "fusion", "features": ["ssl", "functionals"], "pooling": "mean"},
        {"head": "dense", "features": ["functionals"], "norm": "global"},
        {"head": "dense", "features": ["egemaps"], "max_frames": 0},
        {"head": "dense", "layers": "0,2", "layer_weighting": "softmax", "scalar_norm": True},
        {"head": "dense", "norm_by": "half"},
        {"head": "dense", "target": "emotion=joy", "norm": "global"},
        {"head": "svm", "layers": "last"},
        {"head": "svm", "layers": "last", "target": "sex", "norm": "global"},
        {"head": "svm", "layers": "last", "pooling": "mean+max", "norm": "none"},
        {"head": "svm", "features": ["functionals"], "target": "arousal,valence"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_so_do_heads_of_pooled_and_of_several_stores(cache, options):
    check_predictions(train(**{"features": ["ssl"], **options}), cache)


def test_classes_that_were_never_trained_on_are_never_predicted_by_a_loaded_svm(make_cache):
    labels = {"01": "anger", "02": "joy", "03": "sadness", "04": "anger"}
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{s}-{n}", path="x.wav", speaker_id=s, labels={"emotion": labels[s] if n else "joy"}
            )
            for s in labels
            for n in range(3)
        ]
    )
    cache = featcache.open(make_cache(manifest=manifest))
    run = fit(head="svm", layers="last", norm="global", protocol="loso", seeds=(1,))
    check_predictions(run, cache)


def test_a_head_is_loaded_ready_for_new_features(cache):
    run = train(norm="speaker", features=["ssl"])
    head = run.head(seed=1, fold=2)
    assert isinstance(head, torch.nn.Module)
    assert not any(module.training for module in head.modules())
    assert {values.device.type for values in head.state_dict().values()} == {"cpu"}
    assert head.outputs == ("anger", "joy", "sadness")
    assert head.groups == ("01", "02", "03", "04")
    [one] = head.inputs
    assert (one.store, one.layers, one.hidden_size, one.frame_shift) == ("ssl", ("0", "1", "2"), 4, 0.02)
    assert (one.max_frames, one.averaged_in_pairs) == (5, False)


def test_a_run_folder_is_all_that_a_head_needs(cache, tmp_path):
    run = train(features=["ssl"])
    ids = cache.manifest.utterance_ids[:3]
    expected = outputs_of(run, cache, run.head(seed=1, fold=1), ids)
    moved = load_run(shutil.copytree(run.path, tmp_path / "elsewhere"))
    head = moved.head(seed=1, fold=1)
    features = [features_of(cache, head, i)[0] for i in ids]
    shutil.rmtree(tmp_path / "data")
    with torch.inference_mode():
        found = head([features], groups=[i[:2] for i in ids]).softmax(dim=1)
    assert torch.equal(found, expected)


def test_features_are_not_changed_and_utterances_do_not_matter_to_each_other(cache):
    run = train(features=["ssl"])
    head = run.head(seed=1, fold=1)
    ids = list(cache.manifest.utterance_ids)
    features = [features_of(cache, head, i)[0] for i in ids]
    before = [values.copy() for values in features]
    together = outputs_of(run, cache, head, ids)
    with torch.inference_mode():
        alone = torch.cat([head([[x]], groups=[i[:2]]).softmax(dim=1) for x, i in zip(features, ids, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-6)  # other sizes of matrices are summed in another order
    assert all(np.array_equal(*pair) for pair in zip(features, before, strict=True))


@pytest.mark.parametrize("norm", ["global", "speaker"])
def test_statistics_of_a_new_speaker_may_be_given(cache, norm):
    run = train(norm=norm, features=["ssl"])
    head = run.head(seed=1, fold=1)
    values = torch.tensor(cache["ssl"]["02-joy-1"][:, :5])
    mean, std = 2 * torch.ones(3, 4), 3 * torch.ones(3, 4)
    with torch.inference_mode():
        found = head([[values]], normalisation=[(mean, std)])
        expected = head.head([[(values - 2) / 3]])
        saved = head([[values]], **({"groups": ["02"]} if norm == "speaker" else {}))
    assert torch.equal(found, expected)
    assert not torch.equal(found, saved)


def plain_statistics(cache, store, utterance_ids):
    together = np.concatenate([cache[store][i].astype("f8") for i in utterance_ids], axis=1)
    return together.mean(axis=1), together.std(axis=1)


@pytest.mark.parametrize("norm", ["global", "speaker"])
def test_the_saved_statistics_are_those_of_the_frames(cache, norm):
    run = train(head="fusion", norm=norm, features=["ssl", "egemaps"], layers="0,2")
    with safe_open(run.path / NORMALISATION, framework="numpy") as tensors:
        groups = yaml.safe_load(tensors.metadata()["groups"])
        found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    assert groups == (["1", "2", "3", "4"] if norm == "global" else ["01", "02", "03", "04"])
    assert {name: values.shape for name, values in found.items()} == {
        **dict.fromkeys(("ssl.mean", "ssl.std"), (4, 2, 4)),
        **dict.fromkeys(("egemaps.mean", "egemaps.std"), (4, 1, 4)),
    }
    tested = run.predictions.query("seed == 1").groupby("fold")["utterance_id"].agg(set)
    validated = run.validation_predictions.query("seed == 1").groupby("fold")["utterance_id"].agg(set)
    for position, group in enumerate(groups):
        if norm == "global":
            of_group = [i for i in cache.manifest.utterance_ids if i not in tested[int(group)] | validated[int(group)]]
        else:
            of_group = [i for i in cache.manifest.utterance_ids if i.startswith(group)]
        for store, layers in (("ssl", [0, 2]), ("egemaps", [0])):
            for name, expected in zip(("mean", "std"), plain_statistics(cache, store, of_group), strict=True):
                np.testing.assert_allclose(
                    found[f"{store}.{name}"][position], expected[layers], rtol=STATISTICS, atol=STATISTICS
                )


def test_values_that_never_change_become_zero(make_cache, write_store):
    cache = featcache.open(make_cache())
    values = {i: np.array(x) for i, x in cache["ssl"].items()}
    for x in values.values():
        x[:, :, 1] = 7
    write_store(cache.path / "constant", values)
    cache = featcache.open(cache.path)
    run = fit(features=["constant"], norm="global", seeds=(1,), training={"max_epochs": 1}, protocol="loso")
    check_predictions(run, cache)
    assert np.isinf(load_file(run.path / NORMALISATION)["constant.std"][:, :, 1]).all()


def test_without_normalisation_there_is_no_file(cache):
    run = train(norm="none", features=["ssl"])
    assert not (run.path / NORMALISATION).exists()
    assert NORMALISATION in recorded_checksums(train(features=["ssl"]).path)


def test_how_runs_are_trained_does_not_change_the_saved_statistics(cache):
    options = {**SHORT, "features": ["ssl"], "target": "emotion", "protocol": "loso"}
    alone = fit(**options, norm="global", layers="0,1", name="alone")
    together = sweep(heads=["dense"], norms=["global", "speaker"], layers=["all", "0,1"], **options)
    in_processes = fit(**options, norm="global", layers="0,1", name="jobs", jobs=2)
    [same] = [run for run in together if (run.config["norm"], run.config["layers"]) == ("global", "0,1")]
    contents = {(run.path / NORMALISATION).read_bytes() for run in (alone, same, in_processes)}
    assert len(contents) == 1


def test_what_is_recorded_of_the_inputs_makes_no_other_run(cache):
    run = train(features=["ssl"])
    assert HEAD_INPUTS in run.config
    assert HEAD_INPUTS not in identity(run.config)
    assert HEAD_INPUTS not in (run.path / "report.html").read_text(encoding="utf-8")


# What cannot be.


@pytest.fixture
def trained_once(request, tmp_path, tmp_path_factory):
    """Give a copy of a run, which is trained for the first test that asks for it."""

    def make(head, **options):
        kept = tmp_path_factory.getbasetemp() / f"saved-{head}"
        if not kept.exists():
            request.getfixturevalue("cache")
            shutil.copytree(train(head=head, features=["ssl"], **options).path, kept)
        return RunFolder(shutil.copytree(kept, tmp_path / "run"))

    return make


@pytest.fixture
def run(trained_once):
    return trained_once("dense", norm="speaker")


def told_in_one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("seed", "fold"), [(3, 1), (1, 5), (1, 0), (-1, 1), ("../1", 1)])
def test_a_seed_or_fold_that_does_not_exist_is_told_with_those_that_do(run, seed, fold):
    with pytest.raises(StoreError, match=r"has no head of seed .* and fold .*; seeds: 1, 2; folds: 1, 2, 3, 4$"):
        run.head(seed=seed, fold=fold)


def test_an_ensemble_names_its_members(cache):
    runs = [train(features=["ssl"], norm=norm, name=norm).name for norm in ("speaker", "none")]
    vote = ensemble(runs=runs, name="vote")
    with pytest.raises(StoreError, match=r"vote is an ensemble .*; load those of its members: speaker, none$"):
        vote.head(seed=1, fold=1)


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ([], {}, r"expected a list of utterances for each store \(ssl\), all equally long"),
        ([[], []], {}, r"expected a list of utterances for each store \(ssl\), all equally long"),
        ([[]], {}, "expected at least one utterance"),
        (
            [[np.zeros((3, 5))]],
            {"groups": ["01"]},
            r"utterance 0 of ssl: expected \(3 layers, frames, 4 values\), found",
        ),
        ([[np.zeros((2, 5, 4))]], {"groups": ["01"]}, r"found \(2, 5, 4\)"),
        ([[np.zeros((3, 0, 4))]], {"groups": ["01"]}, r"found \(3, 0, 4\)"),
        ([[np.zeros((3, 5, 4))]], {}, r"normalises per speaker; give groups=\[...\], .* or the statistics of a new"),
        ([[np.zeros((3, 5, 4))]], {"groups": ["01", "02"]}, r"normalises per speaker"),
        ([[np.zeros((3, 5, 4))] * 2], {"groups": "01"}, r"normalises per speaker"),
        (
            [[np.zeros((3, 5, 4))]],
            {"groups": ["05"]},
            r"unknown speaker '05'; .*; give normalisation=\[\(mean, std\)\]",
        ),
        ([[np.zeros((3, 5, 4))]], {"normalisation": []}, r"expected \(mean, std\) for each of 1 stores"),
        (
            [[np.zeros((3, 5, 4))]],
            {"normalisation": [(np.zeros(4), np.ones(4))]},
            r"normalisation of ssl: expected \(3",
        ),
    ],
)
def test_features_that_do_not_fit_are_told(run, features, options, message):
    with pytest.raises(ModelError, match=message) as error:
        run.head(seed=1, fold=1)(features, **options)
    told_in_one_line(error)


def test_statistics_are_refused_where_nothing_is_normalised(cache):
    head = train(features=["ssl"], norm="none").head(seed=1, fold=1)
    with pytest.raises(ModelError, match="takes features without normalisation; leave groups and normalisation out"):
        head([[np.zeros((3, 5, 4))]], groups=["01"])


def test_frames_that_are_joined_one_by_one_must_be_equally_many(cache):
    head = train(features=["ssl", "egemaps"], head="fusion", norm="none").head(seed=1, fold=1)
    with pytest.raises(ModelError, match=r"utterance 0: ssl, egemaps must have equally many frames, found \(5, 4\)$"):
        head([[np.zeros((3, 5, 4))], [np.zeros((1, 4, 4))]])


def test_a_run_of_an_earlier_release_needs_statistics_or_another_fit(run, cache):
    before = run.head(seed=1, fold=1)
    config = {name: value for name, value in run.config.items() if name != HEAD_INPUTS}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for name in (CHECKSUMS, NORMALISATION):
        (run.path / name).unlink()
    head = load_run(run.path).head(seed=1, fold=1)
    weights = before.head.state_dict()
    assert all(torch.equal(values, weights[name]) for name, values in head.head.state_dict().items())
    values = cache["ssl"]["01-joy-1"][:, :5]
    message = "made by an earlier release and has no normalisation.safetensors, .*; fit it again with --overwrite, or"
    with pytest.raises(StoreError, match=message) as error:
        head([[values]], groups=["01"])
    told_in_one_line(error)
    given = [(before.mean_0[0], before.std_0[0])]
    assert torch.equal(head([[values]], normalisation=given), before([[values]], groups=["01"]))


@pytest.mark.parametrize("options", [{"head": "ffn"}, {"head": "ffn", "layers": "last", "max_frames": None}])
@pytest.mark.parametrize("name", ["dense", "linear", "ffn"])
def test_sizes_of_earlier_runs_are_those_of_their_weights(cache, name, options):
    run = train(features=["ssl"], norm="none", **{**options, "head": name})
    recorded = run.head(seed=1, fold=1).inputs
    config = {key: value for key, value in run.config.items() if key != HEAD_INPUTS}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run.path / CHECKSUMS).unlink()
    again = load_run(run.path)
    found = again.head(seed=1, fold=1).inputs
    assert [(one.num_layers, one.hidden_size) for one in found] == [
        (one.num_layers, one.hidden_size) for one in recorded
    ]


def edit_config(run, **changes):
    """Change a run's settings, and remove the checksums as somebody would who means harm."""
    config = {**yaml.safe_load((run.path / "config.yaml").read_text()), **changes}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run.path / CHECKSUMS).unlink(missing_ok=True)
    return RunFolder(run.path)


INPUT = {"layers": ["0", "1", "2"], "hidden_size": 4, "frame_shift": 0.02, "max_frames": 5, "averaged_in_pairs": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "os:system"}, r"config.yaml is damaged \(unknown head 'os:system'"),
        ({"head": "../../dense"}, r"config.yaml is damaged \(unknown head"),
        ({"head": "lstm"}, r"safetensors is damaged \(hidden\.\S+ of a head: expected"),
        ({"head": "fusion"}, r"config.yaml is damaged \(head 'fusion' takes two or more"),
        (
            {"head": "linear"},
            r"config.yaml is damaged \(projection.weight of a head: expected shape \(256, 4\), found non",
        ),
        ({"head": "ffn"}, r"hidden.weight of a head: expected shape \(4, 8\), found none"),
        ({"head": 3}, "head: expected a text, found a number"),
        ({"pooling": "median"}, "pooling: expected one of None, mean"),
        ({"pooling": "mean+max"}, r"branches.0.linear.weight of a head: expected shape \(128, 8\), found \(128, 4\)"),
        ({"norm": "local"}, "norm: expected one of speaker, global, none"),
        ({"layer_weighting": "x"}, "unknown layer weighting"),
        ({"task": "x"}, "task: expected classification or regression"),
        ({"task": "regression", "label_ranges": {}}, "label_ranges: expected the lowest"),
        ({"task": "regression", "label_ranges": {"a": [1, 1]}}, "label_ranges: expected the lowest"),
        ({"task": "regression", "label_ranges": {"a": [0, float("inf")]}}, "label_ranges: expected the lowest"),
        ({"classes": ["a"]}, "classes: expected two names"),
        ({"classes": [f"c{i}" for i in range(99)]}, r"output.\w+ of a head: expected shape \(99,"),
        ({"features": {"other": "x"}}, "head_inputs names other stores than features"),
        ({HEAD_INPUTS: []}, "head_inputs: expected an object"),
        ({HEAD_INPUTS: {"ssl": []}}, "head_inputs, is damaged .expected an object"),
        ({HEAD_INPUTS: {"ssl": {}}}, "layers, hidden_size, frame_shift, max_frames, averaged_in_pairs missing"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "layers": []}}}, "layers and hidden_size say nothing of features"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "layers": [1]}}}, "layers and hidden_size say nothing of features"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "hidden_size": -1}}}, "layers and hidden_size say nothing of features"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "hidden_size": "4"}}}, "hidden_size: expected a number, found a text"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "hidden_size": 10**15}}}, r"branches.0.linear.weight .* found \(128, 4\)"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "layers": ["0"]}}}, r"averages.0.scalars of a head: expected"),
    ],
)
def test_a_configuration_that_does_not_fit_its_heads_is_told(run, changes, message):
    with pytest.raises(StoreError, match=message) as error:
        edit_config(run, **changes).head(seed=1, fold=1)
    told_in_one_line(error)


class Sprung:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def spoil(run, name, change):
    """Change the tensors of a file of a run, metadata kept."""
    path = run.path / name
    with safe_open(path, framework="pt") as tensors:
        metadata = tensors.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    (run.path / CHECKSUMS).unlink()
    save_file(tensors, path, metadata=metadata)
    return RunFolder(run.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.update({"output.bias": t["output.bias"].half()}), "weights of another dtype"),
        (
            lambda t, _: t.update({"output.bias": torch.zeros(99)}),
            r"output.bias of a head: expected shape \(3,\), found",
        ),
        (lambda t, _: t.update({"more": torch.zeros(1)}), r"more of a head: expected shape none, found \(1,\)"),
        (lambda t, _: t.pop("output.bias"), r"output.bias of a head: expected shape \(3,\), found none"),
        (lambda t, _: t.clear(), r"averages.0.scalars of a head: expected shape \(3,\), found none"),
    ],
)
def test_weights_that_do_not_fit_are_told(run, change, message):
    with pytest.raises(StoreError, match=message) as error:
        spoil(run, head_name(1, 1), change).head(seed=1, fold=1)
    told_in_one_line(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.pop("ssl.std"), "ssl.std missing"),
        (
            lambda t, _: t.update({"ssl.mean": t["ssl.mean"][:3]}),
            r"ssl.mean: expected F32 \[4, 3, 4\], found F32 \[3, 3,",
        ),
        (lambda t, _: t.update({"ssl.mean": t["ssl.mean"].double()}), r"expected F32 .*, found F64"),
        (lambda t, _: t["ssl.mean"].fill_(float("nan")), "ssl.mean holds NaN"),
        (lambda _, m: m.update(groups='["1", "1", "2", "3"]'), "groups are not different texts"),
        (lambda _, m: m.update(groups="[1, 2, 3, 4]"), "groups are not different texts"),
        (lambda _, m: m.update(groups="{}"), "expected a list, found an object"),
        (lambda _, m: m.update(groups="[" * 10_000), "nested too deeply"),
        (lambda _, m: m.clear(), "cannot be read as JSON"),
    ],
)
def test_statistics_that_do_not_fit_are_told(run, change, message):
    with pytest.raises(StoreError, match=message) as error:
        spoil(run, NORMALISATION, change).head(seed=1, fold=1)
    assert NORMALISATION in told_in_one_line(error)


def test_statistics_of_another_fold_are_not_taken(cache):
    run = train(features=["ssl"], norm="global")
    spoilt = spoil(run, NORMALISATION, lambda _, m: m.update(groups='["2", "3", "4", "5"]'))
    with pytest.raises(StoreError, match="no statistics of fold 1"):
        spoilt.head(seed=1, fold=1)


@pytest.mark.parametrize("name", [head_name(1, 1), NORMALISATION])
def test_only_a_whole_safetensors_file_inside_the_folder_is_read(run, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, outside = run.path / name, tmp_path / "outside.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"has changed since it was written: its checksum differs"):
        run.head(seed=1, fold=1)
    path.unlink()
    with pytest.raises(StoreError, match=r"could not be read \(No such file|has no head of seed 1 and fold 1"):
        run.head(seed=1, fold=1)
    (run.path / CHECKSUMS).unlink()
    for other in (pickle.dumps(Sprung()), b"", content[:20], b"\xff" * 100, content[:-1]):
        path.write_bytes(other)
        with pytest.raises(StoreError, match="cannot be read as safetensors") as error:
            run.head(seed=1, fold=1)
        told_in_one_line(error)
    assert not Path("sprung").exists()
    outside.write_bytes(content)
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(StoreError, match="is a link to a file outside of the run folder"):
        run.head(seed=1, fold=1)
    path.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(StoreError, match="expected a regular file, found a named pipe"):
            run.head(seed=1, fold=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.update({"coef": t["coef"][:, :3].clone()}), r"coef of a head: expected shape \(3, 4\), found"),
        (lambda t, _: t.update({"classes": t["classes"] + 1}), "classes: expected positions among the classes"),
        (lambda t, _: t.update({"classes": torch.arange(9)}), "of a head: expected shape"),
        (lambda t, _: t.pop("classes"), "classes of a head: expected shape"),
        (lambda t, _: t.update({"classes": t["classes"].double()}), "classes: expected positions"),
    ],
)
def test_hyperplanes_that_do_not_fit_are_told(trained_once, change, message):
    run = trained_once("svm", layers="last")
    with pytest.raises(StoreError, match=message) as error:
        spoil(run, head_name(1, 1), change).head(seed=1, fold=1)
    told_in_one_line(error)

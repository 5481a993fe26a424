"""Saved heads and statistics that do not match their run give one line, and nothing is computed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from featcache.errors import ModelError, StoreError
from featcache.files.checksums import CHECKSUMS
from featcache.fitting.ensemble import ensemble
from featcache.prediction.loaded_run import load_run
from featcache.runs.file_names import NORMALISATION, head_name
from featcache.runs.heads import config_of_fold
from featcache.runs.identity import HEAD_INPUTS, SET_BY_FOLD
from featcache.runs.reader import RunFolder
from tests.runs.saved import train

pytestmark = pytest.mark.usefixtures("quick_reports")


def told_in_one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("seed", "fold"), [(3, 1), (1, 5), (1, 0), (-1, 1), ("../1", 1), ("1", 1), (1.0, 1)])
def test_a_seed_or_fold_that_does_not_exist_is_told_with_those_that_do(run, seed, fold):
    with pytest.raises(StoreError, match=r"has no head of seed .* and fold .*; seeds: 1, 2; folds: 1, 2, 3, 4$"):
        run.head(seed=seed, fold=fold)


def test_an_ensemble_names_its_members(cache):
    runs = [train(features=["ssl"], norm=norm, name=norm).name for norm in ("speaker", "none")]
    vote = ensemble(runs=runs, name="vote")
    with pytest.raises(
        StoreError, match=r"vote is an ensemble without a head; load the heads of its members: speaker, none$"
    ):
        vote.head(seed=1, fold=1)


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ([], {}, r"expected a list of utterances for each store \(ssl\), all of the same length"),
        ([[], []], {}, r"expected a list of utterances for each store \(ssl\), all of the same length"),
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
            r"no speaker '05'; .*\? \(give normalisation=\[\(mean, std\)\]\)",
        ),
        ([[np.zeros((3, 5, 4))]], {"normalisation": []}, r"expected \(mean, std\) for 1 store"),
        ({"ssl": [np.zeros((3, 5, 4))]}, {}, "expected a list of utterances for each store"),
        ([["a.wav"]], {"groups": ["01"]}, "utterance 0 of ssl: expected an array of numbers, found str"),
        ([[np.zeros((3, 5, 4))]], {"groups": [1]}, "groups: expected names such as '01', found 1"),
        ([[np.zeros((3, 5, 4))]], {"normalisation": [(np.zeros((3, 4)),)]}, r"expected \(mean, std\) for 1 store"),
        *(
            (
                [[np.zeros((3, 5, 4))]],
                {"normalisation": [(np.full((3, 4), mean), np.full((3, 4), std))]},
                "finite means",
            )
            for mean, std in ((0, np.nan), (0, -1), (np.nan, 1), (np.inf, 1))
        ),
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


def test_a_support_vector_machine_takes_one_vector_of_each_utterance(trained_once):
    head = trained_once("svm", layers="last").head(seed=1, fold=1)
    head.pooling = None  # as for functionals
    with pytest.raises(ModelError, match="takes one vector per utterance, found 5 frames"):
        head([[np.zeros((1, 5, 4))]], groups=["01"])


@pytest.mark.parametrize("name", ["dense", "svm"])
def test_a_head_of_another_dtype_is_told_and_not_computed(trained_once, name):
    run = trained_once(name, **({"layers": "last"} if name == "svm" else {}))
    expected = torch.float64 if name == "svm" else torch.float32
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        head = run.head(seed=1, fold=1).to(dtype)
        features = [[np.zeros((head.inputs[0].num_layers, 5, 4))]]
        if dtype == expected:
            assert head(features, groups=["01"]).isfinite().all()
            continue
        with pytest.raises(ModelError, match=f"this head needs {expected}, found {dtype}; convert it with") as error:
            head(features, groups=["01"])
        told_in_one_line(error)
    with pytest.raises(ModelError, match="moved to device 'meta'"):
        head.to("meta")(features, groups=["01"])


def test_a_given_deviation_of_zero_is_a_value_that_never_changes(run):
    head = run.head(seed=1, fold=1)
    one_frame = torch.arange(12.0).reshape(3, 1, 4)
    given = [(one_frame[:, 0], torch.zeros(3, 4))]
    assert torch.equal(head([[one_frame]], normalisation=given), head.head([[torch.zeros(3, 1, 4)]]))


def test_arrays_of_any_memory_layout_are_taken(run):
    head = run.head(seed=1, fold=1)
    values = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("f4")
    expected = head([[values]], groups=["01"])
    fixed = values.copy()
    fixed.flags.writeable = False
    for same in (values.astype(">f4"), values[:, ::-1].copy()[:, ::-1], fixed, values.tolist(), torch.tensor(values)):
        assert torch.equal(head([[same]], groups=["01"]), expected)


def test_statistics_are_refused_where_nothing_is_normalised(cache):
    head = train(features=["ssl"], norm="none").head(seed=1, fold=1)
    with pytest.raises(ModelError, match="uses no normalisation; remove groups and normalisation"):
        head([[np.zeros((3, 5, 4))]], groups=["01"])


def test_frames_that_are_joined_one_by_one_must_be_equally_many(cache):
    head = train(features=["ssl", "egemaps"], head="fusion", norm="none").head(seed=1, fold=1)
    with pytest.raises(
        ModelError, match=r"utterance 0: ssl, egemaps must have the same number of frames, found \(5, 4\)$"
    ):
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
    message = "has no normalisation.safetensors, .* earlier releases did not write; fit it again with --overwrite, or"
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
    """Change the settings of a run and remove its checksums, as an attacker would."""
    config = {**yaml.safe_load((run.path / "config.yaml").read_text()), **changes}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run.path / CHECKSUMS).unlink(missing_ok=True)
    return RunFolder(run.path)


INPUT = {"layers": ["0", "1", "2"], "hidden_size": 4, "frame_shift": 0.02, "max_frames": 5, "averaged_frames": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head": "os:system"},
            r"config.yaml: head 'os:system' is code from outside .*: --plugin os:system, or in Python",
        ),
        ({"head": "../../dense"}, r"config.yaml is damaged \(no head '../../dense'"),
        ({"head": "lstm"}, r"safetensors is damaged \(hidden\.\S+ of a head: expected"),
        ({"head": "fusion"}, r"config.yaml is damaged \(head 'fusion' takes two or more"),
        (
            {"head": "linear"},
            r"safetensors is damaged \(output.weight of a head: expected shape \(3, 256\), found \(3, 128\)",
        ),
        ({"head": "ffn"}, r"hidden.bias of a head: expected shape \(4,\), found none"),
        ({"head": 3}, "head: expected a text, found a number"),
        ({"pooling": "median"}, "pooling: expected one of None, mean"),
        ({"pooling": "mean+max"}, r"branches.0.linear.weight of a head: expected shape \(128, 8\), found \(128, 4\)"),
        ({"norm": "local"}, "norm: expected one of speaker, global, none"),
        ({"layer_weighting": "x"}, "no layer weighting 'x'; available: abs, softmax"),
        ({"task": "x"}, "task: expected classification, regression or multilabel"),
        ({"task": "regression", "label_ranges": {}}, "label_ranges: expected the lowest"),
        ({"task": "regression", "label_ranges": {"a": [1, 1]}}, "label_ranges: expected the lowest"),
        ({"task": "regression", "label_ranges": {"a": [0, float("inf")]}}, "label_ranges: expected the lowest"),
        ({"task": "regression", "label_ranges": {"a": [0, 1e300]}}, "label_ranges: expected the lowest"),
        ({"task": "regression", "label_ranges": {"a": [0, 10**400]}}, "label_ranges: expected the lowest"),
        ({"members": [None]}, "members: unexpected number or type of items"),
        ({"features": {1: "x"}}, "names of features: unexpected number or type of items"),
        ({"classes": ["a"]}, "classes: expected two names"),
        ({"classes": [f"c{i}" for i in range(99)]}, r"output.\w+ of a head: expected shape \(99,"),
        ({"features": {"other": "x"}}, "head_inputs names other stores than features"),
        ({HEAD_INPUTS: []}, "head_inputs: expected an object"),
        ({HEAD_INPUTS: {"ssl": []}}, "head_inputs, is damaged .expected an object"),
        ({HEAD_INPUTS: {"ssl": {}}}, "layers, hidden_size, frame_shift, max_frames, averaged_frames missing"),
        (
            {HEAD_INPUTS: {"ssl": {**INPUT, "layers": []}}},
            "averaged_frames: expected names of layers and positive numbers",
        ),
        (
            {HEAD_INPUTS: {"ssl": {**INPUT, "layers": [1]}}},
            "averaged_frames: expected names of layers and positive numbers",
        ),
        (
            {HEAD_INPUTS: {"ssl": {**INPUT, "hidden_size": -1}}},
            "averaged_frames: expected names of layers and positive numbers",
        ),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "max_frames": -1}}}, "max_frames: expected positive numbers"),
        ({HEAD_INPUTS: {"ssl": {**INPUT, "frame_shift": float("nan")}}}, "expected positive numbers"),
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
    """Change the tensors of a file of a run, and keep the metadata."""
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
        (lambda t, _: t.update({"output.bias": t["output.bias"].half()}), "its weights have another dtype"),
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
        (lambda t, _: t["ssl.mean"].fill_(float("nan")), "ssl.mean contains NaN"),
        (lambda t, _: t["ssl.mean"].fill_(float("inf")), "ssl.mean: expected finite means"),
        (lambda t, _: t["ssl.std"].zero_(), "ssl.std: expected finite means and positive standard deviations"),
        (lambda t, _: t["ssl.std"].neg_(), "ssl.std: expected finite means and positive standard deviations"),
        (lambda _, m: m.update(groups='["1", "1", "2", "3"]'), "groups: expected different texts"),
        (lambda _, m: m.update(groups="[1, 2, 3, 4]"), "groups: expected different texts"),
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
        (lambda t, _: t.update({"classes": t["classes"] * 0}), "classes: expected positions among the classes"),
        (lambda t, _: t.pop("classes"), "classes of a head: expected shape"),
        (lambda t, _: t.update({"classes": t["classes"].double()}), "classes: expected positions"),
    ],
)
def test_hyperplanes_that_do_not_fit_are_told(trained_once, change, message):
    run = trained_once("svm", layers="last")
    with pytest.raises(StoreError, match=message) as error:
        spoil(run, head_name(1, 1), change).head(seed=1, fold=1)
    told_in_one_line(error)


def test_options_of_heads_by_fold_are_those_of_the_fold(tmp_path):
    config = {"head": "dense", SET_BY_FOLD: [{"hidden_units": 4}, {}]}
    assert config_of_fold(tmp_path, config, 1)["set"] == {"hidden_units": 4}
    assert config_of_fold(tmp_path, config, 2)["set"] == {}
    with pytest.raises(StoreError, match="set_by_fold: expected the options of the head of fold 3"):
        config_of_fold(tmp_path, config, 3)

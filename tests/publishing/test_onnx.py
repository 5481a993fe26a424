"""ONNX graphs give the scores of their heads in onnxruntime."""

import json
import sys

import numpy as np
import pytest
import torch

import featcache
from featcache.errors import MissingPackageError, ModelError
from featcache.publishing.onnx_files import example, run_graph, write_graphs
from tests.publishing.shared import RUNS, SECRETS, all_bytes

# The largest difference that the documentation promises, at three lengths.
TOLERANCE, LENGTHS = 1e-5, (1, 50, 333)


def needs_onnx():
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.mark.parametrize("name", RUNS)
def test_a_graph_gives_the_scores_of_its_head_at_any_length(name, trained, tmp_path):
    onnxruntime = needs_onnx()
    head = trained(name).head(seed=1, fold=2)
    write_graphs(tmp_path / "onnx", [(1, 2, head)])
    path = tmp_path / "onnx" / "seed-1-fold-2.onnx"
    session = onnxruntime.InferenceSession(str(path))
    for length in LENGTHS:
        features, statistics = example(head, length)
        found = run_graph(str(path), head, features, statistics)
        with torch.inference_mode():
            scores = head([[one] for one in features], **({"normalisation": statistics} if statistics else {}))
        np.testing.assert_allclose(found, scores[0], rtol=TOLERANCE, atol=TOLERANCE)
    about = json.loads(session.get_modelmeta().custom_metadata_map["featcache"])
    assert about["outputs"] == list(head.outputs)
    assert [one["store"] for one in about["stores"]] == [one.store for one in head.inputs]
    number = len(head.inputs) * (3 if head.norm == "speaker" else 1)
    assert len(session.get_inputs()) == number
    assert [one.name for one in session.get_outputs()] == ["scores"]
    content = all_bytes(tmp_path / "onnx")
    for secret in (*SECRETS, str(tmp_path), "/featcache/", ".py"):
        assert secret.encode() not in content


def test_a_constant_value_of_a_new_speaker_becomes_zero_as_in_the_head(trained, tmp_path):
    needs_onnx()
    head = trained("lstm").head(seed=1, fold=1)
    write_graphs(tmp_path / "onnx", [(1, 1, head)])
    features, [(mean, std)] = example(head, 9)
    std[:, 1] = 0
    found = run_graph(str(tmp_path / "onnx" / "seed-1-fold-1.onnx"), head, features, [(mean, std)])
    with torch.inference_mode():
        expected = head([[features[0]]], normalisation=[(mean, std)])
    np.testing.assert_allclose(found, expected[0], rtol=TOLERANCE, atol=TOLERANCE)


def test_publish_writes_a_graph_per_head_and_describes_them(trained, tmp_path):
    needs_onnx()
    folder = featcache.publish(trained("dense").path, tmp_path / "shared", onnx=True)
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == [f"seed-1-fold-{i}.onnx" for i in (1, 2, 3)]
    assert "## ONNX" in (folder / "README.md").read_text()


def test_classes_without_training_utterances_have_the_score_of_the_head(trained, tmp_path):
    needs_onnx()
    head = trained("svm").head(seed=1, fold=1)
    head.head.classes = head.head.classes[:2]
    head.head.coef, head.head.intercept = head.head.coef[:1], head.head.intercept[:1]
    write_graphs(tmp_path / "onnx", [(1, 1, head)])
    features, _ = example(head, 9)
    assert run_graph(str(tmp_path / "onnx" / "seed-1-fold-1.onnx"), head, features)[2] == -np.inf


def test_a_head_of_somebody_else_is_refused(trained, tmp_path):
    needs_onnx()
    head = trained("dense").head(seed=1, fold=1)

    class Mine(type(head.head)):
        pass

    head.head.__class__ = Mine
    with pytest.raises(ModelError, match=r"^the head Mine is code from outside of featcache, which --onnx can"):
        write_graphs(tmp_path / "onnx", [(1, 1, head)])


def test_a_graph_that_differs_from_its_head_is_not_written(trained, tmp_path, monkeypatch):
    needs_onnx()
    head = trained("dense").head(seed=1, fold=1)
    monkeypatch.setattr("featcache.publishing.onnx_heads._GATES", {})
    monkeypatch.setattr("featcache.publishing.onnx_files.TOLERANCE", -1.0)
    with pytest.raises(ModelError, match=r"^seed-1-fold-1.onnx: its scores differ from those of the head by"):
        write_graphs(tmp_path / "onnx", [(1, 1, head)])
    assert not list((tmp_path / "onnx").iterdir())


def test_the_missing_extra_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"^--onnx needs onnx\w*, which is not installed: pip"):
        featcache.publish(trained("dense").path, tmp_path / "shared", onnx=True)
    assert not (tmp_path / "shared").exists()

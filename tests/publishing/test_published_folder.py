"""A published folder gives the outputs of its run, and contains nobody's name, id or path."""

import pytest
import torch

import featcache
from featcache.runs.reader import RunFolder
from tests.publishing.shared import RUNS, SECRETS, all_bytes, random_features


@pytest.mark.parametrize("name", RUNS)
def test_its_heads_give_the_same_outputs_bit_for_bit(name, trained, tmp_path):
    run = trained(name)
    published = RunFolder(featcache.publish(run.path, tmp_path / "shared"))
    for seed, fold in {(1, 1), (1, 2), (1, 3)}:
        head, same = run.head(seed=seed, fold=fold), published.head(seed=seed, fold=fold)
        features, statistics = random_features(head)
        with torch.inference_mode():
            assert torch.equal(same(features, **statistics), head(features, **statistics))
    content = all_bytes(published.path)
    for secret in (*SECRETS, str(tmp_path), str(run.path.parent)):
        assert secret.encode() not in content


def test_the_figure_of_the_layer_weights_names_nobody(trained, tmp_path, monkeypatch):
    run = trained("fusion")
    monkeypatch.undo()  # the figure is drawn
    folder = featcache.publish(run.path, tmp_path / "shared")
    assert (folder / "layer_weights.png").read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in (folder / "layer_weights.svg").read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in all_bytes(folder)]
    assert "](layer_weights.png)" in (folder / "README.md").read_text()

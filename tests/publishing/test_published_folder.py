"""A published folder gives the outputs of its run, and contains nobody's name, id or path."""

import pytest
import torch

import featcache
from featcache.errors import StoreError
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

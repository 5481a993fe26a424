"""Runs that are trained together on the same features, and runs that are not."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.fitting.groups import group

LAYERS = tuple(range(6))


def setup(
    *layers,
    norm="speaker",
    scalar_norm=False,
    norm_by="speaker_id",
    utterances="all",
    pooling=None,
    stores=("ssl",),
    max_frames=400,
    num_folds=3,
    head="dense",
    averaged=1,
    fused=None,
):
    """Make the parts of a resolved fit that grouping uses; one tuple of layers per store."""
    return SimpleNamespace(
        features=[SimpleNamespace(layers=tuple(chosen), averaged=averaged) for chosen in layers],
        folds=[None] * num_folds,
        manifest=SimpleNamespace(utterance_ids=(utterances,)),
        config={
            "norm": norm,
            "norm_by": norm_by,
            "scalar_norm": scalar_norm,
            "utterances_sha256": utterances,
            "pooling": pooling,
            "features": dict.fromkeys(stores, "fingerprint"),
            "max_frames": max_frames,
            "head": head,
            **({"fused": fused} if fused else {}),
        },
    )


def runs_of(item):
    return {member.run for member in item.members}


def test_heads_and_layers_in_one_piece_share_one_pass_over_all_folds():
    setups = [setup((5,)), setup(LAYERS), setup((2, 3, 4), head="lstm"), setup(LAYERS, head="lstm")]
    [one] = group(setups, [1, 2, 3])
    assert one.lead in (1, 3)
    assert one.fold is None
    assert [f.layers for f in one.features] == [LAYERS]
    found = {(member.run, member.fold): member.layers for member in one.members}
    assert found == {
        (run, fold): (chosen,)
        for run, chosen in enumerate((slice(5, 6), slice(0, 6), slice(2, 5), slice(0, 6)))
        for fold in (1, 2, 3)
    }


@pytest.mark.parametrize(
    "other",
    [
        setup(LAYERS, norm="none"),
        setup(LAYERS, max_frames=200),
        setup(LAYERS, pooling="mean"),
        setup(LAYERS, scalar_norm=True),
        setup(LAYERS, norm_by="dialogue_half"),
        setup(LAYERS, utterances="half"),
        setup(LAYERS, stores=("other",)),
        setup((0, 2)),
        setup(LAYERS, averaged=2),
        setup(LAYERS, (0,), stores=("ssl", "egemaps")),
    ],
)
def test_other_numbers_are_read_apart(other):
    groups = group([setup(LAYERS), other], [1, 2])
    assert sorted(map(sorted, map(runs_of, groups))) == [[0], [1]]


def test_stores_in_another_order_are_read_apart():
    setups = [setup((0,), (0,), stores=names) for names in (("a", "b"), ("b", "a"))]
    assert len(group(setups, [1])) == 2


def test_stores_whose_frames_pair_are_read_apart_from_those_whose_frames_do_not():
    names = ("ssl", "egemaps")
    setups = [setup(LAYERS, (0,), stores=names, fused=fused) for fused in ("frames", "pooled", "frames")]
    assert sorted(map(sorted, map(runs_of, group(setups, [1])))) == [[0, 2], [1]]


def test_fused_stores_share_where_all_their_layers_do():
    names = ("ssl", "egemaps")
    setups = [setup(LAYERS, (0,), stores=names), setup((5,), (0,), stores=names), setup((1, 3), (0,), stores=names)]
    groups = group(setups, [1])
    assert sorted(map(sorted, map(runs_of, groups))) == [[0, 1], [2]]
    [wide] = [item for item in groups if 1 in runs_of(item)]
    assert next(member.layers for member in wide.members if member.run == 1) == (slice(5, 6), slice(0, 1))


def test_with_global_normalisation_each_fold_has_numbers_of_its_own():
    setups = [setup(LAYERS, norm="global"), setup((5,), norm="global")]
    groups = group(setups, [2, 3])
    assert [item.fold for item in groups] == [2, 3]
    for item in groups:
        assert {(member.run, member.fold) for member in item.members} == {(0, item.fold), (1, item.fold)}


def test_runs_have_the_folds_that_they_have():
    setups = [setup(LAYERS, num_folds=2), setup(LAYERS, (0,), stores=("ssl", "egemaps"), num_folds=4)]
    found = {(member.run, member.fold) for item in group(setups, [1, 2, 3, 4]) for member in item.members}
    assert found == {(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (1, 4)}


settings = st.builds(
    setup,
    st.sets(st.sampled_from(LAYERS), min_size=1).map(sorted),
    norm=st.sampled_from(["speaker", "global"]),
    max_frames=st.sampled_from([200, 400]),
    stores=st.sampled_from([("a",), ("b",)]),
)


@given(setups=st.lists(settings, min_size=1, max_size=6), folds=st.lists(st.integers(1, 3), min_size=1, unique=True))
def test_each_run_is_trained_once_per_fold_on_the_layers_that_it_asks_for(setups, folds):
    found = []
    for item in group(setups, folds):
        lead = setups[item.lead]
        assert item.features is lead.features
        assert (item.fold is None) == (lead.config["norm"] != "global")
        for member in item.members:
            run = setups[member.run]
            assert all(run.config[key] == lead.config[key] for key in ("norm", "max_frames", "features"))
            given_out = [f.layers[chosen] for f, chosen in zip(item.features, member.layers, strict=True)]
            assert given_out == [f.layers for f in run.features]
            assert item.fold in (None, member.fold)
            found.append((member.run, member.fold))
    assert sorted(found) == sorted((run, fold) for run in range(len(setups)) for fold in folds)

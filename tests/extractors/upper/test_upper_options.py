"""Options of training: dropout, LayerDrop, gradient checkpointing, time masking; and what is refused."""

import copy

import numpy as np
import pytest
import torch

from featcache.errors import ModelError
from featcache.extractors.models import load
from featcache.extractors.ssl import SSLExtractor
from featcache.extractors.upper import TuningOptions, check_store, load_upper
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.upper.plain import SPEECH_CASES, TEXT_CASES, assert_near

STORED = {"extractor": "ssl"}


def stored_of(plain, case, k):
    with torch.no_grad():
        return [layers[k] for layers in plain(case).layers()]


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm", "whisper", "wav2vec2-conformer", "bert", "t5", "mpnet", "bart"])
def test_without_dropout_training_equals_evaluation(plain, upper, case):
    stored = stored_of(plain, case, 1)
    blocks = upper(case, 1, options=TuningOptions(dropout=0.0, layer_dropout=0.0))
    expected = blocks(stored)
    for found, one in zip(blocks.train()(stored), expected, strict=True):
        assert_near(found.detach(), one.detach())


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm", "whisper", "bert"])
def test_dropout_draws_from_the_generator_of_torch(plain, upper, case):
    stored = stored_of(plain, case, 1)
    blocks = upper(case, 1, options=TuningOptions(dropout=0.3, layer_dropout=0.0)).train()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = blocks(stored)[0]
        second = blocks(stored)[0]
        torch.manual_seed(1)
        again = blocks(stored)[0]
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm", "xls-r"])
def test_layer_dropout_leaves_out_blocks_but_keeps_the_stored_layer(plain, upper, case):
    """Without any block, layer N is the stored layer, or its final LayerNorm."""
    stored = stored_of(plain, case, 1)
    blocks = upper(case, 1, options=TuningOptions(dropout=0.0, layer_dropout=1.0)).train()
    found = blocks(stored)[0][0]
    norm = plain(case).module.encoder.layer_norm if case == "xls-r" else torch.nn.Identity()
    torch.testing.assert_close(found, norm(stored[0]))


def test_batch_norm_uses_the_stored_statistics_and_keeps_them(plain, upper):
    for case in ("mhubert", "wav2vec2-conformer"):
        blocks = copy.deepcopy(upper(case, 0, layers="all")).train()
        before = {name: values.clone() for name, values in blocks.named_buffers() if "running" in name}
        assert before
        blocks(stored_of(plain, case, 0))
        assert all(torch.equal(dict(blocks.named_buffers())[name], values) for name, values in before.items())


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm", "whisper", "wav2vec2-conformer", "bert", "t5", "mpnet"])
def test_gradient_checkpointing_changes_no_gradient(plain, upper, case):
    stored = stored_of(plain, case, 1)
    gradients = []
    for checkpointing in (False, True):
        options = TuningOptions(dropout=0.2, layer_dropout=0.0, gradient_checkpointing=checkpointing)
        blocks = upper(case, 1, options=options).train()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            sum(layers.square().sum() for layers in blocks(stored)).backward()
        gradients.append([parameter.grad for parameter in blocks.tuned_parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_time_masking_replaces_frames_of_layer_0_in_training(plain, upper):
    stored = stored_of(plain, "wav2vec2", 0)
    blocks = upper("wav2vec2", 0, layers="all", options=TuningOptions(time_mask=0.4, dropout=0.0))
    plainly = upper("wav2vec2", 0, layers="all")
    assert len(blocks.tuned_parameters()) == len(plainly.tuned_parameters()) + 1
    assert "masked_spec_embed" in blocks.tuned_state()
    assert torch.equal(blocks(stored)[0], plainly(stored)[0])
    state = np.random.get_state()[1].copy()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        masked = blocks.time_mask.train()(torch.stack([stored[1]]), None)[0]
        torch.manual_seed(0)
        again = blocks.time_mask(torch.stack([stored[1]]), None)[0]
    blocks.eval()
    assert torch.equal(masked, again)
    assert np.array_equal(np.random.get_state()[1], state)
    changed = (masked != stored[1]).any(1)
    assert 0.2 < changed.float().mean() < 0.8
    assert torch.equal(masked[changed], blocks.time_mask.embedding.expand(int(changed.sum()), -1))


@pytest.mark.parametrize("case", ["audio-spectrogram-transformer", "qwen2_audio", "emotion2vec"])
def test_families_whose_stores_lack_what_the_blocks_read_are_refused(tiny_model, case):
    with pytest.raises(
        ModelError, match=r"^[\w-]+ cannot be fine-tuned from a store: its blocks (also )?read [\w ,]+$"
    ):
        load_upper(tiny_model(case), text=False, from_layer=1)


def test_every_family_is_tested_or_refused():
    from featcache.extractors.families import FAMILIES, XVECTOR_FAMILIES

    tested = {"xls-r": "wav2vec2", "distilhubert": "hubert", "mhubert": "hubert"}
    known = {tested.get(case, case) for case in SPEECH_CASES}
    for name, family in FAMILIES.items():
        assert (name in known) == (not family.not_from_stores), name
    assert all(family.not_from_stores for family in XVECTOR_FAMILIES.values())
    assert "albert" not in TEXT_CASES


def test_blocks_that_share_weights_are_refused(tiny_text_model):
    with pytest.raises(ModelError, match=r"3 blocks share their weights; use a model such as bert-base-uncased$"):
        load_upper(tiny_text_model("albert"), text=True, from_layer=1)


def test_upper_blocks_that_differ_from_the_whole_model_are_refused(tiny_text_model, monkeypatch):
    """An architecture with parts that are not known would otherwise be trained wrongly."""
    monkeypatch.setattr("featcache.extractors.upper.text_encoder._keep_relative_bias", lambda *_: None)
    with pytest.raises(
        ModelError,
        match=r"^\S+ cannot be fine-tuned from layer 1: its upper blocks differ from the whole model by \S+ of the "
        r"largest value, expected at most 1e-04; use another model$",
    ):
        load_upper(tiny_text_model("t5"), text=True, from_layer=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_layer": 3}, r"^--from-layer is 3, but \S+ has 3 blocks; expected 0 to 2$"),
        ({"from_layer": -1}, r"^--from-layer is -1, but \S+ has 3 blocks; expected 0 to 2$"),
        ({"layers": "0"}, r"^no layer '0' among 1, 2, 3"),
        ({"expected_sha256": "f" * 64}, r"^the weights of \S+ \(SHA-256 \w{12}…\) are not those of the store \(ffff"),
        ({"options": TuningOptions(time_mask=0.1)}, r"^time masking replaces frames of layer 0, but --from-layer is 1"),
        ({"layers": "all", "options": TuningOptions(layer_dropout=0.1)}, r"^LayerDrop leaves out blocks, but the head"),
    ],
)
def test_bad_options_are_one_line(tiny_model, options, message):
    with pytest.raises(ModelError, match=message) as raised:
        load_upper(tiny_model("wav2vec2"), text=False, **{"from_layer": 1, **options})
    assert "\n" not in str(raised.value)


def test_whisper_needs_the_padding(plain, upper):
    folder = plain("whisper").folder
    with pytest.raises(ModelError, match=r"^Whisper attends to the silence after an utterance, .*--keep-padding"):
        load_upper(folder, text=False, from_layer=1)
    blocks = upper("whisper", 1, layers="all")
    with pytest.raises(ModelError, match=r"^stored features have 20 frames, but \S+ reads 100, padding included"):
        blocks([torch.zeros(20, 32)])


def test_features_of_another_size_are_refused(upper):
    with pytest.raises(
        ModelError, match=r"^stored features have the shape \(20, 31\), but \S+ needs \(num_frames, 32\)"
    ):
        upper("wav2vec2", 1, layers="all")([torch.zeros(20, 31)])


def test_checkpointing_is_refused_where_lengths_are_computed_separately(tiny_text_model):
    with pytest.raises(ModelError, match=r"^gradient checkpointing does not apply to"):
        load_upper(tiny_text_model("fnet"), text=True, from_layer=1, options=TuningOptions(gradient_checkpointing=True))


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"extractor": "egemaps"}, {}, "^x contains no layers of a model that can be fine-tuned; use a store of"),
        (STORED, {"pooled": True}, "^x contains only statistics"),
        ({**STORED, "chunk_seconds": 30.0, "overlap_seconds": 2.0}, {}, "^x was computed in windows"),
        (STORED, {"from_layer": 3}, "^--from-layer is 3, but x contains the layers 6, 12; extract with --layers 3,"),
        (STORED, {"layer_names": ("xvector",)}, "^--from-layer is 6, but x contains the layers xvector;"),
    ],
)
def test_stores_that_cannot_be_used_are_refused(settings, changes, message):
    given = {"layer_names": ("6", "12"), "from_layer": 6, "pooled": False, **changes}
    with pytest.raises(ModelError, match=message):
        check_store("x", settings, given.pop("layer_names"), **given)


def test_good_stores_are_accepted():
    check_store("x", STORED, ("6", "12"), from_layer=6, pooled=False)


def test_stored_layers_of_an_extraction_continue_to_its_last_layer(tiny_model, signal, upper):
    """Extraction computes the padding of batches with folded weights; the layers fit to those of the upper blocks."""
    features = SSLExtractor(SSLConfig(model=tiny_model("wav2vec2"))).extract([signal(6000), signal(9600)])
    for k in (0, 1, 2):
        with torch.no_grad():
            found = upper("wav2vec2", k, layers="all")([torch.from_numpy(one[k]) for one in features])
        for layers, one in zip(found, features, strict=True):
            np.testing.assert_allclose(layers[-1], one[-1], atol=1e-5 * np.abs(one[-1]).max())


def test_the_whole_model_is_not_kept(upper):
    """The lower blocks, the convolutions and the vocabulary would take memory in every training."""
    blocks = upper("wav2vec2", 2, layers="all")
    whole = load(blocks.source.model).num_parameters
    assert sum(parameter.numel() for parameter in blocks.parameters()) < whole / 3

"""Text encoders give the features of Hugging Face transformers in any batch, with one frame per token."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings

from featcache.errors import ModelError
from featcache.extractors import create_extractor
from featcache.extractors import text as text_extractor
from featcache.extractors.tokens import Tokeniser
from tests.conftest import tiny_tokenizer
from tests.tiny_models import TINY_TEXT_MODELS

# float32 sums in another order; the maximum absolute error was 3e-6, for values up to 20.
TOLERANCE = 1e-5

TEXTS = ["hello", "I am happy, really!", "", "  \n", "Unhappy 東京 😀", "happy hello", "a" * 200, "I am happy, Really!"]


@pytest.fixture(scope="module")
def made(tiny_text_model):
    """Return a function ``made(name, **options)`` that creates the extractor of a tiny model, once for equal calls."""
    known = {}

    def make(name, **options):
        key = (name, *sorted(options.items()))
        if key not in known:
            known[key] = create_extractor(tiny_text_model(name), text=True, **options)
        return known[key]

    return make


def tokens_of(extractor, texts):
    return [extractor.tokenise(text) for text in texts]


@pytest.mark.parametrize("name", TINY_TEXT_MODELS)
def test_features_are_those_of_hugging_face(made, tiny_text_model, name):
    extractor, folder = made(name), tiny_text_model(name)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    accepted = inspect.signature(model.forward).parameters
    limit = extractor.description.settings["max_tokens"]
    for text in [text for text in TEXTS if text.strip()]:
        cut = {"truncation": True, "max_length": limit} if limit else {}
        encoded = tokenizer(text, return_tensors="pt", **cut)
        with torch.inference_mode():
            outputs = model(**{k: v for k, v in encoded.items() if k in accepted}, output_hidden_states=True)
        [features] = extractor.extract(tokens_of(extractor, [text]))
        assert features.dtype == np.float32
        assert features.shape == (4, encoded["input_ids"].shape[1], 32)
        expected = torch.cat(outputs.hidden_states).numpy()
        np.testing.assert_allclose(features, expected, atol=TOLERANCE)
        np.testing.assert_array_equal(features[-1], outputs.last_hidden_state[0].numpy())


@pytest.mark.parametrize("name", TINY_TEXT_MODELS)
def test_features_do_not_depend_on_the_batch(made, name):
    extractor = made(name)
    tokens = tokens_of(extractor, TEXTS)
    together = extractor.extract(tokens)
    for one, features in zip(tokens, together, strict=True):
        np.testing.assert_allclose(features, extractor.extract([one])[0], atol=TOLERANCE)
    for one, features in zip(reversed(tokens), extractor.extract(tokens[::-1]), strict=True):
        assert features.shape[1] == len(one)


def test_threads_and_devices_give_the_same(made, tiny_text_model):
    extractor = made("bert")
    several = create_extractor(tiny_text_model("bert"), text=True, device="cpu,cpu")
    expected = extractor.extract(tokens_of(extractor, TEXTS))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: several.extract(tokens_of(several, [text]))[0], TEXTS * 4))
    for features, one in zip(found, expected * 4, strict=True):
        np.testing.assert_allclose(features, one, atol=TOLERANCE)


@pytest.mark.parametrize("safe", [True, False])
def test_models_run_side_by_side_unless_transformers_forbids_it(tiny_text_model, monkeypatch, safe):
    """Some versions, such as 4.57 and 5.0, patch a running model, which would mix up the layers of two threads."""
    monkeypatch.setattr(text_extractor, "_safe_in_threads", lambda: safe)
    extractor = create_extractor(tiny_text_model("bert"), text=True)
    together = threading.Barrier(2)

    def met(*_):
        try:
            together.wait(120 if safe else 0.2)
        except threading.BrokenBarrierError:
            return [torch.zeros(1, 3, 32)] * 4
        return [torch.ones(1, 3, 32)] * 4

    monkeypatch.setattr(extractor, "_wanted_layers", met)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda text: extractor.extract(tokens_of(extractor, [text]))[0], ["hello"] * 2))
    assert {float(features.mean()) for features in found} == {float(safe)}


@pytest.mark.parametrize(
    ("name", "special", "without_words"),
    [
        ("bert", {"before": ["[CLS]"], "after": ["[SEP]"]}, ["[CLS]", "[SEP]"]),
        ("roberta", {"before": ["<s>"], "after": ["</s>"]}, ["<s>", "</s>"]),
        ("t5", {"before": [], "after": ["</s>"]}, ["</s>"]),
        ("gpt2", {"before": [], "after": []}, ["<|endoftext|>"]),
    ],
)
def test_special_tokens_are_frames_and_recorded(made, name, special, without_words):
    extractor = made(name)
    assert extractor.description.settings["special_tokens"] == special
    assert extractor.description.settings["without_words"] == without_words
    for text in ("", " \t\n\u3000"):
        [features] = extractor.extract(tokens_of(extractor, [text]))
        assert features.shape[1] == len(without_words)


@settings(max_examples=30)
@given(text=st.text(max_size=60) | st.text(alphabet="ab \n\t\0\u200b\u0301😀", max_size=400))
@pytest.mark.parametrize("name", ["bert", "roberta", "t5", "gpt2"])
def test_any_text_has_the_frames_that_are_foretold(made, name, text):
    extractor = made(name)
    tokens = extractor.tokenise(text)
    [features] = extractor.extract([tokens])
    limit = extractor.description.settings["max_tokens"]
    assert features.shape == (4, extractor.num_frames(len(tokens), 1), 32)
    assert 1 <= features.shape[1] <= (limit or np.inf)
    assert np.isfinite(features).all()
    if text.strip() == "":
        assert len(tokens) == len(extractor.description.settings["without_words"])


@settings(max_examples=30)
@given(length=st.integers(1, 60))
def test_a_text_is_cut_at_the_limit_as_hugging_face_cuts_it(made, tiny_text_model, length):
    extractor = made("bert")
    tokens = extractor.tokenise("a" * length)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_text_model("bert"))
    assert tokens.inputs["input_ids"] == tokenizer("a" * length, truncation=True, max_length=40)["input_ids"]
    assert tokens.is_cut == (length > 38)  # in addition to [CLS] and [SEP]


@pytest.mark.parametrize(("name", "limit"), [("bert", 40), ("roberta", 38), ("mpnet", 38), ("bart", 40), ("t5", None)])
def test_the_limit_is_what_the_model_can_read(made, name, limit):
    """RoBERTa counts positions from 2, after the position of the padding; one more token would be an error."""
    assert made(name).description.settings["max_tokens"] == limit


def test_a_tokenizers_own_limit_counts(tiny_text_model, tmp_path):
    tokenizer = tiny_tokenizer("bert")
    tokenizer.model_max_length = 12
    transformers.AutoModel.from_pretrained(tiny_text_model("bert")).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    extractor = create_extractor(str(tmp_path), text=True)
    assert extractor.description.settings["max_tokens"] == 12
    assert len(extractor.tokenise("a" * 20)) == 12


@pytest.mark.parametrize(
    ("spec", "names"), [("all", "0123"), ("local", "0"), ("last", "3"), ("0,2-3", "023"), ("1", "1")]
)
def test_layers(made, spec, names):
    whole, part = made("bert"), made("bert", layers=spec)
    assert part.description.layer_names == tuple(names)
    [features], [some] = (item.extract(tokens_of(item, ["hello"])) for item in (whole, part))
    np.testing.assert_array_equal(some, features[[int(name) for name in names]])


def test_the_description(made, tiny_text_model):
    description = made("bert").description
    assert description.dataset == "hidden_states"
    assert (description.frame_shift, description.sampling_rate, description.channel) == (None, None, None)
    assert (description.layer_names, description.hidden_size) == (("0", "1", "2", "3"), 32)
    assert description.settings["transcripts"] == "manifest"
    assert description.settings["tokenizer"] == "the model's own"
    assert description.provenance["num_blocks"] == 3
    encoder = transformers.BertModel.from_pretrained(tiny_text_model("bert"), add_pooling_layer=False)
    assert description.provenance["num_parameters"] == sum(values.numel() for values in encoder.parameters())


def test_precision(made):
    exact, fast = made("bert"), made("bert", precision="bfloat16")
    assert fast.description.settings["precision"] == "bfloat16"
    [expected], [features] = (item.extract(tokens_of(item, ["I am happy"])) for item in (exact, fast))
    assert 0 < np.abs(features - expected).max() < 0.05 * np.abs(expected).max()


# Options that affect the features change the settings.


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"num_attention_heads": 2}, {"layer_norm_eps": 1e-3}])
def test_the_architecture_is_among_the_settings(made, tiny_text_model, changes):
    changed = create_extractor(tiny_text_model("bert", **changes), text=True).description.settings
    same = made("bert").description.settings
    assert changed["weights_sha256"] == same["weights_sha256"]
    assert changed["architecture"] != same["architecture"]


def test_the_tokenizer_is_among_the_settings(made, tiny_text_model, tmp_path):
    from tokenizers.normalizers import BertNormalizer

    tokenizer = tiny_tokenizer("bert")
    tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    transformers.AutoModel.from_pretrained(tiny_text_model("bert")).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    changed = create_extractor(str(tmp_path), text=True).description.settings
    same = made("bert").description.settings
    assert {name for name in same if same[name] != changed[name]} == {"model_id", "tokenizer_sha256"}


# Untrained models.


def test_an_untrained_short_name_reads_bytes_offline():
    extractor = create_extractor("tinybert", text=True, weights="random")
    description = extractor.description
    assert (len(description.layer_names), description.hidden_size) == (5, 312)
    assert (description.settings["tokenizer"], description.settings["max_tokens"]) == ("bytes", 512)
    tokens = extractor.tokenise("hä")
    assert tokens.inputs["input_ids"] == [*(byte + 3 for byte in "hä".encode()), 1]
    again = create_extractor("tinybert", text=True, weights="random").extract([tokens])[0]
    np.testing.assert_array_equal(extractor.extract([tokens])[0], again)


@pytest.mark.parametrize("name", ["roberta", "mpnet"])
def test_bytes_do_not_pass_for_padding(tiny_text_model, name):
    """These models count the positions of all tokens but padding; two equal bytes in a row must have other features."""
    extractor = create_extractor(tiny_text_model(name, vocab_size=300), text=True, weights="random")
    [features] = extractor.extract(tokens_of(extractor, ["aa"]))
    assert np.abs(features[0, 0] - features[0, 1]).max() > 1e-3


def test_a_vocabulary_without_room_for_bytes_is_refused(tiny_text_model):
    with pytest.raises(ModelError, match=r"has 91 tokens, .* has numbers up to 258; .* enough tokens for bytes"):
        create_extractor(tiny_text_model("bert"), text=True, weights="random")


# Errors.


def test_a_tokenizer_of_another_model_is_refused(tiny_text_model, tmp_path):
    transformers.AutoModel.from_pretrained(tiny_text_model("bert")).save_pretrained(tmp_path)
    tiny_tokenizer("roberta").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 91 tokens, but its tokenizer has numbers up to 259; use"):
        create_extractor(str(tmp_path), text=True)


def test_a_tokenizer_that_has_nothing_for_silence_is_refused():
    bare = tiny_tokenizer("gpt2")
    bare.eos_token = None
    with pytest.raises(ModelError, match="no special token to represent an empty transcript"):
        Tokeniser(bare, accepted=("input_ids",), max_tokens=None)


@pytest.mark.parametrize(
    "option", ["do_normalize", "max_seconds", "chunk_seconds", "overlap_seconds", "sampling_rate", "channel", "window"]
)
def test_options_of_audio_are_refused(option):
    told = option.replace("_", "-")
    with pytest.raises(ModelError, match=f"^--{told} does not apply to 'tinybert'$"):
        create_extractor("tinybert", text=True, **{option: 1})

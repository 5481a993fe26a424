"""x-vectors are those of Hugging Face, alone and in any batch; the same checkpoint also gives hidden states."""

import numpy as np
import pytest
import torch
import transformers

from featcache.errors import AudioError, ModelError
from featcache.extractors import create_extractor
from featcache.extractors.base import SAME_IN_ANY_BATCH
from tests.extractors.speech import assert_close

CLASSES = {"wavlm": "WavLMForXVector", "wav2vec2": "Wav2Vec2ForXVector", "unispeech-sat": "UniSpeechSatForXVector"}
HEAD = {
    "tdnn_dim": [16, 16, 24],
    "tdnn_kernel": [5, 3, 1],
    "tdnn_dilation": [1, 2, 1],
    "xvector_output_dim": 12,
    "num_labels": 5,
}
# 2 frames after convolutions that span 1 + 4 + 4 frames.
SHORTEST = 400 + 320 * 9


@pytest.fixture(scope="session")
def speaker_model(tiny_model):
    """Return a function from a name to the folder of a tiny speaker recognition model."""
    return lambda name, **changes: tiny_model(name, class_name=CLASSES[name], **{**HEAD, **changes})


@pytest.fixture(scope="module")
def signals(signal):
    return [signal(length, seed) for seed, length in enumerate((16000, SHORTEST, 9000, 23456))]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_x_vectors_are_those_of_hugging_face(extractor, speaker_model, signals, name, weighted):
    folder = speaker_model(name, use_weighted_layer_sum=weighted)
    own = extractor(folder, layers="xvector")
    model = getattr(transformers, CLASSES[name]).from_pretrained(folder).eval()
    feature_extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    for signal, found in zip(signals, own.extract(signals), strict=True):
        values = feature_extractor(signal.samples, sampling_rate=16000, return_tensors="pt").input_values
        with torch.inference_mode():
            expected = model(values).embeddings.numpy()
        assert_close(found, expected[None])
        assert_close(own.extract([signal])[0], found)


def test_the_description_is_that_of_one_vector(extractor, speaker_model):
    description = extractor(speaker_model("wavlm"), layers="xvector").description
    assert (description.layer_names, description.hidden_size, description.frame_shift) == (("xvector",), 12, None)
    assert description.provenance["one_vector"] is True
    assert description.settings["layers"] == ["xvector"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(extractor, speaker_model, signals, precision):
    own, exact = (extractor(speaker_model("wavlm"), layers="xvector", precision=p) for p in (precision, "float32"))
    for signal, found in zip(signals, own.extract(signals), strict=True):
        scale = np.abs(found).max()
        assert np.abs(own.extract([signal])[0] - found).max() <= SAME_IN_ANY_BATCH[precision] * scale
        assert np.square(exact.extract([signal])[0] - found).mean() <= 0.01 * np.square(found).mean()


def test_the_same_checkpoint_gives_hidden_states(extractor, speaker_model, tiny_model, signals):
    own = extractor(speaker_model("wavlm"))
    assert own.description.layer_names == ("0", "1", "2", "3")
    assert own.extract(signals[:1])[0].shape == (4, 49, 32)


def test_random_x_vectors(extractor, speaker_model, tiny_model, signals):
    folder = speaker_model("wavlm")
    random = extractor(folder, layers="xvector", weights="random")
    assert random.extract(signals[:1])[0].shape == (1, 1, 12)
    hashes = {
        extractor(folder, layers="xvector", weights=w).description.settings["weights_sha256"]
        for w in ("random", "pretrained")
    }
    assert len(hashes) == 2


def test_too_short_for_a_standard_deviation(extractor, speaker_model, signal):
    own = extractor(speaker_model("wavlm"), layers="xvector")
    assert own.num_frames(SHORTEST, 16000) == own.num_frames(160000, 16000) == 1
    with pytest.raises(AudioError, match=rf"^{SHORTEST - 1} samples at 16000 Hz are too short for a single frame"):
        own.extract([signal(SHORTEST - 1)])


def test_what_does_not_apply_is_one_line(speaker_model, tiny_model):
    folder = speaker_model("wavlm")
    with pytest.raises(ModelError, match=r"^--num-blocks does not apply to x-vectors, which need the whole encoder$"):
        create_extractor(folder, layers="xvector", num_blocks=2)
    with pytest.raises(ModelError, match=r"^--chunk-seconds does not apply to x-vectors of WavLM, which describe "):
        create_extractor(folder, layers="xvector", chunk_seconds=5.0)
    with pytest.raises(ModelError, match=r" contains \['WavLMModel'\], but --layers xvector needs a WavLMForXV"):
        create_extractor(tiny_model("wavlm"), layers="xvector")
    with pytest.raises(ModelError, match=r" is a 'hubert' model, but x-vectors need one of: wav2vec2, wavlm, unispeec"):
        create_extractor(tiny_model("hubert"), layers="xvector")
    with pytest.raises(ModelError, match=r"^no layer 'xvector' among 0, 1, 2, 3, input; expected all, local, last"):
        create_extractor(folder, layers="xvector,1")

"""Plain transformers: the whole model, its layers, and training with its lower part frozen."""

import functools

import torch
import transformers

from featcache.extractors import create_extractor
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.tiny_models import TINY_MODELS

# float32 sums in another order: an upper part alone, and batches with other shapes. Usual values are 1e-6.
TOLERANCE = 1e-5
# The same of gradients, which are sums over all frames, relative to the largest gradient of a parameter.
GRADIENT_TOLERANCE = 1e-4
# Gradients below this share of the largest gradient of the model are rounding errors, such as those of key biases,
# which the softmax cancels.
GRADIENT_NOISE = 1e-6
SPEECH = [
    *("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "xls-r"),
    *("distilhubert", "mhubert", "wav2vec2-conformer", "wav2vec2-bert"),
]
TEXT = ["bert", "distilbert", "roberta", "xlm-roberta", "electra", "mpnet", "deberta-v2", "fnet", "bart", "t5", "gpt2"]
# Changes to the configuration, by name of a test case: other places of LayerNorm and other kinds of positions.
CHANGES = {
    "whisper": ("whisper", {"max_source_positions": 100}),
    "wavlm-stable": ("wavlm", {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
    "unispeech-sat-stable": ("unispeech-sat", {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
    "conformer-relative": (
        "wav2vec2-conformer",
        {"position_embeddings_type": "relative", "max_source_positions": 60},
    ),
    "w2v-bert-relative": ("wav2vec2-bert", {"position_embeddings_type": "relative"}),
    "w2v-bert-rotary": ("wav2vec2-bert", {"position_embeddings_type": "rotary"}),
    "deberta-conv": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
}
SPEECH_CASES = [*SPEECH, *(name for name, (model, _) in CHANGES.items() if model in TINY_MODELS)]
TEXT_CASES = [*TEXT, "deberta-conv"]
# In samples; even numbers of log-mel frames, because w2v-BERT masks an odd last one, which extraction drops.
LENGTHS = (6000, 9600, 6100, 1200)
TEXTS = ("hello", "I am happy, really happy!", "hi", "Unhappy?", "hello")


class Plain:
    """Whole model of transformers, and inputs for it.

    Attributes:
        folder: Model folder.
        text: Whether it is a text model.
        module: Model, or encoder of a model with a decoder, in evaluation mode.
        inputs: Inputs of each utterance, without padding.
        num_frames: Number of frames of each utterance.
    """

    def __init__(self, folder, *, text, signals):
        self.folder, self.text = folder, text
        if text:
            tokenise = create_extractor(folder, text=True).tokenise
            self.inputs = [
                {name: torch.tensor([values]) for name, values in tokenise(text).inputs.items()} for text in TEXTS
            ]
        else:
            prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
            self.inputs = [
                dict(prepare(one.samples, sampling_rate=16000, return_tensors="pt").items()) for one in signals
            ]
        self.module = self.load()

    def load(self):
        """Return a new copy of the model."""
        config = transformers.AutoConfig.from_pretrained(self.folder)
        model_class = transformers.T5EncoderModel if config.model_type == "t5" else transformers.AutoModel
        model = model_class.from_pretrained(self.folder).eval().float()
        has_decoder = model.config.is_encoder_decoder and hasattr(model, "decoder")
        return model.get_encoder() if has_decoder else model

    @property
    def num_blocks(self):
        return len(blocks_of(self.module))

    def layers(self, module=None):
        """Return layers 0 … N of each utterance alone: (N + 1, num_frames, hidden_size)."""
        return [self.layers_of(module or self.module, inputs) for inputs in self.inputs]

    def layers_of(self, module, inputs):
        kept, hooks = [], []
        projection = getattr(module, "feature_projection", None)
        if projection is not None:
            hooks.append(projection.register_forward_hook(lambda _m, _a, out: kept.append(first(out).clone())))
        outputs = module(**inputs, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        hidden = [*outputs.hidden_states[: self.num_blocks], outputs.last_hidden_state]
        return torch.cat([kept[0] if kept else hidden[0], *hidden[1:]])


def first(output):
    return output if torch.is_tensor(output) else output[0]


def blocks_of(module):
    """Return the transformer blocks of a model."""
    for path in ("encoder.layers", "encoder.layer", "transformer.layer", "encoder.block", "block", "layers", "h"):
        found = functools.reduce(lambda part, name: getattr(part, name, None), path.split("."), module)
        if found is not None:
            return found
    raise AssertionError(type(module))


def stored_layer(folder, text, signals, layer):
    """Return a layer of each signal as extraction computes it."""
    if text:
        extractor = create_extractor(folder, text=True)
        return [torch.from_numpy(x[layer]) for x in extractor.extract([extractor.tokenise(one) for one in signals])]
    return [torch.from_numpy(x[layer]) for x in SSLExtractor(SSLConfig(model=folder)).extract(signals)]


def assert_near(found, expected, tolerance=TOLERANCE):
    """Check that shapes are equal and values differ by at most a share of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())

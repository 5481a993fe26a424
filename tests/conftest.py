"""What the tests share: seeded noise, a signal like speech, and tiny models of the real classes."""

import json
import logging
import os

# All three are read once, at the first import of what they are for.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # waking threads costs tiny models more than their arithmetic

import hypothesis
import numpy as np
import pytest

# A busy machine makes any example slow; the same examples in every run keep failures reproducible.
hypothesis.settings.register_profile("featcache", deadline=None, derandomize=True)
hypothesis.settings.load_profile("featcache")

TINY_WAVEFORM_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
TINY_DATA2VEC = {**TINY_WAVEFORM_MODEL, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
TINY_WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}
# Name → transformers' model_type and what makes the style: the families, and famous variations on them.
TINY_MODELS = {
    "wav2vec2": ("wav2vec2", TINY_WAVEFORM_MODEL),
    "hubert": ("hubert", TINY_WAVEFORM_MODEL),
    "wavlm": ("wavlm", TINY_WAVEFORM_MODEL),
    "unispeech": ("unispeech", TINY_WAVEFORM_MODEL),
    "unispeech-sat": ("unispeech-sat", TINY_WAVEFORM_MODEL),
    "data2vec-audio": ("data2vec-audio", TINY_DATA2VEC),
    "whisper": ("whisper", TINY_WHISPER),
    "xls-r": (
        "wav2vec2",
        {**TINY_WAVEFORM_MODEL, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "distilhubert": ("hubert", {**TINY_WAVEFORM_MODEL, "num_hidden_layers": 2, "feat_proj_layer_norm": False}),
    "mhubert": ("hubert", {**TINY_WAVEFORM_MODEL, "conv_pos_batch_norm": True}),
}


TINY_TEXT_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
TINY_BART = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 40,
}
# Name → transformers' model_type, what makes the style, and the kind of tokenizer.
TINY_TEXT_MODELS = {
    "bert": ("bert", TINY_TEXT_MODEL, "bert"),
    "distilbert": (
        "distilbert",
        {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40},
        "bert",
    ),
    "roberta": ("roberta", TINY_TEXT_MODEL, "roberta"),
    "xlm-roberta": ("xlm-roberta", TINY_TEXT_MODEL, "roberta"),
    "albert": ("albert", {**TINY_TEXT_MODEL, "embedding_size": 16}, "bert"),
    "electra": ("electra", {**TINY_TEXT_MODEL, "embedding_size": 16}, "bert"),
    "mpnet": ("mpnet", TINY_TEXT_MODEL, "roberta"),
    "deberta-v2": (
        "deberta-v2",
        {
            **TINY_TEXT_MODEL,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
        "bert",
    ),
    "fnet": ("fnet", {**TINY_TEXT_MODEL, "pad_token_id": 0}, "bert"),
    "bart": ("bart", TINY_BART, "roberta"),
    "t5": ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}, "t5"),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40}, "gpt2"),
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def untouched_logger():
    """Commands set the level and the handlers of featcache's logger; the next test starts without them."""
    yield
    logger = logging.getLogger("featcache")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def speech_like():
    """Make a signal with melody, syllables and breath: (num_samples,) float32, in [-0.8, 0.8]."""

    def make(num_samples, sampling_rate=16000, *, pitch=120.0, seed=0):
        time = np.arange(num_samples) / sampling_rate
        melody = pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time + seed))
        phase = 2 * np.pi * np.cumsum(melody) / sampling_rate
        voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 11))
        syllables = 0.5 - 0.4 * np.cos(2 * np.pi * 4 * time)
        breath = np.random.default_rng(seed).uniform(-0.02, 0.02, num_samples)
        return (0.4 * syllables * voice + breath).clip(-0.8, 0.8).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Make a folder with a tiny untrained model and its feature extractor; equal calls give the same folder.

    ``tiny_model(name, **changes)``: a name among TINY_MODELS, changes to its configuration. Two models whose
    parameters have the same shapes have the same weights. ``do_normalize`` goes to the feature extractor.
    """
    folders = {}

    def make(name, *, do_normalize=True, **changes):
        key = json.dumps([name, do_normalize, changes], sort_keys=True)
        if key not in folders:
            family, config = TINY_MODELS[name]
            folders[key] = tmp_path_factory.mktemp(name)
            save_untrained(folders[key], family, {**config, **changes}, do_normalize)
        return str(folders[key])

    return make


def save_untrained(folder, family, config, do_normalize):
    import torch
    import transformers

    from featcache.extractors.models import FAMILIES

    config = transformers.AutoConfig.for_model(family, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(transformers, FAMILIES[family])(config)
        # an initial bias of 0 and scale of 1 would hide a layer that forgets to apply them
        for values in model.state_dict().values():
            if values.is_floating_point():
                values.add_(0.1 * torch.randn_like(values))
    model.save_pretrained(folder)
    if family == "whisper":
        transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_text_model(tmp_path_factory):
    """Make a folder with a tiny untrained text encoder and its tokenizer; equal calls give the same folder.

    ``tiny_text_model(name, **changes)``: a name among TINY_TEXT_MODELS, changes to its configuration.
    """
    folders = {}

    def make(name, **changes):
        key = json.dumps([name, changes], sort_keys=True)
        if key not in folders:
            family, config, kind = TINY_TEXT_MODELS[name]
            folders[key] = tmp_path_factory.mktemp(f"text-{name}")
            tokenizer = tiny_tokenizer(kind)
            config = {"vocab_size": len(tokenizer), **special_ids(tokenizer), **config, **changes}
            save_untrained_text(folders[key], family, config)
            tokenizer.save_pretrained(folders[key])
        return str(folders[key])

    return make


def tiny_tokenizer(kind):
    """A tokenizer of letters in lower case and a few words, or of bytes: [CLS] … [SEP], <s> … </s>, … </s>, or bare."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    roles = {
        "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
        "roberta": {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
        "t5": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
        "gpt2": {"eos": "<|endoftext|>"},
    }[kind]
    around = {"bert": "[CLS] $A [SEP]", "roberta": "<s> $A </s>", "t5": "$A </s>"}.get(kind)
    if kind == "bert":
        letters = "abcdefghijklmnopqrstuvwxyz0123456789'.,!?"
        words = [*letters, *(f"##{letter}" for letter in letters), "hello", "happy", "un", "##happy"]
        vocabulary = {token: number for number, token in enumerate([*roles.values(), *words])}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: number for number, token in enumerate([*roles.values(), *alphabet])}
        tokenizer = Tokenizer(models.BPE(vocabulary, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if around:
        special = [(token, vocabulary[token]) for token in roles.values()]
        tokenizer.post_processor = TemplateProcessing(single=around, special_tokens=special)
    names = {f"{role}_token": token for role, token in roles.items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def special_ids(tokenizer):
    """What a configuration says of a tokenizer."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id")
    return {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None}


def save_untrained_text(folder, family, config):
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(family, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModel.from_config(config)
        for values in model.state_dict().values():
            if values.is_floating_point():
                values.add_(0.1 * torch.randn_like(values))
    model.save_pretrained(folder)


# Caches without audio and models, for whatever reads them: fits and the command line.


@pytest.fixture
def write_store():
    """Write a feature store: ``write_store(folder, {utterance_id: (num_layers, num_frames, hidden_size)}, ...)``.

    ``kind``: ``ssl``, ``text`` (a frame per token), ``egemaps`` or ``functionals``; ``pool`` keeps statistics alone;
    ``recordings`` says of utterances which SHA-256 their audio has, where they start and end, and how long they are;
    ``changes`` go to the extractor's description.
    """
    from featcache.cache.statistics import of_frames
    from featcache.cache.writer import Record, StoreWriter, encode
    from featcache.features import Description

    def write(
        folder, features, *, kind="ssl", complete=True, weights="pretrained", pool=False, recordings=None, **changes
    ):
        num_layers, _, hidden_size = next(iter(features.values())).shape
        model = kind in ("ssl", "text")
        description = {
            "dataset": "hidden_states" if model else "frames",
            "layer_names": tuple(map(str, range(num_layers))) if model else ("",),
            "hidden_size": hidden_size,
            "frame_shift": {"ssl": 0.02, "egemaps": 0.01}.get(kind),
            "sampling_rate": 16000,
            "channel": "mean",
            "settings": {"extractor": kind, "weights": weights} if model else {"extractor": "egemaps"},
            "provenance": {"num_blocks": num_layers - 1} if model else {},
            **changes,
        }
        writer = StoreWriter(folder, Description(**description), "float32", pool=pool)
        writer.write_shard(
            [
                Record(
                    utterance_id=utterance_id,
                    features=encode(values, "float32", description["layer_names"]),
                    statistics=of_frames(values),
                    **{
                        "duration": 0.02 * values.shape[1],
                        "audio_sha256": "",
                        "start": None,
                        "end": None,
                        **(recordings or {}).get(utterance_id, {}),
                    },
                )
                for utterance_id, values in features.items()
            ]
        )
        writer.finish([*features, *([] if complete else ["missing"])], failed=[])

    return write


@pytest.fixture
def make_cache(write_store):
    """Make the cache of a corpus of noise under ``$FEATCACHE_HOME`` in which classes differ a little.

    ``make_cache(corpus, manifest=..., stores={name: options of write_store})``. Without a manifest: four speakers, two
    emotions, two utterances of each. Returns its folder.
    """
    from pathlib import Path

    from featcache.manifest import Manifest, Utterance

    def make(corpus="toy", *, manifest=None, stores=None, num_layers=3, hidden_size=4):
        manifest = manifest or Manifest(
            [
                Utterance(
                    utterance_id=f"{speaker}-{emotion}-{number}",
                    path=f"{speaker}-{emotion}-{number}.wav",
                    speaker_id=speaker,
                    labels={"emotion": emotion},
                )
                for speaker in ("01", "02", "03", "04")
                for emotion in ("anger", "joy")
                for number in (1, 2)
            ]
        )
        folder = Path(os.environ["FEATCACHE_HOME"]) / "cache" / corpus
        folder.mkdir(parents=True)
        manifest.write(folder / "manifest.csv")
        classes = sorted({value for utterance in manifest for value in utterance.labels.values()})
        rng = np.random.default_rng(0)
        lengths = rng.integers(3, 12, len(manifest))
        for name, options in (stores or {"ssl": {}}).items():
            kind = options.get("kind", "ssl")
            layers = num_layers if kind in ("ssl", "text") else 1
            features = {}
            for utterance, length in zip(manifest, lengths, strict=True):
                frames = {"ssl": length, "text": length // 2 + 1, "egemaps": 2 * length + 1, "functionals": 1}[kind]
                values = rng.normal(size=(layers, frames, hidden_size))
                values[..., 0] += classes.index(next(iter(utterance.labels.values())))
                features[utterance.utterance_id] = values.astype(np.float32)
            write_store(folder / name, features, **options)
        return folder

    return make


@pytest.fixture
def quick_reports(monkeypatch):
    """Have fits leave empty pictures: drawing them takes longer than training."""
    from featcache.report import figures, layers, relevance

    def save_nothing(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            path.with_name(f"{path.name}.{suffix}").touch()

    for module in (figures, layers, relevance):
        monkeypatch.setattr(module, "save", save_nothing)
    monkeypatch.setattr(figures, "confusion_matrix", lambda *_: None)
    monkeypatch.setattr(figures, "predicted_values", lambda *_: None)
    monkeypatch.setattr(figures, "training_curves", lambda *_: None)
    for name in ("layer_weights", "layer_scores"):
        monkeypatch.setattr(layers, name, lambda *_, **__: None)
    monkeypatch.setattr(relevance, "layer_relevance", lambda *_, **__: None)

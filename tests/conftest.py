"""Shared fixtures: seeded noise, a speech-like signal, tiny models of the real classes, and caches without audio."""

import gc
import json
import logging
import os
import pickle
import shutil
import sys

# Libraries read these three variables once, when they are first imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # Starting threads takes longer than the arithmetic of tiny models.
os.environ["COLUMNS"] = "80"  # The workers of pytest-xdist have this width; without workers the output would be wider.

import hypothesis
import numpy as np
import pytest

from tests.tiny_models import TINY_CLASSES, TINY_MODELS, TINY_TEXT_MODELS, save_untrained

# No deadline, because a busy machine makes any example slow. The same examples in every run reproduce failures.
hypothesis.settings.register_profile("featcache", deadline=None, derandomize=True)
hypothesis.settings.load_profile("featcache")


gc.disable()  # until all tests are imported

# Waiting for disks takes long, and files survive the end of a process without it. Other tests check the calls.
os.fsync = lambda _: None


def pytest_collection_finish():
    """Keep imported modules out of garbage collections, which otherwise take about 6 % of the time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _measure_frames_once():
    """Measure the frames of each feature set of openSMILE once, because every new extractor measures them."""
    from featcache.extractors.opensmile_sets import OpensmileExtractor

    grids, measured = {}, OpensmileExtractor._measured

    def measured_once(extractor, rate):
        if extractor._copy is not None:  # the configuration file of a test
            return measured(extractor, rate)
        key = (extractor.feature_set, extractor.config.level, rate)
        if key not in grids:
            grids[key] = measured(extractor, rate)
        return grids[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpensmileExtractor, "_measured", measured_once)
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def untouched_logger():
    """Reset the level and handlers of featcache's logger, which commands set."""
    yield
    logger = logging.getLogger("featcache")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Check the threads of torch after each test: with more of them, tiny models take up to a hundred times longer."""
    yield
    if "torch" in sys.modules and os.environ["OMP_NUM_THREADS"] == "1":
        assert sys.modules["torch"].get_num_threads() == 1, "a test or a fixture has changed the threads of torch"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def speech_like():
    """Return a function that makes a signal with melody, syllables and noise: (num_samples,) float32 in [-0.8, 0.8]."""

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
    """Return a function that makes a folder with a tiny untrained model and its feature extractor.

    ``tiny_model(name, **changes)`` takes a name in TINY_MODELS and changes to its configuration. Equal calls return the
    same folder. Two models whose parameters have the same shapes have the same weights. ``do_normalize`` is an option
    of the feature extractor. ``class_name`` is the class whose checkpoint contains the model.
    """
    folders = {}

    def make(name, *, do_normalize=True, class_name=None, **changes):
        key = json.dumps([name, do_normalize, class_name, changes], sort_keys=True)
        if key not in folders:
            family, config = TINY_MODELS[name]
            folders[key] = tmp_path_factory.mktemp(name)
            class_name = class_name or TINY_CLASSES.get(name)
            save_untrained(folders[key], family, {**config, **changes}, do_normalize, class_name)
        return str(folders[key])

    return make


@pytest.fixture(scope="session")
def tiny_text_model(tmp_path_factory):
    """Return a function that makes a folder with a tiny untrained text encoder and its tokenizer.

    ``tiny_text_model(name, **changes)`` takes a name in TINY_TEXT_MODELS and changes to its configuration. Equal calls
    return the same folder.
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
    """Return a tokenizer of a given kind.

    ``bert`` has lower-case letters and a few words as tokens, between [CLS] and [SEP]. The other kinds have bytes as
    tokens: ``roberta`` between <s> and </s>, ``t5`` before </s>, ``gpt2`` without special tokens.
    """
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
    """Return the special token ids of a tokenizer as options of a model configuration."""
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


# Caches without audio and models, for tests of fits and of the command line.


@pytest.fixture
def write_store():
    """Return a function that writes a feature store.

    ``write_store(folder, {utterance_id: (num_layers, num_frames, hidden_size)}, ...)``. ``kind`` is ``ssl``, ``text``
    (one frame per token), ``egemaps`` or ``functionals``. ``pool`` stores only statistics. ``recordings`` gives the
    SHA-256, start, end and duration of utterances. ``changes`` are changes to the description of the extractor.
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


@pytest.fixture(scope="session")
def written_caches():
    """Return a dictionary: arguments of ``make_cache`` → folder with such a cache, of which tests get copies."""
    return {}


@pytest.fixture
def make_cache(write_store, written_caches, tmp_path_factory):
    """Return a function that makes the cache of a corpus of noise under ``$FEATCACHE_HOME`` and returns its folder.

    ``make_cache(corpus, manifest=..., stores={name: options of write_store})``. The classes differ slightly. The
    default manifest has four speakers with two utterances of each of two emotions.
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
        key = pickle.dumps((manifest, stores, num_layers, hidden_size))
        if key not in written_caches:
            written_caches[key] = tmp_path_factory.mktemp("cache")
            fill(written_caches[key], manifest, stores, num_layers, hidden_size)
        return shutil.copytree(written_caches[key], Path(os.environ["FEATCACHE_HOME"]) / "cache" / corpus)

    def fill(folder, manifest, stores, num_layers, hidden_size):
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

    return make


@pytest.fixture
def quick_reports(monkeypatch):
    """Make fits write empty figures, because drawing takes longer than training."""
    draw_nothing(monkeypatch)


def draw_nothing(patch):
    from featcache.report import figures, layers, learning_curve, reliability
    from featcache.report import relevance_figure as relevance

    def save_nothing(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg", "pdf"):
            path.with_name(f"{path.name}.{suffix}").touch()

    for module in (figures, layers, learning_curve, relevance):
        patch.setattr(module, "save", save_nothing)
    patch.setattr(figures, "confusion_matrix", lambda *_: None)
    patch.setattr(figures, "predicted_values", lambda *_: None)
    patch.setattr(figures, "training_curves", lambda *_, **__: None)
    for name in ("layer_weights", "layer_scores"):
        patch.setattr(layers, name, lambda *_, **__: None)
    patch.setattr(relevance, "layer_relevance", lambda *_, **__: None)
    patch.setattr(reliability, "reliability_diagram", lambda *_: None)
    patch.setattr(learning_curve, "learning_curve", lambda *_: None)

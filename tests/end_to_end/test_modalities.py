"""A corpus in which only the text shows valence and only the voice shows arousal: two stores together predict both."""

import pytest

import featcache
from tests.words import make_corpus

NUM_SPEAKERS, NUM_UTTERANCES = 10, 24
# With 48 test utterances, uncorrelated values have a correlation below 0.29 in 95 % of cases.
NOTHING, MUCH = 0.35, 0.75
TRAINING = {"learning_rate": 3e-3, "max_epochs": 100, "patience": 15}


@pytest.fixture(scope="module")
def home(tmp_path_factory, speech_like, tiny_text_model):
    folder = tmp_path_factory.mktemp("modalities")
    make_corpus(folder / "corpora" / "words", speech_like, num_speakers=NUM_SPEAKERS, num_utterances=NUM_UTTERANCES)
    featcache.extract(model="egemaps", home=folder)
    featcache.extract(text=tiny_text_model("bert"), name="words", home=folder)
    return folder


@pytest.fixture
def scores(home, quick_reports):
    """Return a function that fits a head and returns the CCC of arousal, valence and dominance, for one seed."""

    def fit(head, *features):
        run = featcache.fit(
            head=head,
            norm="global",
            features=features,
            layers="last" if "words" in features else "all",
            target="arousal,valence,dominance",
            task="regression",
            label_range=(1, 7),
            seeds=[1],
            **TRAINING,
            home=home,
        )
        return [run.metrics[f"ccc_{name}"]["mean"] for name in ("arousal", "valence", "dominance")]

    return fit


def test_the_voice_gives_arousal_and_the_words_give_valence(scores):
    arousal, valence, _ = scores("dense", "egemaps")
    assert arousal > MUCH
    assert abs(valence) < NOTHING
    arousal, valence, _ = scores("dense", "words")
    assert abs(arousal) < NOTHING
    assert valence > MUCH


@pytest.mark.parametrize("head", ["ffn", "fusion"])
def test_both_together_give_both(scores, head):
    arousal, valence, dominance = scores(head, "egemaps", "words")
    assert min(arousal, valence, dominance) > MUCH

"""Names of s3prl are names of the same models."""

import pytest

from featcache.extractors import store_name
from featcache.extractors.aliases import S3PRL
from featcache.extractors.models import entry_of, known_models, resolve, short_name, store_model_id


@pytest.mark.parametrize("alias", S3PRL)
def test_a_name_of_s3prl_stands_for_the_short_name(alias):
    name = S3PRL[alias]
    assert short_name(alias) == store_name(alias) == name
    assert resolve(alias) == resolve(name)
    assert store_model_id(alias) == known_models()[name]["model_id"]
    assert entry_of(alias) is known_models()[name]


@pytest.mark.parametrize(
    ("alias", "source"),
    [
        ("wavlm_large", "microsoft/wavlm-large"),
        ("hubert_large_ll60k", "facebook/hubert-large-ll60k"),
        ("hubert_base", "facebook/hubert-base-ls960"),
        ("wav2vec2_large_ll60k", "facebook/wav2vec2-large-lv60"),
        ("xlsr_53", "facebook/wav2vec2-large-xlsr-53"),
        ("distilhubert", "ntu-spml/distilhubert"),
        ("data2vec_base_960", "facebook/data2vec-audio-base"),
    ],
)
def test_well_known_names(alias, source):
    assert resolve(alias)[0] == source

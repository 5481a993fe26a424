"""Numbers of parameters of the fine-tuned rows are those of Table 1 of de Oliveira et al. 2023, in millions."""

import pytest
import torch
import transformers

from featcache.extractors.models import known_models, known_text_models
from featcache.heads import create_head
from featcache.heads.ffn import FFNOptions
from featcache.pipeline.read import find_pipeline, published_parameters, read_pipeline

# Table 1, "#Params (M)": audio, and audio with text. The paper counts whole encoders and the head.
TABLE_1 = {
    "w2v2-ft": 165,
    "hubert-ft": 95,
    "distilhubert-ft": 24,
    "w2v2-text-ft": 180,
    "hubert-text-ft": 109,
    "distilhubert-text-ft": 39,
}


@pytest.fixture(scope="module")
def pipeline():
    return read_pipeline(find_pipeline("oliveira2023-msp-podcast"))


def encoder_of(spec):
    """Return the hidden size and the number of parameters of the model of a store, without its weights."""
    if spec.text is not None:
        entry, options = known_text_models()[spec.text], {"add_pooling_layer": False}  # no hidden state needs it
    else:
        entry, options = known_models()[spec.model], {}
    changes = {} if spec.num_blocks is None else {"num_hidden_layers": spec.num_blocks}
    config = transformers.AutoConfig.for_model(entry["family"], **{**entry["config"], **changes})
    with torch.device("meta"):
        module = transformers.AutoModel.from_config(config, **options)
    return config.hidden_size, sum(one.numel() for one in module.parameters())


@pytest.mark.parametrize(("name", "millions"), TABLE_1.items())
def test_the_sum_of_encoders_and_head_is_that_of_the_paper(pipeline, name, millions):
    run = pipeline.run(f"{name}-seen")
    sizes, numbers = zip(*(encoder_of(pipeline.stores[store]) for store in run.features), strict=True)
    [units] = [int(value) for value in run.options.set.values()]
    head = create_head(
        "ffn",
        num_layers=[1] * len(sizes),
        hidden_sizes=list(sizes),
        num_outputs=3,
        pooling="mean+max",
        options=FFNOptions(hidden_units=units),
        seed=1,
    )
    total = sum(numbers) + sum(one.numel() for one in head.parameters())
    assert round(total / 1e6) == millions
    for part in ("seen", "unseen"):
        assert published_parameters(pipeline, pipeline.run(f"{name}-{part}").published) == millions * 10**6

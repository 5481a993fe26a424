"""Fine-tuning with low-rank adapters: PEFT on the whole model, runs, and what is refused."""

import re
import sys

import numpy as np
import peft
import pytest
import torch
import transformers

from featcache.errors import MissingPackageError, ModelError
from featcache.fitting.fit import fit
from featcache.training.seeded import Draws, torch_seeded
from tests.finetuning.conftest import SHORT
from tests.finetuning.test_finetune import COLUMNS, PROBABILITIES, predict_again
from tests.finetuning.test_plain_loop import AFTER_TEN_STEPS, SEED, TEN_STEPS, PlainLoop, parts_of

RANK, ALPHA = 2, 6
PROJECTIONS = {"ssl": "[qkv]_proj|out_proj", "text": r"query|key|value|attention\.output\.dense"}


class PlainAdapters(PlainLoop):
    """Whole model with adapters in its upper blocks, to which PEFT was applied by hand."""

    def __init__(self, place, kind, from_layer):
        super().__init__(place, kind, from_layer)
        numbers = "|".join(map(str, range(from_layer, 3)))
        layers = rf"encoder\.layers?\.({numbers})\..*({PROJECTIONS[kind]})"
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers)
        self.model = peft.get_peft_model(self.model, config).train()
        with torch_seeded(SEED, Draws.ADAPTERS, 0, device="cpu"):
            for name, values in self.model.named_parameters():
                if "lora_A" in name:
                    torch.nn.init.kaiming_uniform_(values, a=5**0.5)
        self.tuned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def state(self):
        """Return the weights of the model with merged adapters."""
        self.model.merge_adapter()
        state = {name: values.clone() for name, values in self.model.get_base_model().state_dict().items()}
        self.model.unmerge_adapter()
        return {name.replace("base_layer.", ""): values for name, values in state.items() if "lora_" not in name}


@pytest.mark.parametrize(("kind", "from_layer"), [("ssl", 1), ("text", 2)])
def test_ten_steps_are_those_of_peft_on_the_whole_model(place, kind, from_layer):
    run = place.finetune(
        features=kind, from_layer=from_layer, name=f"adapters-{kind}", lora=RANK, lora_alpha=ALPHA, **TEN_STEPS[kind]
    )
    plain = PlainAdapters(place, kind, from_layer)
    fold, train, validation = parts_of(place, run)
    before = plain.state()
    history, weights = plain.train(train, validation)
    found = run.history.query("fold == @fold")[["train_loss", "validation_loss"]].to_numpy()
    np.testing.assert_allclose(found, history, rtol=AFTER_TEN_STEPS)
    folder = run.path / "models" / kind / f"seed-{SEED}-fold-{fold}"
    saved = transformers.AutoModel.from_pretrained(folder).state_dict()
    names = {name for name in saved if not name.startswith("pooler.")}  # no layer depends on the pooler
    changed = {name for name in names if not torch.equal(saved[name], before[name])}
    assert changed == {name for name in names if not torch.equal(weights[name], before[name])}
    assert len(changed) == 4 * (3 - from_layer)
    for name in changed:
        torch.testing.assert_close(saved[name], weights[name], rtol=AFTER_TEN_STEPS, atol=AFTER_TEN_STEPS * 0.1)
    in_adapters = sum(parameter.numel() for parameter in plain.tuned)
    in_head = sum(one.numel() for one in run.head(seed=SEED, fold=fold).head.inner.parameters())
    assert run.metrics["head_parameters"] == in_adapters + in_head


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="lora", lora=RANK, lora_dropout=0.1, blocks_learning_rate=1e-2, seeds=(1, 2))


def test_predict_needs_no_peft(place, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    predict_again(place, run, "ssl")


def test_seeds_together_give_the_results_of_each_alone(place, run):
    alone = place.finetune(
        name="lora-alone", lora=RANK, lora_dropout=0.1, blocks_learning_rate=1e-2, seeds=(2,), accumulate=1
    )
    assert alone.predictions.equals(run.predictions.query("seed == 2").reset_index(drop=True))


def test_without_training_of_the_adapters_it_is_a_fit_on_the_last_layer(place, run):
    common = {**SHORT, "corpus": "toy", "home": place.workspace.home, "features": "ssl", "norm": "none"}
    frozen = fit(layers="last", max_frames=0, **common)
    found = place.finetune(lora=RANK, blocks_learning_rate=0)
    assert found.metrics["head_parameters"] == frozen.metrics["head_parameters"]
    np.testing.assert_allclose(found.predictions[COLUMNS], frozen.predictions[COLUMNS], atol=PROBABILITIES)
    trained = run.predictions.query("seed == 1").reset_index(drop=True)
    assert np.abs(trained[COLUMNS] - frozen.predictions[COLUMNS]).to_numpy().max() > 100 * PROBABILITIES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_alpha": 2.5}, "--lora-alpha 2.5: there are no adapters; add --lora RANK"),
        ({"lora": 2, "lora_modules": "q_proj,nose"}, "ssl: --lora-modules q_proj,nose: the blocks of "),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(place, options, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}[^\n]*$"):
        place.finetune(name="refused", **options)
    assert not (place.workspace.runs("toy") / "refused").exists()


def test_a_missing_package_is_named_before_anything_is_trained(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingPackageError, match=r"^--lora needs peft, which is not installed: pip install"):
        place.finetune(name="refused", lora=2)
    assert not (place.workspace.runs("toy") / "refused").exists()

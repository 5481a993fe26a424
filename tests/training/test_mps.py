"""Training on device mps: everything is float32, and dropout uses the random numbers of the CPU."""

import pytest
import torch

from featcache.errors import ModelError
from featcache.targets.losses import CLASSIFICATION, REGRESSION
from featcache.training.memory import Memory, plan_working_copy
from featcache.training.train import Training, TrainingConfig
from tests.mps import OnMps
from tests.training.plain_loop import FOLD, TARGETS, InMemory, make_features, make_head
from tests.training.plain_loop import VALUES as NUMPY_VALUES

# Targets of a regression are Python floats, which torch converts to float32.
VALUES = {utterance_id: [float(value) for value in row] for utterance_id, row in NUMPY_VALUES.items()}


def one_epoch(head, targets, objective, device):
    window = InMemory(make_features()).window
    config = TrainingConfig(batch_size=4, max_epochs=1, learning_rate=0.01)
    training = Training(head, 1, FOLD, targets, config, objective=objective, device=device)
    training.learn(window)
    training.validate(window)
    training.end_epoch()
    training.predict(window)
    return training


@pytest.mark.parametrize("name", ["dense", "lstm"])
@pytest.mark.parametrize(
    ("targets", "objective", "outputs"), [(TARGETS, CLASSIFICATION, 3), (VALUES, REGRESSION, 2)], ids=["class", "value"]
)
def test_training_sends_no_float64_to_mps_and_becomes_what_it_becomes_on_the_cpu(name, targets, objective, outputs):
    expected = one_epoch(make_head(name, num_outputs=outputs), targets, objective, "cpu")
    head = make_head(name, num_outputs=outputs)
    with OnMps() as mode:
        found = one_epoch(head, targets, objective, "mps")
    assert mode.sent
    assert found.predictions == expected.predictions
    for key, values in found.state().items():
        assert values.dtype == torch.float32
        assert torch.equal(values, expected.state()[key])


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "int8"])
def test_heads_compute_in_float32_on_mps_however_features_are_held(dtype):
    copy = plan_working_copy(Memory(dtype=dtype), 10**6, num_steps=1, overhead=0.0, device="mps")
    assert copy.compute == torch.float32


def test_bfloat16_features_are_refused_on_mps():
    with pytest.raises(
        ModelError, match=r"^--memory bfloat16 trains in bfloat16, but device mps trains in float32; expected float"
    ):
        plan_working_copy(Memory(dtype="bfloat16"), 10**6, num_steps=1, overhead=0.0, device="mps")

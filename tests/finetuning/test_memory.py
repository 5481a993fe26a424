"""The memory of a fine-tuning is planned: weights, gradients, optimiser, activations; features pass in windows."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from featcache.errors import ModelError
from featcache.extractors.upper import AdapterOptions, TuningOptions, activation_memory, load_upper
from featcache.fitting import memory_plan
from featcache.fitting.memory_plan import plan_copies
from featcache.fitting.plan import plan_runs
from featcache.settings.finetunings import FinetuneSettings
from featcache.training import batches, memory
from featcache.training.memory import Memory
from featcache.training.train import Training
from tests.finetuning.conftest import SHORT

# The estimate also counts gradients that do not exist at the same time. It must not be below the true peak, except for
# the outputs and small arrays of the allocator.
LEAST, MOST = 0.95, 2.5
BATCH, FRAMES = 4, 150


def measured_peak(upper, num_utterances, num_frames):
    """Return the peak bytes of torch's allocator in a forward and a backward pass, with gradients allocated before."""
    utterances = [torch.randn(num_frames - (i == 0), upper.hidden_size) for i in range(num_utterances)]
    if upper.fixed_frames:
        utterances = [torch.randn(num_frames, upper.hidden_size) for _ in range(num_utterances)]
    for parameter in upper.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        sum(one.sum() for one in upper.train()(utterances)).backward()
    held = peak = 0
    events = (one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]")
    for event in sorted(events, key=lambda one: one.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "wav2vec2-conformer", "whisper", "bert"])
def test_activations_are_estimated_for_each_architecture(tiny_model, tiny_text_model, kind, checkpointing):
    text = kind == "bert"
    model = tiny_text_model(kind, max_position_embeddings=200) if text else tiny_model(kind)
    upper = load_upper(
        str(model),
        text=text,
        from_layer=0,
        expected_sha256=None,
        with_padding=kind == "whisper",
        options=TuningOptions(gradient_checkpointing=checkpointing, layer_dropout=None if text else 0.0),
    )
    before, drawn = {name: values.clone() for name, values in upper.state_dict().items()}, torch.get_rng_state()
    estimate = activation_memory(upper)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not upper.training
    assert all(torch.equal(values, before[name]) for name, values in upper.state_dict().items())
    number, frames = (1, 1500) if upper.fixed_frames else (BATCH, FRAMES)
    assert LEAST < estimate.of_batch(number, frames) / measured_peak(upper, number, frames) < MOST


def setup_of(place, **options):
    """Return a resolved fine-tuning; it is not trained."""
    given = {"features": ("ssl",), "from_layer": (1,), **SHORT, "model": (f"ssl={place.models['ssl']}",), **options}
    [one] = plan_runs([FinetuneSettings(**given)], cache=place.workspace.cache("toy"), home=place.workspace.home)
    return one.setup


def held_by(training):
    """Return the bytes of a training: weights, gradients, best weights and states of the optimiser."""
    weights = list(training.head.parameters())
    tensors = [*weights, *(one.grad for one in weights if one.grad is not None), *training._best.state.values()]
    tensors += [one for state in training._optimiser.state.values() for one in state.values() if one.ndim]
    return sum(one.nbytes for one in tensors)


def test_weights_that_adapters_change_do_not_count_for_each_utterance(tiny_model):
    """The attention of WavLM reads the sum of weights and adapters, which is computed once per batch."""
    upper = load_upper(
        str(tiny_model("wavlm")),
        text=False,
        from_layer=0,
        expected_sha256=None,
        options=TuningOptions(adapters=AdapterOptions(rank=2), layer_dropout=0.0),
    )
    plain = load_upper(str(tiny_model("wavlm")), text=False, from_layer=0, expected_sha256=None)
    weights = 4 * sum(one.numel() for name, one in plain.named_parameters() if name.endswith("_proj.weight"))
    estimate = activation_memory(upper)
    assert weights <= estimate.per_batch < 2 * weights  # the share of the backward pass is added
    assert estimate.of_batch(64, 8) - estimate.of_batch(32, 8) < 32 * activation_memory(plain).of_batch(1, 8)
    assert LEAST < estimate.of_batch(BATCH, FRAMES) / measured_peak(upper, BATCH, FRAMES) < MOST


@pytest.mark.parametrize("options", [{}, {"blocks_learning_rate": 0.0}, {"lora": 2}])
def test_a_training_counts_its_blocks(place, monkeypatch, options):
    held, end_epoch = [], Training.end_epoch

    def measured(training):
        end_epoch(training)
        held.append(held_by(training))

    monkeypatch.setattr(Training, "end_epoch", measured)
    place.finetune(name="-".join(["counted", *options]), max_epochs=1, **options)
    setup = setup_of(place, **options)
    of_step = memory_plan._training_bytes(setup, in_windows=False)
    frozen = options.get("blocks_learning_rate") == 0
    blocks, trained = (
        sum(one.nbytes for one in setup.blocks["ssl"].parameters() if keep(one))
        for keep in (lambda _: True, lambda one: one.requires_grad and not frozen)
    )
    whole = 4 * setup.stores[0].metadata["num_parameters"]
    # The copy that replaces the best weights of what is trained, and the activations or the model that is written, are
    # added.
    activations = setup.activations[0].of_batch(32, max(setup.features[0].num_frames(i) for i in setup.loaded_ids))
    head = sum(one.nbytes for one in setup.weights().values())
    assert max(held) + trained < of_step <= max(held) + trained + head + max(activations, blocks + whole)


def test_the_largest_batch_counts(place):
    """The frames of a batch are those of its longest utterance, padding included."""
    planned = {
        name: memory_plan._training_bytes(setup_of(place, **options), in_windows=False)
        for name, options in {
            "small": {"batch_size": 64},
            "large": {"batch_size": 128},
            "same": {"batch_seconds": 1.0},
            "checkpointing": {"batch_size": 128, "gradient_checkpointing": True},
        }.items()
    }
    setup = setup_of(place)
    frames = max(setup.features[0].num_frames(i) for i in setup.loaded_ids)
    [estimate] = setup.activations
    assert planned["large"] - planned["small"] == pytest.approx(estimate.of_batch(64, frames))
    number = int(1.0 / (frames * setup.features[0].frame_shift))
    assert planned["small"] - planned["same"] == pytest.approx(estimate.of_batch(64 - number, frames), rel=0.3)
    assert planned["checkpointing"] < planned["large"]


@pytest.fixture
def bare(monkeypatch):
    """Count only features, heads and blocks as memory."""
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    monkeypatch.setattr(memory_plan, "_overhead", lambda *_: 0.0)


def test_trainings_that_run_one_after_another_count_once(place, bare):
    setup = setup_of(place, seeds=(1, 2, 3))
    features = 4 * sum(32 * setup.features[0].num_frames(i) for i in setup.loaded_ids)
    just_enough = Memory(bytes=features + memory_plan._training_bytes(setup, in_windows=False), dtype="float32")
    [copy] = plan_copies([setup], just_enough, 1, 64, "cpu")
    assert copy.room is None


def test_a_model_that_does_not_fit_is_refused_before_training(place, bare):
    setup, saving = (setup_of(place, batch_size=256, gradient_checkpointing=one) for one in (False, True))
    needed = [memory_plan._training_bytes(one, in_windows=False) for one in (setup, saving)]
    less = Memory(bytes=0.2 * needed[0] + 0.8 * needed[1])
    with pytest.raises(ModelError) as refused:
        plan_copies([setup], less, 1, 1, "cpu")
    assert "of memory is not enough, expected" in str(refused.value)
    assert str(refused.value).endswith(
        "or more; allow more with --memory, or use --gradient-checkpointing, a smaller --batch-size with --accumulate, "
        "or fewer frames with --max-frames"
    )
    [copy] = plan_copies([saving], less, 1, 1, "cpu")
    assert copy.room is None


@pytest.mark.parametrize("limit", [None, 8])
def test_features_pass_in_windows_that_do_not_grow_with_the_corpus(place, monkeypatch, limit):
    """Whatever the number of utterances, no more features are in memory than the plan allows."""
    alive, most, room = weakref.WeakSet(), [], 16_384
    read, plan = batches.FeatureWindows._read, memory_plan.plan_working_copy

    def counted(source, ids):
        window = read(source, ids)
        alive.add(window)
        most.append(sum(item.values.nbytes for one in alive for items in one.utterances.values() for item in items))
        return window

    monkeypatch.setattr(batches.LoadedUtterances, "__hash__", object.__hash__)
    monkeypatch.setattr(batches.FeatureWindows, "_read", counted)
    monkeypatch.setattr(
        memory_plan,
        "plan_working_copy",
        lambda *arguments, **options: replace(plan(*arguments, **options), room=room),
    )
    place.finetune(name=f"windows-{limit}", limit=limit, max_epochs=1)
    assert len(most) > 3
    assert max(most) <= room


def test_a_finished_run_needs_no_model(place):
    run = place.finetune(name="kept", max_epochs=1)
    again = place.finetune(name="kept", max_epochs=1, model=())
    assert again.path == run.path

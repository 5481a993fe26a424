"""Head × fold × seed → trained head: the loop over epochs, with early stopping on the validation part alone."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featcache.heads import Dense
from featcache.protocols import Fold
from featcache.threads import one_thread_each
from featcache.training.data import Features, batch


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a head is trained.

    Source: Pepino et al. 2021 as run, which is not the learning rate that the paper prints.

    Attributes:
        learning_rate: Of Adam.
        batch_size: Utterances per step.
        max_epochs: At most so many.
        patience: Epochs without a better validation loss after which training ends; the best weights are restored.
        clip_value: Gradients are clipped to this magnitude, value by value.
        epsilon: Of Adam.
    """

    learning_rate: float = 1e-4
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 4
    clip_value: float = 1.0
    epsilon: float = 1e-7


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Losses are means over utterances; the validation's UAR is in [0, 1]."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_uar: float


def train_head(
    head: Dense, features: Sequence[Features], targets: dict[str, int], fold: Fold, seed: int, config: TrainingConfig
) -> list[Epoch]:
    """Train a head in place; afterwards it has the weights of its best epoch.

    Args:
        head: Untrained.
        features: One per store.
        targets: Utterance id → class.
        fold: Its training part is learned from, its validation part decides when to stop; its test part is not seen.
        seed: Orders the training utterances in each epoch.

    Returns:
        What happened in each epoch.
    """
    shuffling = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(head.parameters(), lr=config.learning_rate, eps=config.epsilon)
    history: list[Epoch] = []
    best_loss, best_epoch, best_state = float("inf"), 0, copy.deepcopy(head.state_dict())
    for epoch in range(1, config.max_epochs + 1):
        head.train()
        total = 0.0
        order = shuffling.permutation(len(fold.train))
        for first in range(0, len(order), config.batch_size):
            ids = [fold.train[i] for i in order[first : first + config.batch_size]]
            loss = nn.functional.cross_entropy(head(batch(features, ids)), _classes(targets, ids))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_value_(head.parameters(), config.clip_value)
            optimiser.step()
            total += float(loss.detach()) * len(ids)
        loss_now, uar_now = _validate(head, features, targets, fold.validation, config.batch_size)
        history.append(
            Epoch(epoch=epoch, train_loss=total / len(order), validation_loss=loss_now, validation_uar=uar_now)
        )
        if loss_now < best_loss:
            best_loss, best_epoch, best_state = loss_now, epoch, copy.deepcopy(head.state_dict())
        elif epoch - best_epoch >= config.patience:
            break
    head.load_state_dict(best_state)
    return history


def train_seeds(
    heads: Mapping[int, Dense],
    features: Sequence[Features],
    targets: dict[str, int],
    fold: Fold,
    config: TrainingConfig,
    *,
    workers: int,
) -> Iterator[tuple[int, list[Epoch]]]:
    """Train the heads of several seeds side by side, in place; each as it would be trained alone.

    Args:
        heads: Seed → untrained head.
        workers: How many are trained at a time, each by one thread.

    Yields:
        Each seed with its epochs, in the order of ``heads``. The other arguments are those of :func:`train_head`.
    """
    with one_thread_each(), ThreadPoolExecutor(workers, thread_name_prefix="fit") as pool:
        histories = pool.map(lambda seed: train_head(heads[seed], features, targets, fold, seed, config), heads)
        yield from zip(heads, histories, strict=True)


def predict(head: Dense, features: Sequence[Features], ids: Sequence[str], batch_size: int) -> npt.NDArray[np.float32]:
    """(num_utterances, num_classes) float32, probabilities."""
    return _logits(head, features, ids, batch_size).softmax(dim=1).numpy()


def _validate(
    head: Dense, features: Sequence[Features], targets: dict[str, int], ids: Sequence[str], batch_size: int
) -> tuple[float, float]:
    from featcache.evaluate.metrics import uar

    logits, classes = _logits(head, features, ids, batch_size), _classes(targets, ids)
    loss = float(nn.functional.cross_entropy(logits, classes))
    return loss, uar(classes.numpy(), logits.argmax(dim=1).numpy())


@torch.no_grad()
def _logits(head: Dense, features: Sequence[Features], ids: Sequence[str], batch_size: int) -> Tensor:
    head.eval()
    parts = [ids[first : first + batch_size] for first in range(0, len(ids), batch_size)]
    return torch.cat([head(batch(features, part)) for part in parts])


def _classes(targets: dict[str, int], ids: Sequence[str]) -> Tensor:
    return torch.tensor([targets[utterance_id] for utterance_id in ids])

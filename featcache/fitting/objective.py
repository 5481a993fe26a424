"""Resolved fit × fold → the loss that its trainings minimise."""

from collections.abc import Mapping

from featcache.fitting.resolve import ResolvedFit
from featcache.protocols import Fold
from featcache.settings.loss_choice import NO_WEIGHTS
from featcache.targets.losses import Objective, classification, regression
from featcache.targets.targets import Classes


def objective_of(setup: ResolvedFit, fold: Fold) -> Objective:
    """Return loss and validation score for the trainings of a fold.

    Args:
        setup: The resolved request.
        fold: Training, validation and test part; only labels of the training part may affect the loss.
    """
    loss, weights = setup.request.loss, class_weights_of(setup, fold)
    if loss is None and weights is None:
        return setup.target.objective
    if isinstance(setup.target, Classes):
        return classification(loss or "cross-entropy", weights)
    return regression(loss or "ccc")


def class_weights_of(setup: ResolvedFit, fold: Fold) -> list[float] | None:
    """Return the weight of each class for the trainings of a fold.

    Args:
        setup: The resolved request.
        fold: Training, validation and test part; ``balanced`` counts the classes of the training part only.

    Returns:
        One weight per class, in the order of the classes; None if all utterances count the same. A class that is not
        in the training part has the weight 1 with ``balanced``.

    Source: ``balanced`` is ``sklearn.utils.class_weight.compute_class_weight``: the number of utterances, divided by
        the number of classes in the training part and by the number of utterances of the class.
    """
    wanted, target = setup.request.class_weights, setup.target
    if wanted == NO_WEIGHTS or not isinstance(target, Classes):
        return None
    if isinstance(wanted, Mapping):
        return [wanted.get(name, 1.0) for name in target.classes]
    train = set(fold.train)
    numbers = [0] * len(target.classes)
    for utterance in setup.manifest:  # without views of utterances, which have ids of their own
        numbers[target.position(utterance)] += utterance.utterance_id in train
    present = sum(number > 0 for number in numbers)
    return [sum(numbers) / (present * number) if number else 1.0 for number in numbers]

"""Votes against scikit-learn, constructed ties and plain loops; the choice does not depend on test data."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from featcache.errors import PredictionsError
from featcache.evaluate.voting import Ballots, choose

CLASSES = ("sadness", "anger", "joy")  # not sorted


def table(probabilities, *, target=None, seeds=1, folds=1, prefix="u", predicted=None):
    """Make the rows of one member from probabilities, (num_seeds · num_utterances, 3), seed by seed."""
    probabilities = np.asarray(probabilities, float)
    num_utterances = len(probabilities) // seeds
    columns = {f"p_{label}": probabilities[:, i] for i, label in enumerate(CLASSES)}
    number = np.tile(np.arange(num_utterances), seeds)
    predicted = np.argmax(probabilities, axis=1) if predicted is None else predicted
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(seeds), num_utterances),
            "fold": number % folds + 1,
            "utterance_id": [f"{prefix}{i:03}" for i in number],
            "speaker_id": [f"s{i % 4}" for i in number],
            "target": np.array(CLASSES)[number % 3 if target is None else target],
            "prediction": np.array(CLASSES)[predicted],
            **columns,
        }
    )


def random_tables(rng, *, members=4, seeds=2, utterances=48, folds=2, prefix="u", skill=None):
    """Make tables of members whose probabilities depend on the target, some more strongly than others."""
    skills = np.linspace(0.2, 1.2, members) if skill is None else skill
    target = np.tile(np.arange(utterances) % 3, seeds)
    tables = {}
    for i, strength in enumerate(skills):
        logits = rng.normal(size=(len(target), 3)) + strength * np.eye(3)[target]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        tables[f"run {i}"] = table(probabilities, seeds=seeds, folds=folds, prefix=prefix)
    return tables


ROWS = 20


@settings(max_examples=20)  # each with many rows, because tables take longer than votes
@given(
    st.integers(1, 6).flatmap(
        lambda members: st.lists(
            st.lists(st.tuples(*[st.integers(0, 10)] * 3), min_size=ROWS, max_size=ROWS),
            min_size=members,
            max_size=members,
        )
    )
)
def test_votes_equal_a_plain_loop(counts):
    # Probabilities are multiples of 1/8, so sums are exact, and ties are exact.
    probabilities = np.array(counts) / 8
    ballots = Ballots.of({f"m{i}": table(member) for i, member in enumerate(probabilities)}, CLASSES)
    members = range(len(counts))
    hard, shares = ballots.vote(members, "hard")
    soft, means = ballots.vote(members, "soft")
    for row in range(ROWS):
        said = [int(np.argmax(probabilities[m, row])) for m in members]
        summed = probabilities[:, row].sum(axis=0)
        assert hard[row] == max(range(3), key=lambda c: (said.count(c), summed[c], -c))
        assert soft[row] == max(range(3), key=lambda c: (summed[c], -c))
        np.testing.assert_allclose(shares[row], [said.count(c) / len(said) for c in range(3)])
        np.testing.assert_allclose(means[row], summed / len(said))


def test_ties_go_to_the_summed_probability_and_then_to_the_first_class():
    first = [[0.5, 0.4, 0.1], [0.5, 0.4, 0.1]]
    second = [[0.1, 0.6, 0.3], [0.4, 0.5, 0.1]]  # sums in row 0: 0.6 and 1.0; in row 1: 0.9 and 0.9
    ballots = Ballots.of({"a": table(first), "b": table(second)}, CLASSES)
    assert [CLASSES[i] for i in ballots.vote([0, 1], "hard")[0]] == ["anger", "sadness"]
    # 0.1 + 0.2 is not 0.3 in float64, but it counts as a tie.
    rounded = Ballots.of({"a": table([[0.1, 0.3, 0]]), "b": table([[0.2, 0.0, 0]])}, CLASSES)
    assert rounded.vote([0, 1], "soft")[0].tolist() == [0]


def test_a_majority_counts_what_was_predicted_not_the_probabilities():
    # Members a and b do not predict their most probable class, for example because of their own decision rule.
    tables = {
        "a": table([[0.9, 0.1, 0]], predicted=[1]),
        "b": table([[0.9, 0.1, 0]], predicted=[1]),
        "c": table([[0.9, 0.1, 0]]),
    }
    ballots = Ballots.of(tables, CLASSES)
    assert ballots.vote(range(3), "hard")[0].tolist() == [1]
    assert ballots.vote(range(3), "soft")[0].tolist() == [0]


def test_scores_are_scikit_learns_averaged_over_seeds(rng):
    tables = random_tables(rng, members=1, seeds=3)
    ballots = Ballots.of(tables, CLASSES)
    of_seeds = [rows for _, rows in tables["run 0"].groupby("seed")]
    expected = [
        100 * np.mean([score(rows["target"], rows["prediction"]) for rows in of_seeds])
        for score in (balanced_accuracy_score, accuracy_score)
    ]
    assert ballots.scores(ballots.vote([0], "hard")[0]) == pytest.approx(expected)


def test_the_order_of_the_rows_does_not_matter(rng):
    tables = random_tables(rng)
    shuffled = {name: rows.sample(frac=1, random_state=i) for i, (name, rows) in enumerate(tables.items())}
    found = [Ballots.of(each, CLASSES).table([0, 2, 3], "soft") for each in (tables, shuffled)]
    pd.testing.assert_frame_equal(*found)


@pytest.fixture
def ballots(rng):
    validation = Ballots.of(random_tables(rng, prefix="v"), CLASSES)
    return validation, Ballots.of(random_tables(rng), CLASSES)


NAMES = [f"run {i}" for i in range(4)]


def test_every_combination_is_scored(ballots):
    validation, test = ballots
    choice = choose(NAMES, validation, test, sizes=[3, 2])
    expected = {
        (" + ".join(names), vote)
        for size in (2, 3)
        for names in itertools.combinations(NAMES, size)
        for vote in ("hard", "soft")
    }
    rows = choice.combinations
    assert {(row.members, row.vote) for row in rows.itertuples()} == expected
    assert len(rows) == len(expected)
    row = rows[(rows["members"] == "run 0 + run 2") & (rows["vote"] == "soft")].iloc[0]
    for part, ballots_of_part in (("validation", validation), ("test", test)):
        table = ballots_of_part.table([0, 2], "soft")
        of_seeds = [each for _, each in table.groupby("seed")]
        uar = 100 * np.mean([balanced_accuracy_score(each["target"], each["prediction"]) for each in of_seeds])
        assert row[f"{part}_uar"] == pytest.approx(uar)


def test_the_best_on_validation_is_chosen(ballots):
    choice = choose(NAMES, *ballots, sizes=[2, 3])
    rows = choice.combinations
    assert rows["validation_uar"].round(9).is_monotonic_decreasing
    first = rows.iloc[0]
    assert (first["members"], first["vote"]) == (" + ".join(NAMES[i] for i in choice.members), choice.vote)
    assert rows["test_uar"].idxmax() != 0  # otherwise, the test could not detect a choice on test data


def test_test_labels_have_no_part_in_the_choice(ballots, rng):
    validation, test = ballots
    choice = choose(NAMES, validation, test, sizes=[2, 3])
    shuffled = Ballots(
        rows=test.rows.assign(target=rng.permutation(test.rows["target"])),
        predicted=test.predicted,
        probabilities=test.probabilities,
        classes=test.classes,
    )
    again = choose(NAMES, validation, shuffled, sizes=[2, 3])
    assert (again.members, again.vote) == (choice.members, choice.vote)
    assert again.combinations["test_uar"].tolist() != choice.combinations["test_uar"].tolist()


def test_between_equals_fewer_members_and_the_order_of_the_runs_decide(rng):
    [same] = random_tables(rng, members=1).values()
    ballots = Ballots.of(dict.fromkeys(NAMES, same), CLASSES)
    choice = choose(NAMES, ballots, ballots, sizes=[3, 2])
    assert (choice.members, choice.vote) == ((0, 1), "hard")


def test_one_split_needs_no_choice_by_fold(ballots):
    assert choose(NAMES, *ballots, sizes=[2]).uar_by_fold is None


def test_choosing_by_fold_equals_a_plain_loop(rng):
    # Cross-validation with two folds: fold 2 validates on the test utterances of fold 1, and vice versa. Each run is
    # good in one fold only.
    good = random_tables(rng, members=4, utterances=96, skill=[2, 2, 0.3, 0.3])
    bad = random_tables(rng, members=4, utterances=96, skill=[0.3, 0.3, 2, 2])
    test = {name: pd.concat([good[name][good[name]["fold"] == 1], bad[name][bad[name]["fold"] == 2]]) for name in NAMES}
    validation = {name: rows.assign(fold=3 - rows["fold"]) for name, rows in random_tables(rng, utterances=96).items()}
    held, tested = Ballots.of(validation, CLASSES), Ballots.of(test, CLASSES)
    choice = choose(NAMES, held, tested, sizes=[2], votes=["soft"])
    tables = []
    for fold in (1, 2):
        uars = {}
        for pair in itertools.combinations(range(4), 2):
            table = held.table(pair, "soft")
            rows = table[table["fold"] == fold]
            of_seeds = [balanced_accuracy_score(s["target"], s["prediction"]) for _, s in rows.groupby("seed")]
            uars[pair] = np.mean(of_seeds)
        best = tested.table(max(uars, key=uars.get), "soft")
        tables.append(best[best["fold"] == fold])
    of_seeds = [balanced_accuracy_score(s["target"], s["prediction"]) for _, s in pd.concat(tables).groupby("seed")]
    assert choice.uar_by_fold == pytest.approx(100 * np.mean(of_seeds))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(seed=t["seed"] + 1), "b and a differ in seed: only one run has 0, 2; only runs of the sam"),
        (lambda t: t.assign(fold=1), "b and a differ in fold: only one run has 2; only runs of the same utteran"),
        (
            lambda t: t[t["utterance_id"] != "u003"],
            "b and a differ in utterance_id: only one run has 'u003'; only runs of the same utterances",
        ),
        (lambda t: t.assign(fold=3 - t["fold"]), "b and a do not have the same utterances in every seed and fold"),
        (lambda t: t.assign(target="joy"), r"b and a have different targets for 'u000', 'u004', 'u006' and \d+ more"),
        (lambda t: t.drop(columns="p_joy"), "b has no probabilities 'p_joy'; add them"),
        (lambda t: t.assign(p_joy=np.nan), "b has probabilities that are not finite, so it cannot vote"),
        (lambda t: t.assign(prediction="bliss"), "b: unknown prediction 'bliss', expected one of: sadness, anger, joy"),
    ],
)
def test_members_must_say_the_same_rows(rng, change, message):
    [member] = random_tables(rng, members=1).values()
    with pytest.raises(PredictionsError, match=message):
        Ballots.of({"a": member, "b": change(member)}, CLASSES)

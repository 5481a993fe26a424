"""Sets of identical audio: each finding names a few others, also if the set is the whole corpus."""

import numpy as np
import pytest

from featcache.checks.identical_audio import identical_findings
from featcache.checks.sound import FACTS
from featcache.errors import listed
from featcache.manifest import Manifest, Utterance


def found_in(number):
    facts = np.zeros(number, FACTS)
    facts["measured"], facts["peak"] = True, 1
    manifest = Manifest([Utterance(utterance_id=f"u{i}", path=f"{i}.wav") for i in range(number)])
    return {one.utterance_id: one.found for one in identical_findings(manifest, facts, [], [])}


@pytest.mark.parametrize("number", [2, 3, 4, 5, 9])
def test_others_are_named_as_in_a_list_of_all(number):
    names = [f"u{i}" for i in range(number)]
    assert found_in(number) == {
        name: f"identical to {listed([other for other in names if other != name])}" for name in names
    }

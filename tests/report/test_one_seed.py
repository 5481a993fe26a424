"""A run of one seed is described without means and standard deviations over seeds; a run of several seeds with them."""

import html
import re

import pytest
from typer.testing import CliRunner

from featcache.cli.app import app
from featcache.fitting.fit import fit
from featcache.report.captions import CAPTIONS, caption_of

pytestmark = pytest.mark.usefixtures("quick_reports")

# "The mean and standard deviation of each test speaker" is about the normalisation.
SPREAD = re.compile(r"± ?std|±|deviation[^.]*over seeds|(mean|averaged) over (the |all )?seeds|speakers and seeds")


def told_about_seeds(text):
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
    return sorted({found[0] for found in SPREAD.finditer(words)})


@pytest.fixture
def runs(make_cache):
    make_cache()
    shared = {"norm": "global", "protocol": "loso", "max_epochs": 2}
    return {number: fit(**shared, seeds=number, name=f"seeds{number}") for number in (1, 2)}


def output(*words):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_reports_mention_standard_deviations_of_several_seeds_only(runs):
    reports = {number: (run.path / "report.html").read_text(encoding="utf-8") for number, run in runs.items()}
    assert told_about_seeds(reports[1]) == []
    assert "±" in told_about_seeds(reports[2])
    assert "bars are the standard deviation over seeds" in reports[2]


def test_commands_mention_standard_deviations_of_several_seeds_only(runs):
    for words in (["score", "NAME"], ["layers", "NAME"]):
        one, two = (output(*(f"seeds{number}" if word == "NAME" else word for word in words)) for number in (1, 2))
        assert told_about_seeds(one) == []
        assert "±" in two
    assert "±" in output("runs")
    runs[2].path.rename(runs[2].path.parents[3] / "moved")
    assert told_about_seeds(output("runs")) == []


def test_pages_over_runs_mention_standard_deviations_of_several_seeds_only(runs):
    printed = output("report", "toy")
    [page] = [path for path in runs[1].path.parent.rglob("*.html") if "finished runs" in path.read_text("utf-8")]
    assert page.name in printed
    lead = re.search(r'<p class="lead">.*?</p>', page.read_text("utf-8"), re.DOTALL)[0]
    assert "standard deviation over seeds" in lead
    of_one = list(page.parent.rglob("seeds1.html"))
    assert [told_about_seeds(path.read_text("utf-8").split("<script")[0]) for path in of_one] == [[]] * len(of_one)
    assert of_one


@pytest.mark.parametrize("figure", CAPTIONS)
def test_captions_are_sentences_for_one_and_for_several_seeds(figure):
    one, several = caption_of(figure, 1), caption_of(figure, 5)
    assert one.endswith(".")
    assert "seed" not in one
    assert "seeds" in several
    assert "{" not in one + several

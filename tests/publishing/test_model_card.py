"""Model cards: the hub's metadata, licences, and names that look like markup."""

import json

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import featcache
from featcache.corpora.recorded import CORPUS_FILE
from featcache.publishing.licences import NOT_KNOWN, OPENSMILE, source_of_corpus, source_of_extractor
from featcache.publishing.markdown_text import as_markdown
from featcache.publishing.model_card import CardContent, Source, write_card
from featcache.publishing.shareable import shareable_config, shareable_metrics
from featcache.runs.reader import RunFolder
from featcache.workspace import Workspace

HOSTILE = (
    "a](http://x.org) <b>",
    "<script>alert(1)</script>",
    "![i](x.png)",
    "`code` *b* _i_ ~~s~~",
    "two\nlines\n---\nlicense: mit",
    "a | b",
    "www.x.org http://x.org mailto:a@b.org",
    "{{ 7 * 7 }} {% for %}",
    "# heading",
    "\\[x\\](y)",
    "&amp;<!--",
    "\u202eright to left",
    "怒り",
    "- ': [&anchor",
)


@pytest.fixture
def content(trained, tmp_path):
    """Return a function that makes the content of the card of a run with other names."""

    def make(name="dense", **changes):
        run, workspace = trained(name), Workspace.at(tmp_path)
        config = {**shareable_config(run, workspace), **changes.pop("config", {})}
        values = {
            "title": run.name,
            "config": config,
            "metrics": shareable_metrics(run),
            "num_heads": 3,
            "corpus": source_of_corpus(config, workspace),
            "extractors": [source_of_extractor("ssl", {"extractor": "ssl", "model_id": "mine"})],
        }
        return CardContent(**{**values, **changes})

    return make


def body_of(folder):
    return ModelCard.load(folder / "README.md").text


def rendered(text):
    """Return the HTML of a text as GitHub and the hub show it."""
    return MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text)


def test_the_hub_reads_the_scores_of_the_run(trained, tmp_path):
    run = trained("dense")
    folder = featcache.publish(run.path, tmp_path / "shared", license="cc-by-nc-4.0")
    data = ModelCard.load(folder / "README.md").data
    found = {one.metric_type: one for one in data.eval_results}
    assert {"recall": "uar", "accuracy": "wa", "f1": "macro_f1"}.keys() == found.keys()
    assert found["recall"].metric_value == run.metrics["uar"]["mean"]
    assert found["recall"].metric_args["ci95"] == run.metrics["uar"]["ci95"]
    assert (found["recall"].dataset_type, found["recall"].dataset_config) == ("toy", "loso")
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-nc-4.0", "featcache", "audio-classification")
    text = body_of(folder)
    assert "unseen in training and validation: yes" in text
    assert "Transductive: no." in text
    assert f"{run.metrics['uar']['mean']:.1f} %" in text
    assert "featcache predict FOLDER x.wav\n" in text
    assert "| Licence of the corpus | not known |" in text


def test_a_regression_reports_each_dimension(content, tmp_path):
    card = content("ffn")
    write_card(tmp_path, card)
    names = {one.metric_type for one in ModelCard.load(tmp_path / "README.md").data.eval_results}
    assert names >= {"ccc", "ccc_arousal", "ccc_valence", "rmse"}
    assert "the value of arousal" in body_of(tmp_path)


def test_speaker_normalisation_is_told_to_be_transductive(content, tmp_path):
    write_card(tmp_path, content("lstm"))
    text = body_of(tmp_path)
    assert "Transductive: yes" in text
    assert "not published. A new speaker needs statistics of their own recordings" in text
    assert "--one-speaker" in text


def test_heads_trained_on_all_utterances_have_validation_scores_only(content, tmp_path):
    metrics = {"validation": {"uar": {"mean": 61.25, "std": None, "per_seed": [61.25]}}}
    write_card(tmp_path, content(metrics=metrics, config={"final": True, "folds": [{"fold": 1}]}))
    text = body_of(tmp_path)
    assert "There is no test part: these heads were trained on all utterances." in text
    assert "On the validation part: UAR 61.2." in text
    assert "unseen in training and validation: there is no test part." in text
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None


@pytest.mark.parametrize(
    ("protocol", "told"),
    [("loso", "yes"), ("split", "not guaranteed by this protocol"), ("mine.py:PAIRS", NOT_KNOWN)],
)
def test_the_protocol_tells_whether_speakers_were_apart(content, tmp_path, protocol, told):
    write_card(tmp_path, content(config={"protocol": protocol}))
    assert f"unseen in training and validation: {told}." in body_of(tmp_path)


def test_random_weights_are_a_control_and_have_no_base_model(content, tmp_path):
    hub = Source(name="facebook/wav2vec2-base", licence="apache-2.0", is_on_hub=True)
    write_card(tmp_path, content(extractors=[hub]))
    assert ModelCard.load(tmp_path / "README.md").data.base_model == ["facebook/wav2vec2-base"]
    write_card(tmp_path, content(extractors=[hub], config={"untrained": ["ssl"]}))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model is None
    assert "untrained" in card.data.tags
    assert "**Untrained control:** the weights of ssl are random." in card.text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_and_are_no_markup(content, tmp_path, name):
    source = Source(name=name, licence=name, address="https://x.org/a b>|<i>")
    changed = {"config": {"corpus": name, "classes": [name, "joy"], "select": {name: [name]}, "norm_by": name}}
    write_card(tmp_path, content("lstm", title=name, corpus=source, extractors=[source], license=name, **changed))
    plain = CardContent(**{**vars(content("lstm")), "corpus": Source(name="c", address="https://x.org/")})
    card = ModelCard.load(tmp_path / "README.md")
    write_card(tmp_path, plain)
    tags = "<a ", "<script", "<b>", "<i>", "<img", "<code", "<em", "<s>", "<h1", "<h2", "<hr", "<tr", "<li", "<!--"
    shown, usual = rendered(card.text), rendered(body_of(tmp_path))
    links = 1  # the address of the extractor
    for tag in tags:
        expected = usual.count(tag) + (links if tag == "<a " else 0) + (1 if tag == "<li" else 0)
        assert shown.count(tag) == expected, tag
    assert "http://x.org" not in [part.split('"')[0] for part in shown.split('href="')[1:]]
    told = name.replace("\n", "\\n").replace("\u202e", "\\u202e")
    assert card.data.model_name == card.data.license == told
    assert card.data.eval_results[0].dataset_name == told
    html = told.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<h1>{html}</h1>" in shown.replace("&quot;", '"')


def test_markdown_is_not_escaped_twice():
    assert as_markdown(as_markdown("a_b")) == "a\\_b"
    assert as_markdown("www.x.org http://x.org: a") == "www\\.x.org http\\://x.org: a"


def test_the_licence_of_a_corpus_is_that_of_its_description(tmp_path):
    workspace = Workspace.at(tmp_path)
    cache = tmp_path / "cache" / "recordings"
    cache.mkdir(parents=True)
    config = {"corpus": "recordings", "classes": ["anger"]}
    assert source_of_corpus(config, workspace).licence == NOT_KNOWN
    (cache / CORPUS_FILE).write_text(json.dumps({"corpus": "ravdess"}))
    found = source_of_corpus(config, workspace)
    assert (found.licence, found.address) == ("CC BY-NC-SA 4.0", "https://zenodo.org/records/1188976")
    # without a cache, a name alone is not enough
    assert "free for research" in source_of_corpus({"corpus": "emodb", "classes": ["anger"]}, workspace).licence
    assert source_of_corpus({"corpus": "emodb", "classes": ["mine"]}, workspace).licence == NOT_KNOWN


def test_the_licence_of_an_extractor_is_known_if_it_was_fetched(tmp_path, monkeypatch):
    from featcache.extractors.origin import FolderOrigin, write_origin

    model = {"extractor": "ssl", "model_id": "owner/model"}
    found = source_of_extractor("store", model)
    assert (found.licence, found.address) == (NOT_KNOWN, "https://huggingface.co/owner/model")
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    folder = tmp_path / "models" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    write_origin(folder, FolderOrigin(model_id="owner/model", license="apache-2.0"))
    assert source_of_extractor("store", model).licence == "apache-2.0"
    assert source_of_extractor("egemaps", {"extractor": "egemaps"}).licence == OPENSMILE
    assert source_of_extractor("store", {}) == Source(name="store")


def test_a_published_folder_can_be_published_again(trained, tmp_path):
    folder = featcache.publish(trained("dense").path, tmp_path / "shared")
    again = featcache.publish(folder, tmp_path / "again")
    assert RunFolder(again).config == RunFolder(folder).config

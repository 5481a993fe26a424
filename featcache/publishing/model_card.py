"""Published settings and scores × licences → model card: ``README.md`` with the metadata of the Hugging Face hub."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from featcache._version import __version__
from featcache.evaluate.intervals import caution, described
from featcache.evaluate.scores import digits_of, find_score
from featcache.files.regular import replace_file
from featcache.normalise import SPEAKER
from featcache.protocols import PROTOCOLS
from featcache.publishing.licences import NOT_KNOWN, Source
from featcache.publishing.markdown_text import MarkdownText, as_markdown
from featcache.publishing.published_files import CARD
from featcache.registry import is_external
from featcache.report.html import score_names
from featcache.report.tables import interval, mean_and_std
from featcache.runs.identity import FROM_LAYER, LABEL_NAMES, TUNED_LAYERS, VALIDATION
from featcache.terminal.escape import escaped
from featcache.units import counted

if TYPE_CHECKING:
    import jinja2
    from huggingface_hub import EvalResult, ModelCardData


_TEMPLATE = "card.md.jinja"
# The hub's task of models that classify audio; it has none for a regression of audio.
_TASK = "audio-classification"
# Score → name of the same metric on the hub; other scores keep their names.
_METRICS = {"uar": "recall", "wa": "accuracy", "macro_f1": "f1"}
_ADDRESS = ":/?#[]@!$&'()*+,;=%-._~"


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """Content of a model card.

    Attributes:
        title: Name of the run.
        config: Published content of ``config.yaml``.
        metrics: Published content of ``metrics.json``.
        num_heads: Number of heads.
        corpus: Name and licence of the corpus.
        extractors: Name and licence of the extractor of each store.
        license: Licence of the heads; None if the publisher states none.
        repository: Id on the hub; None if the folder is not uploaded.
        figure: Whether the folder has the figure of the layer weights.
        onnx: Whether the folder has ONNX graphs.
    """

    title: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    num_heads: int
    corpus: Source
    extractors: Sequence[Source]
    license: str | None = None
    repository: str | None = None
    figure: bool = False
    onnx: bool = False


def write_card(folder: Path, content: CardContent) -> None:
    """Write the model card into a folder."""
    from huggingface_hub import ModelCard

    body = _environment().get_template(_TEMPLATE).render(_values(content))
    card = ModelCard(f"---\n{_metadata(content).to_yaml()}\n---\n\n{body}")
    replace_file(folder / CARD, str(card).encode())


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featcache", "publishing"),
        autoescape=False,
        finalize=as_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["address"] = lambda text: MarkdownText(quote(text, safe=_ADDRESS))
    return environment


def _metadata(content: CardContent) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    untrained = ["untrained"] if content.config["untrained"] else []
    base = [one.name for one in content.extractors if one.is_on_hub]
    return ModelCardData(
        license=escaped(content.license) if content.license else None,
        library_name="featcache",
        pipeline_tag=_TASK,
        tags=["speech-emotion-recognition", "featcache", *untrained],
        base_model=None if untrained or not base else base,
        base_model_relation="finetune" if FROM_LAYER in content.config and base and not untrained else None,
        model_name=escaped(content.title),
        eval_results=list(_results(content)) or None,
    )


def _results(content: CardContent) -> "Iterator[EvalResult]":
    """Yield the scores in percent or as correlations, with standard deviation and interval as arguments."""
    from huggingface_hub import EvalResult

    for name in score_names(content.metrics):
        score, known = content.metrics[name], find_score(name)[0]
        if score["mean"] is None:
            continue
        about = {"std_over_seeds": score["std"], "ci95": score.get("ci95")}
        yield EvalResult(
            task_type=_TASK,
            task_name="Speech emotion recognition",
            dataset_type=escaped(content.config["corpus"]),
            dataset_name=escaped(content.corpus.name),
            dataset_config=escaped(", ".join(_condition(content.config))),
            dataset_split="test",
            metric_type=_METRICS.get(known.name, name),
            metric_name=escaped(score_names(content.metrics)[name]),
            metric_value=score["mean"],
            metric_args={key: value for key, value in about.items() if value is not None} or None,
        )


def _values(content: CardContent) -> dict[str, Any]:
    """Return the variables of the template. Text that is no Markdown yet is escaped when it is inserted."""
    config, metrics = content.config, content.metrics
    is_speaker = config["norm"] == "speaker"
    has_test = "bootstrap" in metrics
    return {
        "title": content.title,
        "version": __version__,
        "untrained": ", ".join(config["untrained"]),
        "num_heads": counted(content.num_heads, "head"),
        "predicts": _predicts(config),
        "extractors": content.extractors,
        "corpus": content.corpus,
        "license": content.license or "not stated; ask the publisher before use",
        "tuned": MarkdownText("; ".join(_tuned(config))),
        "layers": config["layers"],
        "head": config["head"],
        "norm": config["norm"],
        "folder": MarkdownText(f"hf:{content.repository}" if content.repository else "FOLDER"),
        "repository": content.repository,
        "speaker_option": " --one-speaker" if is_speaker else "",
        "outside": config["head"] if is_external(config["head"]) or "parts" in config else "",
        "scores": list(_rows(metrics)),
        "described": MarkdownText(described(metrics)) if has_test else "",
        "caution": _caution(metrics) if has_test else "",
        "validation": ", ".join(_validation(metrics)),
        "protocol": _protocol(config["protocol"]),
        "num_seeds": len(config["seeds"]),
        "num_folds": len(config.get("folds", ())),
        "apart": _apart(config["protocol"], tested=has_test),
        "transductive": _transductive(is_speaker),
        "train_views": ", ".join(map(str, config.get("train_views", ()))),
        "test_view": config.get("test_view", ""),
        "select": "; ".join(f"{label} = {', '.join(map(str, one))}" for label, one in config["select"].items()),
        "figure": content.figure,
        "normalisation": _normalisation(config),
        "onnx": content.onnx,
    }


def _tuned(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield which blocks of each model were trained."""
    adapters = f", with adapters (LoRA) of rank {config['lora']}" if config.get("lora") else ""
    for store, layer in zip(config.get(TUNED_LAYERS, ()), config.get(FROM_LAYER, ()), strict=True):
        yield f"{as_markdown(store)}: all blocks after layer {layer}{adapters}"


def _condition(config: Mapping[str, Any]) -> list[str]:
    """Return the protocol and, if the test utterances are augmented speech, their view."""
    return [config["protocol"], *([config["test_view"]] if "test_view" in config else [])]


def _predicts(config: Mapping[str, Any]) -> str:
    if "classes" in config:
        return f"the class of {config['target']}: {', '.join(config['classes'])}"
    if LABEL_NAMES in config:
        return f"which labels of {config['target']} apply: {', '.join(config[LABEL_NAMES])}"
    ranges = (f"{name} ({low:g} to {high:g})" for name, (low, high) in config["label_ranges"].items())
    return f"the value of {', '.join(ranges)}"


def _rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, title in score_names(metrics).items():
        score, known = metrics[name], find_score(name)[0]
        unit = " %" if known.unit and score["mean"] is not None else ""
        digits = digits_of(name)
        text = mean_and_std(score["mean"], score["std"], digits) + unit
        yield title, text, interval(score.get("ci95"), digits)


def _validation(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, score in metrics.get(VALIDATION, {}).items():
        if score["mean"] is not None:
            yield f"{find_score(name)[0].label} {mean_and_std(score['mean'], score['std'], digits_of(name))}"


def _caution(metrics: Mapping[str, Any]) -> MarkdownText:
    unit = metrics["bootstrap"]
    text = caution(unit["unit"], unit["count"], metrics["num_speakers"]) or ""
    return MarkdownText(text[:1].upper() + text[1:])


def _protocol(name: str) -> str:
    is_known = name in PROTOCOLS and PROTOCOLS.is_builtin(name)
    return f"{name} ({PROTOCOLS[name].description.removesuffix('.')})" if is_known else name


def _apart(protocol: str, *, tested: bool) -> str:
    if not tested:
        return "there is no test part"
    if protocol not in PROTOCOLS:
        return NOT_KNOWN
    return "yes" if PROTOCOLS[protocol].speaker_independent else "not guaranteed by this protocol"


def _transductive(is_speaker: bool) -> str:
    if not is_speaker:
        return "no"
    return (
        "yes; the mean and standard deviation of each test speaker come from all utterances of this speaker, without "
        "their labels"
    )


def _normalisation(config: Mapping[str, Any]) -> MarkdownText:
    if config["norm"] == "none":
        return MarkdownText("Features are not normalised.")
    if config["norm"] == "global":
        return MarkdownText(
            "Features are normalised with the statistics of the training part of each fold, which are in "
            "`normalisation.safetensors`."
        )
    by = "speaker" if config["norm_by"] in (None, SPEAKER) else f"value of the label {as_markdown(config['norm_by'])}"
    return MarkdownText(
        f"Features are normalised with the mean and standard deviation of each {by}. The statistics of the corpus are "
        "not published. A new speaker needs statistics of their own recordings; 30 s of speech or more are better. In "
        "Python, give them to the head: `normalisation=[(mean, std)]`."
    )

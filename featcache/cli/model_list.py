"""Models → a list, the details of one model, and the folders of fetched models on the terminal."""

from typing import TYPE_CHECKING, Any

from featcache.cli.columns import print_fitting
from featcache.errors import ModelError
from featcache.extractors import DESCRIPTORS, EXTRACTORS, is_reference
from featcache.extractors.aliases import S3PRL
from featcache.extractors.checkpoint import is_folder, read_config
from featcache.extractors.families import FAMILIES
from featcache.extractors.models import (
    dimensions,
    frames_per_hour,
    is_local,
    known_models,
    known_text_models,
    local_folder,
    resolve,
    short_name,
)
from featcache.extractors.origin import read_origin
from featcache.extractors.pickles import is_pickled_only
from featcache.extractors.pretrained import explained
from featcache.terminal.console import print_line, print_pairs
from featcache.terminal.escape import one_line
from featcache.terminal.lines import print_error
from featcache.units import format_bytes
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from featcache.fetching import FetchReport


def print_models() -> None:
    """Print all short names, the size of their features, and whether their weights are available here."""
    known, of_text = known_models(), known_text_models()
    sizes = [dimensions(entry["family"], entry["config"]) for entry in known.values()]
    hourly = [frames_per_hour(entry["family"]) for entry in known.values()]
    print_fitting(
        {
            "Model": list(known),
            "Layers": [f"{layers} x {size}" for layers, size in sizes],
            "Per hour": [format_bytes(2 * layers * size * n) for (layers, size), n in zip(sizes, hourly, strict=True)],
            "ASR": [_yes(FAMILIES[entry["family"]].transcribes) for entry in known.values()],
            "Here": [_yes(is_local(name)) for name in known],
            "Hugging Face id": [entry["model_id"] for entry in known.values()],
        },
        dropped=("Hugging Face id", "ASR", "Per hour", "Layers", "Here"),
    )
    others = (*DESCRIPTORS, *(name for name in EXTRACTORS if not EXTRACTORS.is_builtin(name)))
    print_line()
    print_line(
        "Layers: number of layers x hidden size. Per hour: size of the cache per hour of audio, in float16. ASR: the "
        "model can transcribe. Here: the weights are on this machine; other weights are downloaded from the Hugging "
        "Face hub. --weights random builds the untrained architecture, without network."
    )
    print_line(
        f"Further values of --model: {', '.join(others)}, opensmile:SET, opensmile:FILE.conf, names of s3prl such as "
        "wavlm_large, any Hugging Face id, any folder with a model."
    )
    print_line()
    widths = [(entry["num_layers"], entry["hidden_size"]) for entry in of_text.values()]
    print_fitting(
        {
            "Text model": list(of_text),
            "Layers x size": [f"{layers} x {size}" for layers, size in widths],
            "Per 1000 tokens": [format_bytes(layers * size * 1000 * 2) for layers, size in widths],
            "Here": [_yes(is_local(name)) for name in of_text],
            "Hugging Face id": [entry["model_id"] for entry in of_text.values()],
        },
        dropped=("Hugging Face id", "Per 1000 tokens", "Layers x size", "Here"),
    )
    print_line()
    print_line(
        "Text models read transcripts: featcache extract --text NAME. Any other text encoder works with its Hugging "
        "Face id or folder. Untrained text models read bytes."
    )
    print_line("'featcache models NAME' shows one model in full. 'featcache fetch NAME' downloads it.")


def print_model(name: str) -> None:
    """Print everything about one model: names, sizes, licence, and where it is or how to get it.

    Args:
        name: Short name, name of s3prl, Hugging Face id, or folder.

    Raises:
        ModelError: the name is unknown, or belongs to features without a model.
    """
    if is_reference(name):
        raise ModelError(f"{name} is not a model: it has no weights; use it with featcache extract --model {name}")
    is_text = short_name(name) in known_text_models()
    source, entry = resolve(name, text=is_text)
    folder = local_folder(name)
    config: dict[str, Any] = entry["config"] if entry else read_config(folder) if folder else {}
    family = entry["family"] if entry else config.get("model_type", "")
    pairs: dict[str, Any] = {"name": short_name(name)}
    if not is_folder(name):
        pairs["Hugging Face id"] = source
    aliases = [alias for alias, short in S3PRL.items() if short == pairs["name"]]
    if aliases:
        pairs["name in s3prl"] = aliases
    if family:
        pairs["family"] = family
    with explained(name):
        pairs |= _sizes(entry, family, config)
    origin = read_origin(folder) if folder else None
    if origin is not None:
        pairs["revision"] = origin.revision or "-"
    page = f"https://huggingface.co/{source}"
    licence = "see its folder" if is_folder(name) else f"see {page}, or 'featcache fetch {name}'"
    pairs["licence"] = (origin.license if origin else None) or licence
    pairs["here"] = folder or "no"
    if folder is None:
        pairs["get it"] = f"featcache fetch {name}{' --convert' if is_pickled_only(family) else ''}"
        pairs["offline"] = (
            f"{pairs['get it']} --out FOLDER on another machine; copy FOLDER into {Workspace.at().models} here"
        )
    pairs["use it"] = f"featcache extract {'--text' if is_text else '--model'} {name}"
    print_pairs(pairs)


def _sizes(entry: dict[str, Any] | None, family: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the layers, hidden size, number of parameters and size of the cache, as far as they are known."""
    found: dict[str, Any] = {}
    is_text = entry is not None and "num_layers" in entry
    if entry is not None and is_text:
        layers, size = entry["num_layers"], entry["hidden_size"]
    elif family in FAMILIES:
        layers, size = dimensions(family, config)
    else:
        return found
    found |= {"layers": layers, "hidden size": size}
    number = entry["num_parameters"] if entry else num_parameters(family, config)
    if number:
        found["parameters"] = f"{number / 1e6:.1f} million ({format_bytes(4 * number)} in float32), encoder only"
    unit, frames = ("1000 tokens", 1000) if is_text else ("hour", frames_per_hour(family))
    found[f"cache per {unit}"] = f"{format_bytes(2 * layers * size * frames)} in float16, all layers"
    if not is_text:
        found["transcribes"] = _yes(FAMILIES[family].transcribes)
    return found


def num_parameters(family: str, config: dict[str, Any]) -> int | None:
    """Return the number of parameters of the part that is run, without memory for them; None if it is unknown.

    Args:
        family: Family of the model, ``model_type`` in its configuration.
        config: Entries of its configuration that differ from the defaults.
    """
    import torch
    import transformers

    entries = {name: value for name, value in config.items() if name != "model_type"}
    try:
        with torch.device("meta"):
            if family in FAMILIES:
                speech = FAMILIES[family]
                module = speech.part(speech.model_class()(speech.configuration(entries)))
            else:
                module = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(family, **entries))
    except Exception:  # A newer transformers, or any file of a model.
        return None
    return sum(int(parameter.numel()) for parameter in module.parameters())


def print_fetched(report: "FetchReport") -> None:
    """Print the folder of each fetched model, and the reason for each failure.

    Args:
        report: Result of :func:`featcache.fetch`.
    """
    for folder in report.folders.values():
        print_line(str(folder))
    for model, reason in report.failures.items():
        print_error(f"error: {one_line(reason if model in reason else f'{model}: {reason}')}")
    if report.failures:
        print_error(f"not fetched: {one_line(', '.join(report.failures))}")


def _yes(value: bool) -> str:
    return "yes" if value else "-"

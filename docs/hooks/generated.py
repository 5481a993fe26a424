"""Code → pages and tables of the site: the help of every command, and lists of models, corpora, protocols and heads.

A page asks for a table with a line ``<!-- generated: NAME -->``, where NAME is a key of ``TABLES``. The pages of
``reference/commands/`` have no file: they exist in the built site alone.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
# Pages that commands wrote link to files outside docs/, which the site does not contain.
OUTSIDE = re.compile(r"\[([^\]\n]+)\]\((?:\.\./)+(?:featcache|tests|pipelines)/[^)\n]*\)")
FOLDER = "reference/commands"
EXIT_CODES = "All commands have the same [exit codes](../exit-codes.md)."


def _cell(text: str) -> str:
    """Escape what Markdown or HTML would read as markup in a table cell."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([|*_`\[\]])", r"\\\1", escaped)


def _code(text: str) -> str:
    return f"`{' '.join(text.split())}`" if text else "-"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _application() -> tuple[Any, Any]:
    """Return the command line of featcache, and its context."""
    import typer

    from featcache.cli.app import app

    group: Any = typer.main.get_command(app)
    return group, group.make_context("featcache", [], resilient_parsing=True)


def _parameters(rows: Iterable[tuple[str, str]], kind: str = "Option") -> str:
    return _table([kind, "Description"], [(_code(name), _cell(text)) for name, text in rows])


def _sections(command: Any, context: Any) -> str:
    """Return the arguments and options of a command under the headings of its help page."""
    tables = [
        f"## {title}\n\n{_parameters(rows, 'Argument' if title == 'Arguments' else 'Option')}"
        for title, rows in command.sections(context).items()
    ]
    return "\n\n".join(tables)


def _builtin(registry: Any) -> list[tuple[str, Any]]:
    """Return the built-in parts of a registry with their names; the site does not list what else is installed."""
    return [(name, registry.find(name)) for name in registry if registry.is_builtin(name)]


def command_names() -> list[str]:
    """Return the names of all commands, in the order of the data flow."""
    return list(_application()[0].commands)


def command_pages() -> dict[str, str]:
    """Return path → Markdown of the page of each command, and of the list of all commands."""
    group, parent = _application()
    pages, rows = {}, []
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=parent, resilient_parsing=True)
        summary, *rest = re.split(r"(?<=\.)\s+", command.help, maxsplit=1)
        example = command.epilog.removeprefix("Example: ")
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        parts = [f"# featcache {name}", summary, *rest, f"```text\n{usage}\n```", _sections(command, context)]
        pages[f"{FOLDER}/{name}.md"] = "\n\n".join([*parts, f"## Example\n\n```text\n{example}\n```"]) + "\n"
        rows.append((f"[`featcache {name}`]({name}.md)", _cell(summary)))
    own = [one.get_help_record(parent) for one in group.get_params(parent)]
    top = f"Options of `featcache` itself:\n\n{_parameters(own)}"
    listed = f"# Commands\n\n{_table(['Command', 'Description'], rows)}\n\n{top}\n\n{EXIT_CODES}\n"
    return {f"{FOLDER}/index.md": listed, **pages}


def models_table() -> str:
    """Return the speech models that have a short name."""
    from featcache.extractors.models import dimensions, frames_per_hour, known_models
    from featcache.units import format_bytes

    rows = []
    for name, entry in known_models().items():
        layers, size = dimensions(entry["family"], entry["config"])
        hourly = format_bytes(layers * size * 2 * frames_per_hour(entry["family"]))
        rows.append((_code(name), f"{layers} × {size}", hourly, entry["model_id"]))
    return _table(["Short name", "Layers × hidden size", "Cache per hour (float16)", "Hugging Face id"], rows)


def text_models_table() -> str:
    """Return the text encoders that have a short name."""
    from featcache.extractors.models import known_text_models

    rows = [
        (_code(name), f"{entry['num_layers']} × {entry['hidden_size']}", entry["model_id"])
        for name, entry in known_text_models().items()
    ]
    return _table(["Short name", "Layers × hidden size", "Hugging Face id"], rows)


def corpora_table() -> str:
    """Return the corpora with their classes, dimensional labels and published protocols."""
    from featcache.corpora import CORPORA

    rows = []
    for name, corpus in _builtin(CORPORA):
        dimensions = ", ".join(f"{label} {low:g} to {high:g}" for label, (low, high) in corpus.dimensions.items())
        protocols = ", ".join(_code(protocol) for protocol in corpus.protocols)
        classes = ", ".join(corpus.classes) or "as in the manifest"
        title = _cell(corpus.title)
        fetched = "yes" if corpus.download else "no"
        description = _cell(corpus.description)
        rows.append((_code(name), title, fetched, description, classes, dimensions or "-", protocols or "-"))
    header = ["Name", "Corpus", "Fetch", "Description", "Classes", "Dimensional labels", "Published protocols"]
    return _table(header, rows)


def description_fields_table() -> str:
    """Return the fields of the description of a corpus."""
    from featcache.corpora.description import CorpusDescription

    return _fields_table(CorpusDescription)


def table_fields_table() -> str:
    """Return the fields of a label file in the description of a corpus."""
    from featcache.corpora.description import LabelTable

    return _fields_table(LabelTable)


def download_fields_table() -> str:
    """Return the fields of a file that ``featcache fetch`` downloads, in the description of a corpus."""
    from featcache.corpora.downloads import RemoteFile

    return _fields_table(RemoteFile)


def _fields_table(part: Any) -> str:
    fields = part.model_fields.items()
    rows = [(_code(name), "yes" if one.is_required() else "no", _cell(one.description or "")) for name, one in fields]
    return _table(["Field", "Required", "Meaning"], rows)


def protocols_table() -> str:
    """Return the protocols of featcache and whether their test speakers are unseen."""
    from featcache.protocols import PROTOCOLS

    rows = [
        (_code(name), "yes" if one.speaker_independent else "not guaranteed", _cell(one.description))
        for name, one in _builtin(PROTOCOLS)
    ]
    return _table(["Protocol", "Test speakers unseen", "Description"], rows)


def head_options_table() -> str:
    """Return the options of the built-in heads that ``--set`` changes."""
    from featcache.heads import HEADS
    from featcache.settings.field import settings_of

    rows = []
    for name, head in _builtin(HEADS):
        for option, (field, about) in settings_of(head.spec.options).items():
            default = "see the text" if field.default is None else _code(str(field.default).lower())
            rows.append((_code(name), _code(option), default, _cell(about.help)))
    return _table(["Head", "Option", "Default", "Description"], rows)


def pipelines_table() -> str:
    """Return the pipelines that come with featcache."""
    from featcache.pipeline import read_pipeline, shipped_pipelines

    rows = []
    for name, path in shipped_pipelines().items():
        pipeline = read_pipeline(path)
        rows.append((_code(name), ", ".join(pipeline.corpus) or "any", _cell(pipeline.title), _cell(pipeline.paper)))
    return _table(["Pipeline", "Corpus", "Title", "Source"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "models": models_table,
    "text-models": text_models_table,
    "corpora": corpora_table,
    "description-fields": description_fields_table,
    "table-fields": table_fields_table,
    "download-fields": download_fields_table,
    "protocols": protocols_table,
    "head-options": head_options_table,
    "pipelines": pipelines_table,
}


def filled(markdown: str) -> str:
    """Return a page with its tables in the place of the markers, and without links to files outside the site."""
    return OUTSIDE.sub(r"`\1`", MARKER.sub(lambda match: TABLES[match[1]](), markdown))


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages of the commands to the site."""
    from mkdocs.structure.files import File

    for path, content in command_pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the tables of a page."""
    return filled(markdown)

"""Signatures, documentation, command line and YAML have exactly the options of the settings."""

import inspect
import re
from dataclasses import MISSING, dataclass, fields, make_dataclass

import pytest
import typer
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from featcache.cli.from_settings import command_of
from featcache.errors import ModelError
from featcache.fitting.probe import probe_stores
from featcache.fitting.relevance import layer_relevance
from featcache.pipeline.schema import RunSettings, StoreSpec
from featcache.prediction.loaded_run import LoadedRun
from featcache.settings.checked import configured, form_of
from featcache.settings.extractions import ExtractorFlags, ExtractSettings, TranscribeSettings
from featcache.settings.field import help_of, setting, settings_of
from featcache.settings.finetunings import NOT_IN_FINETUNING, BlockSettings, FinetuneSettings
from featcache.settings.fits import FitSettings, ProbeSettings, RelevanceSettings
from featcache.settings.predictions import PredictSettings
from featcache.settings.trials import PipelineSettings

FUNCTIONS = {
    "fit": (featcache.fit, FitSettings),
    "finetune": (featcache.finetune, FinetuneSettings),
    "extract": (featcache.extract, ExtractSettings, ExtractorFlags),
    "transcribe": (featcache.transcribe, TranscribeSettings),
    "run": (featcache.run_pipeline, PipelineSettings),
    "probe": (probe_stores, ProbeSettings),
    "relevance": (layer_relevance, RelevanceSettings),
    "predict": (LoadedRun.predict, PredictSettings),
}
# Parameters of functions that are not options of their command: arguments, and parameters for Python only.
OWN = {"home", "names", "pipeline", "listener", "self", "audio"}
# Settings of a command that are no options of it.
OMITTED = {"finetune": NOT_IN_FINETUNING}
COMMANDS = typer.main.get_command(app).commands


def options_of(*kinds):
    """Return name → default of the dataclasses."""
    found = {}
    for one in (one for kind in kinds for one in fields(kind)):
        found[one.name] = one.default_factory() if one.default_factory is not MISSING else one.default
    return found


@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_signature_repeats_the_settings(command):
    function, *kinds = FUNCTIONS[command]
    given = {name: one for name, one in inspect.signature(function).parameters.items() if name not in OWN}
    options = options_of(*kinds)
    assert set(given) == set(options) - set(OMITTED.get(command, ()))
    for kind in kinds:
        read = {name: given[name].default for name in options_of(kind) if name in given}
        made = configured(kind, read)
        usual = {name: one for name, one in options_of(kind).items() if name in given}
        assert usual == {name: getattr(made, name) for name in read}
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in given.values())


def test_a_sweep_takes_the_options_of_a_fit():
    of_fit = set(inspect.signature(featcache.fit).parameters) - {"head", "norm", "config"}
    assert set(inspect.signature(featcache.sweep).parameters) == of_fit | {"heads", "norms"}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_option_is_documented_with_the_help_text_of_the_command(command):
    function, *kinds = FUNCTIONS[command]
    documented = " ".join(function.__doc__.split())
    of_command = {one.name: one for one in COMMANDS[command].params}
    for kind in kinds:
        for name, (one, about) in settings_of(kind).items():
            if name in OMITTED.get(command, ()):
                continue
            assert about.help.endswith((".", "].")), name
            assert f"{name}: {' '.join(about.help.split())}" in documented
            assert of_command[name].help == help_of(one, about)
            assert about.above is None or f"above {about.above:g}" in about.help  # click cannot express such a bound
    of_its_own = {"pipeline", "stores", "out", "show", "help"} | {"run", "audio", "format", "plot"}
    assert set(of_command) - set(options_of(*kinds)) <= of_its_own


def _appending(called):
    def command(given):
        called.append(given)

    return command


@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_command_hands_on_what_is_given_alone_and_shows_the_defaults_of_the_function(command):
    function, *kinds = FUNCTIONS[command]
    called = []
    app = typer.Typer()
    app.command()(command_of(*kinds)(_appending(called)))
    runner = CliRunner()
    assert runner.invoke(app, []).exit_code == 0
    name = "corpus" if "corpus" in options_of(*kinds) else "layout"
    assert runner.invoke(app, [f"--{name}", "x"]).exit_code == 0
    assert called == [{}, {name: "x"}]
    of_function = inspect.signature(function).parameters
    for kind in kinds:
        for name, (one, about) in settings_of(kind).items():
            if name in OMITTED.get(command, ()):
                continue
            stated = re.search(r" \[default: (.*)\]\.$", help_of(one, about))
            if stated and "[default: " not in about.help:
                given = of_function[name].default
                assert stated[1] == f"--{name}" if given is True else type(given)(stated[1]) == given


def test_a_pipeline_takes_every_option_that_makes_another_run_or_store():
    made = {name for name, (_, about) in settings_of(FitSettings).items() if about.identity}
    of_blocks = {name for name, (_, about) in settings_of(BlockSettings).items() if about.identity}
    assert set(RunSettings.model_fields) == made - {"limit", "final"} | of_blocks | {"note"}
    of_store = {name for name, (_, about) in settings_of(ExtractSettings).items() if about.identity}
    assert set(StoreSpec.model_fields) == of_store | set(options_of(ExtractorFlags)) | {"run"}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_an_unknown_keyword_names_the_function_and_the_nearest_option(command):
    function, *kinds = FUNCTIONS[command]
    name = next(iter(options_of(*kinds)))
    with pytest.raises(
        TypeError, match=rf"^(featcache\.)?{function.__name__}\(\) has no option '{name}z'; did you mean"
    ):
        function(**{f"{name}z": 1})
    with pytest.raises(TypeError, match=r"has no option 'zzqq'; options: "):
        function(zzqq=1)


@pytest.mark.parametrize("given", [5, "f0_max", b"x", ["=1"]])
def test_options_of_an_extractor_are_told_in_one_line_in_python_too(given):
    with pytest.raises(ModelError, match=r"^set: .*expected NAME=VALUE"):
        featcache.extract(model="egemaps", set=given)


@dataclass(frozen=True, kw_only=True)
class Checking:
    even: int = setting(2, "Even number.")

    def __post_init__(self):
        if self.even % 2:
            raise ArithmeticError("it is\nodd")


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Checking, {"even": 3}, r"Checking does not accept these options \(ArithmeticError: it is odd\)"),
        (make_dataclass("Unread", [("a", "nowhere", 1)]), {}, r"Unread does not accept these options \(NameError: "),
        (make_dataclass("Strange", [("a", CliRunner, None)]), {}, r"Strange does not accept these options \(Pydantic"),
        (make_dataclass("Private", [("_a", int, 1)]), {"_a": 2}, r"Private does not accept these options"),
        (make_dataclass("Taken", [("model_config", int, 1)]), {}, r"an option cannot be called model_config"),
        (
            make_dataclass("Many", [(f"a{i}", int, 1) for i in range(999)]),
            {"zz": 1},
            r"available: a0, .* and 939 more$",
        ),
    ],
)
def test_what_is_wrong_with_options_from_outside_is_told_in_one_line(kind, given, message):
    with pytest.raises(ModelError, match=f"^head 'x': .*{message}") as error:
        configured(kind, given, "head 'x'")
    assert "\n" not in str(error.value)
    assert configured(Checking, {"even": "4"}).even == 4


@dataclass(frozen=True, kw_only=True)
class Example:
    number: float = setting(1.0, "Number.", above=0)
    count: int | None = setting(None, "Count.", minimum=1, maximum=9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"number": 0}, "head 'x': number takes a number above 0, got 0"),
        ({"number": "nan"}, "head 'x': number takes a finite number, got 'nan'"),
        ({"count": "10"}, "head 'x': count takes a number of at most 9, got '10'"),
        ({"count": "1.5"}, "head 'x': count takes one integer, got '1.5'"),
        ({"counts": 1}, "head 'x': no option 'counts'; did you mean 'count'?"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(given, message):
    with pytest.raises(ModelError) as caught:
        configured(Example, given, "head 'x'")
    assert str(caught.value) == message


def test_text_becomes_what_the_type_asks_for():
    made = configured(Example, {"number": "2", "count": None})
    assert made == Example(number=2.0)
    assert form_of(FitSettings.__annotations__["config"]) is None

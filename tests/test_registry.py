"""A reference can only use built-in parts, installed packages, and code that the user named."""

import hashlib
import sys
import threading
from pathlib import Path

import pytest

from featcache.errors import CorpusError, FeatcacheError
from featcache.installed import name_and_version
from featcache.registry import Registry, absolute, is_external, name_plugins, named_plugins
from tests.installed import forget, install, installed_in

GROUP = "featcache.test_shapes"
SHAPES = """
from tests.test_registry import Shape

class Square(Shape):
    corners = 4

class Stranger:
    corners = 0

SHAPE = Square()
"""
ALARM = "import pathlib\npathlib.Path(__file__).with_name('alarm').write_text('imported')\n"


class Shape:
    """The base class of these tests."""

    corners = 3


TRIANGLE = Shape()


@pytest.fixture
def folder(tmp_path):
    with installed_in(tmp_path / "site") as site:
        site.mkdir()
        yield site


@pytest.fixture
def instances():
    return Registry("shape", GROUP, {"triangle": TRIANGLE}, base=Shape, error=CorpusError, instances=True)


@pytest.fixture
def classes():
    builtin = {"shape": Shape, "later": "tests.test_registry:Shape"}
    return Registry("shape", GROUP, builtin, base=Shape, error=CorpusError)


def test_names_of_built_in_parts_come_first_and_need_no_import(instances, classes, folder):
    install(folder, "alarming", {"alarming": ALARM}, {GROUP: {"alarm": "alarming:SHAPE"}})
    assert list(instances) == ["triangle", "alarm"]
    assert len(instances) == 2
    assert "alarm" in instances
    assert instances["triangle"] is TRIANGLE
    assert instances.loaded() == {"triangle": TRIANGLE}
    assert not (folder / "alarm").exists()
    assert classes["later"] is Shape
    assert classes.loaded() == {"shape": Shape}


def test_entry_points_are_parts_and_their_package_is_recorded(instances, classes, folder):
    install(folder, "my-shapes", {"my_shapes": SHAPES}, {GROUP: {"square": "my_shapes:Square"}}, version="0.7")
    assert instances["square"].corners == 4  # A class is called.
    assert classes["square"].corners == 4
    assert classes.origin("square").settings() == {
        "reference": "square",
        "distribution": "my-shapes",
        "version": "0.7",
    }
    assert classes.origin("shape") is None
    assert classes.is_builtin("shape")
    assert not classes.is_builtin("square")


def test_a_built_in_name_wins_over_an_entry_point(instances, folder):
    install(folder, "thief", {"thief": ALARM}, {GROUP: {"triangle": "thief:SHAPE"}})
    assert instances["triangle"] is TRIANGLE
    assert list(instances) == ["triangle"]
    assert instances.origin("triangle") is None
    assert not (folder / "alarm").exists()


def test_of_two_packages_with_one_name_one_counts_and_is_recorded(instances, folder):
    install(folder, "first", {"first": SHAPES}, {GROUP: {"square": "first:SHAPE"}})
    install(folder, "second", {"second": SHAPES}, {GROUP: {"square": "second:SHAPE"}})
    assert list(instances) == ["triangle", "square"]
    module = type(instances["square"]).__module__
    assert instances.origin("square").distribution == module


@pytest.mark.parametrize(
    "reference",
    ["triangl", "os:system ", "os:", ":system", "../evil.py", "os.path", "a b:C", "x:y:z", "os:1", "-m:C", "", "\0:A"],
)
def test_what_is_no_reference_is_an_unknown_name(instances, reference):
    assert reference not in instances
    with pytest.raises(CorpusError, match=r"^no shape '"):
        instances.find(reference)
    with pytest.raises(KeyError):
        instances[reference]
    assert instances.get(reference) is None
    assert 3 not in instances


def test_a_module_is_never_imported_unless_it_is_named(instances, folder):
    install(folder, "alarming", {"alarming": ALARM + SHAPES})
    reference = "alarming:SHAPE"
    assert is_external(reference)
    assert reference not in instances
    with pytest.raises(CorpusError, match=r"a file may not decide .*--plugin alarming:SHAPE"):
        instances.find(reference)
    name_plugins(["alarming:Other", "alarmin", "dense"])
    assert reference not in instances
    assert not (folder / "alarm").exists()
    name_plugins([reference])
    assert reference in instances
    assert not (folder / "alarm").exists()  # This only checks whether the part may be used.
    assert instances[reference].corners == 4
    assert (folder / "alarm").exists()
    assert instances.origin(reference).settings() == {
        "reference": reference,
        "distribution": "alarming",
        "version": "1.2",
    }


def test_naming_a_module_allows_all_of_its_parts(instances, folder):
    install(folder, "shapes", {"shapes": SHAPES})
    name_plugins(["shapes"])
    assert instances["shapes:SHAPE"].corners == instances["shapes:Square"].corners == 4
    assert "shapes.more:SHAPE" not in instances


def test_a_file_is_known_by_its_name_from_another_folder(instances, folder, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(SHAPES)
    monkeypatch.chdir(tmp_path)
    name_plugins(["./mine.py:SHAPE"])
    assert instances["./mine.py:SHAPE"].corners == 4
    assert named_plugins()[-1] == f"{tmp_path / 'mine.py'}:SHAPE"
    assert absolute("./mine.py") == str(tmp_path / "mine.py")
    assert absolute("shapes:SHAPE") == "shapes:SHAPE"
    assert instances["elsewhere/mine.py:SHAPE"].corners == 4
    assert "elsewhere/other.py:SHAPE" not in instances
    assert "./mine.py:Square" not in instances
    digest = hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()
    assert instances.origin("./mine.py:SHAPE").settings() == {"reference": "./mine.py:SHAPE", "sha256": digest}


def test_a_file_that_is_named_stays_the_same_when_the_process_changes_its_folder(
    instances, folder, tmp_path, monkeypatch
):
    for name, code in (("mine", SHAPES), ("downloaded", ALARM + SHAPES)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shapes.py").write_text(code)
    monkeypatch.chdir(tmp_path / "mine")
    name_plugins(["./shapes.py"])
    monkeypatch.chdir(tmp_path / "downloaded")
    assert instances["./shapes.py:SHAPE"].corners == 4
    assert list(instances.available()) == ["triangle", "./shapes.py:SHAPE"]
    assert instances.origin("./shapes.py:SHAPE").sha256 == hashlib.sha256(SHAPES.encode()).hexdigest()
    assert named_plugins()[-1] == str(tmp_path / "mine" / "shapes.py")
    assert not (tmp_path / "downloaded" / "alarm").exists()


@pytest.mark.parametrize("given", [5, None, b"shapes:SHAPE", ["shapes", 5], [["shapes"]], Path("shapes.py"), object()])
def test_what_is_no_text_is_refused_and_leaves_nothing_behind(given):
    before = named_plugins()
    with pytest.raises(FeatcacheError, match=r"^expected package.module:Class.*found"):
        name_plugins(given)
    assert named_plugins() == before


def test_parts_are_looked_up_while_another_thread_names_more(instances, folder):
    def name_many():
        for number in range(3000):
            name_plugins(f"missing_{number}.py:SHAPE")

    thread = threading.Thread(target=name_many)
    thread.start()
    while thread.is_alive():
        assert "gone.py:SHAPE" not in instances
        named_plugins()
    thread.join()


def test_a_package_with_a_damaged_file_hides_no_other(instances, folder, caplog):
    install(folder, "shapes", {"shapes": SHAPES}, {GROUP: {"square": "shapes:SHAPE"}})
    install(folder, "damaged", {"damaged": SHAPES}, {GROUP: {"empty": "", "lost": "damaged:SHAPE"}})
    # importlib_metadata 9, once another package has loaded it, already refuses to read such a reference.
    with pytest.raises(CorpusError, match=r"of the package damaged cannot be imported|^no shape 'empty'"):
        instances.find("empty")
    (folder / "damaged-1.2.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[[[")
    forget()
    assert list(instances) == ["triangle", "square"]
    assert instances["square"].corners == 4
    assert "damaged: the package's entry points cannot be read" in caplog.text
    (folder / "shapes-1.2.dist-info" / "METADATA").unlink()
    (folder / "shapes.py").write_text("1 / 0")
    sys.modules.pop("shapes")
    forget()
    with pytest.raises(CorpusError, match="of the package shapes:SHAPE cannot be imported"):
        instances.find("square")


def test_a_changed_file_is_another_module(instances, folder, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SHAPES)
    name_plugins([str(path)])
    before = instances.origin(f"{path}:SHAPE").sha256
    path.write_text(SHAPES.replace("= 4", "= 5"))
    assert instances[f"{path}:SHAPE"].corners == 5
    assert instances.origin(f"{path}:SHAPE").sha256 != before
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import no_such_module_at_all", "cannot be imported .ModuleNotFoundError"),
        ("raise SystemError('a\\nb')", r"cannot be imported \(SystemError: a b\)"),
        ("def", "cannot be imported .SyntaxError"),
        ("import sys\nsys.exit(0)", r"cannot be imported \(SystemExit: 0\)"),
        ("x = 1", "has no 'SHAPE'"),
        ("SHAPE = 'a\\nb' * 100", "expected an instance of tests.test_registry.Shape"),
        ("from tests.test_registry import Shape\nclass SHAPE(Shape):\n    def __init__(self, n): ...", "without argum"),
        ("from tests.test_registry import Shape\nclass SHAPE(Shape):\n    def __init__(self): 1 / 0", "ZeroDivision"),
        (
            "from tests.test_registry import Shape\nclass SHAPE(Shape):\n    def __init__(self): exit(0)",
            "SystemExit: 0",
        ),
    ],
)
def test_broken_code_is_told_in_one_line(instances, folder, tmp_path, caplog, code, told):
    install(folder, "broken", {"broken": code}, {GROUP: {"broken": "broken:SHAPE"}})
    (tmp_path / "broken_file.py").write_text(code)
    reference = f"{tmp_path / 'broken_file.py'}:SHAPE"
    name_plugins([reference, "broken:SHAPE"])
    for one in (reference, "broken:SHAPE"):
        with pytest.raises(CorpusError, match=told) as error:
            instances.find(one)
        assert "\n" not in str(error.value)
    with pytest.raises(CorpusError) as error:
        instances.find("broken")
    assert "\n" not in str(error.value)
    assert instances.available() == {"triangle": TRIANGLE}  # The other parts can still be used.
    assert "it is ignored" in caplog.text


def test_classes_must_have_the_base(classes, folder):
    install(folder, "shapes", {"shapes": SHAPES})
    name_plugins(["shapes"])
    assert classes["shapes:Square"].corners == 4
    for attribute in ("Stranger", "SHAPE"):
        with pytest.raises(CorpusError, match=r"expected a subclass of tests.test_registry.Shape"):
            classes.find(f"shapes:{attribute}")


def test_a_missing_file_or_package_says_what_to_do(instances, folder):
    name_plugins(["./gone.py:SHAPE", "gone_package.shapes:SHAPE"])
    with pytest.raises(CorpusError, match=r"no such file .*/gone.py"):
        instances.find("./gone.py:SHAPE")
    with pytest.raises(CorpusError, match="install its package, or name its file"):
        instances.find("gone_package.shapes:SHAPE")


def test_all_available_parts_are_found_once(instances, folder, tmp_path):
    install(folder, "shapes", {"shapes": SHAPES}, {GROUP: {"square": "shapes:SHAPE"}})
    (tmp_path / "mine.py").write_text(SHAPES + "OTHER = SHAPE\n")
    name_plugins(["shapes:SHAPE", "dense", "shapes:Stranger", str(tmp_path / "mine.py")])
    found = instances.available()
    assert list(found) == ["triangle", "square", f"{tmp_path / 'mine.py'}:SHAPE"]
    assert list(instances.loaded())[:2] == ["triangle", "square"]


def test_mistakes_in_code_from_outside_are_told_and_those_of_featcache_are_not_hidden(instances):
    told = r"shape 'theirs' could not be drawn \(ValueError: no pen\)"
    with pytest.raises(CorpusError, match=told), instances.guarding("theirs", "be drawn"):
        raise ValueError("no\npen")
    with pytest.raises(ZeroDivisionError), instances.guarding("triangle", "be drawn"):
        _ = 1 / 0
    with pytest.raises(CorpusError, match=r"^as it is$"), instances.guarding("theirs", "be drawn"):
        raise CorpusError("as it is")


def test_installed_packages_are_looked_up_once(instances, folder):
    assert list(instances) == ["triangle"]
    install(folder, "shapes", {"shapes": SHAPES}, {GROUP: {"square": "shapes:SHAPE"}})
    assert "square" in instances
    (Path(folder) / "shapes-1.2.dist-info" / "entry_points.txt").write_text("")
    assert "square" in instances
    forget()
    assert "square" not in instances


def test_a_package_that_cannot_say_its_name_is_no_package():
    class Lost:
        @property
        def name(self):
            raise LookupError("No package metadata was found.")

    assert name_and_version(Lost()) == ("", "")

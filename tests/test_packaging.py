"""The wheel, as it is built."""

import email
import pathlib
import re
import zipfile

import pytest
from hatchling.builders.wheel import WheelBuilder

import gradtx

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("w")))
    with zipfile.ZipFile(path) as file:
        yield file


def metadata_of(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    return name


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert folders == {"gradtx", f"gradtx-{gradtx.__version__}.dist-info"}
    written = {path.relative_to(ROOT) for path in ROOT.glob("gradtx/**/*.py")}
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == {path.as_posix() for path in written}
    assert "gradtx/py.typed" in wheel.namelist()


def test_the_page_of_the_index_is_the_readme_without_relative_links(wheel):
    page = wheel.read(metadata_of(wheel)).decode().partition("\n\n")[2]
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", page) == []
    readme = (ROOT / "README.md").read_text()
    lines = [line for line in readme.splitlines() if not line.startswith("![")]
    assert [*filter(None, page.splitlines())] == [*filter(None, lines)]


def test_the_index_knows_what_the_package_is_for(wheel):
    fields = email.message_from_bytes(wheel.read(metadata_of(wheel)))
    assert fields["Name"] == "gradtx" and fields["Author"]
    assert fields["Description-Content-Type"] == "text/markdown"
    assert "optax" in fields["Keywords"].split(",")
    assert "Typing :: Typed" in fields.get_all("Classifier", [])
    required = [it for it in fields.get_all("Requires-Dist", []) if "extra" not in it]
    assert sorted(re.split(r"[<>=]", it)[0] for it in required) == ["jax", "optax"]

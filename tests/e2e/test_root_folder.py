"""A --root that is no folder is a mistake on the command line, and named."""

import pytest

from tests.support.cli import Bayplan
from tests.support.manifests import HEAD

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("below", ["", "x"])
@pytest.mark.parametrize("words", ["status", "doctor", "ps", "apply -f -", "delete -p test"])
def test_a_file_is_no_root(tmp_path, words, below):
    file = tmp_path / "file"
    file.write_text("")
    root = file / below
    said = Bayplan(root)(*words.split(), stdin=HEAD, code=64).stderr
    assert said.startswith(f"bayplan: --root {root}: not a folder\n")


@pytest.mark.parametrize("words", ["apply -f -", "doctor --mend"])
def test_nor_is_what_cannot_be_made(words):
    said = Bayplan("/proc/x")(*words.split(), stdin=HEAD, code=64).stderr
    assert said.startswith("bayplan: --root /proc/x: cannot be made: ")

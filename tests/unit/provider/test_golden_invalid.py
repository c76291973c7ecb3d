"""Every way of being wrong we know: tests/golden/invalid/<case>, what is said in error.txt.

A case is a folder of manifests, read as a whole; ``values`` and ``secret-values`` beside them are
for its templates. ``pytest --update-golden`` rewrites error.txt; review the difference.
"""

import shutil
from pathlib import Path

import pytest

from provider.manifest.files import SourceFile, read_files
from provider.manifest.source import read_sources
from provider.manifest.template import Template
from provider.manifest.validate import validate
from provider.manifest.values import read_values

GOLDEN = Path(__file__).parents[2] / "golden" / "invalid"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def _values(name: str) -> dict[str, object]:
    file = Path(name)
    if not file.exists():
        return {}
    values, problems = read_values(files=[SourceFile(name, file.read_bytes())])
    assert not problems
    return values


@pytest.mark.parametrize("case", CASES)
def test_says_what_is_wrong_where_and_what_to_write(
    case: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(GOLDEN / case, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    files = read_files(["."])
    template = Template(_values("values"), secrets=_values("secret-values"))
    reading = read_sources(files.files, renderer=template)
    problems = (*files.problems, *reading.problems, *validate(reading.documents))
    said = "".join(f"{problem}\n" for problem in problems)

    expected = GOLDEN / case / "error.txt"
    if request.config.getoption("--update-golden"):
        expected.write_text(said)
    assert said == expected.read_text()
    assert said, "a case of golden/invalid must be invalid"

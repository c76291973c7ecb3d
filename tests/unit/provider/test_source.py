"""YAML to documents: what scalars are, where things are, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.errors import ManifestError, Origin
from provider.manifest.document import Document, Reading, TreePath, dotted
from provider.manifest.files import SourceFile, read_files
from provider.manifest.source import parse_value, read_sources


def read(text: str | bytes) -> Reading:
    content = text.encode() if isinstance(text, str) else text
    return read_sources([SourceFile("f.yaml", content)])


def document(text: str) -> Document:
    reading = read(text)
    assert not reading.problems, reading.problems
    (found,) = reading.documents
    return found


def said(text: str | bytes) -> list[str]:
    return [str(problem) for problem in read(text).problems]


class TestScalars:
    @pytest.mark.parametrize(
        "text",
        [
            "no", "yes", "on", "off", "y", "n", "NO", "12:30", "1:20:30", "1_000", "0x1F", "0o17",
            "0b11", "2024-01-01", "2024-01-01T10:00:00Z", ".inf", "-.inf", ".nan", "1e", "+",
            ".", "1.2.3", "-x", "=", "1 2", "nUll", "tRue", "٣",
        ],
    )  # fmt: skip
    def test_text(self, text: str) -> None:
        assert document(f"a: {text}").tree == {"a": text}

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("", None), ("~", None), ("null", None), ("Null", None),
            ("true", True), ("True", True), ("FALSE", False),
            ("0", 0), ("-1", -1), ("+5", 5), ("123456789012345678", 123456789012345678),
            ("1.5", 1.5), (".5", 0.5), ("-1.5e-3", -0.0015), ("3.0", 3), ("1e3", 1000), ("-0", 0),
        ],
    )  # fmt: skip
    def test_typed(self, text: str, value: object) -> None:
        (found,) = document(f"a: {text}").tree.values()
        assert found == value
        assert type(found) is type(value)

    def test_quoted_or_tagged_is_text(self) -> None:
        text = "a: '022'\nb: \"true\"\nc: !!str 1\nd: ! 2\ne: |\n  3\n"
        assert document(text).tree == {"a": "022", "b": "true", "c": "1", "d": "2", "e": "3\n"}

    @pytest.mark.parametrize(
        ("text", "advice"),
        [
            ("022", 'quote it ("022"), or write 18'),
            ("-010", 'quote it ("-010"), or write -8'),
            ("089", 'quote it ("089"), or drop the zero'),
            ("00", 'quote it ("00"), or write 0'),
            ("0" + "7" * 5000, f'quote it ("0{"7" * 5000}"), or drop the zero'),
        ],
    )
    def test_leading_zero(self, text: str, advice: str) -> None:
        assert said(f"a: {text}") == [f"f.yaml:1:4: a number with a leading zero; {advice}"]

    @pytest.mark.parametrize("text", ["1" * 30, "1e999", "9" * 5000])
    def test_too_large(self, text: str) -> None:
        assert said(f"a: {text}") == ["f.yaml:1:4: a number too large to be kept exactly; quote it"]

    def test_numbers_and_booleans_remember_their_text(self) -> None:
        found = document("a: 1.10\nb: True\nc: 7\nd: true\ne: 3.0\nf: 1e3")
        texts = {key: found.text((key,), value) for key, value in found.tree.items()}
        assert texts == {"a": "1.10", "b": "True", "c": "7", "d": "true", "e": "3.0", "f": "1e3"}


class TestKeys:
    def test_are_text_as_written(self) -> None:
        found = document("on: 1\n8080: 2\ntrue: 3\n~: 4\n022: 5\n1.10: 6")
        assert list(found.tree) == ["on", "8080", "true", "~", "022", "1.10"]

    def test_twice_tells_both_places_and_keeps_the_first(self) -> None:
        reading = read("a: 1\nb:\n  c: 1\n  c: {d: [2]}\na: 3\ne: 4\n")
        assert [str(problem) for problem in reading.problems] == [
            "f.yaml:4:3: key `c` comes twice; it is at f.yaml:3:3 already",
            "f.yaml:5:1: key `a` comes twice; it is at f.yaml:1:1 already",
        ]
        assert reading.documents[0].tree == {"a": 1, "b": {"c": 1}, "e": 4}

    def test_must_be_text(self) -> None:
        assert "a key must be text" in said("? [a]\n: 1\n")[0]
        assert "a key must be text" in said("a: {{ b }}\n")[0]
        assert "an empty key" in said("'': 1\n")[0]


class TestPlaces:
    TEXT = "kind: X\nspec:\n  list:\n  - a\n  - {b: c,\n     d: e}\n"

    def test_every_node_has_one(self) -> None:
        found = document(self.TEXT)
        places = {dotted(path): str(origin)[7:] for path, origin in found.positions.items()}
        assert places == {
            "": "1:1",
            "kind": "1:1",
            "spec": "2:1",
            "spec.list": "3:3",
            "spec.list[0]": "4:5",
            "spec.list[1]": "5:5",
            "spec.list[1].b": "5:6",
            "spec.list[1].d": "6:6",
        }

    def test_of_values(self) -> None:
        positions = document(self.TEXT).positions
        assert positions.value(("kind",)) == Origin("f.yaml", 1, 7)
        assert positions.value(("spec", "list", 1, "d")) == Origin("f.yaml", 6, 9)

    def test_nearest(self) -> None:
        positions = document(self.TEXT).positions
        assert positions.nearest(("spec", "list", 9, "x")) == Origin("f.yaml", 3, 3)
        assert positions.nearest(("nothing",)) == Origin("f.yaml", 1, 1)

    def test_count_over_documents_and_errors(self) -> None:
        reading = read("# one\nkind: A\n---\n\nkind: [\n---\nkind: B\n--- \nkind: C\n")
        assert [(d.kind, d.origin.line) for d in reading.documents] == [
            ("A", 2),
            ("B", 7),
            ("C", 9),
        ]
        assert [str(problem) for problem in reading.problems] == [
            "f.yaml:6:1: a value is missing here, inside of `[ ]` or `{ }`"
        ]


class TestDocuments:
    def test_say_what_they_are(self) -> None:
        found = document("apiVersion: v\nkind: Job\nmetadata: {name: x}\n")
        assert (found.kind, found.api_version, found.name) == ("Job", "v", "x")
        assert found.path == "f.yaml"

    def test_words_of_the_wrong_type_are_no_words(self) -> None:
        found = document("kind: [Job]\nmetadata: x\napiVersion: 1\n")
        assert (found.kind, found.api_version, found.name) == ("", "", "")

    def test_empty_ones_are_passed_over(self) -> None:
        reading = read("---\n# nothing\n---\nkind: A\n---\n---\n")
        assert [d.kind for d in reading.documents] == ["A"]
        assert not reading.problems

    @pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
    def test_file_without_any(self, text: str) -> None:
        assert said(text) == ["f.yaml: the file holds no document"]

    def test_must_be_mappings(self) -> None:
        assert said("- a\n") == [
            "f.yaml:1:1: a document must be a mapping; begin with `apiVersion:`"
        ]

    def test_one_bad_file_does_not_hide_another(self) -> None:
        files = [SourceFile("a.yaml", b"a: ["), SourceFile("b.yaml", b"kind: B")]
        reading = read_sources(files)
        assert [d.kind for d in reading.documents] == ["B"]
        assert len(reading.problems) == 1


class TestAliases:
    def test_stand_for_the_value_at_its_place(self) -> None:
        found = document("a: &x {b: [1, 1.10]}\nc: *x\nd: [*x]\n")
        assert found.tree["c"] == found.tree["d"][0] == {"b": [1, 1.1]}
        assert found.positions[("c",)] == Origin("f.yaml", 2, 1)
        assert found.positions[("c", "b", 1)] == Origin("f.yaml", 1, 15)
        assert found.text(("d", 0, "b", 1), 1.1) == "1.10"

    def test_nested(self) -> None:
        found = document("a: &x [1]\nb: &y [*x, 2]\nc: {d: *y}\n")
        assert found.tree["c"] == {"d": [[1], 2]}
        assert found.positions[("c", "d", 0, 0)] == Origin("f.yaml", 1, 8)

    def test_merge_keys(self) -> None:
        found = document(
            "base: &base {a: 1, b: {c: 2}}\nmore: &more {a: 3, d: 4}\n"
            "one: {<<: *base, b: 5}\ntwo: {<<: [*more, *base]}\n"
        )
        assert found.tree["one"] == {"a": 1, "b": 5}
        assert found.tree["two"] == {"a": 3, "b": {"c": 2}, "d": 4}
        assert found.positions[("one", "a")] == Origin("f.yaml", 1, 14)
        assert found.positions[("two", "b", "c")] == Origin("f.yaml", 1, 24)

    def test_every_place_has_a_node_and_every_node_a_place(self) -> None:
        found = document("a: &x {b: &y [1], <<: {z: *y}}\nc: {<<: [*x, {<<: *x, q: *y}]}\nd: *x")
        assert set(found.positions) == set(paths(found.tree))

    def test_merge_of_something_else(self) -> None:
        assert said("a: {<<: 1}") == ["f.yaml:1:5: `<<` takes a mapping, or a list of them"]

    def test_quoted_merge_key_is_a_key(self) -> None:
        assert document("'<<': 1").tree == {"<<": 1}

    def test_undefined_and_recursive(self) -> None:
        assert said("a: *x") == ["f.yaml:1:4: alias *x without &x before it"]
        assert said("a: &x [*x]") == ["f.yaml:1:8: alias *x inside what it names"]
        assert said("a: &x 1\n---\nb: *x") == ["f.yaml:3:4: alias *x without &x before it"]

    def test_bombs_are_bounded(self) -> None:
        lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
        (message,) = said("\n".join(lines))
        assert message.startswith("f.yaml:5:")
        assert message.endswith("aliases stand for more than 100000 values")

    def test_bombs_of_merges_are_bounded(self) -> None:
        lines = ["a0: &a0 {k: 1}"]
        lines += [f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 40)]
        assert "aliases stand for more than" in said("\n".join(lines))[0]

    @pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "{a: " * 100_000, "- " * 100_000])
    def test_depth_is_bounded(self, text: str) -> None:
        assert "nested deeper than 64 levels" in said(text)[0]

    def test_depth_is_bounded_through_aliases(self) -> None:
        deep = "[" * 40 + "]" * 40
        assert "nested deeper" in said(f"a: &x {deep}\nb: {'[' * 40}*x{']' * 40}")[0]


def paths(node: object, at: TreePath = ()) -> list[TreePath]:
    found = [at]
    if isinstance(node, dict):
        return found + [p for key, value in node.items() for p in paths(value, (*at, key))]
    if isinstance(node, list):
        return found + [p for i, value in enumerate(node) for p in paths(value, (*at, i))]
    return found


class TestText:
    def test_byte_order_mark_and_windows_lines(self) -> None:
        found = document("\ufeffkind: A\r\nspec:\r\n  a: b\r\n")
        assert found.tree == {"kind": "A", "spec": {"a": "b"}}
        assert found.positions[("spec", "a")] == Origin("f.yaml", 3, 3)

    def test_columns_count_characters(self) -> None:
        assert document("{ä€😀: {b: c}}").positions[("ä€😀", "b")] == Origin("f.yaml", 1, 8)

    def test_json(self) -> None:
        tree = {"kind": "A", "data": {"a": 'tab\t"quote" \\ud83d / é 😀', "b": [1, None, True]}}
        for indent in (None, 1, "\t"):
            for ascii_only in (True, False):
                text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
                assert document(text).tree == tree


class TestParseValue:
    def test_typed_as_in_manifests(self) -> None:
        origin = Origin("--set", note="a")
        assert parse_value("2", origin=origin) == 2
        assert parse_value("no", origin=origin) == "no"
        assert parse_value("[a, {b: 1}]", origin=origin) == ["a", {"b": 1}]

    def test_what_is_wrong_is_said_of_the_option(self) -> None:
        with pytest.raises(ManifestError, match=r"--set \(a\): a number with a leading zero"):
            parse_value("022", origin=Origin("--set", note="a"))


class TestFiles:
    def test_folders_are_read_in_order(self, tmp_path: Path) -> None:
        for name in (
            "b.yaml", "a.yml", "c.json", "d.yaml.j2", "sub/e.yaml", ".hidden.yaml", ".git/f.yaml",
            "overlays/prod/g.yaml", "notes.txt", "values.yaml", "sub/overlays/h.yaml",
        ):  # fmt: skip
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("kind: A")
        found = read_files([str(tmp_path)], exclude=[str(tmp_path / "values.yaml")])
        names = [str(Path(file.path).relative_to(tmp_path)) for file in found.files]
        assert names == ["a.yml", "b.yaml", "c.json", "d.yaml.j2", "sub/e.yaml"]
        assert [file.template for file in found.files] == [False, False, False, True, False]
        assert not found.problems

    def test_each_file_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("kind: A")
        (tmp_path / "b.yaml").symlink_to("a.yaml")
        (tmp_path / "up").symlink_to(".")
        found = read_files([str(tmp_path), str(tmp_path / "a.yaml")])
        assert len(found.files) == 1

    def test_an_overlay_folder_can_be_named(self, tmp_path: Path) -> None:
        (tmp_path / "overlays").mkdir()
        (tmp_path / "overlays" / "a.yaml").write_text("kind: A")
        assert len(read_files([str(tmp_path / "overlays")]).files) == 1

    def test_what_cannot_be_read_is_said(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        (tmp_path / "gone.yaml").symlink_to("nowhere")
        found = read_files(
            [str(tmp_path / "no.yaml"), str(empty), str(tmp_path / "gone.yaml"), "-"]
        )
        assert [str(problem).replace(str(tmp_path), "") for problem in found.problems] == [
            "/no.yaml: no such file or folder",
            "/empty: no manifests in this folder (*.yaml, *.yml, *.json, *.yaml.j2)",
            "/gone.yaml: no such file or folder",
            "-: standard input is not at hand",
        ]

    def test_standard_input(self) -> None:
        found = read_files(["-", "-"], stdin=b"kind: A", stdin_template=True)
        assert found.files == (SourceFile("-", b"kind: A", template=True),)
        (document,) = read_sources(read_files(["-"], stdin=b"a: 1").files).documents
        assert str(document.origin) == "-:1:1"


yamlish = st.lists(
    st.sampled_from(
        [
            "a", "b", "kind", ": ", ":", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ",
            "&x ", "*x", "<<: ", "'", '"', "|\n", ">\n", "# c", "\n---\n", "--- ", "\n...\n", "!t ",
            "!!str ", "022", "1.10", "~", "true", "? ", "%", "@", "\t", "\r\n", "\\u", "é",
            "{{ x }}", "\x07", "😀", "\ufeff", "\u2028",
        ]
    ),
    max_size=25,
).map("".join)  # fmt: skip


class TestAnything:
    @settings(max_examples=300, deadline=None)
    @given(text=yamlish | st.text(st.characters(exclude_categories=["Cs"])))
    def test_is_read_or_complained_about(self, text: str) -> None:
        reading = read(text)
        assert reading.documents or reading.problems
        for found in reading.documents:
            json.dumps(found.tree, allow_nan=False)
            assert set(found.positions) == set(paths(found.tree))
        last = len(text.splitlines()) + 1
        for problem in reading.problems:
            assert problem.origin is not None
            assert 0 <= problem.origin.line <= last

    @settings(max_examples=100, deadline=None)
    @given(content=st.binary(max_size=40))
    def test_bytes_too(self, content: bytes) -> None:
        reading = read(content)
        assert reading.documents or reading.problems

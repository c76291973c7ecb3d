"""Templates: what they may do, where their output came from, and where secrets went."""

import re
from pathlib import Path
from typing import Any

import pytest

from provider.errors import Origin, Problem
from provider.manifest.document import Reading
from provider.manifest.files import SourceFile
from provider.manifest.source import Rendered, read_sources
from provider.manifest.template import Content, Template
from provider.manifest.template.loader import Environment, Loader
from provider.manifest.template.undefined import Undefined
from provider.manifest.values import read_values
from provider.model.secret import SecretValue

VALUES: dict[str, Any] = {
    "port": 8080,
    "names": ["a", "b"],
    "db": {"host": "h", "user": "u"},
    "nothing": None,
    "on": True,
    "lines": "x\ny",
}


def render(
    text: str, *, path: str = "f.yaml.j2", secrets: Any = None
) -> Rendered | tuple[Problem, ...]:
    return Template(VALUES, secrets=secrets).render(SourceFile(path, text.encode(), template=True))


def rendered(text: str, *, path: str = "f.yaml.j2") -> Rendered:
    found = render(text, path=path)
    assert isinstance(found, Rendered), found
    return found


def problem(text: str, *, path: str = "f.yaml.j2") -> str:
    """Return the one problem *text* has."""
    found = render(text, path=path)
    assert isinstance(found, tuple)
    (only,) = found
    return str(only)


def places(text: str, *, path: str = "f.yaml.j2") -> list[tuple[str, int, str]]:
    """Return each output line that is not blank, the template's line, and the loop item."""
    found = rendered(text, path=path)
    return [
        (line.strip(), found.lines.origin(number).line, found.lines.origin(number).note)
        for number, line in enumerate(found.text.split("\n"), 1)
        if line.strip()
    ]


def read(text: str, secrets: Any = None) -> Reading:
    file = SourceFile("f.yaml.j2", text.encode(), template=True)
    return read_sources([file], renderer=Template(VALUES, secrets=secrets))


FILTERS = sorted(Environment(Loader(None, {}, marked=False), str, Undefined).filters)


def found_at(expression: str) -> str:
    """Return what is said of ``z``, which is undefined."""
    column = len("a: {{ ") + re.search(r"\bz\b", expression).start() + 1  # type: ignore[union-attr]  # it is there
    return f"f.yaml.j2:1:{column}: `z` is undefined; give it with --set z=... or --values"


class TestOutput:
    def test_is_yaml_not_python(self) -> None:
        text = "a: {{ names }}\nb: {{ db }}\nc: {{ nothing }}\nd: {{ on }}\ne: {{ port }}\n"
        (document,) = read(text).documents
        assert document.tree == {
            "a": ["a", "b"],
            "b": {"host": "h", "user": "u"},
            "c": None,
            "d": True,
            "e": 8080,
        }

    def test_statements_leave_no_lines(self) -> None:
        text = "a:\n  {% for n in names %}\n  - {{ n }}\n  {% endfor %}\nb: 1\n"
        assert rendered(text).text == "a:\n  - a\n  - b\nb: 1\n"

    def test_may_be_nothing(self) -> None:
        reading = read("{% if not on %}\nkind: A\n{% endif %}\n")
        assert reading == Reading()

    def test_is_the_same_every_time(self) -> None:
        assert "no filter named 'random'" in str(render("{{ names | random }}"))
        assert "lipsum" in str(render("{{ lipsum() }}"))


class TestPlaces:
    def test_of_loops_and_conditions(self) -> None:
        text = (
            "a: 1\n{% for n in names %}\n---\nkind: {{ n }}\n{% if n == 'b' %}\nspec: 2\n"
            "{% endif %}\nitems:\n{% for i in [7, 8] %}\n- {{ i }}\n{% endfor %}\n"
            "{% endfor %}\nz: 9\n"
        )
        assert places(text) == [
            ("a: 1", 1, ""),
            ("---", 3, "loop item 1"),
            ("kind: a", 4, "loop item 1"),
            ("items:", 8, "loop item 1"),
            ("- 7", 10, "loop item 1.1"),
            ("- 8", 10, "loop item 1.2"),
            ("---", 3, "loop item 2"),
            ("kind: b", 4, "loop item 2"),
            ("spec: 2", 6, "loop item 2"),
            ("items:", 8, "loop item 2"),
            ("- 7", 10, "loop item 2.1"),
            ("- 8", 10, "loop item 2.2"),
            ("z: 9", 13, ""),
        ]

    def test_of_values_with_lines(self) -> None:
        text = "a: |\n  {{ lines | indent(2) }}\nb: 1\n"
        assert places(text) == [("a: |", 1, ""), ("x", 2, ""), ("y", 2, ""), ("b: 1", 3, "")]

    def test_of_stripped_white_space_comments_and_raw(self) -> None:
        text = (
            "{# c\nc #}\na: 1\n{%- if on -%}\n\n, b: 2\n{% endif %}\n"
            "{% raw %}\nc: {{ x }}\n{% endraw %}"
        )
        assert places(text) == [("a: 1, b: 2", 3, ""), ("c: {{ x }}", 9, "")]

    def test_of_macros_are_their_callers(self) -> None:
        text = (
            "{% macro m(x) %}\np: {{ x }}\nq: 1\n{% endmacro %}\n"
            "{{ m(1) }}\nz: {{ m(2) | length }}\n"
        )
        assert places(text) == [("p: 1", 5, ""), ("q: 1", 5, ""), ("z: 10", 6, "")]

    def test_of_captured_blocks_are_their_users(self) -> None:
        text = (
            "{% set s %}{% for n in names %}{{ n }}{% endfor %}{% endset %}\n"
            "a: {{ s | upper }}\n{% filter upper %}\nb\n{% endfilter %}\n"
        )
        assert [row[:2] for row in places(text)] == [("a: AB", 2), ("B", 3)]

    def test_loops_with_else_conditions_and_nesting(self) -> None:
        text = (
            "{% for n in [] %}\nx\n{% else %}\ne: 1\n{% endfor %}\n"
            "{% for n in names if n == 'b' %}\n{{ loop.index }}: {{ n }}\n{% endfor %}\nz: 1\n"
        )
        assert places(text) == [("e: 1", 4, ""), ("1: b", 7, "loop item 1"), ("z: 1", 9, "")]

    def test_of_branches_and_scopes(self) -> None:
        text = (
            "{% if not on %}\nx\n{% elif on %}\n{% for n in names %}\na: {{ n }}\n{% endfor %}\n"
            "{% else %}\ny\n{% endif %}\n{% with z = 1 %}\nz: {{ z }}\n{% endwith %}\n"
        )
        assert places(text) == [
            ("a: a", 5, "loop item 1"),
            ("a: b", 5, "loop item 2"),
            ("z: 1", 11, ""),
        ]

    def test_included_files(self, tmp_path: Path) -> None:
        (tmp_path / "part.j2").write_text("\np: {{ port }}\n")
        path = str(tmp_path / "f.yaml.j2")
        found = rendered("a: 1\n{% include 'part.j2' %}\nb: 2\n", path=path)
        lines = zip(found.text.split("\n"), found.lines.origins, strict=True)
        assert [(line, origin.path, origin.line) for line, origin in lines if line] == [
            ("a: 1", path, 1),
            ("p: 8080", str(tmp_path / "part.j2"), 2),
            ("b: 2", path, 3),
        ]

    def test_reach_the_problems_of_the_reader(self) -> None:
        problems = read("{% for n in names %}\n{{ n }}: 1\nx{{ n }}: 022\n{% endfor %}").problems
        advice = 'a number with a leading zero; quote it ("022"), or write 18'
        assert [str(problem) for problem in problems] == [
            f"f.yaml.j2:3 (loop item 1): {advice}",
            f"f.yaml.j2:3 (loop item 2): {advice}",
        ]


class TestProblems:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a: 1\nb: {{ prt }}", "f.yaml.j2:2:7: `prt` is undefined; did you mean `port`?"),
            ("{{ db.hots }}", "f.yaml.j2:1:4: `db.hots` is undefined; did you mean `host`?"),
            ("{{ db['hots'] }}", "f.yaml.j2:1:4: `db['hots']` is undefined; did you mean `host`?"),
            (
                "{{ zzz }}",
                "f.yaml.j2:1:4: `zzz` is undefined; give it with --set zzz=... or --values",
            ),
            ("{{ port.x }}", "f.yaml.j2:1:4: `port.x` is undefined"),
            (
                "\n{% for n in names %}\n{% if n == 'b' %}{{ nme }}{% endif %}\n{% endfor %}",
                "f.yaml.j2:3:21 (loop item 2): `nme` is undefined; did you mean `names`?",
            ),
            ("{{ 1 / 0 }}", "f.yaml.j2:1: template: division by zero"),
            ("a\n{{ 1 + 'a' }}", "f.yaml.j2:2: template: unsupported operand"),
            ("a\n{% if %}", "f.yaml.j2:2: template: expected an expression"),
            ("a\n{% endif %}", "f.yaml.j2:2: template: encountered unknown tag 'endif'"),
            ("a\n\x00", "f.yaml.j2:2:1: control character U+0000"),
            ("{{ ''.__class__ }}", "f.yaml.j2:1: template: access to attribute '__class__'"),
            ("{{ names.append(1) }}", "f.yaml.j2:1: template: "),
            ("{{ range(10 ** 9) | list }}", "f.yaml.j2:1: template: range too big"),
        ],
    )
    def test_have_a_place(self, text: str, expected: str) -> None:
        assert problem(text).startswith(expected)

    def test_every_undefined_name_is_told_once(self) -> None:
        found = render(
            "{{ a.b }}\n{% for n in names %}\n{{ n }}{{ c + 1 }}{{ db.d }}\n{% endfor %}\n"
            "{% for e in f %}{{ e.x }}{% endfor %}{{ g | int }}{{ h | default(1) }}\n"
            "{% if i == 1 or i in names %}{{ j }}{% endif %}{{ k[0](1) ~ 2 }}{{ c }}\n"
        )
        assert isinstance(found, tuple)
        assert [str(each).partition(" is")[0] for each in found] == [
            "f.yaml.j2:1:4: `a`",
            "f.yaml.j2:3:11 (loop item 1): `c`",
            "f.yaml.j2:3:22 (loop item 1): `db.d`",
            "f.yaml.j2:5:13: `f`",
            "f.yaml.j2:5:41: `g`",
            "f.yaml.j2:6:7: `i`",
            "f.yaml.j2:6:51: `k`",
            "f.yaml.j2:6:68: `c`",
        ]

    def test_what_fails_for_an_undefined_name_is_not_told(self) -> None:
        assert "`x` is undefined" in problem("{{ range(10) | batch(x) | list }}")

    @pytest.mark.parametrize(
        "expression",
        [
            *(f"z | {name}" for name in FILTERS),
            *(
                "'a' | center(z)",
                "5 | round(z)",
                "'%d' | format(z)",
                "'%r' | format(z)",
                "'%x' | format(z)",
            ),
            *("range(z)", "dict(z)", "dict(**z)", "'abc'[:z]", "[1, 2][z]", "{'a': 1}[z]", "z[0]"),
            *("z in 'abc'", "'abc'.split(z)", "'abc'.startswith(z)", "'a'.replace('a', z)"),
            *("z + 1", "'a' * z", "z is divisibleby 2", "z is sameas 1", "-z", "not z", "z()"),
        ],
    )
    def test_an_undefined_name_is_called_that_whatever_is_done_with_it(
        self, expression: str
    ) -> None:
        found = render(f"a: {{{{ {expression} }}}}")
        if isinstance(found, Rendered):  # as with `default`
            assert "Undefined" not in found.text
            return
        said = [str(each) for each in found]
        # Filters that need something more say so first.
        assert said == [found_at(expression)] or "missing" in said[0]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "{% for i in range(n) %}{% endfor %}",
                "text cannot be interpreted as an integer; `n` is text: give a number, or write "
                "`n | int`",
            ),
            ("{{ n + 1 }}", "can only concatenate text (not a number) to text; `n` is text"),
            (
                "{{ 1\n - m.n }}",
                "unsupported operand type(s) for -: a number and text; `m.n` is text",
            ),
            ("{% for x in k %}{% endfor %}", "a number is not iterable; `k` is a number"),
            ("{% for q in [n] %}{{ q | round }}{% endfor %}", "`q` is text"),
            ("{{ m['n'] < k }}", "`m['n']` is text, `k` is a number"),
        ],
    )
    @pytest.mark.parametrize("secret", [None, "other", "all"])
    def test_what_is_of_the_wrong_sort_is_named(
        self, text: str, said: str, secret: str | None
    ) -> None:
        values = {"n": "hunter2", "k": 777, "m": {"n": "hunter2"}}
        plain, hidden = ({}, values) if secret == "all" else (values, {"x": "y"} if secret else {})
        file = SourceFile("f.yaml.j2", text.encode(), template=True)
        found = Template(plain, secrets=hidden).render(file)
        assert isinstance(found, tuple)
        (problem,) = map(str, found)
        assert problem.endswith(said)
        assert problem.startswith("f.yaml.j2:1")
        assert not [word for word in ("hunter2", "777") if word in problem]

    def test_in_an_imported_macro(self, tmp_path: Path) -> None:
        (tmp_path / "m.j2").write_text("{% macro m() %}\n{{ oops }}\n{% endmacro %}")
        path = str(tmp_path / "f.yaml.j2")
        found = problem("{% from 'm.j2' import m %}\n{{ m() }}", path=path)
        assert found.startswith(f"{tmp_path}/m.j2:2:4: `oops` is undefined")

    @pytest.mark.parametrize("name", ["../out.j2", "/etc/hostname", "link.j2", "up/out.j2", ".."])
    def test_nothing_outside_of_the_folder_is_read(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (tmp_path / "out.j2").write_text("secret")
        (folder / "link.j2").symlink_to("../out.j2")
        (folder / "up").symlink_to("..")
        found = problem(f"{{% include '{name}' %}}", path=str(folder / "f.yaml.j2"))
        assert "secret" not in found

    def test_standard_input_includes_nothing(self) -> None:
        assert "can include no files" in problem("{% include 'a' %}", path="-")

    def test_missing_include(self, tmp_path: Path) -> None:
        found = problem("a\n{% include 'a.j2' %}", path=str(tmp_path / "f.yaml.j2"))
        expected = f"{tmp_path}/f.yaml.j2:2: template: cannot read {tmp_path}/a.j2: No such file"
        assert found.startswith(expected)

    def test_included_files_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.j2").write_text("x")
        template = Template({})
        text = b"{% include 'a.j2' %}"
        template.render(SourceFile(str(tmp_path / "f.yaml.j2"), text, template=True))
        assert template.included == {str(tmp_path / "a.j2"): b"x"}


SECRETS: dict[str, Any] = {
    "pw": 'p: "x # 022\n  z',
    "pin": "0022",
    "number": 5,
    "flag": True,
    "list": ["u1", "u2"],
    "db": {"password": "hunter2"},
    "foreign": "дом-x",
}


def revealed(node: Any) -> Any:
    """Return plain data with what is hidden in *node*."""
    if isinstance(node, dict):
        return {key: revealed(member) for key, member in node.items()}
    if isinstance(node, list):
        return [revealed(element) for element in node]
    return node.reveal().decode() if isinstance(node, SecretValue) else node


class TestSecrets:
    def tree(self, text: str) -> tuple[Any, set[str]]:
        reading = read(text, SECRETS)
        assert not reading.problems, reading.problems
        (document,) = reading.documents
        sensitive = {".".join(map(str, path)) for path in document.sensitive}
        return revealed(document.tree), sensitive

    def test_cannot_break_the_yaml(self) -> None:
        text = "a: {{ pw }}\nb: '{{ pw }}'\nc: [x{{ pw }}]\nd: |\n  {{ pw }}\ne: {{ pin }}\nf: 1\n"
        tree, sensitive = self.tree(text)
        secret = SECRETS["pw"]
        assert tree == {
            "a": secret, "b": secret, "c": [f"x{secret}"], "d": f"{secret}\n", "e": "0022", "f": 1,
        }  # fmt: skip
        assert sensitive == {"a", "b", "c.0", "d", "e"}

    def test_lie_upon_the_values(self) -> None:
        tree, sensitive = self.tree("a: {{ db.user }}\nb: {{ db.password }}\nc: {{ db }}\n")
        assert tree == {
            "a": "u",
            "b": "hunter2",
            "c": {"host": "h", "user": "u", "password": "hunter2"},
        }
        assert sensitive == {"b", "c.password"}

    @pytest.mark.parametrize(
        ("expression", "value"),
        [
            ("db.password | upper", "HUNTER2"),
            ("db.password ~ '!'", "hunter2!"),
            ("'%s!' | format(db.password)", "hunter2!"),
            ("db.password[:3]", "hun"),
            ("db.password | replace('2', '3')", "hunter3"),
            ("db.password | tojson", "hunter2"),
            ("list | join('/')", "u1/u2"),
            ("number", "5"),
            ("number * 2", "10"),
            ("pin | int", "22"),
            ("flag", "true"),
            ("db.password == 'hunter2'", "true"),
            ("foreign[:4]", "дом-"),
            ("'yes' if flag else 'no'", "yes"),
        ],
    )
    def test_what_is_made_of_them_is_sensitive(self, expression: str, value: str) -> None:
        tree, sensitive = self.tree(f"a: {{{{ {expression} }}}}\nb: {{{{ port }}}}\n")
        assert tree == {"a": value, "b": 8080}
        assert sensitive == {"a"}

    def test_what_stays_the_same_is_not(self) -> None:
        tree, sensitive = self.tree("a: {{ pw | length }}\nb: {{ db.password is defined }}\n")
        assert tree == {"a": 15, "b": True}
        assert not sensitive

    def test_loops_over_them(self) -> None:
        tree, sensitive = self.tree("a:\n{% for u in list %}\n- {n: {{ u }}, i: 1}\n{% endfor %}\n")
        assert tree == {"a": [{"n": "u1", "i": 1}, {"n": "u2", "i": 1}]}
        assert sensitive == {"a.0.n", "a.1.n"}

    def test_structure_that_depends_on_them_is_sensitive_as_a_whole(self) -> None:
        text = "x: 1\na:\n  b: 1\n{% if flag %}\n  c: 2\n{% endif %}\n"
        assert self.tree(text)[1] == {"a"}
        reading = read("{% if flag %}\nkind: A\n---\n{% endif %}\nkind: B\n", SECRETS)
        assert [document.sensitive for document in reading.documents] == [{()}, {()}]

    def test_other_secrets_may_not_even_render(self) -> None:
        text = "a: {{ {'hunter2': 1}[db.password] + 1 }}\nb: 2\n"
        (document,) = read(text, SECRETS).documents
        assert document.tree == {}
        assert document.sensitive == {()}

    def test_are_no_keys(self) -> None:
        problems = read("{{ pin }}: 1\n", SECRETS).problems
        assert [str(problem) for problem in problems] == [
            "f.yaml.j2:1: a secret value cannot be a key"
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "a: 0{{ number }}\n",
            "a: {{ pin | int + names }}\n",
            "{{ db.password | upper }}: 1\n{{ db.password | upper }}: 2\n",
            "a: [{{ db.password | upper }}\n",
            "a: {{ db[db.password] }}\n",
            "{% include '../' ~ db.password %}\n",
            "{{ ''|attr('__' ~ db.password) }}\n",
            "{% include db.password | upper %}\n",
            "{% set m = {db.password: 1} %}\na: {{ m.x }}\n",
            "a: {{ 'x' + number }}{{ [db.password] + db.password }}\n",
            "a: *{{ db.password | upper }}\n",
            "a: &{{ db.password | upper }} {b: *{{ db.password | upper }}}\n",
            "a: !{{ db.password | upper }} b\n",
        ],
    )
    def test_are_in_no_message(self, text: str) -> None:
        said = " ".join(map(str, read(text, SECRETS | {"number": 777}).problems))
        assert said
        assert not [word for word in ("hunter2", "HUNTER2", "0022", "777") if word in said]

    def test_what_is_not_about_them_is_said_as_ever(self) -> None:
        assert [str(problem) for problem in read("{{ oops }}\n", {"a": "o", "b": 1}).problems] == [
            "f.yaml.j2:1:4: `oops` is undefined; give it with --set oops=... or --values"
        ]
        text = "a: {{ range(lines) }}\n"
        plain = [str(problem) for problem in read(text).problems]
        assert [str(problem) for problem in read(text, SECRETS).problems] == plain


class TestContent:
    def test_is_rendered_as_text(self) -> None:
        template = Template(VALUES, secrets=SECRETS)
        origin = Origin("f.yaml", 5, 3)
        content = template.render_content("listen {{ port }};\n", origin=origin)
        assert content == Content("listen 8080;\n")
        content = template.render_content("pw {{ db.password }}", origin=origin)
        assert content == Content("pw hunter2", sensitive=True)

    def test_problems_are_where_it_was_written(self) -> None:
        found = Template(VALUES).render_content("a\n{{ prt }}", origin=Origin("f.yaml", 5, 3))
        assert isinstance(found, tuple)
        assert " ".join(map(str, found)) == (
            "f.yaml:5:3 (line 2 of the content): `prt` is undefined; did you mean `port`?"
        )


class TestValues:
    def test_later_files_and_sets_win(self) -> None:
        files = [
            SourceFile("a.yaml", b"a: 1\nb: {c: 1, d: [1, 2]}\n"),
            SourceFile("b.yaml", b"b: {d: [3], e: no}\n"),
            SourceFile("empty.yaml", b"# nothing\n"),
        ]
        values, problems = read_values(files=files, sets=["b.c=2", "f.g=[x, 1]", "h=", "i=null"])
        assert not problems
        assert values == {
            "a": 1,
            "b": {"c": 2, "d": [3], "e": "no"},
            "f": {"g": ["x", 1]},
            "h": "",
            "i": None,
        }

    @pytest.mark.parametrize(
        "text", ["a: 0777", "a: *x777", "a: !x777 b", "a: &x777 {b: *x777}", "x777: 1\nx777: 2"]
    )
    def test_what_is_wrong_with_secret_ones_is_said_without_them(self, text: str) -> None:
        files = [SourceFile("s.yaml", text.encode())]
        _, problems = read_values(files=files, confidential=True)
        assert [str(problem) for problem in problems if "777" in str(problem)] == []
        assert problems

    def test_what_is_wrong_is_said_all_at_once(self) -> None:
        files = [SourceFile("a.yaml", b"- 1\n"), SourceFile("b.yaml", b"a: 1\n---\nb: 2\n")]
        _, problems = read_values(files=files, sets=["a", "1=2", "a.=3", "b=022", "c={"])
        assert [str(problem) for problem in problems] == [
            "a.yaml:1:1: a values file must hold a mapping",
            "b.yaml:3:1: more than one document",
            "--set a: not an assignment; expected NAME=VALUE, with a name such as web.port",
            "--set 1=2: not an assignment; expected NAME=VALUE, with a name such as web.port",
            "--set a.=3: not an assignment; expected NAME=VALUE, with a name such as web.port",
            '--set b: a number with a leading zero; quote it ("022"), or write 18',
            "--set c: a value is missing here, inside of `[ ]` or `{ }`",
        ]

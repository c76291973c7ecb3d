"""Command lines as engines write them."""

import pytest

from runtime.cli import commands
from runtime.cli.arguments import GLOBAL, Options, UsageError, parse

EXEC = Options(flags=("tty t", "detach d"), values=("env e", "user u"))


def test_global_options_end_at_the_verb():
    options, rest = parse(
        ["--root", "/r", "--log-format=json", "run", "--root", "x"], GLOBAL, in_order=True
    )
    assert options == {"root": ["/r"], "log-format": ["json"]}
    assert rest == ["run", "--root", "x"]


def test_short_long_joined_and_repeated():
    words = ["-td", "-e", "A=1", "-eB=2", "--env=C=3", "id", "sh", "-c"]
    options, rest = parse(words, EXEC, in_order=True)
    assert options == {"tty": [""], "detach": [""], "env": ["A=1", "B=2", "C=3"]}
    assert rest == ["id", "sh", "-c"]


def test_out_of_order_options_may_follow_the_id():
    assert parse(["id", "--user", "0", "--", "--tty"], EXEC) == ({"user": ["0"]}, ["id", "--tty"])


def test_a_flag_can_be_switched_off():
    assert parse(["--tty=false", "--detach=true"], EXEC) == ({"detach": [""]}, [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nothing"], "unknown option --nothing"),
        (["--user"], "needs a value"),
        (["--tty=x"], "takes no value"),
        (["-x"], "unknown option -x"),
    ],
)
def test_what_cannot_be_meant(words, text):
    with pytest.raises(UsageError, match=text):
        parse(words, EXEC)


def test_a_bug_of_ours_is_in_the_log(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(commands, "Context", fail)
    with pytest.raises(ZeroDivisionError):
        commands.run({"log": [str(tmp_path / "log")]}, ["state", "x"])
    assert "error: ZeroDivisionError: oh" in (tmp_path / "log").read_text()

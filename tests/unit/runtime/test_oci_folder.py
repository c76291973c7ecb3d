"""What is known of a container: which folders are containers'."""

from runtime.cli.folder import list_ids


def test_only_what_is_an_id_is_listed(tmp_path):
    for name in ("b", "a-1.x_y+", "a b", "ä", ".x"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert list_ids(str(tmp_path)) == [".x", "a-1.x_y+", "b"]

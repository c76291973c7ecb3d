"""One folder is one world, and its kernel objects bear its mark."""

from runtime.root import Root, is_nft_table, world_of


def test_however_it_is_spelt_a_folder_is_one_world(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    roots = {Root.at(path) for path in (folder, "../here", ".", tmp_path / "link", f"{folder}/")}
    assert roots == {Root.at(folder)}


def test_a_process_of_ours_is_told_of_its_world(tmp_path):
    for root in (Root.at(tmp_path), Root.at()):
        assert world_of(str(root.state), str(root.run), root.cgroup) == root


def test_its_names_are_known_and_fit(tmp_path):
    root = Root.at(tmp_path)
    assert is_nft_table(root.nft_table)
    assert not is_nft_table("bayplan_notours")
    assert len(f"{root.link_prefix}v{16**6 - 1:x}") <= 15

"""The files a container sees, and what an image cannot make us do while they are put together."""

import dataclasses
import os
from pathlib import Path

import pytest

from runtime.container.defaults import default_mounts, default_namespaces
from runtime.container.program import compile_program
from runtime.errors import KernelError, LaunchError
from runtime.kernel.mount import MS_BIND, MS_SHARED, mount, umount2
from runtime.rootfs import overlay as overlay_module
from runtime.spec import LinuxDevice, Mount, RootFs
from runtime.supervisor import operations_host
from tests.support.box import Box, run_program

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(world):
    return Box(world)


def with_mounts(spec, *mounts):
    return dataclasses.replace(spec, mounts=(*spec.mounts, *mounts))


def bind(source, target, *options):
    return Mount(target, None, str(source), options or ("rbind",))


class TestRoot:
    def test_what_is_written_goes_to_the_upper_folder(self, box):
        assert box.sh("echo hello > /etc/new").code == 0
        assert (box.upper / "etc/new").read_text() == "hello\n"
        assert not (box.layer / "etc/new").exists()

    def test_a_read_only_root_has_its_mount_points_all_the_same(self, box):
        script = "touch /x; touch /dev/shm/x && echo shm"
        spec = box.spec("sh", "-c", script, root=RootFs(readonly=True))
        assert box.run(spec).out == "touch: /x: Read-only file system\nshm\n"

    def test_layers_without_an_upper_folder_are_read_only(self, box):
        for name in ("proc", "dev", "sys"):
            (box.layer / name).mkdir()
        result = box.run(box.spec("touch", "/x"), upper=None, work=None)
        assert result.out == "touch: /x: Read-only file system\n"

    def test_one_layer_alone_needs_no_overlay(self, box):
        for name in ("proc", "dev", "sys"):
            (box.layer / name).mkdir()
        spec = box.spec("sh", "-c", "touch /x; grep -c ' / / .*overlay' /proc/self/mountinfo")
        result = box.run(spec, layers=(str(box.layer),), upper=None, work=None)
        assert result.out == "touch: /x: Read-only file system\n0\n"

    def test_a_folder_can_be_the_root(self, box):
        spec = dataclasses.replace(box.spec("touch", "/made"), root=RootFs(str(box.layer)))
        assert box.run(spec, layers=(), upper=None, work=None).code == 0
        assert (box.layer / "made").exists()

    @pytest.mark.parametrize("by_fd", [True, False], ids=["new mount API", "mount(2)"])
    def test_many_layers_the_topmost_wins(self, box, monkeypatch, by_fd):
        if not by_fd:
            refuse = KernelError(22, "fsconfig", "lowerdir+")

            def too_old(*arguments, **options):
                raise refuse

            monkeypatch.setattr(operations_host, "overlay", too_old)
        layers = [box.folder / f"{'long' * 20}:{number},\\" for number in range(120)]
        for number, layer in enumerate(layers):
            layer.mkdir()
            (layer / "top").write_text(str(number))
            (layer / f"own{number}").touch()
        options = {"layers": (str(box.layer), *map(str, layers))}
        assert (
            box.run(box.spec("sh", "-c", "cat top; ls / | grep -c own"), **options).out
            == "119120\n"
        )

    def test_a_volatile_upper_folder_serves_restarts(self, box):
        program = box.compile(box.spec("sh", "-c", "echo x >> /count; cat /count"))
        outs = [run_program(program).out for _ in range(3)]
        assert outs == ["x\n", "x\nx\n", "x\nx\nx\n"]

    def test_a_volatile_upper_folder_of_another_boot_is_refused(self, box, monkeypatch):
        program = box.compile(box.spec("true"))
        run_program(program)
        monkeypatch.setattr(overlay_module, "boot_id", lambda: "another")
        with pytest.raises(LaunchError, match="the host went down while volatile"):
            run_program(program)

    def test_what_was_volatile_may_become_lasting(self, box):
        script = box.spec("sh", "-c", "echo x >> /count; cat /count")
        program = box.compile(script)
        lasting = compile_program(
            script, layers=(str(box.layer),), upper=str(box.upper), work=f"{box.folder}/work"
        )
        assert [run_program(p).out for p in (program, lasting)] == ["x\n", "x\nx\n"]

    def test_the_upper_folder_is_plain_enough_for_a_layer(self, box):
        (box.layer / "etc/old").mkdir()
        (box.layer / "etc/old/file").touch()
        box.run(box.spec("sh", "-c", "mv /etc/old /etc/new || echo refused"))
        for folder, _, _ in os.walk(box.upper):
            assert "trusted.overlay.redirect" not in os.listxattr(folder)

    def test_nothing_of_the_host_is_in_view(self, box):
        out = box.sh("cat /proc/self/mountinfo").out
        hosts = Path("/proc/self/mountinfo").read_text().splitlines()
        devices = {line.split()[2] for line in hosts if line.split()[4] in ("/", "/dev", "/run")}
        assert not devices & {line.split()[2] for line in out.splitlines()}
        assert " shared:" not in out
        assert " master:" not in out


class TestDev:
    def test_devices_and_links(self, box):
        out = box.sh(
            "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c1 /dev/urandom | wc -c;"
            "echo y > /dev/full; readlink /dev/stdout; readlink /dev/ptmx; ls /dev"
        ).out.splitlines()
        assert out[:3] == ["3", "1", "sh: write error: No space left on device"]
        assert out[3:5] == ["/proc/self/fd/1", "pts/ptmx"]
        assert {"console", "sda", "kmsg", "mem"}.isdisjoint(out[5:])

    def test_extra_devices_belong_to_whom_they_should(self, box):
        device = LinuxDevice("/dev/deep/kvm", "c", 10, 232, 0o640, 5, 6)
        result = box.sh("stat -c '%t:%T %a %u:%g' /dev/deep/kvm", linux={"devices": (device,)})
        assert result.out == "a:e8 640 5:6\n"

    def test_the_size_of_shm(self, box):
        script = "cd /dev/shm; dd if=/dev/zero of=x bs=1M count=3 2> err; stat -c %s x"
        spec = box.spec("sh", "-c", script, mounts=default_mounts(shm_bytes=2 << 20))
        assert box.run(spec).out == "2097152\n"


class TestHiding:
    def test_masked_files_are_empty_and_folders_too(self, box):
        out = box.sh("wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l").out
        assert out.split() == ["0", "0", "0"]

    def test_masks_cannot_be_undone_by_writing(self, box):
        assert "Read-only" in box.sh("touch /sys/firmware/x").out

    def test_read_only_paths(self, box):
        for path in ("/proc/sys/kernel/panic", "/proc/irq/default_smp_affinity"):
            assert "Read-only file system" in box.sh(f"echo 1 > {path}").out

    def test_the_hosts_sysfs_is_read_only_too(self, box):
        spec = box.spec(
            *("sh", "-c", "echo 0 > /sys/kernel/mm/ksm/run; ls /sys/class/net"),
            mounts=default_mounts(own_network=False),
            linux={"namespaces": default_namespaces(network=None)},
        )
        out = box.run(spec).out
        assert "Read-only" in out
        assert set(os.listdir("/sys/class/net")) <= set(out.split())

    def test_sysfs_is_read_only(self, box):
        assert "Read-only" in box.sh("echo 0 > /sys/kernel/mm/ksm/run").out

    def test_a_planted_null_device_does_not_unmask(self, box):
        mounts = tuple(m for m in default_mounts() if not m.destination.startswith("/dev"))
        (box.layer / "dev").mkdir()
        (box.layer / "dev/null").write_text("shown instead of hidden")
        with pytest.raises(LaunchError, match="not the null device"):
            box.run(dataclasses.replace(box.spec("true"), mounts=mounts))


class TestBinds:
    @pytest.fixture
    def shared(self, box):
        folder = box.folder / "shared"
        (folder / "inner").mkdir(parents=True)
        (folder / "file").write_text("content\n")
        return folder

    def test_a_folder_and_a_file_whose_targets_are_missing(self, box, shared):
        spec = box.spec("sh", "-c", "cat /a/b/file /c/d; echo new > /a/b/new")
        spec = with_mounts(spec, bind(shared, "/a/b"), bind(shared / "file", "/c/d"))
        assert box.run(spec).out == "content\ncontent\n"
        assert (shared / "new").read_text() == "new\n"

    def test_read_only_holds_for_what_is_mounted_below(self, box, shared):
        mount("tmpfs", str(shared / "inner"), "tmpfs", 0)
        try:
            spec = box.spec("sh", "-c", "touch /b/x; touch /b/inner/x")
            spec = with_mounts(spec, bind(shared, "/b", "rbind", "ro"))
            assert box.run(spec).out.count("Read-only file system") == 2
        finally:
            umount2(str(shared / "inner"))

    def test_flags_of_binds(self, box, shared):
        spec = box.spec("grep", " /b ", "/proc/self/mountinfo")
        spec = with_mounts(spec, bind(shared, "/b", "bind", "nosuid", "nodev", "noexec", "noatime"))
        assert "nosuid,nodev,noexec,noatime" in box.run(spec).out

    @pytest.mark.parametrize(("propagation", "seen"), [("rprivate", False), ("rslave", True)])
    def test_later_mounts_of_the_host_are_seen_if_asked_for(self, box, shared, propagation, seen):
        mount(str(shared), str(shared), None, MS_BIND)
        mount(None, str(shared), None, MS_SHARED)
        try:
            spec = with_mounts(box.spec("sleep", "60"), bind(shared, "/b", "rbind", propagation))
            with box.running(spec) as it:
                mount("tmpfs", str(shared / "inner"), "tmpfs", 0)
                text = Path(f"/proc/{it.pid}/mountinfo").read_text()
                assert (" /b/inner " in text) == seen
                umount2(str(shared / "inner"))
        finally:
            umount2(str(shared))

    def test_a_file_is_not_bound_on_a_folder(self, box, shared):
        spec = with_mounts(box.spec("true"), bind(shared / "file", "/etc"))
        with pytest.raises(LaunchError, match="/etc is a folder in the image; a file"):
            box.run(spec)

    def test_a_tmpfs_with_options(self, box):
        spec = box.spec("sh", "-c", "grep ' /t ' /proc/self/mountinfo; touch /t/x")
        options = ("mode=700", "size=1m", "noexec", "ro")
        out = box.run(with_mounts(spec, Mount("/t", "tmpfs", "tmpfs", options))).out
        assert "ro,noexec" in out
        assert "size=1024k,mode=700" in out
        assert "Read-only" in out


class TestHostileImage:
    """Targets are paths inside an image, and its links lead wherever its author likes."""

    @pytest.fixture
    def outside(self, box):
        folder = box.folder / "outside"
        folder.mkdir()
        yield folder
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("up", ["", "../../../../../../.."], ids=["absolute", "relative"])
    def test_links_end_at_the_root(self, box, outside, up):
        os.rmdir(box.layer / "etc")
        (box.layer / "etc").symlink_to(f"{up}{outside}")
        source = box.folder / "hosts"
        source.write_text("bound\n")
        spec = with_mounts(box.spec("cat", f"{outside}/hosts"), bind(source, "/etc/hosts"))
        assert box.run(spec).out == "bound\n"

    def test_a_dangling_link_makes_its_target_inside(self, box, outside):
        (box.layer / "etc/resolv.conf").symlink_to(f"..{outside}/run/resolv.conf")
        source = box.folder / "resolv"
        source.write_text("nameserver\n")
        spec = with_mounts(box.spec("cat", "/etc/resolv.conf"), bind(source, "/etc/resolv.conf"))
        assert box.run(spec).out == "nameserver\n"

    @pytest.mark.parametrize("name", ["proc", "sys"])
    def test_proc_and_sys_are_not_mounted_through_links(self, box, name):
        (box.layer / name).symlink_to("tmp")
        with pytest.raises(LaunchError, match=f"/{name} is a symbolic link in the image"):
            box.run(box.spec("true"))

    def test_a_linked_dev_is_filled_inside(self, box, outside):
        (box.layer / "dev").symlink_to(str(outside))
        assert box.sh("echo > /dev/null; ls /dev/zero").out == "/dev/zero\n"

    @pytest.mark.parametrize("target", ["/proc/self/fd/3/x", "/proc/1/root/x", "/proc/self/cwd/x"])
    def test_magic_links_are_no_way_out(self, box, target):
        (box.layer / "link").symlink_to(target)
        with pytest.raises(LaunchError, match="ELOOP"):
            box.run(with_mounts(box.spec("true"), bind(box.folder, "/link/y")))

    def test_a_working_directory_is_never_one_of_our_descriptors(self, box):
        for number in range(3, 20):
            spec = box.spec("true", process={"cwd": f"/proc/self/fd/{number}"})
            with pytest.raises(LaunchError, match="working directory"):
                box.run(spec)

    def test_loops_end(self, box):
        (box.layer / "a").symlink_to("b")
        (box.layer / "b").symlink_to("a")
        with pytest.raises(LaunchError, match="ELOOP"):
            box.run(with_mounts(box.spec("true"), bind(box.folder, "/a/x")))

    def test_devices_do_not_replace_what_the_image_has(self, box):
        (box.layer / "thing").write_text("file")
        device = LinuxDevice("/thing", "c", 1, 3)
        with pytest.raises(LaunchError, match="/thing is in the image already"):
            box.sh("true", linux={"devices": (device,)})

    def test_a_planted_terminal_is_refused(self, box):
        (box.layer / "dev/pts").mkdir(parents=True)
        (box.layer / "dev/pts/ptmx").write_text("")
        mounts = tuple(m for m in default_mounts() if not m.destination.startswith("/dev"))
        spec = dataclasses.replace(box.spec("true", process={"terminal": True}), mounts=mounts)
        with pytest.raises(LaunchError, match="/dev/pts/ptmx"):
            box.run(spec)

"""Each way in which somebody may spoil a container, its network or its volume by hand."""

import json
import os
import shutil
import socket
from pathlib import Path

from tests.support.drift import (
    cgroup_folder,
    container,
    enter,
    kill,
    links_of,
    nft,
    rule_handle,
    run,
    table_of,
)


def one(bayplan):
    return container(bayplan, "test.one")


def inside(bayplan, *words):
    enter(one(bayplan)["pid"], *words)


def veth(bayplan):
    """Return the name of the host's end of the container's link."""
    (link,) = json.loads(enter(one(bayplan)["pid"], "-n", "ip", "-j", "link", "show", "eth0"))
    return socket.if_indextoname(link["link_index"])


def limit(bayplan, world, controller, file, value):
    (cgroup_folder(world, one(bayplan)["id"], controller) / file).write_text(value)


def either(bayplan, world, controller, first, second):
    """Write what version 1, or else what version 2 of cgroups has: a file and its content."""
    folder = cgroup_folder(world, one(bayplan)["id"], controller)
    file, value = first if (folder / first[0]).exists() else second
    (folder / file).write_text(value)


def kill_container(bayplan, world):
    kill(one(bayplan)["pid"])


def edit_memory(bayplan, world):
    either(bayplan, world, "memory", ("memory.limit_in_bytes", "-1"), ("memory.max", "max"))


def edit_pids(bayplan, world):
    limit(bayplan, world, "pids", "pids.max", "max")


def edit_cpus(bayplan, world):
    either(bayplan, world, "cpu", ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max"))


def remove_veth(bayplan, world):
    run("ip", "link", "del", veth(bayplan))


def down_veth(bayplan, world):
    run("ip", "link", "set", veth(bayplan), "down")


def take_veth_out(bayplan, world):
    run("ip", "link", "set", veth(bayplan), "nomaster")


def remove_address(bayplan, world):
    inside(bayplan, "-n", "ip", "addr", "flush", "dev", "eth0")


def delete_bridge(bayplan, world):
    run("ip", "link", "del", links_of(world, "n")[0])


def down_bridge(bayplan, world):
    run("ip", "link", "set", links_of(world, "n")[0], "down")


def remove_bridge_address(bayplan, world):
    run("ip", "addr", "flush", "dev", links_of(world, "n")[0])


def flush_table(bayplan, world):
    nft("flush", "table", "inet", table_of(world))


def delete_table(bayplan, world):
    nft("delete", "table", "inet", table_of(world))


def remove_rule(bayplan, world):
    handle = rule_handle(world, "postrouting", "containers reach the outside")
    nft("delete", "rule", "inet", table_of(world), "postrouting", "handle", handle)


def remove_rule_of_a_port(bayplan, world):
    nft("flush", "chain", "inet", table_of(world), "pub/test/Container/one/tcp/18090")


def remove_map_element(bayplan, world):
    nft("delete", "element", "inet", table_of(world), "published", "{ tcp . 18090 }")


def unmount_inside(bayplan, world):
    inside(bayplan, "-m", "umount", "-l", "/data")


def remount_volume(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", "/more")


def remount_root(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", "/")


def close_volume(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,ro", "/data")


def open_proc_sys(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", "/proc/sys")


def unmask_file(bayplan, world):
    inside(bayplan, "-m", "umount", "/proc/timer_list")


def unmask_folder(bayplan, world):
    inside(bayplan, "-m", "umount", "/sys/firmware")


def open_proc_sys_wholly(bayplan, world):
    inside(bayplan, "-m", "umount", "/proc/sys")


def unmount_proc(bayplan, world):
    inside(bayplan, "-m", "umount", "-l", "/proc")


def unmount_dev(bayplan, world):
    inside(bayplan, "-m", "umount", "-l", "/dev")


def unmount_memory_group(bayplan, world):
    inside(bayplan, "-m", "umount", shown_memory_group(bayplan))


def open_memory_group(bayplan, world):
    place = shown_memory_group(bayplan)
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", place)


def shown_memory_group(bayplan):
    """Return where the container sees its own limits: all in one place, or each by itself."""
    top, single = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
    mounts = Path(f"/proc/{one(bayplan)['pid']}/mountinfo").read_text()
    return single if f" {single} " in mounts else top


def remove_route(bayplan, world):
    inside(bayplan, "-n", "ip", "route", "del", "default")


def add_address(bayplan, world):
    inside(bayplan, "-n", "ip", "address", "add", "10.1.2.3/24", "dev", "eth0")


def down_loopback(bayplan, world):
    inside(bayplan, "-n", "ip", "link", "set", "lo", "down")


def down_inside(bayplan, world):
    inside(bayplan, "-n", "ip", "link", "set", "eth0", "down")


def change_sysctl(bayplan, world):
    inside(bayplan, "-n", "sysctl", "-q", "-w", "net.ipv4.ip_default_ttl=64")


def change_ipc_sysctl(bayplan, world):
    inside(bayplan, "-i", "sysctl", "-q", "-w", "kernel.shmmni=64")


def change_hostname(bayplan, world):
    inside(bayplan, "-u", "hostname", "other")


def move_out(bayplan, world):
    folder = cgroup_folder(world, one(bayplan)["id"], "memory")
    (folder.parent.parent / "cgroup.procs").write_text(str(one(bayplan)["pid"]))


def freeze(bayplan, world):
    folder = cgroup_folder(world, one(bayplan)["id"], "freezer")
    file, word = ("freezer.state", "FROZEN") if (folder / "freezer.state").exists() else (
        "cgroup.freeze", "1"
    )  # fmt: skip
    (folder / file).write_text(word)


def volume_folder(bayplan, name):
    found = bayplan.json("get", "-p", "test")["resources"]
    (path,) = [v["status"]["path"] for v in found if (v["kind"], v["name"]) == ("Volume", name)]
    return Path(path)


def chmod_volume(bayplan, world):
    volume_folder(bayplan, "data").chmod(0o700)


def chown_volume(bayplan, world):
    os.chown(volume_folder(bayplan, "data"), 77, -1)


def chgrp_volume(bayplan, world):
    os.chown(volume_folder(bayplan, "data"), -1, 88)


def remove_upper(bayplan, world):
    shutil.rmtree(world / "lib" / "containers" / one(bayplan)["id"] / "upper")


DRIFTS = {
    kill_container: "it was killed by SIGKILL",
    edit_memory: "memory.*was changed by hand",
    edit_pids: "pids.max was changed by hand",
    edit_cpus: "cpu.*was changed by hand",
    remove_veth: "is gone (veth removed)",
    down_veth: "is down",
    take_veth_out: "is not in bridge",
    remove_address: "is missing on eth0 inside container",
    delete_bridge: "of network test.net.* is gone",
    down_bridge: "of network test.net.* is down",
    remove_bridge_address: "lacks its address",
    flush_table: "is flushed (all rules removed)",
    delete_table: "is gone (deleted)",
    remove_rule: "rule removed from chain postrouting: containers reach the outside",
    remove_rule_of_a_port: "rule removed from chain pub/test/Container/one/tcp/18090",
    remove_map_element: "element tcp . 18090 removed from map published",
    unmount_inside: "/data was unmounted inside the container",
    remount_volume: "/more was remounted without ro inside the container",
    remount_root: "/ was remounted without ro inside the container",
    close_volume: "/data was remounted read-only inside the container",
    open_proc_sys: "/proc/sys was remounted without ro inside the container",
    unmask_file: "the mask on /proc/timer_list is missing inside the container",
    unmask_folder: "the mask on /sys/firmware is missing inside the container",
    open_proc_sys_wholly: "the read-only mount on /proc/sys is missing inside the container",
    unmount_proc: "/proc was unmounted inside the container",
    unmount_dev: "/dev was unmounted inside the container",
    unmount_memory_group: "/sys/fs/cgroup* was unmounted inside the container",
    open_memory_group: "/sys/fs/cgroup* was remounted without ro inside the container",
    remove_route: "default route via * is missing inside container",
    add_address: "address 10.1.2.3/24 was added to eth0 inside container",
    down_loopback: "link lo inside container * is down",
    down_inside: "link eth0 inside container * is down",
    change_sysctl: "sysctl net.ipv4.ip_default_ttl was changed inside the container",
    change_ipc_sysctl: "sysctl kernel.shmmni was changed inside the container",
    change_hostname: "the host name was changed to other",
    move_out: "was moved out of cgroup",
    freeze: "was frozen",
    remove_upper: "is without its writable layer",
    chmod_volume: "the mode of * was changed from 2751 to 0700",
    chown_volume: "the owner of * was changed from 5 to 77",
    chgrp_volume: "the group of * was changed from 6 to 88",
}

"""The built-in init as a file; what it does is tested in tests/kernel."""

import shutil
import subprocess

import pytest

from runtime.kernel import init_elf
from tests.support.host import CANNOT, cannot


@pytest.mark.skipif(not shutil.which("as"), reason="no assembler (binutils)")
def test_the_listing_is_what_the_assembler_says(tmp_path):
    if not init_elf.has_init():
        cannot("the assembler here is for another machine")
    (tmp_path / "init.s").write_text(init_elf.assembly())
    subprocess.run(["as", "-o", "init.o", "init.s"], cwd=tmp_path, check=True)
    command = ["objcopy", "-O", "binary", "-j", ".text", "init.o", "init.bin"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "init.bin").read_bytes() == init_elf.machine_code()


@pytest.mark.skipif(not init_elf.has_init(), reason=CANNOT + "no built-in init for this machine")
def test_it_is_a_small_static_executable():
    program = init_elf.init_program()
    assert program[:6] == b"\x7fELF\x02\x01"
    assert len(program) < 512

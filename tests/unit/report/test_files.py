from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from leakagent.report import files

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(os.name != "posix", reason="devices and limits of POSIX")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("x" * 10_000)
    files.write_text(str(path), "new\u00e9\udcff")
    assert path.read_bytes() == b"new\xc3\xa9\\udcff"
    assert os.listdir(tmp_path) == ["r.txt"]


def test_a_relative_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_text("r.txt", "x")
    assert (tmp_path / "r.txt").read_text() == "x"


def test_a_symbolic_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "r.txt")
    files.write_text(str(tmp_path / "link.txt"), "x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "r.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["taken/r.txt", "folder", "nul\0", "y" * 5000])
def test_what_cannot_be_written_is_one_clear_error_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"can't write to '.*': ") as caught:
        files.write_text(str(tmp_path / name), "x")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["folder", "taken"]


@posix
def test_a_full_disk_leaves_the_old_report_and_no_temporary_file(tmp_path: Path) -> None:
    # The limit on file sizes is the full disk that every machine has.
    path = tmp_path / "r.txt"
    path.write_text("old")
    code = (
        "import resource, sys\n"
        "from leakagent.report.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_text(sys.argv[1], 'x' * 100_000)\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"can't write to '{path}': ")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.txt"]


@posix
def test_a_device_is_written_to_and_not_replaced() -> None:
    files.write_text("/dev/null", "x")
    assert not os.path.isfile("/dev/null")


@posix
def test_stderr_that_is_a_file_is_appended_to(tmp_path: Path) -> None:
    # Replacing what /dev/stderr points to would take the program's own last lines away.
    log = tmp_path / "log"
    code = (
        "import sys\nfrom leakagent.report.files import write_text\n"
        "sys.stderr.write('before\\n'); write_text('/dev/stderr', 'report\\n'); sys.stderr.write('after\\n')\n"
    )
    with log.open("ab") as stderr:
        subprocess.run([sys.executable, "-c", code], stderr=stderr, check=True)
    assert log.read_text() == "before\nreport\nafter\n"


@posix
def test_a_pipe_that_nobody_reads_does_not_hold_the_exit(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="can't write to"):
        files.write_text(str(pipe), "x")


@posix
def test_a_reader_that_stops_reading_does_not_hold_the_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="can't write to"):
            files.write_text(str(pipe), "x" * 10_000_000)
    finally:
        os.close(reader)


@posix
def test_a_slow_reader_gets_everything(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    got = bytearray()

    def read() -> None:
        while len(got) < 500_000:
            got.extend(os.read(reader, 7000))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    files.write_text(str(pipe), "x" * 500_000)
    thread.join(30)
    os.close(reader)
    assert len(got) == 500_000

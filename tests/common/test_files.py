"""Where outputs may be written, and that nothing of somebody else's is lost."""

import os
import stat

import pytest

from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.common.files import check_output, replace_file

MARK = '"schema": "diffspeed/'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_file_and_one_of_ours_may_be_written(folder):
    assert check_output("records.jsonl", MARK).name == "records.jsonl"
    (folder / "records.jsonl").write_text('{"schema": "diffspeed/1", "kind": "session"}\n')
    check_output("records.jsonl", MARK)
    (folder / "empty.jsonl").touch()
    check_output("empty.jsonl", MARK)


def make_link(folder):
    (folder / "theirs").write_text("secret")
    (folder / "out").symlink_to("theirs")


def make_dangling_link(folder):
    (folder / "out").symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "name", "sentence"),
    [
        (lambda f: None, "x" * 300, "File name too long"),
        (lambda f: None, "a\0b", "no name of a file"),
        (lambda f: None, " ", "no name of a file"),
        (lambda f: None, "nowhere/out", "a file in a folder that exists"),
        (lambda f: (f / "out").mkdir(), "out", "it is a folder"),
        (lambda f: os.mkfifo(f / "out"), "out", "a device, a pipe or a socket"),
        (lambda f: None, "/dev/null", "a device, a pipe or a socket"),
        (make_link, "out", "a symbolic link to theirs; name the file itself"),
        (make_dangling_link, "out", "a symbolic link to nowhere"),
        (lambda f: (f / "test_a.py").write_text("1"), "test_a.py", "ends with .py"),
        (lambda f: None, "conftest.PY", "ends with .PY"),
        (lambda f: (f / "README.md").write_text("# Ours"), "README.md", "delete it, or name"),
    ],
)
def test_what_is_not_ours_is_refused_in_one_sentence(make, name, sentence, folder):
    make(folder)
    before = {p.name: (p.lstat().st_mode, p.lstat().st_size) for p in folder.iterdir()}
    with pytest.raises(UsageError) as error:
        check_output(name, MARK)
    assert sentence in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert before == {p.name: (p.lstat().st_mode, p.lstat().st_size) for p in folder.iterdir()}


def test_a_folder_that_cannot_be_written_is_said_at_once(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root writes everywhere
    with pytest.raises(UsageError, match="its folder is not writable"):
        check_output("out", MARK)


def test_a_link_that_appears_later_is_replaced_and_not_followed(folder):
    make_link(folder)
    replace_file(folder / "out", "ours")
    assert (folder / "theirs").read_text() == "secret"
    assert (folder / "out").read_text() == "ours"
    assert not (folder / "out").is_symlink()


def test_a_failed_write_leaves_what_was_there_and_nothing_else(folder):
    (folder / "out").write_text("before")
    with pytest.raises(UnicodeEncodeError):
        replace_file(folder / "out", "half a character: \udc80")
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert (folder / "out").read_text() == "before"


def test_permissions_are_those_of_a_new_file_or_of_the_one_before(folder):
    umask = os.umask(0o027)
    try:
        replace_file(folder / "new", "1")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o640
    (folder / "new").chmod(0o604)
    replace_file(folder / "new", "2")
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o604

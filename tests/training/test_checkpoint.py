"""Model files: they come back bit for bit, show every damage, and never leave less than what stood there before."""

import errno
import os
import stat

import numpy as np
import pytest

from fastlstm.errors import ModelFileError, OptionError
from fastlstm.training import checkpoint
from fastlstm.training.checkpoint import load_file, save_file
from tests.tolerances import assert_bitwise_equal

CONFIG = {"model": "Sequential", "layers": [{"kind": "Dense", "units": 3, "name": "Größe"}], "compiled": None}


@pytest.fixture
def tensors(rng):
    return {
        "lstm.weight_ih_l0": rng.standard_normal((8, 3)).astype(np.float32),
        "lstm.bias": rng.standard_normal(8),
        "counts": np.arange(6, dtype=np.int64).reshape(2, 3),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(3.5),
    }


@pytest.fixture
def saved(tmp_path, tensors):
    path = tmp_path / "model.safetensors"
    save_file(path, tensors, CONFIG)
    return path


def assert_alone(path):
    """Nothing but the model is left in its folder."""
    assert os.listdir(path.parent) == [path.name]


def test_everything_comes_back_bit_for_bit(saved, tensors):
    loaded, config = load_file(saved)
    assert config == CONFIG
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_bitwise_equal(loaded[name], tensor, what=name)
    assert_alone(saved)


def test_any_safetensors_reader_can_take_the_tensors(saved, tensors):
    from safetensors.numpy import load_file as foreign_load

    loaded = foreign_load(saved)
    for name, tensor in tensors.items():
        assert_bitwise_equal(loaded[name], tensor, what=name)


def test_layouts_do_not_matter(tmp_path, rng):
    whole = rng.standard_normal((6, 4))
    save_file(tmp_path / "m", {"t": whole.T, "s": whole[::2, ::-1]}, {})
    loaded, _ = load_file(tmp_path / "m")
    assert_bitwise_equal(loaded["t"], whole.T)
    assert_bitwise_equal(loaded["s"], whole[::2, ::-1])


def test_every_bit_flip_shows(saved, rng):
    """All bits of the first bytes, where the header's length is, and some hundred anywhere else."""
    data = saved.read_bytes()
    places = [*range(16 * 8), *rng.integers(16 * 8, 8 * len(data), 500)]
    for place in places:
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        saved.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_file(saved)
    saved.write_bytes(data)
    load_file(saved)


def test_a_file_cut_short_anywhere_shows(saved):
    data = saved.read_bytes()
    for length in [*range(12), *range(12, len(data), 37), len(data) - 1]:
        saved.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r"model\.safetensors"):
            load_file(saved)


def test_a_file_that_goes_on_too_long_shows(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(ModelFileError):
        load_file(saved)


def test_tensors_that_changed_places_show(tmp_path, tensors):
    """Both files are whole; only the checksum knows that one tensor bears the other's name."""
    from safetensors import safe_open
    from safetensors.numpy import save_file as foreign_save

    path = tmp_path / "m"
    save_file(path, {"a": tensors["lstm.bias"], "b": tensors["lstm.bias"] + 1}, {})
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    foreign_save({"b": tensors["lstm.bias"], "a": tensors["lstm.bias"] + 1}, path, metadata)
    with pytest.raises(ModelFileError, match="checksum"):
        load_file(path)


def test_a_foreign_safetensors_file(tmp_path):
    from safetensors.numpy import save_file as foreign_save

    for metadata in (None, {"format": "pt"}, {"format": checkpoint.FORMAT}):
        foreign_save({"w": np.ones(3, np.float32)}, tmp_path / "foreign", metadata)
        with pytest.raises(ModelFileError, match=r"no fastlstm model; save one with model\.save"):
            load_file(tmp_path / "foreign")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" * 100, b"\xff" * 64, b"\x00" * 64])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="no model file"):
        load_file(path)


def test_a_file_of_a_later_version(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", "99")
    save_file(tmp_path / "later", {}, {})
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match=r"version 99.*newer"):
        load_file(tmp_path / "later")


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*nothing; name one") as missing:
        load_file(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=f"{tmp_path.name} is a folder; name the model file in it") as folder:
        load_file(tmp_path)
    assert str(missing.value).count("nothing") == str(folder.value).count(str(tmp_path)) == 1


def test_an_error_names_the_file_once(saved, monkeypatch):
    """Whatever the reader says of it: a text with the path at its end, or a number with a text."""
    for error in (OSError(f"Permission denied: {saved}"), PermissionError(13, "Permission denied", str(saved))):

        def refuse(*_, error=error, **__):
            raise error

        monkeypatch.setattr("safetensors.safe_open", refuse)
        with pytest.raises(ModelFileError, match=r"cannot read .*Permission denied; look") as told:
            load_file(saved)
        assert str(told.value).count(str(saved)) == 1


@pytest.mark.parametrize("path", [None, 5, b"m", "", True])
def test_what_is_no_path(path, tensors):
    with pytest.raises(OptionError, match=r"load: path is .*; expected the path of a file"):
        load_file(path)
    with pytest.raises(OptionError, match=r"save: path is .*; expected the path of a file"):
        save_file(path, tensors, {})


def test_a_missing_folder_is_named(tmp_path, tensors):
    with pytest.raises(ModelFileError, match=r"cannot save to .*nowhere.*No such file"):
        save_file(tmp_path / "nowhere" / "m", tensors, CONFIG)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_files_place(tmp_path, tensors):
    (tmp_path / "m").mkdir()
    with pytest.raises(ModelFileError, match="cannot save"):
        save_file(tmp_path / "m", tensors, CONFIG)
    assert os.listdir(tmp_path) == ["m"]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("target", "failure", "words"),
    [
        ("os.fsync", full, "No space left"),
        ("os.replace", full, "No space left"),
        ("os.replace", read_only, "Permission denied"),
        ("tempfile.mkstemp", read_only, "Permission denied"),
    ],
)
def test_a_save_that_fails_leaves_the_old_file_whole(saved, tensors, monkeypatch, target, failure, words):
    before = saved.read_bytes()
    monkeypatch.setattr(target, failure)
    with pytest.raises(ModelFileError, match=f"cannot save .*{words}.*untouched"):
        save_file(saved, {name: tensor + 1 for name, tensor in tensors.items()}, {})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert_alone(saved)


def test_a_disk_that_fills_up_midway_leaves_the_old_file_whole(saved, rng):
    """A limit on the size of files stands in for the full disk: the write itself stops halfway."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ModelFileError, match="cannot save"):
            save_file(saved, {"large": rng.standard_normal(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert saved.read_bytes() == before
    assert_alone(saved)


def test_an_interrupt_leaves_no_litter(saved, tensors, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_file(saved, tensors, {})
    assert saved.read_bytes() == before
    assert_alone(saved)


def test_the_new_file_has_the_permissions_of_the_old_one_or_of_any_new_file(tmp_path, tensors):
    plain, path = tmp_path / "plain", tmp_path / "m"
    plain.touch()
    save_file(path, tensors, {})
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    save_file(path, tensors, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_name_alone_goes_to_the_working_folder(tmp_path, tensors, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file("m", tensors, CONFIG)
    assert load_file("m")[1] == CONFIG
    assert os.listdir() == ["m"]


def test_a_link_is_written_through_and_what_is_no_file_is_left_alone(tmp_path):
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    checkpoint.save_file(real, {"a": np.zeros(1)}, {})
    link.symlink_to(real)
    checkpoint.save_file(link, {"a": np.ones(2)}, {})
    assert link.is_symlink()
    assert checkpoint.load_file(real)[0]["a"].shape == (2,)
    os.mkfifo(pipe)
    with pytest.raises(ModelFileError, match="no file"):
        checkpoint.save_file(pipe, {"a": np.ones(2)}, {})
    assert pipe.is_fifo()

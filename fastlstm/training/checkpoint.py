"""Model files: safetensors with a description and a checksum, written so that the old file stays whole till the end."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError, OptionError

__all__ = ["FORMAT", "check_path", "load_file", "save_file"]

FORMAT = "fastlstm"
VERSION = "1"


def check_path(what: str, path: object) -> str:
    """Return a path as a str; raise OptionError unless it is a str that is not empty, or an `os.PathLike` of one."""
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str) or not name:
        raise OptionError(f"{what} is {path!r}; expected the path of a file, a str or a pathlib.Path")
    return name


def _digest(tensors: dict[str, NDArray[Any]], config: str) -> str:
    """Return a SHA-256 over the description and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)  # bytes, without a copy
    return digest.hexdigest()


def save_file(path: str | os.PathLike[str], tensors: dict[str, NDArray[Any]], config: dict[str, Any]) -> None:
    """Write `tensors` and their description to `path`.

    The file is written beside `path` and renamed when it is complete: whatever goes wrong, what stood there stays.

    Parameters
    ----------
    path : path
        Usually ``*.safetensors``.
    tensors : dict of str to array
        Saved under these names; any safetensors reader can take them.
    config : dict
        What JSON can hold.

    Raises
    ------
    ModelFileError
        The folder is missing or read-only, the disk is full, or something that is no file stands at `path`.
    OptionError
        `path` is no path.
    """
    from safetensors.numpy import save

    path = check_path("save: path", path)
    target = Path(os.path.realpath(path))  # through links: what they point to is written, not they
    if target.exists() and not target.is_file():  # a rename would put a file in the place of a device or a pipe
        raise ModelFileError(f"cannot save to {path}: it is there, and no file; choose another place")
    text = json.dumps(config, sort_keys=True)
    whole = {name: np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("=")) for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "version": VERSION, "config": text, "sha256": _digest(whole, text)}
    data = save(whole, metadata)
    beside = None
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent or Path())
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, _mode(target))
        os.replace(beside, target)
        beside = None
    except OSError as error:
        raise ModelFileError(
            f"cannot save to {target}: {error.strerror or error}; what stood there before is untouched. "
            "Free some space or choose another place"
        ) from error
    finally:
        if beside is not None:
            Path(beside).unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """Return the permissions for the new file: the old one's, else what the process gives to new files."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the description that `save_file` wrote.

    Raises
    ------
    ModelFileError
        No such file; truncated, damaged (the checksum differs), or not written by fastlstm.
    OptionError
        `path` is no path.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(check_path("load: path", path))
    if source.is_dir():
        raise ModelFileError(f"{source} is a folder; name the model file in it")
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or "config" not in metadata:
                raise ModelFileError(
                    f"{source} is a safetensors file, but no fastlstm model; save one with model.save()"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator of its own
    except SafetensorError as error:
        raise ModelFileError(
            f"{source} is no model file, or is cut short or damaged ({error}); take it from where it came once more"
        ) from error
    except ModelFileError:
        raise
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no file {source}; name one that save() wrote") from error
    except OSError as error:  # safetensors gives no strerror, but a text that may end with the path
        reason = error.strerror or str(error).removesuffix(f": {source}")
        raise ModelFileError(f"cannot read {source}: {reason}; look at the permissions") from error
    if metadata.get("version") != VERSION:
        raise ModelFileError(
            f"{source} has format version {metadata.get('version')}, this fastlstm reads {VERSION}; install a newer one"
        )
    if metadata.get("sha256") != _digest(tensors, metadata["config"]):
        raise ModelFileError(f"{source} is damaged: its checksum differs; take it from where it came once more")
    config: dict[str, Any] = json.loads(metadata["config"])
    return tensors, config

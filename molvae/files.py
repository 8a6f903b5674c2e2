"""Write files so that a reader never sees half of one, and prove later that nothing changed.

In: paths, bytes and text. Out: files replaced in one step, SHA-256 manifests, an exclusive lock on a directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from molvae.errors import BusyError, ModelFileError, OutputError

MANIFEST = "manifest.json"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def directory_digest(directory: Path) -> str:
    """Return the SHA-256 of the manifest of a model or dataset, which names that of every file; "" without one."""
    manifest = directory / MANIFEST
    return sha256_file(manifest) if manifest.is_file() else ""


def sync_directory(path: Path) -> None:
    """Make renames inside ``path`` durable (fsync on the directory itself)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary file beside ``path``, sync it, and rename it to ``path``.

    A crash at any moment leaves the previous file or the new one, never a part.

    Raises:
        OutputError: when the file cannot be written; the previous one stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):  # the parent may be a file, or the disk gone
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.", "Free space or choose a writable place."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step (see `write_with`)."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_with(path, write)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` as UTF-8 to ``path`` in one step (see `write_with`)."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON to ``path`` in one step; NaN is an error, not a token."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Fill a temporary directory and rename it to ``path`` only when the block ends well.

    Args:
        path: the directory to be; its parent is made when missing.
        replace: whether an existing directory at ``path`` may be replaced.

    Raises:
        OutputError: when ``path`` exists and ``replace`` is false, or nothing can be written there.
    """
    if path.exists() and not replace and (path.is_file() or any(path.iterdir())):
        raise OutputError(f"{path} exists already.", "Choose another output or remove it first (--force replaces it).")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.", "Choose a writable place.") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def carry_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy those of the files ``names`` that ``source`` has into ``target``, made when missing."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists() and not source.samefile(target):
            shutil.copyfile(source / name, target / name)


def write_manifest(directory: Path, facts: dict[str, Any] | None = None) -> None:
    """Write ``manifest.json``: SHA-256 and size of every other file in ``directory``, and ``facts``; written last."""
    names = sorted(p.name for p in directory.iterdir() if p.is_file() and p.name != MANIFEST and p.name[0] != ".")
    files = {
        name: {"sha256": sha256_file(directory / name), "bytes": (directory / name).stat().st_size} for name in names
    }
    write_json(directory / MANIFEST, {**(facts or {}), "files": files})


def verify_manifest(directory: Path, *, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Check every file named in ``manifest.json`` against its SHA-256 and return the manifest.

    Args:
        directory: a model, checkpoint or dataset directory.
        skip: file names whose content may grow later (logs).

    Raises:
        ModelFileError: when the manifest or a file is missing, or a file's bytes changed; names the file.
    """
    remedy = "Copy the directory again from its source, or write it anew."
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text("utf-8"))
        entries: dict[str, dict[str, Any]] = manifest["files"]
    except FileNotFoundError as error:
        raise ModelFileError(f"{directory} has no {MANIFEST}, so it is not complete.", remedy) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{directory / MANIFEST} cannot be read: {error}.", remedy) from error
    for name, entry in entries.items():
        path = directory / name
        if Path(name).name != name or not path.is_file():
            raise ModelFileError(f"{directory} lacks the file {name} that its manifest names.", remedy)
        if name not in skip and sha256_file(path) != entry["sha256"]:
            raise ModelFileError(f"{path} changed since it was written (SHA-256 differs).", remedy)
    return manifest


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold ``directory`` for this process alone; the kernel frees it even after ``kill -9``.

    Raises:
        BusyError: when another process holds it; names that process and its host.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
            raise BusyError(
                f"{directory} is in use by {owner}.", "Wait for it to end, or choose another directory."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)

"""Fetch a file from the web and take it only if its SHA-256 is the one expected.

In: an address, a checksum and a path. Out: the file, in one step; a download that broke off goes on next time.
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from molvae import __version__
from molvae.errors import DownloadError, InputError, OutputError
from molvae.files import sha256_file, sync_directory

LIMIT = 16 << 30
"""Bytes a file may have."""
TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""
_BLOCK = 1 << 18
_DIGITS = re.compile(r"[0-9a-fA-F]{64}")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_PARTIAL, _UNSATISFIABLE = 206, 416

Progress = Callable[[int, int | None], None]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https only; Python's own handler goes to ftp too."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(url: str) -> None:
    """Refuse what is no plain web address.

    Raises:
        InputError: when it is another scheme, names no host, or carries a password.

    >>> check_url("https://example.org/a.csv.gz")
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise InputError(
            f"{url} is not an address that can be fetched.", "Give one that starts with https:// or http://."
        )
    if parts.username is not None:
        raise InputError("An address with a user's name or password is not fetched.", "Leave the part before @ out.")


def check_sha256(text: str) -> str:
    """Return a SHA-256 in small letters.

    Raises:
        InputError: when it is not 64 hexadecimal digits.
    """
    if not _DIGITS.fullmatch(text.strip()):
        raise InputError(f"{text!r} is no SHA-256.", "Give its 64 hexadecimal digits, as sha256sum prints them.")
    return text.strip().lower()


def _open(url: str, start: int) -> Any:
    """Ask for ``url`` from byte ``start`` on."""
    # No file:, ftp: or data: handler is in here, whatever a redirect says.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), _Redirects(),
        urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    headers = {"User-Agent": f"molvae/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def fetch(url: str, sha256: str, output: Path, progress: Progress | None = None, limit: int = LIMIT) -> bool:
    """Fetch ``url`` to ``output``, streaming; what arrived stays beside it and a second call goes on from there.

    Args:
        url: http or https.
        sha256: of the whole file.
        output: the file to make; when it is there already and right, nothing is fetched.
        progress: called with the bytes that have arrived and how many there will be, None when the server tells not.
        limit: bytes that are accepted.

    Returns:
        Whether anything had to be fetched.

    Raises:
        InputError: when the address or the checksum is none.
        OutputError: when another file is at ``output``, or it cannot be written.
        DownloadError: when the server cannot be reached or refuses, breaks off, sends too much or another file.
    """
    check_url(url)
    expected = check_sha256(sha256)
    if output.is_dir():
        raise OutputError(f"{output} is a directory.", "Give a file.")
    if output.exists():
        if sha256_file(output) == expected:
            return False
        raise OutputError(f"{output} exists and has another SHA-256.", "Move it away, or choose another file.")
    part = output.with_name(f".{output.name}.{expected[:16]}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        _fill(url, part, progress, limit)
        found = sha256_file(part)
        if found != expected and resumed:
            # What was left of an earlier try may be of another file.
            part.unlink()
            _fill(url, part, progress, limit)
            found = sha256_file(part)
        if found != expected:
            part.unlink()
            raise DownloadError(
                f"{url} is not the expected file: its SHA-256 is {found}, not {expected}.",
                "Check the address and the checksum; the file was not kept.",
            )
        os.replace(part, output)
        sync_directory(output.parent)
    except (OutputError, DownloadError):
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {output}: {error.strerror or error}.", "Choose a writable place.") from error
    return True


def _fill(url: str, part: Path, progress: Progress | None, limit: int) -> None:
    """Append to ``part`` what it lacks of ``url``."""
    start = part.stat().st_size if part.exists() else 0
    try:
        reply = _open(url, start)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _UNSATISFIABLE and start:
            # Either everything is there already, which the checksum will tell, or the part is of no use.
            return
        raise _failed(url, f"the server answers {error.code} {error.reason}", "Check the address.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "reason", error)
        raise _failed(url, f"{reason}", "Check the address, the network and the proxy.") from error
    with reply:
        start = _continued(reply, start)
        with part.open("ab" if start else "wb") as handle:
            _copy(url, reply, handle, start, progress, limit)


def _continued(reply: Any, start: int) -> int:
    """Return from which byte the server sends: ``start`` if it goes on there, else 0."""
    found = _RANGE.match(reply.headers.get("Content-Range", ""))
    return start if reply.status == _PARTIAL and found and int(found.group(1)) == start else 0


def _copy(url: str, reply: Any, handle: IO[bytes], start: int, progress: Progress | None, limit: int) -> None:
    length = reply.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    done = start
    while True:
        if max(done, total or 0) > limit:
            os.unlink(handle.name)
            raise _failed(url, f"it has more than {limit:,} bytes", "Check the address.")
        try:
            block = reply.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _failed(
                url, f"broken off after {done:,} bytes ({error})", "Run it again: it goes on there."
            ) from error
        if not block:
            break
        handle.write(block)
        done += len(block)
        if progress is not None:
            progress(done, total)
    if total is not None and done < total:
        raise _failed(url, f"broken off after {done:,} of {total:,} bytes", "Run it again: it goes on there.")


def _failed(url: str, why: str, remedy: str) -> DownloadError:
    return DownloadError(f"{url} cannot be fetched: {why}.", remedy)

"""Files of a study in an object store, for workers that share no folder.

Any store that fsspec knows will do (`s3://bucket/prefix`, `gs://`, `abfs://` ...). Its credentials
come from the places that its own tools use, never from the address.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import sqlalchemy as sa

from search.database.retry import Retry
from space.errors import InputError, first_line
from trainers.files import write_atomically

Result = TypeVar("Result")

PATIENCE_SECONDS = 60.0  # that a store may be away
BUCKETS = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "az", "oss"))  # these have no folders
# Another attempt mends none of these; the store's own by name, as its package is not imported.
LASTING = (FileNotFoundError, PermissionError, ImportError, ValueError)
LASTING_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")


def is_address(where: str) -> bool:
    """Whether a place for files is the address of a store, not a folder."""
    return "://" in where


class FileSystem(Protocol):
    """What is used of fsspec's file systems, which have no types."""

    @property
    def protocol(self) -> str | tuple[str, ...]: ...

    def makedirs(self, path: str, exist_ok: bool) -> None: ...
    def put_file(self, local: str, path: str) -> None: ...
    def mv(self, before: str, after: str) -> None: ...
    def cat_file(self, path: str) -> bytes: ...
    def rm_file(self, path: str) -> None: ...
    def find(self, path: str) -> list[str]: ...
    def invalidate_cache(self) -> None: ...


def passing(error: Exception) -> str | None:
    """Why a store may answer a little later; None: it would not."""
    lasting = isinstance(error, LASTING) or type(error).__name__ in LASTING_NAMES
    return None if lasting else first_line(error)


def _protocols(filesystem: FileSystem) -> set[str]:
    named = filesystem.protocol
    return {named} if isinstance(named, str) else set(named)


class Store:
    """A place in a store. Picklable; opened when first used."""

    def __init__(self, address: str) -> None:
        """Take an address, without opening it.

        Raises:
            InputError: the address holds credentials.
        """
        self.address = address.rstrip("/")
        if sa.make_url(self.address).username is not None:
            protocol = self.address.partition("://")[0]
            raise InputError(
                f"--artifacts {protocol}://... must hold no credentials; they belong in the "
                "environment or the store's own files (for S3: ~/.aws/credentials)"
            )
        self._opened: tuple[FileSystem, str] | None = None

    def __getstate__(self) -> str:
        return self.address

    def __setstate__(self, address: str) -> None:
        self.address, self._opened = address, None

    def put(self, path: Path, name: str) -> None:
        """Upload a file: readers find it whole, or what was there before.

        Raises:
            InputError: the store cannot be used, and did not come back.
        """

        def ask() -> None:
            filesystem, root = self._open()
            place = f"{root}/{name}"
            if BUCKETS.isdisjoint(_protocols(filesystem)):
                filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
            if "file" in _protocols(filesystem):  # here others would see half a file
                temporary = f"{place}.{secrets.token_hex(4)}.tmp"
                filesystem.put_file(str(path), temporary)
                filesystem.mv(temporary, place)
            else:
                filesystem.put_file(str(path), place)

        self._ask(ask)

    def get(self, name: str, path: Path) -> bool:
        """Download a file; False where there is none.

        Raises:
            InputError: the store cannot be used, and did not come back.
        """

        def ask() -> bool:
            filesystem, root = self._open()
            filesystem.invalidate_cache()  # other workers write
            try:
                content: bytes = filesystem.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: file.write(content))
            return True

        return self._ask(ask)

    def remove(self, name: str) -> None:
        def ask() -> None:
            filesystem, root = self._open()
            try:
                filesystem.rm_file(f"{root}/{name}")
            except FileNotFoundError:
                return

        self._ask(ask)

    def names(self) -> list[str]:
        """Names of all files."""

        def ask() -> list[str]:
            filesystem, root = self._open()
            filesystem.invalidate_cache()
            found = filesystem.find(root)
            return sorted(str(path).partition(f"{root}/")[2] for path in found)

        return self._ask(ask)

    def _open(self) -> tuple[FileSystem, str]:
        if self._opened is None:
            import fsspec

            filesystem, root = fsspec.core.url_to_fs(self.address, skip_instance_cache=True)
            self._opened = filesystem, root.rstrip("/")
        return self._opened

    def _ask(self, ask: Callable[[], Result]) -> Result:
        """What `ask` returns, tried again while the store is away."""
        try:
            return Retry(self.address, passing, PATIENCE_SECONDS)(ask)
        except Exception as error:
            raise InputError(self._why(error)) from None

    def _why(self, error: Exception) -> str:
        text = first_line(error)
        if isinstance(error, FileNotFoundError):
            text = f"there is no such place ({text})"
        return f"artifacts {self.address} cannot be used: {text}"

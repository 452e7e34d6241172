"""At which commit a result was made, and whether what it measures has changed since: as git tells."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path


class History:
    """Of a checkout. Answers None to what a shallow clone, or a folder without git, cannot tell.

    Args:
        folder: in the checkout.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._root = Path(self._git("rev-parse", "--show-toplevel") or folder)
        self._whole = self._git("rev-parse", "--is-shallow-repository") == "false"

    @functools.cache  # noqa: B019 - as long as the program
    def last_change(self, path: str) -> str | None:
        """The commit that last changed a file; None where that is not known."""
        return (self._git("log", "-1", "--format=%H", "--", path) or None) if self._whole else None

    @functools.cache  # noqa: B019 - as long as the program
    def changed_since(self, commit: str, paths: tuple[str, ...]) -> bool | None:
        """Whether a commit after this one touched any of the paths."""
        if self._git("cat-file", "-e", f"{commit}^{{commit}}") is None:
            return None
        found = self._git("log", "-1", "--format=%H", f"{commit}..HEAD", "--", *paths)
        return None if found is None else bool(found)

    def is_stale(self, commits: Sequence[str | None], paths: Sequence[str]) -> bool | None:
        """Whether any of the results is older than the code; None where nothing is known to be."""
        found = [self.changed_since(commit, tuple(paths)) if commit else None for commit in commits]
        return True if True in found else None if None in found or not found else False

    def is_dirty(self, paths: Sequence[str]) -> bool:
        """Whether files under these paths differ from the commit, or that cannot be told."""
        return self._git("status", "--porcelain", "--", *paths) != ""

    def _git(self, *arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self._root, capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

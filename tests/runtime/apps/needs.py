"""Imports what is not there."""

import not_there  # type: ignore[import-not-found]  # noqa: F401

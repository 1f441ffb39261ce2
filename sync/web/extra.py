"""The packages of the extra ``web``, which may be missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from sync.errors import ConfigError
from sync.notify.message import MISSING_EXTRA


@contextmanager
def needing_extra() -> Iterator[None]:
    """Tell which package is missing and how to install it, where an import inside fails.

    Raises:
        ConfigError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ConfigError(MISSING_EXTRA.format(key="http_listen", package=package, extra="web")) from None

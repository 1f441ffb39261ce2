"""The packages of the extra ``web``, which may be missing."""

import importlib.util

from sync.errors import ConfigError

PACKAGES = ("feedgenerator", "flask", "jinja2", "markupsafe", "plotly", "prometheus_client", "waitress", "werkzeug")


def require_extra(need: str) -> None:
    """Check that all packages are there, without importing them; ``need`` begins the sentence: who needs them.

    Raises:
        ConfigError: a package is not installed; the message has the command that installs it.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{need} the package {package} is not installed; run: pip install 'ehpc-image-sync[web]'")

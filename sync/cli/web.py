"""The command web, and what it shares with ``demo --web``: the dashboard of a history until Ctrl-C.

Everything beyond click is imported inside the functions, so that ``--help`` answers at once.
"""

import time
from typing import TYPE_CHECKING

import click

from sync.cli.options import stored_options
from sync.errors import ConfigError, ExitCode
from sync.session import note_interrupts, open_database, open_settings, open_token
from sync.terminal import say

if TYPE_CHECKING:
    from flask import Flask

    from sync.config import Settings
    from sync.web.server import Server

DEFAULT_ADDRESS = ("127.0.0.1", 9322)

POLL_S = 0.1  # how soon a signal is noticed


@click.command(short_help="Serve the dashboard until Ctrl-C.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="{}:{}".format(*DEFAULT_ADDRESS),
    show_default=True,
    help="Address to listen on; port 0 takes a free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
@stored_options
def web(listen: str, *, opens: bool) -> ExitCode:
    """Serve the dashboard, /healthz, /livez and /metrics of the database until Ctrl-C or SIGTERM.

    It reads only, and makes no runs: that is for `run` or `daemon`, which serves the same with `http_listen`. With
    `http_token_file` or the variable EHPC_SYNC_HTTP_TOKEN pages ask for a token.
    """
    from sync.config import address_of
    from sync.web.extra import require_extra

    settings = open_settings()
    try:
        host, port = address_of(listen, lowest_port=0)
    except ValueError as error:
        raise ConfigError(f"--listen: {error}") from None
    require_extra("web needs packages, but")
    serve_history(settings, host, port, opens=opens)
    return ExitCode.OK


def serve_history(
    settings: "Settings", host: str, port: int, *, opens: bool = False, takes_any_port: bool = False
) -> None:
    """Serve a history that is there until SIGINT or SIGTERM; ``takes_any_port`` where the port cannot be had.

    Raises:
        ConfigError: the token or the port cannot be had.
        SchemaVersionError: there is no history that this program can read.
    """
    from sync.store.database import require_history
    from sync.web.app import Source, create_app

    settings = open_token(settings).model_copy(update={"http_hosts": (*settings.http_hosts, host)})
    with open_database(settings, is_read_only=True) as database, note_interrupts() as interrupt:
        require_history(database)
        app = create_app(Source.of_reader(settings, database))
        server = _server_of(app, host, port, takes_any_port=takes_any_port)
        server.start()
        try:
            _greet(server, database.label, has_token=bool(settings.http_token), opens=opens)
            while not interrupt.is_set():
                time.sleep(POLL_S)
        finally:
            server.close()


def _server_of(app: "Flask", host: str, port: int, *, takes_any_port: bool) -> "Server":
    from sync.web.server import Server

    try:
        return Server(app, host, port, option="--listen")
    except ConfigError:
        if not takes_any_port:
            raise
        return Server(app, host, 0, option="--listen")


def _greet(server: "Server", label: str, *, has_token: bool, opens: bool) -> None:
    from sync.web.server import OPEN_TO_ALL

    click.echo(f"Dashboard, health and metrics of {label} at {server.url}; end it with Ctrl-C.")
    if not (server.is_loopback or has_token):
        say(f"warning: {OPEN_TO_ALL % server.url}")
    if opens:
        _open_browser(server.local_url)


def _open_browser(url: str) -> None:
    """Open the browser; where there is none the address on the terminal must be enough."""
    import threading
    import webbrowser

    # Some browsers hold the caller until they are closed.
    threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()

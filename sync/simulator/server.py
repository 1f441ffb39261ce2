"""The simulator as a program part: starts and stops the endpoint, plays the timeline, takes faults."""

import ipaddress
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from sync.errors import ConfigError
from sync.inventory import Clock, utc_now
from sync.simulator.calls import Call, CallLog
from sync.simulator.catalogue import Catalogue
from sync.simulator.connection import JOIN_TIMEOUT_S, Listener
from sync.simulator.control import PREFIX, Operation, control_answer
from sync.simulator.fault_text import parse_faults, text_of
from sync.simulator.faults import Fault, FaultPlan
from sync.simulator.gateway import Gateway, RateLimit, Reply
from sync.simulator.signatures import Account
from sync.simulator.timeline import Step, default_timeline
from sync.simulator.wire import HttpRequest

POLL_INTERVAL_S = 0.02  # how long stop() may wait for the accepting thread; 50 wake-ups a second cost nothing


class Simulator:
    """An E-HPC endpoint on loopback; a context manager, or ``start()`` and ``stop()``.

    ``offer`` is a timeline to play or one catalogue that stays; without it the default timeline. Everything that
    can be set may be set while calls are answered; each call works with what stood when it arrived. A simulator
    that was stopped can be started again and keeps its step, faults and log.
    """

    def __init__(
        self,
        offer: Catalogue | Sequence[Step] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        account: Account | None = None,
        calls_per_second: float | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._steps = _steps_of(offer)
        self._step_index = 0
        self._address = (_loopback_address_of(host), port)
        self._lock = threading.Lock()
        self._clock = clock
        self._log = CallLog()
        self._gateway = Gateway(self._steps[0].catalogue, account or Account(), clock, self._log)
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None
        self._port = port
        self.calls_per_second = calls_per_second

    def start(self) -> Self:
        """Bind and serve in the background.

        Raises:
            ConfigError: the port is taken or not permitted.
        """
        if self._listener:
            return self
        try:
            listener = Listener(self._address, self._respond)
        except (OSError, OverflowError) as error:
            where = f"{self._address[0]}:{self._address[1]}"
            raise ConfigError(f"The simulator cannot listen on {where}: {error}; choose another port, or 0.") from error
        self._port = listener.server_address[1]
        thread = threading.Thread(
            target=listener.serve_forever, args=(POLL_INTERVAL_S,), name="simulator-listener", daemon=True
        )
        thread.start()
        self._listener, self._thread = listener, thread
        return self

    def stop(self) -> None:
        """Hang up on all clients and free the port; returns within a moment, also when clients keep connections."""
        listener, thread = self._listener, self._thread
        if listener is None or thread is None:
            return
        self._listener = self._thread = None
        listener.shutdown()
        thread.join(JOIN_TIMEOUT_S)
        listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Return the port; the one that was chosen, once started with port 0."""
        return self._port

    @property
    def host_and_port(self) -> str:
        """Return ``127.0.0.1:40001``, the form that official SDKs take as endpoint."""
        host = f"[{self._address[0]}]" if ":" in self._address[0] else self._address[0]
        return f"{host}:{self._port}"

    @property
    def url(self) -> str:
        """Return ``http://127.0.0.1:40001``, the ``endpoint`` of our configuration."""
        return f"http://{self.host_and_port}"

    @property
    def account(self) -> Account:
        """Return who may call; set it to rotate keys, demand or expire a token, deny an action."""
        return self._gateway.account

    @account.setter
    def account(self, account: Account) -> None:
        self._gateway.account = account

    @property
    def access_key_id(self) -> str:
        """Return the access key id that is accepted."""
        return self.account.access_key_id

    @property
    def access_key_secret(self) -> str:
        """Return the secret of the access key."""
        return self.account.access_key_secret

    def deny(self, *actions: str, code: str = "NotAuthorized") -> None:
        """Deny RAM actions (globs as ``ehpc:ListImages``) from now on; without arguments deny nothing."""
        self.account = replace(self.account, denied_actions=actions, denial_code=code)

    @property
    def catalogue(self) -> Catalogue:
        """Return what is served now; set it for a state of your own, which ``advance`` and ``reset`` replace."""
        return self._gateway.catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        self._gateway.catalogue = catalogue

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Return the faults in force; setting them starts their counters anew."""
        return self._gateway.faults.faults

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        self.set_faults(faults)

    def set_faults(self, faults: Iterable[Fault], *, seed: int = 0) -> None:
        """Put faults in force; with the same seed the same calls are struck."""
        self._gateway.faults = FaultPlan(faults, seed)

    @property
    def calls_per_second(self) -> float | None:
        """Return the rate limit per region; None for none."""
        return self._calls_per_second

    @calls_per_second.setter
    def calls_per_second(self, calls_per_second: float | None) -> None:
        self._gateway.rate_limit = None if calls_per_second is None else RateLimit(calls_per_second)
        self._calls_per_second = calls_per_second

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return the whole timeline."""
        return self._steps

    @property
    def step_index(self) -> int:
        """Return the position in the timeline, from 0."""
        return self._step_index

    @property
    def step(self) -> Step:
        """Return the step of the timeline that was reached last."""
        return self._steps[self._step_index]

    @property
    def is_at_end(self) -> bool:
        """Return whether ``advance`` has nowhere to go."""
        return self._step_index == len(self._steps) - 1

    def advance(self) -> Step:
        """Serve the next step of the timeline and return it; the last step stays."""
        with self._lock:
            return self._go_to(min(self._step_index + 1, len(self._steps) - 1))

    def go_to(self, step: int | str) -> Step:
        """Serve a step by its index or name.

        Raises:
            ConfigError: the timeline has no such step.
        """
        names = [known.name for known in self._steps]
        index = names.index(step) if step in names else step
        if not isinstance(index, int) or not 0 <= index < len(names):
            raise ConfigError(f"The timeline has no step {step}; it has {', '.join(names)}.")
        with self._lock:
            return self._go_to(index)

    def reset(self) -> None:
        """Go back to the first step, without faults, with an empty log; account and rate limit stay."""
        with self._lock:
            self._go_to(0)
        self.faults = ()
        self._log.clear()

    def _go_to(self, index: int) -> Step:
        self._step_index = index
        self.catalogue = self._steps[index].catalogue
        return self._steps[index]

    def calls(self, *, action: str | None = None, region_id: str | None = None) -> tuple[Call, ...]:
        """Return the latest calls (at most 50,000) in the order of their answers."""
        return self._log.calls(action=action, region_id=region_id)

    def call_count(self, *, action: str | None = None, region_id: str | None = None, code: str | None = None) -> int:
        """Return how many calls were answered since the start or reset; ``code=""`` counts regular answers."""
        return self._log.count(action=action, region_id=region_id, code=code)

    def clear_log(self) -> None:
        """Forget all calls and counts."""
        self._log.clear()

    def state(self) -> Mapping[str, object]:
        """Return the state as plain values: what ``GET /_simulator/state`` answers."""
        catalogue = self.catalogue
        return {
            "step": self.step_index,
            "step_count": len(self._steps),
            "name": self.step.name,
            "description": self.step.description,
            "is_at_end": self.is_at_end,
            "regions": {name: len(region.types) for name, region in catalogue.regions.items()},
            "instance_types": catalogue.type_count,
            "pairs": catalogue.pair_count,
            "calls": self._log.counts_by_code(),
            "faults": [text_of(fault) for fault in self.faults],
        }

    def _respond(self, request: HttpRequest) -> Reply:
        if f"{request.path}/".startswith(PREFIX):
            return Reply(control_answer(request, self._operations()), self._clock())
        return self._gateway.reply_to(request)

    def _operations(self) -> dict[tuple[str, str], Operation]:
        return {
            ("GET", ""): lambda _: self.state(),
            ("GET", "state"): lambda _: self.state(),
            ("POST", "advance"): self._advance_by_request,
            ("POST", "faults"): self._set_faults_by_request,
            ("POST", "reset"): self._reset_by_request,
        }

    def _advance_by_request(self, _: str) -> Mapping[str, object]:
        self.advance()
        return self.state()

    def _set_faults_by_request(self, text: str) -> Mapping[str, object]:
        self.faults = parse_faults(text)
        return self.state()

    def _reset_by_request(self, _: str) -> Mapping[str, object]:
        self.reset()
        return self.state()


def _steps_of(offer: Catalogue | Sequence[Step] | None) -> tuple[Step, ...]:
    if isinstance(offer, Catalogue):
        return (Step("fixed", "A catalogue that stays as it is.", offer),)
    steps = default_timeline() if offer is None else tuple(offer)
    if not steps:
        raise ConfigError("The simulator needs a timeline of one step or more.")
    return steps


def _loopback_address_of(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(f"The simulator listens on loopback only, not on {host}; use 127.0.0.1.")
    return address

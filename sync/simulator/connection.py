"""The sockets of the simulator: accepts connections, reads requests, writes answers, spoilt on the wire if wanted."""

import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable

from sync.simulator.faults import Fault, FaultKind
from sync.simulator.gateway import Reply
from sync.simulator.wire import HttpRequest, MalformedRequestError, head_of, read_request

Respond = Callable[[HttpRequest], Reply]
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close() sends RST instead of FIN
JOIN_TIMEOUT_S = 5.0  # a thread ends at once when its socket is shut down; this only guards against a bug


class Listener(socketserver.TCPServer):
    """Serves each connection in a thread of its own until ``close``; knows its connections, to end them at once."""

    allow_reuse_address = True
    request_queue_size = 256  # the default of 5 refuses connections when many clients start together

    def __init__(self, address: tuple[str, int], respond: Respond) -> None:
        self.respond = respond
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Connection)

    def process_request(self, request: object, client_address: object) -> None:
        """Serve one connection in a thread."""
        assert isinstance(request, socket.socket)  # noqa: S101  TCPServer accepts nothing else
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="simulator-connection", daemon=True
        )
        with self._lock:
            self._connections.add(request)
            # A thread is forgotten only once it is dead, so that close() can wait for every one of them.
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket, client_address: object) -> None:
        try:
            self.finish_request(connection, client_address)
        except OSError:
            pass  # the client hung up, or close() ended the connection
        finally:
            with self._lock:
                self._connections.discard(connection)
            self.shutdown_request(connection)

    def close(self) -> None:
        """Stop accepting, hang up on all clients, wait for all threads; idle connections do not delay it."""
        self.stopping.set()
        self.server_close()
        with self._lock:
            connections, threads = set(self._connections), list(self._threads)
        for connection in connections:
            _hang_up(connection)
        for thread in threads:
            thread.join(JOIN_TIMEOUT_S)


class Connection(socketserver.StreamRequestHandler):
    """One connection: request after request until one side hangs up."""

    disable_nagle_algorithm = True
    server: Listener

    def handle(self) -> None:
        """Answer requests until the client leaves, a fault ends the connection, or the listener closes."""
        while not self.server.stopping.is_set():
            try:
                request = read_request(self.rfile)
            except MalformedRequestError as error:
                self._refuse(error)
                return
            if request is None or not self._answer(request):
                return

    def _answer(self, request: HttpRequest) -> bool:
        """Write one answer; return whether the connection lives on."""
        try:
            reply = self.server.respond(request)
        except MalformedRequestError as error:
            self._refuse(error)
            return False
        spoiling = _wire_fault_of(reply)
        for fault in reply.faults:
            if fault.kind is FaultKind.DELAY and self.server.stopping.wait(fault.duration_s):
                return False
        answer = reply.answer
        head = head_of(answer, now=reply.now, body_length=len(answer.body), is_keep_alive=request.is_keep_alive)
        if spoiling:
            return self._spoil(spoiling, head, answer.body) and request.is_keep_alive
        self.connection.sendall(head + answer.body)
        return request.is_keep_alive

    def _spoil(self, fault: Fault, head: bytes, body: bytes) -> bool:
        if fault.kind is FaultKind.DRIP:
            return self._drip(head + body, fault.duration_s)
        if fault.kind is FaultKind.RESET:
            self._reset()
            return False
        # Half of the body leaves before the connection ends: the client has the headers and believes in an answer.
        self.connection.sendall(head + body[: len(body) // 2])
        if fault.kind is FaultKind.CUT:
            self._reset()
        return False

    def _drip(self, data: bytes, pause_s: float) -> bool:
        for position in range(len(data)):
            self.connection.sendall(data[position : position + 1])
            if self.server.stopping.wait(pause_s):
                return False
        return True

    def _reset(self) -> None:
        """End the connection with RST: the descriptor is closed here, for a shutdown would send FIN first."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        os.close(self.connection.detach())

    def _refuse(self, error: MalformedRequestError) -> None:
        text = f"{error}\n".encode()
        self.connection.sendall(
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(text), text)
        )


def _wire_fault_of(reply: Reply) -> Fault | None:
    kinds = {FaultKind.RESET, FaultKind.CUT, FaultKind.TRUNCATE, FaultKind.DRIP}
    return next((fault for fault in reply.faults if fault.kind in kinds), None)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster

"""The audit served to this machine until it is interrupted."""

import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from schemas.errors import ConfigError

HOST = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """A socket on this machine; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--port {port}: cannot be used ({reason}); take --port 0") from error


def serve(application: Starlette, listening: socket.socket, say: Callable[[str], None]) -> None:
    """Answer until Ctrl-C; the address is said before anything is answered."""
    say(f"http://{HOST}:{listening.getsockname()[1]}/")
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, lifespan="off", server_header=False
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listening])

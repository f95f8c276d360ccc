"""Programs started as systemd starts them: sockets from descriptor 3 on, and variables that tell of them."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence


@contextmanager
def activated(command: Sequence[str], *sockets: socket.socket, **changed: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program with sockets, which stay ours too, for as long as the block lasts.

    Args:
        changed: variables in place of the right ones.
    """
    variables = {"LISTEN_PID": "$$", "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "a:b"} | changed
    exports = " ".join(f"{name}={value}" for name, value in variables.items())
    spares = [os.dup(sock.fileno()) for sock in sockets]
    # The shell's process becomes the program's, so that $$ is its number.
    moves = " ".join(f"{number}<&{spare}" for number, spare in enumerate(spares, 3))
    shell = ["/bin/bash", "-c", f'export {exports}; exec "$@" {moves}', "bash", *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(shell, pass_fds=spares, stdin=subprocess.DEVNULL, stdout=pipe, text=True) as process:
        for spare in spares:
            os.close(spare)
        try:
            yield process
        finally:
            process.kill()

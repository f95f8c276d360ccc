"""What trio's own streams cost: no WebSocket at all, bytes are echoed as they come."""

from __future__ import annotations

from functools import partial

import trio

from tests.benchmarks.subjects import HOST, Task, say


async def echo(stream: trio.abc.Stream) -> None:
    """Send back what comes."""
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


async def main(task: Task) -> None:
    """Serve or connect, and echo."""
    context = task.ssl_context
    stream: trio.abc.Stream
    if task.role == "server":
        async with trio.open_nursery() as nursery:
            if context is None:
                tcp = (await nursery.start(partial(trio.serve_tcp, echo, 0, host=HOST)))[0]
            else:
                tls = await nursery.start(partial(trio.serve_ssl_over_tcp, echo, 0, context, host=HOST))
                tcp = tls[0].transport_listener
            say(tcp.socket.getsockname()[1])
        return
    if context is None:
        stream = await trio.open_tcp_stream(HOST, task.port)
    else:
        stream = await trio.open_ssl_over_tcp_stream("localhost", task.port, ssl_context=context)
    await echo(stream)

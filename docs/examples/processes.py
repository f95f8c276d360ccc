"""An echo server in several processes that share one socket: ``python processes.py 8765 2``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from functools import partial

import trio

import trio_ws


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept(headers={"X-Process": str(os.getpid())}) as ws:
        async for message in ws:
            await ws.send(message)


async def serve(sock: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            server: trio_ws.WebSocketServer = await nursery.start(
                partial(trio_ws.serve_websocket, echo, None, None, sockets=[sock])
            )
            async for _ in signals:
                await server.aclose()
                break


def work(sock: socket.socket) -> None:
    trio.run(serve, sock)


def main(port: int, count: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=4096) as sock:
        # "spawn": a process that is forked from one that has run trio, or threads, is in doubt.
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=work, args=(sock,)) for _ in range(count)]
        for process in processes:
            process.start()

        def stop(number: int, frame: object) -> None:
            for process in processes:
                process.terminate()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        print(f"ws://127.0.0.1:{sock.getsockname()[1]}/", flush=True)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

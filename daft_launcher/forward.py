"""A port of this machine that leads to another address, for as long as a `with` block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Iterator

from daft_launcher.errors import TunnelError

_CHUNK = 65536


@contextlib.contextmanager
def forward_port(local_port: int, host: str, port: int) -> Iterator[None]:
    """Pass every connection to `local_port` of 127.0.0.1 on to `host:port` while the context is open.

    Raises TunnelError when the local port is busy.
    """
    loop = asyncio.new_event_loop()
    try:
        server = loop.run_until_complete(_listen(local_port, host, port))
        thread = threading.Thread(target=loop.run_forever, name=f"forward-{local_port}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(_close(server))
    finally:
        loop.close()


def port_error(port: int, error: OSError) -> TunnelError:
    """Return the error that says why a port of this machine cannot be listened at."""
    if error.errno == errno.EADDRINUSE:
        why, cure = "is in use", "end what uses it, or choose another one with --port"
    else:
        # asyncio puts a sentence of its own where the system's words were.
        why, cure = f"cannot be opened: {os.strerror(error.errno or 0)}", "choose another one with --port"
    return TunnelError(f"port {port} of this machine {why}", hint=cure)


async def _listen(local_port: int, host: str, port: int) -> asyncio.Server:
    # asyncio itself lets go of the task of a connection that the near side has closed, and complains of its end.
    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        served.add(task)
        try:
            await pass_on(reader, writer)
        finally:
            served.discard(task)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio prints a traceback for a connection that ends as cancelled, which is how ours end with the context.
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            far_reader, far_writer = await asyncio.open_connection(host, port)
            with contextlib.closing(far_writer):
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    try:
        return await asyncio.start_server(serve, "127.0.0.1", local_port)
    except OSError as error:
        raise port_error(local_port, error) from error


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _close(server: asyncio.Server) -> None:
    server.close()
    ours = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not ours]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

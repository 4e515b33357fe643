"""Owns what carries bytes to a gate: TCP and WebSocket, plain and over TLS."""

import asyncio
import ssl
from typing import Protocol
from urllib.parse import urlsplit

import websockets


class Carrier(Protocol):
    """A connection that bytes go over, both ways."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """What came, at least a byte; ConnectionError when it has ended."""

    def abort(self) -> None:
        """Ends it at once: whatever waits in `receive` learns it."""


class _Tcp:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        data = await self._reader.read(65_536)
        if not data:
            raise ConnectionError("the gate has closed the connection")
        return data

    def abort(self) -> None:
        self._writer.transport.abort()


class _WebSocket:
    def __init__(self, socket: websockets.ClientConnection):
        self._socket = socket

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send(data)
        except websockets.ConnectionClosed as error:
            raise ConnectionError("the gate has closed the WebSocket") from error

    async def receive(self) -> bytes:
        try:
            data = await self._socket.recv()
        except websockets.ConnectionClosed as error:
            raise ConnectionError("the gate has closed the WebSocket") from error
        # A text can only come from something else than a gate: frames were asked for.
        if isinstance(data, str):
            raise ConnectionError("a text came where frames were expected")
        return data

    def abort(self) -> None:
        self._socket.transport.abort()


async def connect(gate: str, tls: ssl.SSLContext | None = None) -> Carrier:
    """Connects to `tcp://`, `tls://`, `ws://` or `wss://`; without a scheme it is TCP.
    OSError when nobody is there."""
    url = urlsplit(gate if "://" in gate else f"tcp://{gate}")
    if url.scheme in ("tcp", "tls"):
        trust = (tls or ssl.create_default_context()) if url.scheme == "tls" else None
        reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=trust)
        return _Tcp(reader, writer)
    if url.scheme not in ("ws", "wss"):
        raise ValueError(f"{gate}: tcp://, tls://, ws:// and wss:// are known")
    # Frames from the first message on: a gate greets nobody who says so.
    query = "&".join(filter(None, [url.query, "codec=frame"]))
    address = url._replace(path=url.path or "/ws", query=query).geturl()
    trust = tls if url.scheme == "wss" else None
    try:
        # A gate compresses nothing, and pings of the session's own tell more than WebSocket's.
        socket = await websockets.connect(
            address, ssl=trust, compression=None, ping_interval=None, proxy=None
        )
    except websockets.WebSocketException as error:
        raise ConnectionError(f"{gate}: no WebSocket: {error}") from error
    return _WebSocket(socket)

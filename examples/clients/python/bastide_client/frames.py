"""Owns the frame: size, name and payload, cut out of a stream of bytes and put into one."""

import struct

FRAME_BYTES_MAX = 65_537
NAME_BYTES_MAX = 128

_NAME_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.")


class FrameError(Exception):
    """What came is no frame, or what should go does not fit into one."""


def encode(api: str, payload: bytes) -> bytes:
    """One frame: the size of what follows, the size of the name, the name, the payload."""
    name = api.encode("ascii")
    if not 1 <= len(name) <= NAME_BYTES_MAX or not _NAME_BYTES.issuperset(name):
        raise FrameError(f"{api!r} is not the name of a message")
    size = 2 + len(name) + len(payload)
    if size > FRAME_BYTES_MAX - 2:
        raise FrameError(f"{api} has {len(payload)} bytes: more than a frame holds")
    return struct.pack("<HH", size, len(name)) + name + payload


class Decoder:
    """Cuts frames out of bytes, in whatever pieces those come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The frames that are whole now: name and payload of each."""
        self._bytes += data
        frames, start = [], 0
        while len(self._bytes) - start >= 4:
            size, name_size = struct.unpack_from("<HH", self._bytes, start)
            if size < 3 or not 1 <= name_size <= min(size - 2, NAME_BYTES_MAX):
                raise FrameError(f"a frame of {size} bytes with a name of {name_size}")
            if len(self._bytes) - start < 2 + size:
                break
            name = bytes(self._bytes[start + 4 : start + 4 + name_size])
            if not _NAME_BYTES.issuperset(name):
                raise FrameError("the name of a frame has a byte that no name has")
            payload = bytes(self._bytes[start + 4 + name_size : start + 2 + size])
            frames.append((name.decode("ascii"), payload))
            start += 2 + size
        del self._bytes[:start]
        return frames

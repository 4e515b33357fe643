"""Owns the session: it outlives its connections, as docs/CLIENTS.md says. Nothing is lost, nothing
is done twice, all is in order. Leaves bytes to `carriers`, frames to `frames`."""

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from . import carriers, messages
from .frames import Decoder, FrameError, encode
from .messages import Message

PING_EVERY_S = 5
SILENCE_MAX_S = 15
# What came without the server being told: it keeps 68 KiB for a client that never tells.
UNTOLD_BYTES_MAX = 64 * 1024
UNTOLD_FRAMES_MAX = 256
# At a resume they go out at once, and a gate takes a burst of 200.
KEPT_FRAMES_MAX = 128
TRY_TIMEOUT_S = 5
PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 5
# That nobody has taken. Beyond: the oldest is dropped, and `pushes_dropped` counts it.
PUSHES_MAX = 4096

# What a code in a kick, or in the answer to a resume, makes of the session.
RESUME_CODES = frozenset((1, 101, 1001, 1002, 1003, 1007, 2007, 2008))
DRAINING = 2007

# In neither count.
UNCOUNTED = ("msg.Ping.", "msg.Resume.")
KICK = "msg.Kick.Res"
ERROR = "msg.Error.Res"


class Refused(Exception):
    """A request was refused, by a code of the server or of the game."""

    def __init__(self, code: int, message: str):
        super().__init__(f"{message} (code {code})")
        self.code = code


class SessionOver(Exception):
    """The session cannot go on. What had no answer is unknown. `code` says why, if a server did."""

    def __init__(self, text: str, code: int | None = None):
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Push:
    """A message that nobody asked for; `message` is None when its class is not known here."""

    api: str
    message: Message | None
    payload: bytes


@dataclass
class _Arrived:
    """A connection whose gate has answered the first message."""

    carrier: carriers.Carrier
    decoder: Decoder
    answer: Message
    # What came behind the answer.
    rest: list[tuple[str, bytes]]


def counts(api: str) -> bool:
    """Whether a frame is in the counts that a resume compares."""
    return api != KICK and not api.startswith(UNCOUNTED)


def _decoded(api: str, payload: bytes) -> Message | None:
    """A message; None when its class is not known."""
    try:
        return messages.message_class(api).FromString(payload)
    except KeyError:
        return None
    except DecodeError as error:
        raise FrameError(f"{api} cannot be decoded: {error}") from error


class Session:
    """A signed-in client. Made by `sign_in`; ended by `logout` or `close`."""

    def __init__(self, gates: Iterable[str], tls: ssl.SSLContext | None):
        self._gates = deque(dict.fromkeys(gates))
        self._tls = tls
        self._carrier: carriers.Carrier | None = None
        self._decoder = Decoder()
        self._early: list[tuple[str, bytes]] = []
        self._received = self._sent = self._forgotten = 0
        self._kept: deque[bytes] = deque()
        self._waiting: deque[tuple[str, asyncio.Future]] = deque()
        self._resume_token, self._resume_window_s = b"", 0
        self._heard_at = self._asked_at = 0.0
        self._untold_bytes = self._untold_frames = 0
        # Set when frames were forgotten, or nothing matters any more.
        self._room = asyncio.Event()
        self._over: SessionOver | None = None
        self._tasks: list[asyncio.Task] = []
        self._pushes: deque[Push] = deque()
        self._pushed = asyncio.Event()
        self.pushes_dropped = 0
        self.user: Message | None = None
        self.session_id = ""
        # How often it got back to a gate.
        self.resumes = 0

    # === Beginning and end ===

    @classmethod
    async def sign_in(
        cls,
        token: str,
        gates: Iterable[str],
        device_id: str = "",
        platform: str = "python",
        tls: ssl.SSLContext | None = None,
    ) -> "Session":
        """Signs in at the first of the gates that answers, with a token of the account center or a
        `session_id` of the login server. Refused, SessionOver, OSError."""
        session = cls(gates, tls)
        ask = messages.make("msg.Login.Req", token=token, device_id=device_id, platform=platform)
        last: Exception = ValueError("no gate was named")
        for gate in tuple(session._gates):
            try:
                arrived = await asyncio.wait_for(session._begin(gate, ask), TRY_TIMEOUT_S)
            except (OSError, TimeoutError, FrameError) as error:
                last = error
                continue
            if arrived.answer.code != 0:
                arrived.carrier.abort()
                why = getattr(arrived.answer, "message", "the sign-in is refused")
                raise Refused(arrived.answer.code, why)
            session._gates.remove(gate)
            session._gates.appendleft(gate)
            session._signed_in(arrived)
            return session
        raise last

    def _signed_in(self, arrived: _Arrived) -> None:
        answer = arrived.answer
        self._stands(arrived)
        self.user, self.session_id = answer.user, answer.session_id
        self._resume_token = answer.resume_token
        self._resume_window_s = answer.resume_window_s
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._ping_on())]

    async def logout(self) -> None:
        """Ends the session for good."""
        await self.request("msg.Logout.Req", account=self.user.account)
        await self.close()

    async def close(self) -> None:
        """Leaves. Without a logout the session waits for its window, and nobody resumes it."""
        self._end(SessionOver("closed by this client"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # === Talking ===

    async def request(self, api: str, **fields: object) -> Message:
        """Asks, and waits for the answer, across connections. Refused, SessionOver."""
        answer: asyncio.Future = asyncio.get_running_loop().create_future()
        await self._send(api, messages.make(api, **fields), answer)
        return await answer

    async def tell(self, api: str, **fields: object) -> None:
        """Sends what gets no answer: an input."""
        await self._send(api, messages.make(api, **fields), None)

    async def push(self) -> Push:
        """The next message that nobody asked for. SessionOver when none will come."""
        while not self._pushes:
            if self._over is not None:
                raise self._over
            self._pushed.clear()
            await self._pushed.wait()
        return self._pushes.popleft()

    def pushed(self) -> Push | None:
        """The next message that nobody asked for, if one is here."""
        return self._pushes.popleft() if self._pushes else None

    def cut(self) -> None:
        """Breaks the connection, as a bad network does; the session gets back by itself."""
        if self._carrier is not None:
            self._carrier.abort()
            self._carrier = None

    async def _send(self, api: str, message: Message, answer: asyncio.Future | None) -> None:
        frame = encode(api, message.SerializeToString())
        while self._over is None and len(self._kept) >= KEPT_FRAMES_MAX:
            self._room.clear()
            # One is enough, however many wait: it counts in the gate's rate.
            if not self._asked_at:
                await self._ping()
            await self._room.wait()
        if self._over is not None:
            raise self._over
        # Nothing else runs between these and the write: the order kept is that of the wire.
        self._sent += 1
        self._kept.append(frame)
        if answer is not None:
            self._waiting.append((api, answer))
        await self._write(frame)

    async def _write(self, data: bytes) -> None:
        if self._carrier is not None:
            try:
                await self._carrier.send(data)
            except OSError:
                # Whoever reads notices as well, and resumes; the frame is kept.
                pass

    # === Living ===

    async def _live(self) -> None:
        try:
            while True:
                try:
                    await self._listen()
                except (OSError, FrameError, TimeoutError):
                    pass
                self.cut()
                await self._get_back()
        except SessionOver as over:
            self._end(over)
            self.cut()
        except Exception as bug:
            # Nobody may wait for ever for an answer.
            self._end(SessionOver(f"a bug in this client: {bug!r}"))
            self.cut()
            raise

    def _end(self, over: SessionOver) -> None:
        """Nothing will come any more: whoever waits is told."""
        self._over = self._over or over
        while self._waiting:
            _, waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(self._over)
        self._room.set()
        self._pushed.set()

    async def _listen(self) -> None:
        frames, self._early = self._early, []
        while self._carrier is not None:
            for api, payload in frames:
                self._take(api, payload)
            frames = self._decoder.feed(await self._carrier.receive())
            self._heard_at = time.monotonic()
            if (
                self._untold_bytes >= UNTOLD_BYTES_MAX
                or self._untold_frames >= UNTOLD_FRAMES_MAX
            ):
                await self._ping()

    def _take(self, api: str, payload: bytes) -> None:
        """Counts a frame and makes its effect ours, in one step."""
        if counts(api):
            self._received += 1
            self._untold_frames += 1
            self._untold_bytes += len(api) + len(payload) + 4
        message = _decoded(api, payload)
        if message is None:
            self._keep(Push(api, None, payload))
        elif api == "msg.Ping.Res":
            self._asked_at = 0.0
            self._forget(message.received)
        elif api == KICK:
            self._kicked(message.code, message.reason)
        elif api == ERROR and not message.api:
            raise SessionOver(f"{message.message} (code {message.code})", message.code)
        elif self._waiting and api == ERROR and message.api == self._waiting[0][0]:
            self._answer(Refused(message.code, message.message))
        elif self._waiting and api == self._waiting[0][0].removesuffix("Req") + "Res":
            self._answer(message)
        else:
            self._keep(Push(api, message, payload))

    def _keep(self, push: Push) -> None:
        self._pushes.append(push)
        if len(self._pushes) > PUSHES_MAX:
            self._pushes.popleft()
            self.pushes_dropped += 1
        self._pushed.set()

    def _answer(self, answer: Message | Refused) -> None:
        _, waiting = self._waiting.popleft()
        if waiting.done():
            # Whoever asked has gone.
            return
        if isinstance(answer, Refused):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _kicked(self, code: int, reason: str) -> None:
        if code not in RESUME_CODES:
            raise SessionOver(f"{reason} (code {code})", code)
        if code == DRAINING:
            # The others first.
            self._gates.rotate(-1)
        raise ConnectionError(f"{reason} (code {code})")

    def _forget(self, received: int) -> None:
        """Frees what the server has."""
        while self._kept and self._forgotten < received:
            self._kept.popleft()
            self._forgotten += 1
        self._room.set()

    async def _ping_on(self) -> None:
        while self._over is None:
            await asyncio.sleep(PING_EVERY_S)
            silent_s = time.monotonic() - max(self._asked_at, self._heard_at)
            if self._asked_at and silent_s > SILENCE_MAX_S:
                # Whoever reads notices, and resumes.
                self.cut()
            await self._ping()

    async def _ping(self) -> None:
        if self._carrier is None:
            return
        ct = time.time_ns() // 1_000_000
        ping = messages.make("msg.Ping.Req", ct=ct, received=self._received)
        self._untold_bytes = self._untold_frames = 0
        self._asked_at = self._asked_at or time.monotonic()
        await self._write(encode("msg.Ping.Req", ping.SerializeToString()))

    # === Getting back ===

    async def _begin(self, gate: str, ask: Message) -> _Arrived:
        """Connects, sends the first message and waits for its answer."""
        carrier = await carriers.connect(gate, self._tls)
        try:
            api = ask.DESCRIPTOR.full_name
            await carrier.send(encode(api, ask.SerializeToString()))
            decoder, frames = Decoder(), []
            while not frames:
                frames = decoder.feed(await carrier.receive())
            (name, payload), *rest = frames
            answer = _decoded(name, payload)
            if answer is None:
                raise FrameError(f"{name} is not known here")
            if name == KICK:
                raise ConnectionError(f"{answer.reason} (code {answer.code})")
            if name != ERROR and name != api.removesuffix("Req") + "Res":
                raise FrameError(f"{name} came instead of an answer to {api}")
        except BaseException:
            carrier.abort()
            raise
        return _Arrived(carrier, decoder, answer, rest)

    def _stands(self, arrived: _Arrived) -> None:
        """From now on this is the connection."""
        self._carrier, self._decoder = arrived.carrier, arrived.decoder
        self._early = arrived.rest
        self._heard_at, self._asked_at = time.monotonic(), 0.0

    async def _get_back(self) -> None:
        """Resumes at some gate, within the window; SessionOver when that is not to be."""
        if not self._resume_token:
            raise SessionOver("the connection broke, and the gate offers no resume")
        until = time.monotonic() + self._resume_window_s
        pause_s = PAUSE_MIN_S
        while time.monotonic() < until:
            for gate in tuple(self._gates):
                if await self._resume_at(gate):
                    self._gates.remove(gate)
                    self._gates.appendleft(gate)
                    return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))
            pause_s = min(pause_s * 2, PAUSE_MAX_S)
        raise SessionOver("no gate took the session back within its window")

    async def _resume_at(self, gate: str) -> bool:
        ask = messages.make(
            "msg.Resume.Req", resume_token=self._resume_token, received=self._received
        )
        try:
            arrived = await asyncio.wait_for(self._begin(gate, ask), TRY_TIMEOUT_S)
        except (OSError, TimeoutError, FrameError):
            return False
        answer = arrived.answer
        if answer.code != 0:
            arrived.carrier.abort()
            if answer.code not in RESUME_CODES:
                raise SessionOver(f"the resume is refused (code {answer.code})", answer.code)
            return False
        self._resume_token = answer.resume_token
        self._forget(answer.received)
        self.resumes += 1
        self._stands(arrived)
        # Before anything new: nothing else runs between these two.
        await self._write(b"".join(self._kept))
        return True

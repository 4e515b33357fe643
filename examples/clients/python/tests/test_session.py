"""A client against a running town: `BASTIDE_HTTP` and `BASTIDE_GATES` say where it is. The town's
own tests start one and run these; `python -m unittest` from the folder above does it by hand."""

import asyncio
import os
import unittest
import uuid

from bastide_client import AccountCenter, AccountError, Refused, Session, SessionOver, make
from bastide_client.frames import Decoder, FrameError, encode

HTTP = os.environ.get("BASTIDE_HTTP", "http://127.0.0.1:8080")
GATES = os.environ.get("BASTIDE_GATES", "tcp://127.0.0.1:3017,ws://127.0.0.1:18080").split(",")


def secret(text: str) -> str:
    """Whoever started the town looks for it in the town's log."""
    if path := os.environ.get("BASTIDE_SECRETS"):
        with open(path, "a", encoding="utf-8") as secrets:
            secrets.write(f"{text}\n")
    return text


class Frames(unittest.TestCase):
    def test_a_frame_is_the_bytes_of_the_contract_and_comes_in_any_pieces(self):
        echo = make("msg.Echo.Req", val=7).SerializeToString()
        frame = encode("msg.Echo.Req", echo)
        self.assertEqual(frame.hex(" "), "10 00 0c 00 6d 73 67 2e 45 63 68 6f 2e 52 65 71 08 07")
        decoder, heard = Decoder(), []
        for byte in frame * 3:
            heard += decoder.feed(bytes([byte]))
        self.assertEqual(heard, [("msg.Echo.Req", echo)] * 3)
        self.assertEqual(Decoder().feed(frame * 2 + frame[:5]), heard[:2])

    def test_what_is_no_frame_is_refused_at_its_first_bytes(self):
        for head in ("0200 0100", "1000 0000", "1000 0f00", "ffff 8100", "0400 0100 ff00"):
            with self.assertRaises(FrameError, msg=head):
                Decoder().feed(bytes.fromhex(head))
        for name, payload in (("", b""), ("a b", b""), ("msg.Echo.Req", bytes(65_536))):
            with self.assertRaises(FrameError):
                encode(name, payload)


class Play(unittest.IsolatedAsyncioTestCase):
    def guest(self) -> str:
        return secret(AccountCenter(HTTP).guest(f"python-{uuid.uuid4()}")["token"])

    async def sign_in(self, *gates: str) -> Session:
        return await Session.sign_in(self.guest(), gates or GATES[:1])

    async def test_over_each_carrier_it_asks_and_is_answered_in_order(self):
        for gate in GATES:
            async with await self.sign_in(gate) as session:
                asked = [session.request("msg.Echo.Req", val=n) for n in range(180)]
                answers = await asyncio.gather(*asked)
                self.assertEqual([answer.val for answer in answers], list(range(180)), gate)

    async def test_a_draw_is_answered_and_pushes_the_bag(self):
        async with await self.sign_in() as session:
            while session.pushed():
                pass
            drawn = await session.request("cards.Draw.Req", count=3)
            self.assertEqual(len(drawn.cards), 3)
            push = await session.push()
            self.assertEqual(push.api, "msg.GetItems.Res")
            with self.assertRaises(Refused) as refused:
                await session.request("cards.Draw.Req", count=1000)
            self.assertEqual(refused.exception.code, 210)

    async def test_after_cuts_nothing_is_lost_and_nothing_is_done_twice(self):
        # Over both carriers in turn, cut in the middle of what is asked and answered.
        async with await self.sign_in(*GATES) as session:
            before = (await session.request("msg.GetItems.Req", idx=102)).items
            for round in range(6):
                asked = [asyncio.ensure_future(self.draw(session)) for _ in range(10)]
                for _ in range(round):
                    await asyncio.sleep(0)
                session.cut()
                session._gates.rotate(1)
                await asyncio.gather(*asked)
            after = (await session.request("msg.GetItems.Req", idx=102)).items
            drawn = sum(i.num for i in after) - sum(i.num for i in before)
            self.assertEqual((drawn, session.resumes), (60, 6))

    async def draw(self, session: Session) -> None:
        drawn = await session.request("cards.Draw.Req", count=1)
        self.assertEqual(len(drawn.cards), 1)

    async def test_a_ping_frees_what_the_server_has(self):
        async with await self.sign_in() as session:
            for n in range(180):
                await session.request("msg.Echo.Req", val=n)
            self.assertLessEqual(len(session._kept), 128)

    async def test_who_signs_in_elsewhere_ends_the_session_before_and_is_told(self):
        token = self.guest()
        async with await Session.sign_in(token, GATES[:1]) as first:
            async with await Session.sign_in(token, GATES[:1]) as second:
                with self.assertRaises(SessionOver) as over:
                    while True:
                        await first.push()
                self.assertEqual(over.exception.code, 2005)
                with self.assertRaises(SessionOver):
                    await first.request("msg.Echo.Req", val=1)
                self.assertEqual((await second.request("msg.Echo.Req", val=2)).val, 2)

    async def test_a_logout_ends_it_and_a_token_that_is_none_is_refused(self):
        session = await self.sign_in()
        await session.logout()
        with self.assertRaises(Refused) as refused:
            await Session.sign_in("no token", GATES[:1])
        self.assertEqual(refused.exception.code, 2001)

    def test_what_the_account_center_refuses_is_raised_with_its_code(self):
        center = AccountCenter(HTTP)
        name, password = f"py-{uuid.uuid4().hex[:12]}", secret(uuid.uuid4().hex)
        self.assertEqual(center.registry(name, password)["code"], 0)
        self.assertEqual(center.auth(name, password)["code"], 0)
        for code, ask in (
            (201, lambda: center.auth(name, "wrong-" + password)),
            (203, lambda: center.registry(name, password)),
            (210, lambda: center.registry(name, "")),
        ):
            with self.assertRaises(AccountError) as refused:
                ask()
            self.assertEqual(refused.exception.code, code)
        with self.assertRaises(AccountError):
            AccountCenter("http://127.0.0.1:1").guest("nobody")


if __name__ == "__main__":
    unittest.main()

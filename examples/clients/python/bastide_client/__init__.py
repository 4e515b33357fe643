"""A client of bastide: signs in, plays, and keeps its session across connections.

    center = AccountCenter("http://127.0.0.1:8082")
    signed_in = center.guest("my-bot")
    async with await Session.sign_in(signed_in["token"], [signed_in["addr"]]) as session:
        echo = await session.request("msg.Echo.Req", val=7)
        assert echo.val == 7
"""

from .account import AccountCenter, AccountError, LoginServer, Platform
from .messages import Message, learn, make, message_class
from .session import Push, Refused, Session, SessionOver

__all__ = [
    "AccountCenter",
    "AccountError",
    "LoginServer",
    "Message",
    "Platform",
    "Push",
    "Refused",
    "Session",
    "SessionOver",
    "learn",
    "make",
    "message_class",
]

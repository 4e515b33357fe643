"""Owns what the two example clients share: their flags, their prompts, and what they play."""

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from .account import AccountError, LoginServer, Platform
from .session import Refused, Session, SessionOver

GOLD, CARD = 100, 102

# The line in which development sends a code to a phone.
_CODE_LINE = "向手机号 {phone} 发送验证码: "


def parser(about: str) -> argparse.ArgumentParser:
    """The flags that both clients have. What is not given is asked for."""
    flags = argparse.ArgumentParser(description=about)
    flags.add_argument("--platform", default="http://localhost:8080", help="the platform's URL")
    flags.add_argument("--login-server", default="http://localhost:8081", help="its URL")
    flags.add_argument("--gate", default="ws://127.0.0.1:18080/ws", help="ws://, wss:// or tcp://")
    flags.add_argument("--app-id", default="jigger_game", help="the app that signs in")
    flags.add_argument("--draw", choices=("ask", "yes", "no"), default="ask", help="a card")
    return flags


def asked(given: str | None, prompt: str, default: str = "") -> str:
    """What a flag says, or whoever sits there."""
    if given is not None:
        return given
    return input(prompt).strip() or default


def device_id() -> str:
    """A new one for each request, as the clients of the seed have it: nothing is bound to it."""
    return str(uuid.uuid4())


def servers(flags: argparse.Namespace) -> tuple[Platform, LoginServer]:
    platform = Platform(flags.platform, flags.app_id, device_id())
    return platform, LoginServer(flags.login_server, device_id())


def code_from_log(path: Path, phone: str, seen: int, patience_s: float = 10) -> str:
    """The latest code for a phone that stands in the log behind its first `seen` bytes."""
    begin = _CODE_LINE.format(phone=phone)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        lines = path.read_bytes()[seen:].decode(errors="replace").splitlines()
        codes = [line.split(begin, 1)[1][:6] for line in lines if begin in line]
        if codes and len(codes[-1]) == 6:
            return codes[-1]
        time.sleep(0.05)
    raise SystemExit(f"{path}: no code for {phone} within {patience_s:g} s")


async def play(gate: str, session_id: str, draw: str) -> None:
    """User info, a card, user info."""
    async with await Session.sign_in(session_id, [gate], device_id=device_id()) as session:
        print(f"已连接游戏服务器 (signed in at the gate): {gate}")
        await show_user(session)
        if asked(None if draw == "ask" else draw, "是否抽卡？(y/n) Draw a card? ")[:1] == "y":
            drawn = await session.request("cards.Draw.Req", count=1)
            names = ", ".join(f"{card.name} (rarity {card.rarity})" for card in drawn.cards)
            print(f"抽到 (drew): {names}")
            await show_user(session)
        await session.logout()
    print("完成 (done)")


async def show_user(session: Session) -> None:
    account = session.user.account
    user = (await session.request("msg.GetUser.Req", id=account)).user
    bag = (await session.request("msg.GetItems.Req")).items
    count = {kind: sum(item.num for item in bag if item.idx == kind) for kind in (GOLD, CARD)}
    print(
        f"用户信息 (user info): uid {user.id}, name {user.name!r}, "
        f"gold {count[GOLD]}, cards {count[CARD]}"
    )


def run(client: Callable[[], None]) -> int:
    """Runs a client; its exit code. What fails is told in a sentence."""
    try:
        client()
    except AccountError as error:
        again = f"; come back in {error.retry_after_s} s" if error.retry_after_s else ""
        print(f"认证失败 (refused): {error}{again}", file=sys.stderr)
    except Refused as error:
        print(f"游戏服务器拒绝 (the gate refuses): {error}", file=sys.stderr)
    except SessionOver as error:
        print(f"会话结束 (the session is over): {error}", file=sys.stderr)
    except OSError as error:
        print(f"连接失败 (nobody is there): {error}", file=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        print("已取消 (cancelled)", file=sys.stderr)
    else:
        return 0
    return 1


def play_with(flags: argparse.Namespace, session_id: str) -> None:
    asyncio.run(play(flags.gate, session_id, flags.draw))

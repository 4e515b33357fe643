#!/usr/bin/env python3
"""Registers or signs in by user name and password, then plays: platform, login server, WebSocket,
user info, a card, user info. Asks for what its flags do not say."""

import sys
from getpass import getpass

from bastide_client.play import asked, parser, play_with, run, servers


def main() -> None:
    flags = parser(__doc__)
    choice = flags.add_mutually_exclusive_group()
    choice.add_argument("--register", dest="choice", action="store_const", const="1")
    choice.add_argument("--login", dest="choice", action="store_const", const="2")
    flags.add_argument("--username")
    flags.add_argument("--password", help="who else is on this machine sees flags: for tests")
    flags.add_argument("--email", help="to register")
    flags = flags.parse_args()
    platform, login_server = servers(flags)

    choice = asked(flags.choice, "请选择: 1 注册 (register), 2 登录 (log in): ")
    if choice not in ("1", "2"):
        raise SystemExit("1 or 2")
    username = asked(flags.username, "请输入用户名 (user name): ")
    password = flags.password or getpass("请输入密码 (password): ")
    if choice == "1":
        email = asked(flags.email, "请输入邮箱 (email): ")
        proved = platform.register(username, password, email)
        entered = login_server.register(username, password, email)
    else:
        proved = platform.login(username, password)
        entered = login_server.login(username, password)
    print(f"平台登录成功 (the platform knows you): {proved['user']['username']}")
    print("登录服务器成功 (the login server gave a session)")
    play_with(flags, entered["session_id"])


if __name__ == "__main__":
    sys.exit(run(main))

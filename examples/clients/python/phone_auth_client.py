#!/usr/bin/env python3
"""Signs in with a phone and the code sent to it, then plays: platform, login server, WebSocket,
user info, a card, user info. Asks for what its flags do not say."""

import sys
from pathlib import Path

from bastide_client.play import asked, code_from_log, parser, play_with, run, servers


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--country-code", help="such as +86")
    flags.add_argument("--phone", help="without the country code")
    flags.add_argument("--code", help="the code, if it is known already: none is sent then")
    flags.add_argument("--code-from-log", type=Path, help="the server's log, where the code stands")
    flags = flags.parse_args()
    platform, login_server = servers(flags)

    country_code = asked(flags.country_code, "请输入国家代码 (country code) [+86]: ", "+86")
    phone = asked(flags.phone, "请输入手机号 (phone): ")
    if flags.code is None:
        log = flags.code_from_log
        seen = log.stat().st_size if log else 0
        sent = platform.send_code(country_code, phone)
        print(f"验证码已发送 (the code is sent), {sent['expires_in']} s")
        if log:
            flags.code = code_from_log(log, country_code + phone, seen)
    code = asked(flags.code, "请输入验证码 (the code, see the server's log): ")

    proved = platform.phone_login(country_code, phone, code)
    print(f"平台登录成功 (the platform knows you): {proved['user']['username']}")
    # The same code, once more: the platform and the login server take it once each.
    entered = login_server.phone_login(country_code, phone, code)
    print("登录服务器成功 (the login server gave a session)")
    play_with(flags, entered["session_id"])


if __name__ == "__main__":
    sys.exit(run(main))

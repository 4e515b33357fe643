"""Owns a client that speaks JSON over a WebSocket: `chat_client.py GATE ACCOUNTS USERNAME PASSWORD`
signs in by name, by token, by name after a refused token, and by a refreshed token."""

import asyncio
import base64
import json
import ssl
import sys
import time
import urllib.parse
import urllib.request

import websockets

DEADLINE_S = 20


class ChatClient:
    """One connection after another, to one gate."""

    def __init__(self, gate, username, password):
        self.gate, self.username, self.password = gate, username, password

    def connect(self, token=None):
        """A connection, with a token or without."""
        url = self.gate if token is None else f"{self.gate}?token={urllib.parse.quote(token)}"
        trust = None
        if url.startswith("wss:"):
            # A town of development made its certificate itself.
            trust = ssl.create_default_context()
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return websockets.connect(url, ssl=trust)

    async def login(self, websocket, password=None):
        """Says who it is."""
        body = {"username": self.username, "password": password or self.password}
        said = {"cmd_id": 1001, "from_uid": self.username, "device_id": "python_client",
                "platform": "python", "body": body}
        await websocket.send(json.dumps(said))


async def expect(websocket, code, text):
    """What it is told next, which must be this."""
    while True:
        message = json.loads(await asyncio.wait_for(websocket.recv(), DEADLINE_S))
        # What is pushed to a player is not for this client.
        if "api" not in message:
            break
    said = message["body"]["message"] if message["code"] == 200 else message["err_msg"]
    assert message["code"] == code and text in said, message
    return message["body"]


def refresh(accounts, token):
    """The next access token."""
    body = json.dumps({"refresh_token": token}).encode()
    request = urllib.request.Request(
        f"{accounts}/api/refresh-token", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        refreshed = json.load(answer)
    assert refreshed["code"] == 200, refreshed
    return refreshed["body"]["access_token"]


async def main(gate, accounts, username, password):
    """Every way in."""
    client = ChatClient(gate, username, password)
    async with client.connect() as websocket:
        await client.login(websocket)
        await expect(websocket, 200, "Connected successfully. Please login or provide token.")
        tokens = await expect(websocket, 200, "Login successful")
        await (await websocket.ping())
    print("by name")
    async with client.connect(tokens["access_token"]) as websocket:
        await expect(websocket, 200, "Connected and authenticated successfully")
    print("by token")
    async with client.connect("no+token/of=ours %") as websocket:
        await expect(websocket, 401, "Token authentication failed. Please login.")
        await client.login(websocket, "wrong-horse-1")
        await expect(websocket, 400, "")
        await client.login(websocket)
        await expect(websocket, 200, "Login successful")
    print("by name after a refused token, on the same socket")
    claims = tokens["access_token"].split(".")[1]
    expires = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
    await asyncio.sleep(max(0.0, expires - time.time() + 1.1))
    async with client.connect(tokens["access_token"]) as websocket:
        await expect(websocket, 401, "token expired")
    token = refresh(accounts, tokens["refresh_token"])
    async with client.connect(token) as websocket:
        await expect(websocket, 200, "Connected and authenticated successfully")
    print("by a refreshed token")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Owns the account center's HTTP: the account routes, the platform, the login server. What is
refused is raised, with when to come back where the server says so."""

import requests

TIMEOUT_S = 10


class AccountError(Exception):
    """The account center refused, or could not be asked."""

    def __init__(self, text: str, code: int | None = None, retry_after_s: int | None = None):
        super().__init__(text)
        self.code = code
        self.retry_after_s = retry_after_s


class Http:
    """One server that is asked in JSON."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S):
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = requests.Session()

    def ask(self, path: str, headers: dict | None = None, **params: object) -> dict:
        """Posts the parameters that are not None; the answer, unless it is a refusal."""
        body = {name: value for name, value in params.items() if value is not None}
        try:
            response = self._session.post(
                self.url + path, json=body, headers=headers, timeout=self._timeout_s
            )
            answer = response.json()
        except requests.JSONDecodeError as error:
            raise AccountError(f"{self.url}{path}: the answer is no JSON: {error}") from error
        except requests.RequestException as error:
            # Not the error's own text: it may quote what was sent.
            kind = type(error).__name__
            raise AccountError(f"{self.url}{path}: no answer ({kind})") from error
        after = response.headers.get("Retry-After", "")
        retry_after_s = int(after) if after.isdigit() else None
        if not isinstance(answer, dict):
            raise AccountError(f"{self.url}{path}: the answer is no JSON object")
        failed = not response.ok or answer.get("error") or answer.get("success") is False
        if failed or answer.get("code", 0) != 0:
            text = answer.get("error") or answer.get("message") or response.reason
            raise AccountError(str(text), answer.get("code", response.status_code), retry_after_s)
        return answer


class AccountCenter(Http):
    """The account routes, `/v1/…`."""

    def registry(self, username: str, password: str) -> dict:
        return self.ask("/v1/account/registry", username=username, password=password)

    def auth(self, username: str, password: str) -> dict:
        return self.ask("/v1/account/auth", username=username, password=password)

    def guest(self, device_id: str) -> dict:
        return self.ask("/v1/account/auth", device_id=device_id)

    def logout(self, token: str) -> dict:
        return self.ask("/v1/account/logout", token=token)


class Platform(Http):
    """The platform: proves who somebody is."""

    def __init__(self, url: str, app_id: str, device_id: str):
        super().__init__(url)
        self._app = {"app_id": app_id, "device_id": device_id}

    def send_code(self, country_code: str, phone: str) -> dict:
        return self.ask(
            "/auth/phone/send-code", country_code=country_code, phone=phone, **self._app
        )

    def phone_login(self, country_code: str, phone: str, code: str) -> dict:
        return self.ask(
            "/auth/phone/login", country_code=country_code, phone=phone, code=code, **self._app
        )

    def register(self, username: str, password: str, email: str) -> dict:
        app_id = self._app["app_id"]
        return self.ask(
            "/auth/register", username=username, password=password, email=email, app_id=app_id
        )

    def login(self, username: str, password: str) -> dict:
        return self.ask("/auth/login", username=username, password=password, **self._app)


class LoginServer(Http):
    """The login server: gives the game's own credential, `session_id`."""

    def __init__(self, url: str, device_id: str):
        super().__init__(url)
        self._device_id = device_id

    def phone_login(self, country_code: str, phone: str, code: str) -> dict:
        return self.ask(
            "/phone/login",
            country_code=country_code,
            phone=phone,
            code=code,
            device_id=self._device_id,
        )

    def register(self, username: str, password: str, email: str) -> dict:
        return self.ask("/register", username=username, password=password, email=email)

    def login(self, username: str, password: str) -> dict:
        return self.ask(
            "/login", username=username, password=password, device_id=self._device_id
        )

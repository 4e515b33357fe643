//! Clients that speak JSON over a WebSocket, in JavaScript and in Python, with and without TLS; and
//! the account routes by curl, as people try them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bastide_testkit::secret;
use serde_json::{Value, json};

use crate::{
    npm::{node, says},
    python::python,
    town::Town,
};

const WAYS: &str = "by name\nby token\nby name after a refused token, on the same socket\n\
                    by a refreshed token\n";

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients")
}

/// A town whose tokens live for some seconds, with a WebSocket over TLS too.
fn town(dir: &Path) -> Town {
    let set = ["--set", "account.token_ttl=3s", "--set", "gate.ws_tls=127.0.0.1:0"];
    Town::start_with(dir, &[&["--http", "127.0.0.1:0"], &set[..]].concat())
}

/// What one client says to each kind of gate.
fn chats(client: impl Fn() -> Command) {
    let dir = tempfile::tempdir().unwrap();
    let town = town(dir.path());
    let (accounts, password) = (format!("http://{}", town.http()), secret("correct-horse-1"));
    curl(&town, "registry", &["-d", &format!("username=user123&password={password}")]);
    let tls = town.addresses["gate_ws_tls"].as_str().unwrap();
    for gate in [format!("ws://{}", town.gate_ws()), format!("wss://{tls}")] {
        let mut client = client();
        client.args([&gate, &accounts, "user123", password]);
        assert_eq!(says(&mut client), WAYS, "{gate}");
    }
}

#[test]
fn a_page_signs_in_by_name_by_token_and_by_a_refreshed_token() {
    chats(|| {
        let mut page = node();
        // A town of development made its certificate itself.
        page.env("NODE_TLS_REJECT_UNAUTHORIZED", "0").arg("--no-warnings");
        page.arg(clients().join("npm/chat.cjs"));
        page
    });
}

#[test]
fn a_program_in_python_signs_in_by_name_by_token_and_by_a_refreshed_token() {
    chats(|| {
        let mut program = python();
        program.arg("chat_client.py");
        program
    });
}

/// What an account route answers to curl.
fn curl(town: &Town, route: &str, how: &[&str]) -> Value {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-X", "POST"]).args(how);
    asked(curl.arg(format!("http://{}/v1/{}", town.http(), path(route))))
}

fn path(route: &str) -> String {
    match route {
        "verification" => route.to_owned(),
        of_account => format!("account/{of_account}"),
    }
}

fn asked(curl: &mut Command) -> Value {
    let said = says(curl);
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
}

/// As a form, and as JSON.
fn both(town: &Town, route: &str, token: &str, fields: &Value) -> [i64; 2] {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = fields.as_object().unwrap().iter();
    let form: Vec<_> = pairs.map(|(name, value)| format!("{name}={}", text(value))).collect();
    let (form, json) = (form.join("&"), fields.to_string());
    let bearer = format!("authorization: Bearer {token}");
    let form = curl(town, route, &["-H", &bearer, "-d", &form]);
    let kind = "content-type: application/json";
    let json = curl(town, route, &["-H", &bearer, "-H", kind, "-d", &json]);
    [form, json].map(|answer| answer["code"].as_i64().unwrap_or_else(|| panic!("{answer}")))
}

/// The code that the log says a phone was sent.
fn sent(town: &Town, phone: &str) -> String {
    let log = fs::read_to_string(town.log()).unwrap();
    let line = log.lines().rfind(|line| line.contains(phone) && line.contains("验证码")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_account_route_takes_a_form_and_json_and_a_sign_in_a_query() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let (lisp, new) = (secret("lisp-secret-1"), secret("lisp-secret-2"));
    let form = format!("username=lisp&password={lisp}");
    let registered = curl(&town, "registry", &["-d", &form]);
    assert_eq!((&registered["code"], &registered["addr"]), (&0.into(), &town.gate().into()));
    assert_eq!(
        both(&town, "registry", "", &json!({ "username": "lisp", "password": lisp })),
        [203; 2]
    );

    let known = curl(&town, "auth", &["-d", &form]);
    assert_eq!((&known["code"], &known["account_id"]), (&0.into(), &registered["account_id"]));
    assert_eq!(both(&town, "auth", "", &json!({ "username": "lisp", "password": lisp })), [0; 2]);
    let url = format!("http://{}/v1/account/auth?{form}", town.http());
    assert_eq!(asked(Command::new("curl").args(["-sS", &url]))["code"], 0);
    let device = secret("device-of-a-guest-1");
    assert_eq!(both(&town, "auth", "", &json!({ "device_id": device })), [0; 2]);
    let guest = curl(&town, "auth", &["-d", &format!("device_id={device}")]);

    let (id, token) = (&guest["account_id"], guest["token"].as_str().unwrap());
    let name = json!({ "account_id": id, "username": "guest", "password": lisp });
    assert_eq!(both(&town, "bind/account", token, &name), [0, 204], "it has one then");

    let id = &registered["account_id"];
    let phone = "+8613812345678";
    assert_eq!(both(&town, "verification", "", &json!({ "phone": "13812345678" })), [0, 208]);
    let code = secret(&sent(&town, phone)).to_owned();
    let bind = json!({ "account_id": id, "password": lisp, "phone": "13812345678", "code": code });
    assert_eq!(both(&town, "bind/phone", "", &bind)[0], 0);
    let change = json!({ "account_id": id, "password": lisp, "new_password": new });
    assert_eq!(both(&town, "password/change", "", &change), [0, 201], "it is another's then");
    let reset = json!({ "account_id": id, "new_password": lisp, "code": code });
    assert_eq!(both(&town, "password/reset", "", &reset), [207; 2], "a used one is a wrong one");
    town.stop().await;
}

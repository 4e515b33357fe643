//! The clients in `examples/clients/python`, and what schemathesis finds at the account center.
//! Both run against a town of their own, with the Python that `services.sh` makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bastide::{Named, msg};
use bastide_testkit::secret;
use cards::draw;

use crate::town::Town;

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/python")
}

/// The Python of the virtual environment, in the folder of the clients.
pub(crate) fn python() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let wanted = fs::read_to_string(clients().join("requirements-dev.txt")).unwrap();
    let has = fs::read_to_string(root.join("target/python/requirements.txt")).unwrap_or_default();
    assert!(wanted == has, "Python is not what requirements-dev.txt says: run ./services.sh");
    let mut python = Command::new(root.join("target/python/bin/python"));
    python.current_dir(clients()).env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_messages_that_python_knows_are_those_of_the_proto_files() {
    for (name, schema) in
        [("bastide", <msg::login::Req as Named>::schema()), ("cards", draw::Req::schema())]
    {
        let path = clients().join(format!("bastide_client/schema/{name}.binpb"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, schema).unwrap();
        }
        assert!(
            fs::read(&path).unwrap_or_default() == schema,
            "{} is not what the .proto files say: write it anew with \
             `UPDATE=1 cargo test -p town python`",
            path.display()
        );
    }
}

#[test]
fn the_python_client_plays_and_keeps_its_session_over_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let gates = format!("tcp://{},ws://{}", town.gate(), town.gate_ws());
    let mut tests = python();
    tests.env("BASTIDE_HTTP", format!("http://{}", town.http())).env("BASTIDE_GATES", gates);
    let secrets = dir.path().join("secrets");
    let said = succeeded(
        &tests.env("BASTIDE_SECRETS", &secrets).args(["-m", "unittest", "-v"]).output().unwrap(),
    );
    let secrets = fs::read_to_string(secrets).unwrap();
    assert!(secrets.lines().map(secret).count() > 5, "tokens and a password");
    assert!(said.contains("\nOK"), "{said}");
}

#[test]
fn schemathesis_finds_nothing_that_the_description_does_not_say() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let url = format!("http://{}", town.http());
    let mut asked = python();
    asked.args(["check_http.py", &url]).env("HOME", dir.path());
    let said = succeeded(&asked.output().unwrap());
    let asked = said.split("Tested: ").nth(1).and_then(|said| said.split_whitespace().next());
    assert!(asked.and_then(|asked| asked.parse::<u32>().ok()).is_some_and(|n| n >= 30), "{said}");
}

/// How a script is told where the servers are.
fn at(town: &Town) -> Vec<String> {
    let http = format!("http://{}", town.http());
    let gate = format!("ws://{}/ws", town.gate_ws());
    let flags = ["--platform", &http, "--login-server", &http, "--gate", &gate, "--draw", "yes"];
    flags.map(str::to_owned).into()
}

/// Platform, login server, WebSocket, user info, a card, user info.
fn has_played(said: &str) {
    let mut lines = said.lines();
    for part in
        ["platform knows", "login server gave", "signed in", "cards 0", "drew", "cards 1", "done"]
    {
        assert!(lines.any(|line| line.contains(part)), "{part} does not follow: {said}");
    }
}

#[test]
fn a_phone_signs_in_with_the_code_of_the_log_and_draws_a_card() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let mut client = python();
    client.arg("phone_auth_client.py").args(at(&town)).arg("--code-from-log").arg(town.log());
    let output = client.args(["--country-code", "+86", "--phone", "13812345678"]).output();
    has_played(&succeeded(&output.unwrap()));
}

#[test]
fn a_name_registers_and_logs_in_and_draws_a_card() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let run = |more: &[&str]| {
        let mut client = python();
        client.arg("username_auth_client.py").args(at(&town)).args(["--username", "anna"]);
        client.args(more).output().unwrap()
    };
    let right = secret("correct-horse-1");
    let registered = run(&["--register", "--password", right, "--email", "anna@example.org"]);
    has_played(&succeeded(&registered));
    let again = succeeded(&run(&["--login", "--password", right]));
    assert!(again.contains("cards 2"), "{again}");
    let refused = run(&["--login", "--password", "wrong-horse-1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("refused"), "{refused:?}");
}

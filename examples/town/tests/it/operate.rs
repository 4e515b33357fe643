//! Starting, playing, stopping, and every mistake an operator makes.

use std::{fs, path::Path};

use bastide::client::guest;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::town::{Town, command, run};

/// Doors that no other test has.
const FREE: [&str; 10] = [
    "--http",
    "127.0.0.1:0",
    "--gate-tcp",
    "127.0.0.1:0",
    "--gate-ws",
    "127.0.0.1:0",
    "--gate-quic",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// What the program said on standard error, one line; and its exit code was 2.
fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
    assert!(!said.contains("panicked") && !said.contains("stack backtrace"), "{said}");
    said
}

#[tokio::test]
async fn it_starts_says_where_it_is_and_what_to_try_and_stops_with_0() {
    let dir = folder();
    let town = Town::start(dir.path());
    let banner = town.banner.join("\n");
    for part in [&town.http(), &town.gate(), "ready in ", " ms", "play --addr"] {
        assert!(banner.contains(part), "{part} is not in {banner}");
    }
    assert!(town.addresses["pid"].as_u64().is_some());
    for there in ["gate_tcp", "gate_ws", "gate_quic"] {
        assert!(banner.contains(town.addresses[there].as_str().unwrap()), "{there}: {banner}");
    }
    assert!(banner.contains(&format!("http://{}/play", town.gate_ws())), "{banner}");
    assert!(town.addresses.get("gate_ws_tls").is_none(), "what is not there is not announced");
    assert_eq!(town.stop().await.code(), Some(0));
}

#[tokio::test]
async fn play_works_and_the_cards_are_still_there_after_a_restart() {
    let dir = folder();
    let town = Town::start(dir.path());
    let first = town.play(dir.path(), "mine");
    let said = String::from_utf8(first.stdout).unwrap();
    assert!(first.status.success(), "{said} {}", String::from_utf8_lossy(&first.stderr));
    assert!(said.lines().count() >= 6 && said.lines().all(|l| l.contains(" ms  ")), "{said}");
    assert!(said.contains("0 cards before"), "{said}");
    assert_eq!(town.stop().await.code(), Some(0));

    let town = Town::start(dir.path());
    let second = town.play(dir.path(), "mine");
    let said = String::from_utf8(second.stdout).unwrap();
    assert!(second.status.success() && said.contains("5 cards before"), "{said}");
}

#[tokio::test]
async fn play_fails_with_1_when_nobody_is_there() {
    let dir = folder();
    let output = run(dir.path(), &["play", "--addr", "127.0.0.1:1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("127.0.0.1:1"), "{said}");
}

#[tokio::test]
async fn the_state_survives_a_kill_when_it_was_saved_before_it_was_answered() {
    let dir = folder();
    let mut town = Town::start(dir.path());
    assert!(town.play(dir.path(), "mine").status.success());
    town.signal("-KILL");
    assert_eq!(town.ended().await.code(), None);
    let town = Town::start(dir.path());
    let said = String::from_utf8(town.play(dir.path(), "mine").stdout).unwrap();
    assert!(said.contains("5 cards before"), "{said}");
}

/// A request that never ends keeps the drain waiting for its 2 s; the gate's closed door shows
/// that the first signal has been heard.
#[tokio::test]
async fn a_second_signal_ends_a_drain_that_waits() {
    let dir = folder();
    let mut town = Town::start(dir.path());
    let mut unending = TcpStream::connect(town.http()).await.unwrap();
    let half = b"POST /v1/account/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    unending.write_all(half).await.unwrap();
    // Answered behind it, so the server has taken the other connection in.
    guest(&town.http(), "d").await.unwrap();
    town.signal("-INT");
    while TcpStream::connect(town.gate()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    town.signal("-INT");
    assert_eq!(town.ended().await.code(), Some(1), "0 would be a drain that went to its end");
}

#[test]
fn mistakes_on_the_command_line_and_in_files_are_one_sentence_and_exit_2() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("bad.toml"), "[gate]\ntpc = \"127.0.0.1:1\"\n").unwrap();
    fs::write(at.join("broken.toml"), "[gate\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--config", "bad.toml"], &["bad.toml", "gate.tpc", "tcp"]),
        (&["--config", "broken.toml"], &["broken.toml", "line 1"]),
        (&["--config", "none.toml"], &["none.toml"]),
        (&["--gate-tcp", "here"], &["--gate-tcp", "here"]),
        (&["--gate-tcp", "192.0.2.1:1"], &["gate.tcp", "192.0.2.1:1", "--gate-tcp"]),
        (&["dev", "--set", "gate.idle_timeout=x"], &["gate.idle_timeout", "x", "30s"]),
        (&["--port-base", "65535"], &["port_base", "65535"]),
        (&["--store", "mysql://u:hidden@h/d"], &["store.url", "mysql://u"]),
    ];
    for (args, parts) in cases {
        let said = refusal(at, args);
        for part in *parts {
            assert!(said.contains(part), "{args:?}: {part} is not in: {said}");
        }
        assert!(!said.contains("hidden"), "{said}");
    }
}

#[test]
fn a_flag_before_the_command_is_refused_rather_than_forgotten() {
    let dir = folder();
    let output = run(dir.path(), &["--port-base", "20000", "dev"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_log_filter_that_is_none_is_named() {
    let dir = folder();
    let output = command(dir.path(), &[]).env("RUST_LOG", "gate=loud").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("RUST_LOG = gate=loud") && said.contains("gate=debug"), "{said}");
}

#[test]
fn a_database_that_is_a_folder_or_no_database_is_named_with_the_remedy() {
    let dir = folder();
    let data = dir.path().join("bastide-data");
    fs::create_dir_all(data.join("town.db")).unwrap();
    let said = refusal(dir.path(), &FREE);
    assert!(said.contains("town.db") && said.contains("directory"), "{said}");

    fs::remove_dir(data.join("town.db")).unwrap();
    fs::write(data.join("town.db"), "not a database, however long this text may be").unwrap();
    let said = refusal(dir.path(), &FREE);
    assert!(said.contains("town.db") && said.contains("not a SQLite database"), "{said}");

    fs::write(dir.path().join("file"), "").unwrap();
    let said = refusal(dir.path(), &[&FREE[..], &["--data", "file"]].concat());
    assert!(said.contains("--data"), "{said}");
}

#[tokio::test]
async fn started_twice_the_second_says_which_port_is_taken_and_the_first_plays_on() {
    let dir = folder();
    let town = Town::start(dir.path());
    let (http, other) = (town.http(), folder());
    let said = refusal(other.path(), &[&FREE[2..], &["--http", &http]].concat());
    for part in ["account.listen", &http, "--http", "--port-base"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(town.play(dir.path(), "d").status.success());
}

#[test]
fn an_announce_file_that_cannot_be_written_is_named() {
    let dir = folder();
    let said = refusal(dir.path(), &[&FREE[..], &["--announce", "no/such/folder.json"]].concat());
    assert!(said.contains("announce") && said.contains("no/such/folder.json"), "{said}");
}

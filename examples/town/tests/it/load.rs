//! Measuring a town with `town load`: closed and open loops, a scenario, processes, a server that
//! dies, files, and an operator's mistakes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::town::{Town, command, run};

/// Measures for a second or two with what is said beside; what the program printed, and its file.
fn load(dir: &Path, town: &Town, args: &[&str]) -> (Output, Value) {
    let http = town.http();
    let mut all = vec!["load", "--addr", &http, "--json", "load.json", "--warm-up", "100ms"];
    all.extend(args);
    let output = run(dir, &all);
    let file = fs::read(dir.join("load.json")).unwrap_or_default();
    (output, serde_json::from_slice(&file).unwrap_or_default())
}

fn start(dir: &Path) -> Town {
    Town::start_with(dir, &["--http", "127.0.0.1:0", "--set", "gate.rate_frames_per_s=0"])
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Every request was answered, and each answer has a latency.
fn assert_whole(outcome: &Value, said: &str) {
    let count = |key: &str| outcome[key].as_u64().unwrap();
    assert_eq!(count("answered") + count("inputs"), count("sent"), "{said}");
    let pairs = outcome["latency_ns"].as_array().unwrap();
    let latencies: u64 = pairs.iter().map(|pair| pair[1].as_u64().unwrap()).sum();
    assert_eq!(latencies, count("answered"), "{said}");
    assert_eq!(outcome["errors"], serde_json::json!({}), "{said}");
}

#[tokio::test]
async fn a_closed_loop_is_measured_and_another_is_compared_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let town = start(dir.path());
    let args = ["--connections", "4", "--depth", "8", "--seconds", "1", "--payload", "64"];
    let (output, outcome) = load(dir.path(), &town, &args);
    let first = said(&output);
    assert!(output.status.success(), "{first}");
    assert_whole(&outcome, &first);
    assert!(outcome["answered"].as_u64().unwrap() > 32, "the loop goes round: {first}");
    for part in ["messages a second", "latency p99.9", "server CPU a message", "depth 8"] {
        assert!(first.contains(part), "{part} is not in {first}");
    }
    let pid = &town.addresses["pid"];
    assert_eq!(outcome["server"]["pids"], serde_json::json!([pid]), "{first}");

    fs::rename(dir.path().join("load.json"), dir.path().join("before.json")).unwrap();
    let (output, _) = load(
        dir.path(),
        &town,
        &["--connections", "2", "--seconds", "1", "--against", "before.json", "--report", "a.html"],
    );
    let second = said(&output);
    assert!(output.status.success() && second.contains("ratio"), "{second}");
    let page = fs::read_to_string(dir.path().join("a.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.contains("Before: 4 connections, depth 8"), "{page}");
}

#[tokio::test]
async fn an_open_loop_sends_what_is_due_also_from_several_processes() {
    let dir = tempfile::tempdir().unwrap();
    let town = start(dir.path());
    let args = [
        "--connections",
        "10",
        "--rate",
        "300",
        "--seconds",
        "2",
        "--processes",
        "3",
        "--ramp",
        "200ms",
    ];
    let (output, outcome) = load(dir.path(), &town, &args);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert_whole(&outcome, &text);
    let sent = outcome["sent"].as_u64().unwrap();
    // Each connection's first message after the warm-up is somewhere in its turn.
    assert!((590..=610).contains(&sent), "300 a second for 2 s: {sent} {text}");
    assert_eq!(outcome["connected"], 10);
    assert_eq!(outcome["series"].as_array().unwrap().len(), 2, "{text}");
}

#[tokio::test]
async fn the_scenario_that_is_bundled_works_on_a_town() {
    let dir = tempfile::tempdir().unwrap();
    // As it is: its rates are below what a gate lets a client say.
    let town = Town::start(dir.path());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("load/mixed.toml");
    let args = ["--scenario", file.to_str().unwrap(), "--connections", "16", "--seconds", "4"];
    let (output, outcome) = load(dir.path(), &town, &args);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert_whole(&outcome, &text);
    assert!(outcome["inputs"].as_u64().unwrap() > 0, "walkers steer: {text}");
    assert!(outcome["pushes"].as_u64().unwrap() > 0, "arenas are seen: {text}");
    let sign_ins = outcome["sign_in_ns"].as_array().unwrap();
    let sign_ins: u64 = sign_ins.iter().map(|pair| pair[1].as_u64().unwrap()).sum();
    assert!(sign_ins > 16, "visitors come again: {text}");
}

#[tokio::test]
async fn a_server_that_dies_is_an_error_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for processes in ["1", "2"] {
        let mut town = start(dir.path());
        let http = town.http();
        let args = ["load", "--addr", &http, "--connections", "6", "--rate", "100"];
        let rest = ["--seconds", "600", "--processes", processes, "--json", "load.json"];
        let mut load = command(dir.path(), &[&args[..], &rest[..]].concat());
        let mut load = load.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(load.stderr.take().unwrap()).lines();
        let second = lines.find(|line| line.as_ref().unwrap().contains("p99"));
        assert!(second.is_some(), "a second was measured");
        town.signal("-KILL");
        town.ended().await;
        // Long before its 600 s: nobody is left.
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        assert_eq!(load.wait().unwrap().code(), Some(1), "{rest:?}");
        let outcome = fs::read(dir.path().join("load.json")).unwrap();
        let outcome: Value = serde_json::from_slice(&outcome).unwrap();
        let errors = outcome["errors"].as_object().unwrap();
        let lost: u64 = errors
            .iter()
            .filter(|(k, _)| k.starts_with("gate: "))
            .map(|(_, n)| n.as_u64().unwrap())
            .sum();
        assert_eq!(lost, 6, "each connection once: {errors:?}");
        assert!(errors["due, but not sent"].as_u64().unwrap() > 1000, "{errors:?}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_it_early_and_the_files_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let town = start(dir.path());
    let http = town.http();
    let args = ["load", "--addr", &http, "--connections", "4", "--seconds", "600"];
    let rest = ["--processes", "2", "--json", "load.json", "--report", "load.html"];
    let mut load = command(dir.path(), &[&args[..], &rest[..]].concat());
    let mut load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(load.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("p99")), "a second was measured");
    let interrupt =
        std::process::Command::new("kill").args(["-INT", &load.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    let output = load.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text} {rest:?}");
    assert!(text.contains("latency p99"), "{text}");
    let outcome: Value =
        serde_json::from_slice(&fs::read(dir.path().join("load.json")).unwrap()).unwrap();
    assert_whole(&outcome, &text);
    assert!(fs::read_to_string(dir.path().join("load.html")).unwrap().contains("<svg"));
}

#[tokio::test]
async fn a_mistake_is_a_sentence_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), "[[group]]\nname = \"a\"\n[[group.step]]\nsend = \"x.Y\"")
        .unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--api", "msg.Ecko.Req"], &["--api", "msg.Ecko.Req", "msg.Echo.Req"]),
        (&["--body", "{\"wal\":1}"], &["wal", "JSON"]),
        (&["--api", "arena.Steer"], &["arena.Steer", "no answer", "rate"]),
        (&["--connections", "0"], &["--connections is 0", "from 1"]),
        (&["--depth", "100000"], &["--depth is 100000", "from 1"]),
        (&["--rate", "0"], &["--rate is 0", "a second"]),
        (&["--processes", "1000"], &["--processes is 1000", "from 1"]),
        (&["--scenario", "a.toml"], &["a.toml", "step 1", "x.Y", "chat.Say.Req"]),
        (&["--scenario", "none.toml"], &["none.toml"]),
        (&["--against", "none.json"], &["--against", "none.json"]),
        (&["--report", "no/folder.html"], &["no/folder.html", "written"]),
    ];
    for (args, parts) in cases {
        let mut all = vec!["load", "--addr", "127.0.0.1:1"];
        all.extend(*args);
        let output = run(dir.path(), &all);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "one sentence: {text}");
        for part in *parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    let output = run(dir.path(), &["load", "--addr", "127.0.0.1:1"]);
    let text = said(&output);
    assert!(output.status.code() == Some(1) && text.contains("127.0.0.1:1"), "{text}");
}

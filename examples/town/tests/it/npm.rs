//! The published clients gamerpc and gamegoldtoolkit, as npm has them: each way in of each version, in
//! each of its modes, against a town of its own. They are what `services.sh` installs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use bastide_testkit::secret;

use crate::town::Town;

const MODES: [&str; 3] = ["get", "post", "webSocket"];

fn npm() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/npm")
}

/// Node in the folder of the installed packages.
pub(crate) fn node() -> Command {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/npm");
    let wanted = fs::read_to_string(npm().join("package-lock.json")).unwrap();
    let has = fs::read_to_string(installed.join("installed.json")).unwrap_or_default();
    assert!(wanted == has, "target/npm is not what package-lock.json says: run ./services.sh");
    let mut node = Command::new("node");
    node.current_dir(installed).arg("--no-deprecation");
    node
}

/// What a program says, such as a script of examples/clients/npm; it must end well.
#[track_caller]
pub(crate) fn says(program: &mut Command) -> String {
    let output = program.output().unwrap_or_else(|e| {
        let name = program.get_program().display();
        panic!("{name} does not start, run ./services.sh: {e}")
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{trouble}");
    said
}

/// A platform that knows the key `good`. It ends with the test's process.
fn platform() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut asked, mut bytes) = (Vec::new(), [0; 1024]);
            while !asked.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(read @ 1..) => asked.extend_from_slice(&bytes[..read]),
                    _ => break,
                }
            }
            let good = String::from_utf8_lossy(&asked).contains("openkey=good&");
            let body = if good { r#"{"ret":0}"# } else { r#"{"ret":1}"# };
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
            write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    address
}

/// Takes a client through its ways in, in each mode; each must have signed in by all of them.
#[expect(clippy::print_stdout, reason = "a line for each way in: what a person wants to see")]
async fn signs_in(client: &str, ways: &[&str]) {
    let platform = format!("validators.tx.endpoint=http://{}/", platform());
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        // Wrong proofs are counted by address, so each mode has a town of its own.
        let town = Town::start_with(dir.path(), &["--http", "127.0.0.1:0", "--set", &platform]);
        let operators = fs::read_to_string(dir.path().join("bastide-data/admin.secret")).unwrap();
        let url = format!("http://{}", town.http());
        let mut node = node();
        node.arg(npm().join("client.cjs"));
        node.args([client, mode, &url, secret("correct-horse-1")]);
        let said = says(node.env("ADMIN_SECRET", operators.trim()));
        print!("{said}");
        let twice = (mode == "webSocket" && client.starts_with("gamerpc")).then_some("twice");
        for way in ways.iter().copied().chain(twice) {
            let line = format!("{client} {mode} {way}: account 10");
            assert!(said.contains(&line), "{line} is missing: {said}");
        }
        assert_eq!(town.stop().await.code(), Some(0));
    }
}

const ALL: [&str; 6] = ["document", "device", "auth2step", "authpwd", "authwx", "official"];

#[tokio::test]
async fn gamerpc_1_7_12_signs_in_every_way_that_it_has() {
    signs_in("gamerpc-1.7.12", &["document", "device", "auth2step", "authwx"]).await;
}

/// It leaves out signatures and codes, whatever it is told to send.
#[tokio::test]
async fn gamerpc_2_2_2_signs_in_every_way_that_it_can() {
    signs_in("gamerpc-2.2.2", &["device", "authpwd", "authwx", "official"]).await;
}

#[tokio::test]
async fn gamerpc_5_0_2_signs_in_every_way_that_it_has() {
    signs_in("gamerpc-5.0.2", &ALL).await;
}

#[tokio::test]
async fn gamerpc_6_0_6_signs_in_every_way_that_it_has() {
    signs_in("gamerpc-6.0.6", &ALL).await;
}

#[tokio::test]
async fn gamerpc_7_1_2_signs_in_every_way_that_it_has() {
    signs_in("gamerpc-7.1.2", &ALL).await;
}

#[tokio::test]
async fn gamegoldtoolkit_1_6_2_signs_in_every_way_that_it_has() {
    signs_in("gamegoldtoolkit-1.6.2", &["360", "tx", "admin"]).await;
}

#[tokio::test]
async fn gamegoldtoolkit_1_6_9_signs_in_every_way_that_it_has() {
    signs_in("gamegoldtoolkit-1.6.9", &["360", "tx", "admin"]).await;
}

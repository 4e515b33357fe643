//! Owns the proof that the servers do what the kit says: they answer, end, come back with or
//! without their data, stand still, and never outlive the test program.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "blocking tests of real processes, one of which prints for its parent"
)]

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio, exit},
    thread,
    time::{Duration, Instant},
};

use bastide_testkit::{Etcd, Postgres, Redis, Services, cluster_name, free_port, shared};

/// Long against the second that a frozen server is given to answer in.
const PATIENCE: Duration = Duration::from_secs(20);

fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn address(url: &str) -> String {
    let rest = url.split("://").nth(1).unwrap();
    rest.split('/').next().unwrap().rsplit('@').next().unwrap().to_owned()
}

/// What a server says to a request, up to what stands at its end; nothing within a second: an
/// error.
fn say(url: &str, request: &str, until: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address(url))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(request.as_bytes())?;
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&said).ends_with(until) {
        match stream.read(&mut buffer)? {
            0 => break,
            n => said.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn redis(redis: &Redis, order: &str) -> std::io::Result<String> {
    say(&redis.url(), &format!("{order}\r\n"), "\r\n")
}

/// etcd speaks JSON as well; `YQ==` is the key `a`.
fn etcd(etcd: &Etcd, path: &str, body: &str) -> std::io::Result<String> {
    let request =
        format!("POST /v3/kv/{path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    say(&etcd.url(), &request, "\u{0}")
}

#[test]
fn redis_answers_forgets_at_every_end_and_keeps_its_port() {
    let mut server = Redis::start();
    let url = server.url();
    assert_eq!(redis(&server, "SET a 1").unwrap(), "+OK\r\n");
    server.kill();
    assert!(redis(&server, "PING").is_err());
    server.restart();
    assert_eq!(server.url(), url);
    assert_eq!(redis(&server, "GET a").unwrap(), "$-1\r\n");
    redis(&server, "SET a 1").unwrap();
    server.stop();
    server.wipe();
    server.restart();
    assert_eq!(redis(&server, "GET a").unwrap(), "$-1\r\n");
}

#[test]
fn etcd_keeps_its_data_until_it_is_wiped() {
    let mut server = Etcd::start();
    let kept = |server: &Etcd| etcd(server, "range", r#"{"key":"YQ=="}"#).unwrap();
    etcd(&server, "put", r#"{"key":"YQ==","value":"Yg=="}"#).unwrap();
    server.kill();
    assert!(etcd(&server, "range", "{}").is_err());
    server.restart();
    assert!(kept(&server).contains("Yg=="), "{}", kept(&server));
    server.stop();
    server.restart();
    assert!(kept(&server).contains("Yg=="));
    server.stop();
    server.wipe();
    server.restart();
    let wiped = kept(&server);
    assert!(wiped.contains("200 OK") && !wiped.contains("Yg=="), "{wiped}");
}

#[test]
fn postgres_keeps_its_data_and_gives_each_test_a_database() {
    let mut server = Postgres::start();
    let (one, two) = (server.database(), server.database());
    assert_ne!(one, two);
    server.sql("CREATE TABLE t (n INT); INSERT INTO t VALUES (7)");
    server.kill();
    server.restart();
    assert_eq!(server.sql("SELECT n FROM t").trim(), "7");
    server.stop();
    server.restart();
    assert_eq!(server.sql("SELECT n FROM t").trim(), "7");
    let names = server.sql("SELECT datname FROM pg_database");
    assert!(names.contains(one.rsplit('/').next().unwrap()), "{names}");
}

#[test]
fn a_frozen_server_takes_connections_and_answers_when_it_is_thawed() {
    let services = Services::start();
    services.redis.freeze();
    redis(&services.redis, "PING").expect_err("a frozen Redis says nothing");
    services.redis.thaw();
    assert_eq!(redis(&services.redis, "PING").unwrap(), "+PONG\r\n");

    services.etcd.freeze();
    etcd(&services.etcd, "range", r#"{"key":"YQ=="}"#).expect_err("a frozen etcd says nothing");
    services.etcd.thaw();
    eventually("etcd answers again", || {
        etcd(&services.etcd, "range", r#"{"key":"YQ=="}"#).is_ok_and(|said| said.contains("200 OK"))
    });

    // A session that was there before is frozen as well: it is answered by a child.
    let mut psql = Command::new("psql")
        .args(["-X", "-A", "-t", "-d", &services.postgres.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asks = psql.stdin.take().unwrap();
    let mut says = BufReader::new(psql.stdout.take().unwrap()).lines();
    writeln!(asks, "SELECT 1;").unwrap();
    assert_eq!(says.next().unwrap().unwrap(), "1");
    services.postgres.freeze();
    writeln!(asks, "SELECT 'thawed';").unwrap();
    let reader = thread::spawn(move || says.next().unwrap().unwrap());
    thread::sleep(Duration::from_millis(300));
    assert!(!reader.is_finished(), "a frozen session says nothing");
    services.postgres.thaw();
    assert_eq!(reader.join().unwrap(), "thawed");
    drop(asks);
    psql.wait().unwrap();
}

#[test]
fn a_frozen_server_can_be_stopped_and_killed() {
    let Services { mut etcd, mut redis, mut postgres } = Services::start();
    postgres.freeze();
    postgres.stop();
    redis.freeze();
    redis.kill();
    etcd.freeze();
    etcd.restart();
    assert_eq!((postgres.process(), redis.process()), (None, None));
    assert!(etcd.process().is_some());
}

#[test]
fn of_many_threads_that_ask_at_once_one_starts_the_shared_set() {
    let ids: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (shared().etcd.process(), shared().postgres.database())))
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|(etcd, _)| *etcd == ids[0].0), "{ids:?}");
    let databases: std::collections::HashSet<_> = ids.iter().map(|(_, url)| url).collect();
    assert_eq!(databases.len(), ids.len(), "each asked for a database of its own");
}

#[test]
fn ports_and_names_are_given_once() {
    let ports: std::collections::HashSet<_> = (0..200).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 200);
    assert_ne!(cluster_name(), cluster_name());
}

/// How the program ends that [`the_servers_end_with_the_program_however_it_ends`] starts.
const ENDING: &str = "BASTIDE_TESTKIT_ENDING";

/// Not a test by itself: the program that the next one watches.
#[test]
fn a_program_with_servers() {
    let Ok(ending) = env::var(ENDING) else { return };
    let services = Services::start();
    // As its own: a value that is dropped would prove nothing about statics.
    let Services { etcd, redis, postgres } = Box::leak(Box::new(services));
    postgres.freeze();
    for (process, folder) in [
        (etcd.process(), etcd.folder()),
        (redis.process(), redis.folder()),
        (postgres.process(), postgres.folder()),
    ] {
        println!("\nserver {} {}", process.unwrap(), folder.display());
    }
    println!("\nready");
    match ending.as_str() {
        "exit" => exit(0),
        "panic" => panic!("as asked"),
        _ => thread::sleep(PATIENCE),
    }
}

fn program(ending: &str) -> (Child, Vec<(String, String)>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_program_with_servers", "--nocapture", "--test-threads=1"])
        .env(ENDING, ending)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut servers = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["server", process, folder] => servers.push((process.to_owned(), folder.to_owned())),
            ["ready"] => break,
            _ => {}
        }
    }
    assert_eq!(servers.len(), 3, "{ending}: the program started its servers");
    (child, servers)
}

#[test]
fn the_servers_end_with_the_program_however_it_ends() {
    for ending in ["SIGKILL", "exit", "panic"] {
        let (mut child, servers) = program(ending);
        if ending == "SIGKILL" {
            let (process, folder) = &servers[0];
            assert!(Path::new(&format!("/proc/{process}")).exists() && Path::new(folder).is_dir());
            child.kill().unwrap();
        }
        child.wait().unwrap();
        for (process, folder) in servers {
            eventually(&format!("after {ending}, {process} and {folder} are gone"), || {
                !Path::new(&format!("/proc/{process}")).exists() && !Path::new(&folder).exists()
            });
        }
    }
}

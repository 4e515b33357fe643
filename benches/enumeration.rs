//! Whether the time of an answer tells that a name has an account: sign-ins with a wrong password,
//! of names that are known and of names that are not, in turn, with the distribution of their
//! times side by side.
//!
//! `cargo bench --bench enumeration -- [--samples N]`
//!
//! Each name and each address is asked once, so that nobody is throttled. The third line is the
//! control: unknown names against unknown names, which must differ no more and no less. `z` is that
//! of the rank-sum test: beyond ±2 there is a difference, or one time in twenty none. `P` is how
//! often the first of two is the slower one: 0.5 tells nothing.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::{env, process::ExitCode, time::Duration};

use bastide_benches::{Guest, Nodes, ROLE, Servers, Setup, game};
use tokio::{runtime::Builder, time::Instant};

fn main() -> ExitCode {
    if env::var(ROLE).is_ok() {
        return game().main();
    }
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let samples = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(400),
        ["--samples", number] => number.parse().ok().filter(|n| *n > 1),
        _ => None,
    };
    let Some(samples) = samples else {
        println!("--samples wants a number above 1");
        return ExitCode::from(2);
    };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(samples));
    ExitCode::SUCCESS
}

async fn measure(samples: usize) {
    let mut setup = Setup::default();
    setup.settings.push("account.proxies=127.0.0.1".to_owned());
    let program = env::current_exe().expect("this program");
    let servers = Servers::bastide_with(&program, Nodes::One, &setup).await;
    let mut client = servers.guest().await;
    for n in 0..samples {
        let code = ask(&mut client, "registry", &format!("known-{n}"), n).await;
        assert_eq!(code, 0, "a name is registered");
    }
    // An arm of each, then again in the other order: what drifts hits all alike.
    // Names of one length.
    let arms = ["known", "never", "other"];
    let mut times = [(); 3].map(|()| Vec::with_capacity(samples));
    for n in 0..samples {
        for turn in 0..arms.len() {
            let arm = if n % 2 == 0 { turn } else { arms.len() - 1 - turn };
            let (name, from) = (format!("{}-{n}", arms[arm]), (arm + 1) * samples + n);
            let began = Instant::now();
            let code = ask(&mut client, "auth", &name, from).await;
            times[arm].push(began.elapsed());
            assert_eq!(code, 201, "{name}");
        }
    }
    println!("{samples} sign-ins of each kind, in turn, one at a time; microseconds");
    println!("{:24} {:>8} {:>8} {:>8}", "", "p10", "p50", "p90");
    let labels = ["known, wrong password", "unknown", "unknown, the control"];
    for (label, times) in labels.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_micros();
        println!("{label:24} {:>8} {:>8} {:>8}", at(10), at(50), at(90));
    }
    let [known, unknown, control] = &times;
    for (label, a, b) in
        [("known : unknown", known, unknown), ("control : unknown", control, unknown)]
    {
        let (z, p) = rank_sum(a, b);
        println!("{label:24} z {z:>6.2}   P {p:.3}");
    }
}

/// One request to an account route, from an address of its own; the code it is answered with.
async fn ask(client: &mut Guest, route: &str, username: &str, from: usize) -> i64 {
    let from = u32::try_from(from).expect("fewer than there are addresses");
    let from = std::net::Ipv4Addr::from_bits((10 << 24) + from);
    // Of the same length, whoever is asked about.
    let password = if route == "auth" { "wrong-password" } else { "right-password" };
    let body = format!("username={username}&password={password}");
    let path = format!("/v1/account/{route}");
    let answer = client.post(&path, &format!("x-forwarded-for: {from}\r\n"), &body).await;
    answer.expect("answered")["code"].as_i64().expect("a code")
}

/// Mann and Whitney's: by how many deviations the ranks of `a` are above those of `b`, and how
/// often one of `a` is the larger one.
fn rank_sum(a: &[Duration], b: &[Duration]) -> (f64, f64) {
    let wins = a.iter().map(|a| {
        let (below, equal) = (b.partition_point(|b| b < a), b.partition_point(|b| b <= a));
        (below + equal) as f64 / 2.0
    });
    let (n, m, wins) = (a.len() as f64, b.len() as f64, wins.sum::<f64>());
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    ((wins - n * m / 2.0) / deviation, wins / (n * m))
}

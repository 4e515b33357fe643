//! What an operator may say, and what each mistake is answered with.

use std::{ffi::OsString, fs, path::Path};

use super::{
    source::{ConfigError, ours},
    *,
};

fn load(flags: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_for(&For::Dev, flags, environment)
}

fn serve(roles: &str, flags: &[&str]) -> Result<Config, ConfigError> {
    load_for(&For::Serve { roles: Some(roles) }, flags, &[])
}

fn load_for(
    purpose: &For<'_>,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    let line = [&["town"], flags].concat();
    let flags = <Line as clap::Parser>::try_parse_from(line).expect("flags").flags;
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load_with(&flags, purpose, environment)
}

fn load_file(
    text: &str,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("town.toml");
    fs::write(&path, text).expect("written");
    load(&[&["--config", path.to_str().expect("text")], flags].concat(), environment)
}

fn one(port: u16) -> Listen {
    Listen(vec![local(port)])
}

fn says(result: Result<Config, ConfigError>, parts: &[&str]) {
    let sentence = result.map(|_| ()).expect_err("refused").to_string();
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in: {sentence}");
    }
    assert!(!sentence.contains('\n'), "one sentence: {sentence}");
}

#[test]
fn without_anything_said_the_defaults_of_dev_hold() {
    let config = load(&[], &[]).expect("defaults");
    assert_eq!(config.account.listen, [local(8080), local(8081), local(8082)]);
    let gate = &config.gate;
    assert_eq!((&gate.tcp, config.admin.listen), (&one(3017), local(9600)));
    assert_eq!((&gate.ws, &gate.quic), (&one(18080), &one(3017)));
    assert_eq!((&gate.tcp_tls, &gate.ws_tls), (&none(), &none()));
    assert_eq!(config.gate.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.store_url(), "sqlite://./bastide-data/town.db");
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    let file = "[gate]\ntcp = \"127.0.0.1:1\"\nidle_timeout = \"1s\"\nsign_in_timeout = 7";
    let environment = [("BASTIDE_GATE__TCP", "127.0.0.1:2"), ("BASTIDE_GATE__IDLE_TIMEOUT", "2")];
    let config = load_file(file, &["--gate-tcp", "127.0.0.1:3"], &environment).expect("fine");
    assert_eq!(config.gate.tcp, one(3));
    assert_eq!(config.gate.idle_timeout, Duration::from_secs(2));
    assert_eq!(config.gate.sign_in_timeout, Duration::from_secs(7));
}

#[test]
fn set_reaches_every_key() {
    let config = load(&["--set", "gate.rate_frames_per_s=0", "--set", "game.linger=250ms"], &[]);
    let config = config.expect("fine");
    assert_eq!(config.gate.rate_frames_per_s, 0);
    assert_eq!(config.game.linger, Duration::from_millis(250));
    says(load(&["--set", "gate"], &[]), &["--set gate", "KEY=VALUE"]);
}

#[test]
fn rooms_are_recorded_only_where_a_folder_is_named() {
    assert_eq!(load(&[], &[]).expect("fine").rooms.record, None);
    let said = load(&["--set", "rooms.record=/var/matches"], &[]).expect("fine");
    assert_eq!(said.rooms.record.as_deref(), Some(Path::new("/var/matches")));
    says(load(&["--set", "rooms.record="], &[]), &["rooms.record", "folder"]);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_known_ones() {
    says(load_file("[gate]\ntpc = 1", &[], &[]), &["town.toml", "`gate.tpc`", "tcp"]);
    says(load_file("[gaet]\ntcp = 1", &[], &[]), &["`gaet`", "gate"]);
    says(load(&[], &[("BASTIDE_", "1")]), &["BASTIDE_", "``"]);
    says(load(&["--set", ".tcp=1"], &[]), &["--set .tcp", "`.tcp`"]);
    says(load(&[], &[("BASTIDE_GATE__TPC", "1")]), &["BASTIDE_GATE__TPC", "tcp"]);
    says(load(&["--set", "gate.tpc=1"], &[]), &["--set gate.tpc", "tcp"]);
}

#[test]
fn a_bad_value_is_named_with_its_key_its_place_and_what_is_expected() {
    says(load(&["--gate-tcp", "nonsense"], &[]), &["--gate-tcp", "gate.tcp", "nonsense"]);
    says(load(&["--http", "127.0.0.1:0,x"], &[]), &["--http", "x"]);
    says(
        load(&[], &[("BASTIDE_GATE__IDLE_TIMEOUT", "soon")]),
        &["BASTIDE_GATE__IDLE_TIMEOUT", "gate.idle_timeout", "soon", "such as 30s"],
    );
    says(load_file("[gate]\ntcp = 5", &[], &[]), &["town.toml", "gate.tcp", "5"]);
}

#[test]
fn a_value_out_of_range_is_told_the_range() {
    says(load(&["--set", "node.shards=0"], &[]), &["node.shards", "0", "1 to 256"]);
    says(load(&["--set", "gate.idle_timeout=0"], &[]), &["gate.idle_timeout", "from 1ms"]);
    let forever = format!("shutdown.grace={}s", u64::MAX);
    says(load(&["--set", &forever], &[]), &["shutdown.grace", "to 1year"]);
    says(load(&["--set", "cluster.name=a/b"], &[]), &["cluster.name", "a/b"]);
    says(load(&["--set", "gate.frame_bytes_max=70000"], &[]), &["65537"]);
}

#[test]
fn a_secret_that_is_empty_or_that_everybody_knows_is_refused_and_none_is_shown() {
    let set = |setting: &str| load(&["--set", setting], &[]);
    let told = |setting: &str| serve("account,gate,game", &["--set", setting]);
    for refused in [set("validators.360.secret="), told("validators.wx.secret= ")] {
        says(refused, &["validators.", ".secret", "it is empty", "--set"]);
    }
    says(told("validators.360.secret=dev-secret-of-360"), &["everybody knows it", "platform"]);
    set("validators.360.secret=dev-secret-of-360").expect("a developer may");
    says(set("validators.admin.secret=hunter2hunter2"), &["admin.secret", "take this away"]);
    says(set("validators.tx.endpoint=platform:80"), &["validators.tx.endpoint", "URL"]);
    says(set("validators.tx.endpoint=file:///etc"), &["URL"]);
    for setting in [
        "validators.admin.secret=hunter2",
        "validators.tx.endpoint=hunter2",
        "validators.wx=hunter2",
    ] {
        let said = set(setting).map(|_| ()).expect_err("refused").to_string();
        assert!(!said.contains("hunter2"), "{said}");
    }
    let config =
        set("auth.tx.endpoint=https://platform/get?key=hunter2").expect("the contract's word");
    let tx = &config.validators.0["tx"];
    assert_eq!(tx["endpoint"].0, "https://platform/get?key=hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    let file = "[validators.wx]\nsecret = \"abc\"\n[auth.wx]\nappid = \"5\"\n";
    let wx = load_file(file, &["--set", "auth.tx.endpoint=http://p"], &[])
        .expect("free keys")
        .validators
        .0
        .remove("wx")
        .expect("there");
    assert_eq!((wx["secret"].0.as_str(), wx["appid"].0.as_str()), ("abc", "5"));
}

#[test]
fn a_file_that_is_missing_or_is_not_toml_is_named() {
    says(load(&["--config", "/no/such.toml"], &[]), &["/no/such.toml", "exists"]);
    says(load_file("[gate", &[], &[]), &["town.toml", "line 1"]);
}

#[test]
fn the_place_of_a_value_out_of_range_is_named() {
    says(load_file("[node]\nshards = 0", &[], &[]), &["node.shards = 0", "town.toml"]);
    says(load(&[], &[("BASTIDE_NODE__SHARDS", "257")]), &["(BASTIDE_NODE__SHARDS)", "1 to 256"]);
    says(load(&["--port-base", "0"], &[]), &["port_base = 0", "(--port-base)", "1 to 65528"]);
    says(load(&["--gate-tcp", "127.0.0.1:8080"], &[]), &["(--gate-tcp)"]);
    says(load(&[], &[("BASTIDE_DATA", "")]), &["(BASTIDE_DATA)", "name a folder"]);
    says(load(&["--set", "gate.rate_burst_frames=0"], &[]), &["gate.rate_burst_frames", "from 1"]);
    for told in ["nonsense", "0.0.0.0:3017", "203.0.113.5:0"] {
        says(load(&["--gate-advertise", told], &[]), &["(--gate-advertise)", told, "ip:port"]);
    }
    says(load(&["--set", "gate.tcp=127.0.0.1:9", "--admin", "127.0.0.1:9"], &[]), &["gate.tcp"]);
}

#[test]
fn what_comes_as_text_is_read_as_its_key_wants_it() {
    let environment = [
        ("BASTIDE_CLUSTER__NAME", "5"),
        ("BASTIDE_GATE__RATE_FRAMES_PER_S", "7"),
        ("BASTIDE_GATE__IDLE_TIMEOUT", "9"),
        ("BASTIDE_ACCOUNT__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("BASTIDE_DATA", "2026"),
    ];
    let config = load(&[], &environment).expect("fine");
    assert_eq!((config.cluster.name.as_str(), config.gate.rate_frames_per_s), ("5", 7));
    assert_eq!(config.gate.idle_timeout, Duration::from_secs(9));
    assert_eq!(config.account.listen, [local(1), local(2)]);
    assert_eq!(config.data.0, Path::new("2026"));
    says(load(&[], &[("BASTIDE_ACCOUNT__LISTEN", "127.0.0.1")]), &["127.0.0.1", "ip:port"]);
    let environment = [("BASTIDE_GATE", "5"), ("BASTIDE_GATE__TCP", "127.0.0.1:1")];
    says(load(&[], &environment), &["BASTIDE_GATE", "gate = 5", "section"]);
    says(load_file("[gate]\nidle_timeout = 1.5", &[], &[]), &["= 1.5", "such as 30s"]);
    says(load_file("[gate]\nconnections_max = -5", &[], &[]), &["= -5", "a whole number"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_matters_only_if_it_is_ours() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd = || OsString::from_vec(vec![0xff]);
    let of = |name: &str| ours([(OsString::from(name), odd())].into_iter());
    assert_eq!(of("LS_COLORS").expect("not ours"), []);
    let sentence = of("BASTIDE_DATA").expect_err("ours").to_string();
    assert!(sentence.contains("BASTIDE_DATA") && sentence.contains("UTF-8"), "{sentence}");
}

#[test]
fn port_base_moves_what_is_not_set_itself() {
    let config = load(&["--port-base", "20000"], &[]).expect("fine");
    assert_eq!(config.account.listen, [local(20_000), local(20_001), local(20_002)]);
    assert_eq!((config.gate.tcp, config.admin.listen), (one(20_003), local(20_006)));
    assert_eq!((config.gate.ws, config.gate.quic), (one(20_004), one(20_005)));
    let config = load(&["--port-base", "20000", "--gate-tcp", "127.0.0.1:5"], &[]).expect("fine");
    assert_eq!((config.gate.tcp, config.admin.listen), (one(5), local(20_006)));
    let none = ["--port-base", "20000", "--gate-quic", ""];
    assert_eq!(load(&none, &[]).expect("fine").gate.quic, Listen::default());
    for bad in ["0", "65530", "70000", "x"] {
        says(load(&["--port-base", bad], &[]), &["port_base", bad]);
    }
}

#[test]
fn two_doors_with_one_address_are_named_both() {
    says(load(&["--gate-tcp", "127.0.0.1:8080"], &[]), &["account.listen", "gate.tcp"]);
    load(&["--gate-tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0"], &[]).expect("0 is any");
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    let config = load(&["--store", "postgres://town:s3cret@db/town"], &[]).expect("fine");
    assert!(!format!("{config:?}").contains("s3cret"));
    assert_eq!(redacted("postgres://town:s3c@ret@db/x"), "postgres://town:…@db/x");
    assert_eq!(redacted("sqlite:///var/town.db"), "sqlite:///var/town.db");
    assert_eq!(redacted("redis://10.0.0.6:6379"), "redis://10.0.0.6:6379");
    assert_eq!(redacted("postgres://town@db:5/x"), "postgres://town@db:5/x");
    assert_eq!(redacted("postgres://town:s3/c#ret@db/x"), "postgres://town:…@db/x");
    assert_eq!(redacted("town:s3cret@db"), "town:…@db");
    assert_eq!(redacted("pg://db/x?a=1&Password=s3cret"), "pg://db/x?…");
}

#[test]
fn no_mistake_beside_a_password_shows_it() {
    let url = "postgres://town:s3cret@db/town";
    for wrong in [
        load_file(&format!("[store]\nurl = \"{url}\" oops"), &[], &[]),
        load_file(&format!("[gate]\ntcp = \"{url}\""), &[], &[]),
        load_file(&format!("[gate]\nidle_timeout = \"{url}\""), &[], &[]),
        load_file(&format!("[node]\nshards = \"{url}\""), &[], &[]),
        load_file(&format!("[stroe]\nurl = \"{url}\""), &[], &[]),
        load(&["--set", "=s3cret"], &[]),
        load(&["--gate-advertise", url], &[]),
        load(&["--set", &format!("store={url}")], &[]),
    ] {
        let sentence = wrong.map(|_| ()).expect_err("refused").to_string();
        assert!(!sentence.contains("s3cret"), "{sentence}");
    }
}

const CLUSTER: &[&str] = &["--etcd", "http://10.0.0.5:2379", "--redis", "redis://10.0.0.6"];

#[test]
fn a_node_of_a_cluster_proves_itself_unless_the_operator_says_otherwise_by_name() {
    let gate = |more: &[&str]| serve("gate", &[CLUSTER, more].concat());
    says(gate(&[]), &["link.plaintext", "link.cert", "link.key", "link.ca"]);
    let config = gate(&["--set", "link.plaintext=true"]).expect("said by name");
    assert!(config.clustered() && config.has(Role::Gate) && !config.has(Role::Game));
    let files = ["--set", "link.cert=c", "--set", "link.key=k", "--set", "link.ca=a"];
    gate(&files).expect("proves itself");
    says(gate(&files[..4]), &["link.cert", "link.ca", "all three"]);
    says(gate(&[&files[..], &["--set", "link.plaintext=true"]].concat()), &["link.plaintext"]);
    load(CLUSTER, &[]).expect("a developer's town may be a node too");
}

#[test]
fn a_password_is_shown_to_nobody() {
    let config = load(&["--set", "discovery.password=hunter2"], &[]).expect("fine");
    assert!(!format!("{config:?}").contains("hunter2"));
    let wrong = load_file("[discovery]\npassword = [\"hunter2\"]", &[], &[]);
    let sentence = wrong.map(|_| ()).expect_err("refused").to_string();
    assert!(sentence.contains("discovery.password") && !sentence.contains("hunter2"));
}

#[test]
fn a_node_that_lacks_what_others_must_bring_says_what() {
    says(serve("gate", &[]), &["node.roles = gate", "--roles", "account", "discovery.etcd"]);
    says(serve("gate,gmae", &[]), &["node.roles", "gmae", "game"]);
    says(serve("", &[]), &["node.roles"]);
    says(serve("gate", &CLUSTER[..2]), &["cache.redis", "redis://"]);
    serve("account,gate,game", &[]).expect("nobody else is needed");
}

#[test]
fn a_node_of_a_cluster_listens_for_others_and_its_operators_pages_do_not() {
    let config = serve("account,gate,game", &["--port-base", "20000"]).expect("fine");
    let every = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    assert_eq!(config.account.listen[0], every(20000));
    assert_eq!((&config.gate.tcp.0[..], config.link.listen), (&[every(20003)][..], every(20007)));
    assert_eq!(config.gate.ws, Listen(vec![every(20004)]));
    assert_eq!(config.gate.quic, Listen::default(), "there is no certificate");
    assert_eq!(config.admin.listen, local(20006));
    let config = serve("account,gate,game", &["--gate-tcp", "127.0.0.1:1"]).expect("fine");
    assert_eq!(config.gate.tcp, one(1), "what is said stands");
    let config = serve("account,gate,game", &CERTIFICATE).expect("fine");
    assert_eq!(config.gate.quic, Listen(vec![every(3017)]), "there is a certificate");
}

const CERTIFICATE: [&str; 4] = ["--set", "gate.cert=c.pem", "--set", "gate.key=k.pem"];

#[test]
fn a_gate_listens_on_as_many_addresses_of_a_kind_as_it_is_told() {
    let two = Listen(vec![local(1), local(2)]);
    let config = load(&["--gate-ws", "127.0.0.1:1, 127.0.0.1:2"], &[]).expect("fine");
    assert_eq!(config.gate.ws, two);
    let environment = [("BASTIDE_GATE__TCP_TLS", "127.0.0.1:1,127.0.0.1:2")];
    assert_eq!(load(&[], &environment).expect("fine").gate.tcp_tls, two);
    let file = "[gate]\ntcp = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nws = []\nquic = \"\"";
    let config = load_file(file, &[], &[]).expect("fine");
    assert_eq!((config.gate.tcp, config.gate.ws, config.gate.quic), (two, none(), none()));
    let many: String = (1..=17).map(|n| format!("127.0.0.1:{n},")).collect();
    says(load(&["--gate-ws", &many], &[]), &["gate.ws", "(--gate-ws)", "at most 16"]);
    says(load(&["--gate-ws", "127.0.0.1:1,x"], &[]), &["gate.ws", "(--gate-ws)", "ip:port"]);
    says(load_file("[gate]\nquic = [7]", &[], &[]), &["gate.quic", "town.toml"]);
    says(load(&["--gate-ws", "127.0.0.1:1,127.0.0.1:1"], &[]), &["gate.ws", "another port"]);
    load(&["--gate-tcp", "127.0.0.1:5", "--gate-quic", "127.0.0.1:5"], &[]).expect("TCP and UDP");
}

fn none() -> Listen {
    Listen::default()
}

#[test]
fn a_gate_that_nobody_reaches_is_refused() {
    let nowhere = ["--gate-tcp", "", "--gate-ws", "", "--gate-quic", ""];
    says(load(&nowhere, &[]), &["gate.tcp", "no client reaches", "gate.ws_tls"]);
    let tls = ["--set", "gate.tcp_tls=127.0.0.1:1"];
    load(&[&nowhere[..], &tls].concat(), &[]).expect("one is enough");
    serve("account,game", &[CLUSTER, &["--set", "link.plaintext=true"], &nowhere].concat())
        .expect("it is no gate");
}

#[test]
fn what_is_encrypted_needs_a_certificate_outside_dev_and_a_certificate_its_key() {
    for (key, flags) in [
        ("gate.tcp_tls", ["--set", "gate.tcp_tls=127.0.0.1:1"]),
        ("gate.ws_tls", ["--set", "gate.ws_tls=127.0.0.1:1"]),
        ("gate.quic", ["--gate-quic", "127.0.0.1:1"]),
    ] {
        let parts = [key, "127.0.0.1:1", "gate.cert and gate.key"];
        says(serve("account,gate,game", &flags), &parts);
        serve("account,gate,game", &[&flags[..], &CERTIFICATE].concat()).expect("it has one");
        load(&flags, &[]).expect("dev makes one");
    }
    says(load(&CERTIFICATE[..2], &[]), &["gate.cert", "c.pem", "gate.key"]);
    says(load(&CERTIFICATE[2..], &[]), &["gate.key", "k.pem", "gate.cert"]);
}

#[test]
fn requests_of_an_address_are_bounded_on_a_node_that_serves_and_free_in_dev() {
    let of = |config: Result<Config, ConfigError>| config.expect("fine").account;
    assert_eq!(of(load(&[], &[])).requests_per_ip_s, 0);
    let flags = |more: &[&'static str]| [&["--set", "link.plaintext=true"], more].concat();
    let roles = "account,gate,game,rooms";
    assert_eq!(of(serve(roles, &flags(&[]))).requests_per_ip_s, check::REQUESTS_PER_IP_S);
    let off = flags(&["--set", "account.requests_per_ip_s=0"]);
    assert_eq!(of(serve(roles, &off)).requests_per_ip_s, 0);
    says(load(&["--set", "account.requests_per_ip_s=-1"], &[]), &["account.requests_per_ip_s"]);
    let balanced = of(load(&["--set", "account.proxies=10.0.0.0/8"], &[]));
    assert!(balanced.proxies.contain([10, 1, 2, 3].into()));
    assert!(!balanced.proxies.contain([127, 0, 0, 1].into()));
}

#[test]
fn a_load_balancer_is_an_address_or_a_network() {
    let proxies = "gate.proxies=10.0.0.0/8, 192.0.2.1,2001:db8::/32";
    let proxies = load(&["--set", proxies], &[]).expect("fine").gate.proxies;
    for inside in ["10.200.0.1", "192.0.2.1", "2001:db8::7", "::ffff:10.0.0.1"] {
        assert!(proxies.contain(inside.parse().expect("an address")), "{inside}");
    }
    for outside in ["11.0.0.1", "192.0.2.2", "2001:db9::7", "::1"] {
        assert!(!proxies.contain(outside.parse().expect("an address")), "{outside}");
    }
    let nobody = load(&[], &[]).expect("fine").gate.proxies;
    assert!(!nobody.contain(Ipv4Addr::LOCALHOST.into()));
    says(load(&["--set", "gate.proxies=10.0.0.0/33"], &[]), &["gate.proxies", "10.0.0.0/8"]);
    says(load_file("[gate]\nproxies = [\"lb\"]", &[], &[]), &["gate.proxies", "lb", "town.toml"]);
}

/// What shows a section or two stands for a file that has these as well.
const SECTIONS: &[(&str, &str)] = &[
    ("[cluster]", "name = \"prod\""),
    ("[discovery]", "etcd = [\"http://127.0.0.1:2379\"]"),
    ("[cache]", "redis = \"redis://127.0.0.1:6379\""),
    ("[store]", "url = \"postgres://town:secret@127.0.0.1/town\""),
    ("[link]", "plaintext = true"),
];

#[test]
fn every_cluster_file_that_the_documents_print_is_one_that_a_node_starts_with() {
    let page = include_str!("../../../docs/CLUSTER.md");
    let printed = page.split("```toml\n").skip(1).filter_map(|t| t.split("```").next());
    let deployed = include_str!("../../../docs/deploy/cluster.toml");
    let (mut whole, mut seen) = (0, 0);
    for text in printed.chain([deployed]) {
        let missing = SECTIONS.iter().filter(|(section, _)| !text.contains(section));
        let added: String = missing.map(|(s, key)| format!("{s}\n{key}\n")).collect();
        (seen, whole) = (seen + 1, whole + usize::from(added.is_empty()));
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cluster.toml");
        fs::write(&path, format!("{text}\n{added}")).expect("written");
        let config = serve("gate,game", &["--config", path.to_str().expect("text")]);
        let config = config.unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(config.clustered() && config.store_url().starts_with("postgres://"), "{text}");
    }
    assert!(whole >= 3 && seen > whole, "one machine, several machines, and parts: {seen}");
}

#[test]
fn how_codes_are_sent_is_said_whole_or_not_at_all() {
    let set = |pairs: &[&str]| {
        let flags: Vec<_> = pairs.iter().flat_map(|pair| ["--set", pair]).collect();
        load(&flags, &[])
    };
    let (http, url, secret) = (
        "account.code_sender=http",
        "account.code_url=https://sms.example/send?key=hidden",
        "account.code_secret=s3cret",
    );
    let config = set(&[http, url, secret]).expect("fine");
    assert_eq!(config.account.code_sender, Some(CodeChannel::Http));
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    says(set(&[http, secret]), &["account.code_url", "write the URL"]);
    says(set(&[http, url]), &["account.code_secret", "needs it"]);
    says(set(&[url]), &["account.code_url", "account.code_sender"]);
    says(set(&[secret]), &["account.code_secret", "account.code_sender"]);
    for bad in ["sms.example", "ftp://sms.example", "https://"] {
        says(set(&[http, &format!("account.code_url={bad}"), secret]), &["account.code_url", bad]);
    }
    says(set(&[http, url, "account.code_secret="]), &["account.code_secret"]);
    says(set(&["account.code_sender=pigeon"]), &["account.code_sender", "pigeon"]);
    for bad in ["86", "+", "+12345", ""] {
        let set = set(&[&format!("account.country_code={bad}")]);
        says(set, &["account.country_code", "such as +86"]);
    }
    says(set(&["account.audit_keep=0"]), &["account.audit_keep", "from 1s"]);
    assert_eq!(load(&[], &[]).expect("fine").accounts_per_ip_hour(), 0);
    assert_eq!(serve("account,gate,game", &[]).expect("fine").accounts_per_ip_hour(), 10_000);
    let none = ["--set", "account.accounts_per_ip_hour=0"];
    assert_eq!(serve("account,gate,game", &none).expect("fine").accounts_per_ip_hour(), 0);
}

#[test]
fn the_secret_between_servers_is_long_and_dev_has_a_file_for_one() {
    says(
        load(&["--set", "account.internal_secret=short"], &[]),
        &["account.internal_secret = …", "24"],
    );
    let dev = load(&["--data", "here"], &[]).expect("defaults").account;
    assert_eq!(dev.internal_secret_file.as_deref(), Some(Path::new("here/internal.secret")));
    let node = serve("account,gate,game", &[]).expect("fine").account;
    assert!(node.internal_secret.is_none() && node.internal_secret_file.is_none());
    says(load(&["--set", "account.key_ttl=1h"], &[]), &["account.key_ttl", "6h"]);
    says(load(&["--set", "account.refresh_ttl=0"], &[]), &["account.refresh_ttl", "1s"]);
}

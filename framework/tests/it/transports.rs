//! Every way into a gate: TLS, QUIC, several listeners, a load balancer's word, and certificates
//! that change while it runs.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bastide::{
    Code,
    client::{Client, ClientError},
    msg,
};
use proxy_header::{ProxiedAddress, ProxyHeader};
use quinn::{
    ApplicationClose, Connection, ConnectionError, Endpoint, RecvStream, SendStream,
    TransportConfig,
    crypto::rustls::{HandshakeData, QuicClientConfig},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Join},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider, version},
};

use crate::world::{World, echo_of, game, until};

const TLS: &str = "gate.tcp_tls=127.0.0.1:0";

/// Trusts one certificate, whoever signed it.
pub(crate) fn trusting(certificate: &[u8], protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.to_vec().into()).unwrap();
    let versions = [&version::TLS13, &version::TLS12];
    let mut config = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

async fn tls(
    addr: SocketAddr,
    certificate: &[u8],
) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let socket = TcpStream::connect(addr).await?;
    let connector = TlsConnector::from(Arc::new(trusting(certificate, &[])));
    let stream = connector.connect("localhost".try_into().unwrap(), socket).await?;
    Ok(Client::over(stream))
}

/// A client of QUIC, and its connection beside the stream.
pub(crate) struct Quic {
    pub(crate) client: Client<Join<RecvStream, SendStream>>,
    pub(crate) connection: Connection,
    pub(crate) endpoint: Endpoint,
}

impl Quic {
    pub(crate) async fn connect(world: &World) -> Self {
        Self::connect_with(world, TransportConfig::default()).await
    }

    pub(crate) async fn connect_with(world: &World, transport: TransportConfig) -> Self {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let crypto = QuicClientConfig::try_from(trusting(&world.certificate(), &[])).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let connecting = endpoint.connect_with(config, world.quic(), "localhost").unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        let client = Client::over(tokio::io::join(receive, send));
        Self { client, connection, endpoint }
    }
}

pub(crate) async fn quic(
    addr: SocketAddr,
    certificate: &[u8],
    protocols: &[&str],
) -> (Endpoint, Result<Connection, ConnectionError>) {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = QuicClientConfig::try_from(trusting(certificate, protocols)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, addr, "localhost").unwrap().await;
    (endpoint, connection)
}

/// Signs in, and asks for what comes back.
pub(crate) async fn plays<C: AsyncRead + AsyncWrite + Unpin>(
    world: &World,
    client: &mut Client<C>,
    who: &str,
) {
    client.sign_in(&world.token(who).await).await.unwrap();
    assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
    echoes(client).await;
}

pub(crate) async fn echoes<C: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<C>) {
    assert_eq!(client.request(&echo_of(7)).await.unwrap().val, Some(7));
}

#[test]
fn a_client_signs_in_and_plays_over_tls() {
    let world = World::alone(&[TLS]);
    world.run(async {
        let mut client = tls(world.tls(), &world.certificate()).await.unwrap();
        plays(&world, &mut client, "a").await;
        world.counts("gate_connections_tcp_tls_total", 1.0).await;
        assert_eq!(world.meter("gate_connections_tcp_total").await, 0.0);

        let mut plain = Client::connect(&world.tls().to_string()).await.unwrap();
        assert!(plain.request(&msg::ping::Req::default()).await.is_err(), "it is no TLS");
        world.counts("gate_tls_handshakes_failed_total", 1.0).await;
        echoes(&mut client).await;
    });
}

#[test]
fn a_client_signs_in_and_plays_over_quic_on_its_one_stream() {
    let world = World::alone(&[]);
    world.run(async {
        let mut quic = Quic::connect(&world).await;
        plays(&world, &mut quic.client, "a").await;
        let asked = 0..80;
        for n in asked.clone() {
            quic.client.send(&echo_of(n)).await.unwrap();
        }
        for n in asked {
            let answer = quic.client.receive().await.unwrap();
            let echo = <msg::echo::Res as prost::Message>::decode(&answer.payload[..]).unwrap();
            assert_eq!(echo.val, Some(n));
        }
        let granted = Duration::from_millis(300);
        assert!(timeout(granted, quic.connection.open_bi()).await.is_err(), "a second stream");
        assert!(timeout(granted, quic.connection.open_uni()).await.is_err(), "one way");
        assert!(quic.connection.max_datagram_size().is_some_and(|n| n > 1000));
        echoes(&mut quic.client).await;
        world.counts("gate_connections_quic_total", 1.0).await;
    });
}

/// The gate must not close before the client has what was sent: closing throws away what is under
/// way.
#[test]
fn a_quic_client_that_has_said_its_last_still_gets_every_answer() {
    let world = World::alone(&[]);
    world.run(async {
        let (endpoint, connection) = quic(world.quic(), &world.certificate(), &["bastide"]).await;
        let (mut send, mut receive) = connection.unwrap().open_bi().await.unwrap();
        let ping = b"\x0e\0\x0c\0msg.Ping.Req";
        send.write_all(&ping.repeat(100)).await.unwrap();
        send.finish().unwrap();
        let answers = receive.read_to_end(1 << 20).await.unwrap();
        let answered = answers.windows(12).filter(|part| part == b"msg.Ping.Res").count();
        assert_eq!(answered, 100);
        drop(endpoint);
    });
}

#[test]
fn a_quic_client_may_ask_for_any_protocol_or_none() {
    let world = World::alone(&[]);
    world.run(async {
        // The last does not fit one packet.
        let many: Vec<String> = (0..20).map(|n| format!("{n:0>200}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let cases: [&[&str]; 5] = [&[], &["bastide"], &["h3"], &["h3", "bastide"], &many];
        let agreed = [None, Some("bastide"), Some("h3"), Some("bastide"), Some(many[0])];
        for (protocols, agreed) in cases.into_iter().zip(agreed) {
            let (_endpoint, connection) = quic(world.quic(), &world.certificate(), protocols).await;
            let connection = connection.unwrap();
            let data = connection.handshake_data().unwrap().downcast::<HandshakeData>().unwrap();
            assert_eq!(data.protocol.as_deref(), agreed.map(str::as_bytes));
            let (send, receive) = connection.open_bi().await.unwrap();
            plays(&world, &mut Client::over(tokio::io::join(receive, send)), "a").await;
        }
        let too_many: Vec<String> = (0..90).map(|n| format!("{n:0>200}")).collect();
        let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
        let (_endpoint, refused) = quic(world.quic(), &world.certificate(), &too_many).await;
        assert!(matches!(refused, Err(ConnectionError::ConnectionClosed(_))), "{refused:?}");
    });
}

/// Bytes of which the first ones look like a packet that begins a connection, and others.
#[test]
fn packets_that_are_none_hurt_nobody() {
    let world = World::alone(&[]);
    world.run(async {
        let mut fine = Quic::connect(&world).await;
        plays(&world, &mut fine.client, "a").await;
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for n in 0..500_u64 {
            let mut bytes: Vec<u8> = (0..1200).map(|i| ((i * n) >> 3) as u8).collect();
            if n % 2 == 0 {
                bytes[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
            }
            socket.send_to(&bytes, world.quic()).await.unwrap();
        }
        echoes(&mut fine.client).await;
        let mut next = Quic::connect(&world).await;
        plays(&world, &mut next.client, "b").await;
    });
}

#[test]
fn a_quic_client_is_told_in_the_last_frame_and_by_the_close_why_it_ends() {
    let world = World::alone(&[]);
    let closed = |error: ConnectionError| match error {
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, .. }) => {
            error_code.into_inner()
        }
        other => panic!("{other:?}"),
    };
    let mut second = world.run(async {
        let mut first = Quic::connect(&world).await;
        plays(&world, &mut first.client, "a").await;
        let mut second = Quic::connect(&world).await;
        plays(&world, &mut second.client, "a").await;
        match first.client.receive().await {
            Err(ClientError::Kicked(refusal)) => {
                assert_eq!(refusal.code, Code::SIGNED_IN_ELSEWHERE)
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(closed(first.connection.closed().await), 2005);
        second
    });
    let runtime = world.stop();
    runtime.block_on(async {
        match second.client.receive().await {
            Err(ClientError::Kicked(refusal)) => assert_eq!(refusal.code, Code::DRAINING),
            other => panic!("{other:?}"),
        }
        assert_eq!(closed(second.connection.closed().await), 2007);
    });
}

#[test]
fn an_address_gets_no_more_quic_connections_than_its_share() {
    let world = World::alone(&["gate.connections_per_ip_max=1"]);
    world.run(async {
        let mut first = Quic::connect(&world).await;
        plays(&world, &mut first.client, "a").await;
        let (_endpoint, refused) = quic(world.quic(), &world.certificate(), &["bastide"]).await;
        assert!(matches!(refused, Err(ConnectionError::ConnectionClosed(_))), "{refused:?}");
        world.counts("gate_quic_refused_total", 1.0).await;
        drop(first);
        until("its seat comes back", async || {
            quic(world.quic(), &world.certificate(), &["bastide"]).await.1.is_ok()
        })
        .await;
    });
}

/// The client's socket moves to another port, as behind a network that forgot it, or to another
/// network.
#[test]
fn a_quic_client_whose_address_changes_plays_on() {
    let world = World::alone(&[]);
    world.run(async {
        let mut quic = Quic::connect(&world).await;
        plays(&world, &mut quic.client, "a").await;
        let before = quic.endpoint.local_addr().unwrap();
        quic.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        assert_ne!(quic.endpoint.local_addr().unwrap(), before);
        echoes(&mut quic.client).await;
        world.counts("gate_connections_quic_total", 1.0).await;
    });
}

#[test]
fn a_gate_listens_on_each_address_that_it_is_told() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addrs = [free(), free()].map(|listener| listener.local_addr().unwrap().to_string());
    let dir = tempfile::tempdir().unwrap();
    let (both, any) = (addrs.join(","), "127.0.0.1:0");
    let mut args = vec!["--data", dir.path().to_str().unwrap(), "--gate-tcp", &both];
    args.extend(["--http", any, "--gate-ws", any, "--gate-quic", "", "--admin", any]);
    let game = game().start(&args).unwrap();
    assert_eq!((game.gate_quic(), game.gate_tcp()), (None, Some(addrs[0].parse().unwrap())));
    game.block_on(async {
        for addr in &addrs {
            let mut client = Client::connect(addr).await.unwrap();
            client.request(&msg::ping::Req::default()).await.unwrap();
        }
    });
    game.stop();
}

/// Writes a certificate of its own authority and its key; the certificate, in DER.
fn write_pair(dir: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

fn with_files(dir: &Path) -> World {
    let file = |key: &str, name: &str| format!("gate.{key}={}", dir.join(name).display());
    World::alone(&[TLS, &file("cert", "cert.pem"), &file("key", "key.pem")])
}

#[test]
fn a_new_certificate_is_shown_to_who_comes_after_it_and_the_others_play_on() {
    let dir = tempfile::tempdir().unwrap();
    let old = write_pair(dir.path());
    let world = with_files(dir.path());
    world.run(async {
        let mut before = tls(world.tls(), &old).await.unwrap();
        plays(&world, &mut before, "a").await;
        let mut before_too = Quic::connect(&world).await;
        plays(&world, &mut before_too.client, "b").await;

        let new = write_pair(dir.path());
        until("the new one is shown", async || tls(world.tls(), &new).await.is_ok()).await;
        assert!(tls(world.tls(), &old).await.is_err(), "the old one is not shown any more");
        assert!(quic(world.quic(), &new, &["bastide"]).await.1.is_ok());
        assert!(quic(world.quic(), &old, &["bastide"]).await.1.is_err());
        echoes(&mut before).await;
        echoes(&mut before_too.client).await;
        world.counts("gate_certificates_replaced_total", 1.0).await;
        assert_eq!(world.meter("gate_certificates_refused_total").await, 0.0);
    });
}

#[test]
fn a_new_certificate_that_is_no_good_leaves_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let old = write_pair(dir.path());
    let world = with_files(dir.path());
    world.run(async {
        let other = tempfile::tempdir().unwrap();
        let refused = async || world.meter("gate_certificates_refused_total").await;
        write_pair(other.path());
        fs::copy(other.path().join("key.pem"), dir.path().join("key.pem")).unwrap();
        until("the key of another one is refused", async || refused().await == 1.0).await;
        tls(world.tls(), &old).await.unwrap();
        fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
        until("what is no certificate is refused", async || refused().await == 2.0).await;
        fs::remove_file(dir.path().join("cert.pem")).unwrap();
        until("that there is none is told", async || refused().await == 3.0).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(refused().await, 3.0, "each is told once");
        tls(world.tls(), &old).await.unwrap();
        let new = write_pair(dir.path());
        until("a good one is taken", async || tls(world.tls(), &new).await.is_ok()).await;
    });
}

#[test]
fn files_that_are_no_certificate_are_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let start = || {
        let any = "127.0.0.1:0";
        let data = path("data");
        let mut args = vec!["--data", &data];
        for door in ["--http", "--gate-tcp", "--gate-ws", "--gate-quic", "--admin"] {
            args.extend([door, any]);
        }
        let [cert, key] = [("cert", "cert.pem"), ("key", "key.pem")]
            .map(|(key, name)| format!("gate.{key}={}", path(name)));
        args.extend(["--set", &cert, "--set", &key]);
        game().start(&args).map(|_| ()).unwrap_err()
    };
    let says = |parts: &[&str]| {
        let said = start();
        for part in parts {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(!said.contains('\n') && !said.contains("s3cret"), "{said}");
    };
    says(&["gate.cert", &path("cert.pem"), "may read"]);
    write_pair(dir.path());
    fs::write(path("key.pem"), "-----BEGIN s3cret\n").unwrap();
    says(&["gate.key", &path("key.pem"), "no private key"]);
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path());
    fs::copy(other.path().join("key.pem"), path("key.pem")).unwrap();
    says(&["gate.cert, gate.key", "belongs to it"]);
    fs::write(path("cert.pem"), "").unwrap();
    says(&["gate.cert", "no certificate in it"]);
}

/// The load balancer of these tests; the tests themselves connect from 127.0.0.1.
pub(crate) const BALANCER: &str = "127.0.0.2";

/// Connects from an address of this machine, with a first word.
pub(crate) async fn from(here: &str, to: SocketAddr, first: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{here}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

fn brings(client: &str) -> Vec<u8> {
    let (client, gate) = (format!("{client}:4711"), "198.51.100.1:3017");
    let whose = ProxiedAddress::stream(client.parse().unwrap(), gate.parse().unwrap());
    let mut header = Vec::new();
    ProxyHeader::with_address(whose).encode_v2(&mut header).unwrap();
    header
}

async fn is_served(stream: TcpStream) -> Option<Client> {
    let mut client = Client::over(stream);
    client.request(&msg::ping::Req::default()).await.is_ok().then_some(client)
}

#[test]
fn a_load_balancer_says_whose_connection_it_brings_and_each_client_has_its_own_share() {
    let proxies = format!("gate.proxies={BALANCER}");
    let world = World::alone(&[TLS, &proxies, "gate.connections_per_ip_max=2"]);
    world.run(async {
        let gate = world.gate();
        let mut kept = Vec::new();
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            let served = is_served(from(BALANCER, gate, &brings(client)).await).await;
            kept.push(served.unwrap_or_else(|| panic!("{client} is served")));
        }
        let third = from(BALANCER, gate, &brings("192.0.2.1")).await;
        assert!(is_served(third).await.is_none(), "192.0.2.1 has its two");
        world.counts("gate_connections_refused_total", 1.0).await;

        // Looked at by the balancer itself, and by one that says nothing at all.
        let mut local = Vec::new();
        ProxyHeader::with_local().encode_v2(&mut local).unwrap();
        assert!(is_served(from(BALANCER, gate, &local).await).await.is_some());
        drop(from(BALANCER, gate, b"").await);

        // TLS begins behind the header.
        let stream = from(BALANCER, world.tls(), &brings("192.0.2.4")).await;
        let connector = TlsConnector::from(Arc::new(trusting(&world.certificate(), &[])));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        plays(&world, &mut Client::over(stream), "a").await;
        assert_eq!(world.meter("gate_proxy_headers_refused_total").await, 0.0);
    });
}

/// What the WebSocket itself does is not looked at here: only who comes so far.
#[test]
fn a_load_balancer_of_web_sockets_may_speak_http_without_a_header() {
    let proxies = format!("gate.proxies={BALANCER}");
    let world = World::alone(&["gate.ws_tls=127.0.0.1:0", &proxies]);
    world.run(async {
        let asks = b"GET / HTTP/1.1\r\n".to_vec();
        let header = brings("192.0.2.1");
        for first in [&asks, &[header.as_slice(), &asks].concat()] {
            let _stream = from(BALANCER, world.ws(), first).await;
        }
        let _stream = from("127.0.0.1", world.ws(), &asks).await;
        let served = async || world.meter("gate_connections_ws_total").await;
        until("all three are let in", async || served().await == 3.0).await;

        let stream = from(BALANCER, world.wss(), &brings("192.0.2.1")).await;
        let connector = TlsConnector::from(Arc::new(trusting(&world.certificate(), &[])));
        connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let served = async || world.meter("gate_connections_ws_tls_total").await;
        until("and over TLS", async || served().await == 1.0).await;
        assert_eq!(world.meter("gate_proxy_headers_refused_total").await, 0.0);
    });
}

#[test]
fn a_proxy_header_is_believed_from_a_load_balancer_only_and_wanted_from_it() {
    let world = World::alone(&[&format!("gate.proxies={BALANCER}/32")]);
    world.run(async {
        let mut stranger = from("127.0.0.1", world.gate(), &brings("192.0.2.1")).await;
        let mut said = Vec::new();
        stranger.read_to_end(&mut said).await.unwrap();
        assert!(String::from_utf8_lossy(&said).contains("msg.Error.Res"), "{said:?}");
        world.counts("gate_protocol_errors_total", 1.0).await;

        assert!(is_served(from(BALANCER, world.gate(), b"").await).await.is_none());
        world.counts("gate_proxy_headers_refused_total", 1.0).await;
        assert!(is_served(from("127.0.0.1", world.gate(), b"").await).await.is_some());
    });
}

/// A hundred clients begin a handshake and leave it at that. So many make a client of QUIC show
/// first that it is where it says it is.
#[test]
fn handshakes_that_never_end_are_ended_at_the_deadline_and_keep_nobody_out() {
    let world = World::alone(&[TLS, &format!("gate.proxies={BALANCER}")]);
    world.run(async {
        let began = Instant::now();
        let mut half = Vec::new();
        for n in 0..100 {
            // Nothing, or a part of a hello.
            let first = [&b""[..], b"\x16\x03\x01\x02\x00\x01"][n % 2];
            half.push(from("127.0.0.1", world.tls(), first).await);
        }
        let mut silent = from(BALANCER, world.gate(), b"\r\n\r\n").await;
        let mut fine = tls(world.tls(), &world.certificate()).await.unwrap();
        plays(&world, &mut fine, "a").await;
        let mut proven = Quic::connect(&world).await;
        plays(&world, &mut proven.client, "b").await;
        assert!(world.meter("gate_quic_retries_total").await >= 1.0);
        let failed = async || world.meter("gate_tls_handshakes_failed_total").await;
        assert_eq!(failed().await, 0.0, "nobody waits for the others");

        assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
        assert!(began.elapsed() >= Duration::from_secs(5), "a header has 5 s");
        assert_eq!(failed().await, 0.0, "a handshake has 10 s");
        for mut stream in half {
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        }
        // The socket closes before its failure is counted.
        until("all are counted", async || failed().await == 100.0).await;
        world.counts("gate_proxy_headers_refused_total", 1.0).await;
        echoes(&mut fine).await;
    });
}

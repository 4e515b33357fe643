//! Owns the processes of the idle clients: each signs in many over one way, says how that went,
//! and stays until it is told to go.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use bastide::{
    msg,
    wire::{FRAME_BYTES_MAX, put_message},
};
use bastide_benches::{Guest, ROLE, Servers, sign_in_over};
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring::default_provider, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
        version::TLS13,
    },
};

/// Guests that sign in side by side.
const SIGN_INS: usize = 16;

/// How long a handshake of a WebSocket may take before this way counts as none.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How clients get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    Tls,
    Ws,
    Quic,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Quic];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Quic => "quic",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// What a node calls this address of its gate.
    fn key(self) -> &'static str {
        match self {
            Self::Tcp => "gate_tcp",
            Self::Tls => "gate_tcp_tls",
            Self::Ws => "gate_ws",
            Self::Quic => "gate_quic",
        }
    }
}

/// Clients in a process of their own, as long as it lives.
pub(crate) struct Clients {
    process: Child,
    served: bool,
}

impl Clients {
    /// Returns when all of them are signed in, or the first is not.
    pub(crate) fn start(servers: &Servers, way: Way, first: usize, count: usize) -> Self {
        let program = env::current_exe().expect("this program");
        let gate = servers.addresses.iter().find_map(|said| said[way.key()].as_str());
        let http = servers.http.as_deref().expect("bastide's");
        let mut command = Command::new(program);
        command.env(ROLE, "clients").stdout(Stdio::piped());
        command.args([way.name(), gate.unwrap_or_default(), http]);
        command.args([first.to_string(), count.to_string()]);
        let mut process = command.spawn().expect("this program");
        let mut said = String::new();
        let mut lines = BufReader::new(process.stdout.take().expect("piped"));
        lines.read_line(&mut said).expect("it says how it went");
        Self { process, served: said.trim() == "served" }
    }

    pub(crate) fn served(&self) -> bool {
        self.served
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.process.kill().expect("it ends");
        self.process.wait().expect("it ends");
    }
}

/// A connection that stays open.
enum Open {
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Quic(Box<(Endpoint, quinn::Connection, quinn::SendStream, quinn::RecvStream)>),
}

/// The program as idle clients: until it is killed.
pub(crate) fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let mut next = || args.next().expect("way, gate, http, first, count");
    let way = Way::named(&next()).expect("a way");
    let (gate, http) = (next(), next());
    let first: usize = next().parse().expect("a number");
    let count: usize = next().parse().expect("a number");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for begin in 0..SIGN_INS {
            let (gate, mut guest) = (gate.clone(), Guest::new(&http, &gate).await);
            tasks.spawn(async move {
                let mut open = Vec::new();
                for nth in (begin..count).step_by(SIGN_INS) {
                    let token = guest.token(&format!("idle-{}", first + nth)).await?;
                    open.push(connect(way, &gate, &token).await?);
                }
                Ok::<_, String>(open)
            });
        }
        let mut open = Vec::new();
        while let Some(signed_in) = tasks.join_next().await {
            match signed_in.expect("no panic") {
                Ok(more) => open.extend(more),
                Err(why) => {
                    println!("not served: {why}");
                    return;
                }
            }
        }
        println!("served");
        stay(open).await;
    });
    ExitCode::SUCCESS
}

/// QUIC needs somebody who answers it; the others need nobody.
async fn stay(open: Vec<Open>) {
    loop {
        sleep(Duration::from_secs(3600)).await;
        for one in &open {
            match one {
                Open::Tcp(socket) => drop(socket.peer_addr()),
                Open::Tls(stream) => drop(stream.get_ref().0.peer_addr()),
                Open::Quic(all) => drop(all.1.stable_id()),
            }
        }
    }
}

async fn connect(way: Way, gate: &str, token: &str) -> Result<Open, String> {
    if way == Way::Quic {
        return quic(gate, token).await;
    }
    let mut socket = TcpStream::connect(gate).await.map_err(|e| e.to_string())?;
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    match way {
        Way::Ws => {
            let signed_in = timeout(HANDSHAKE, ws(&mut socket, token)).await;
            signed_in.map_err(|late| late.to_string())??;
        }
        Way::Tls => {
            let name = "localhost".try_into().expect("a name");
            let connector = TlsConnector::from(Arc::new(trusting()));
            let stream = connector.connect(name, socket).await.map_err(|e| e.to_string())?;
            let mut stream = Box::new(stream);
            sign_in_over(&mut stream, token).await?;
            return Ok(Open::Tls(stream));
        }
        Way::Tcp | Way::Quic => drop(sign_in_over(&mut socket, token).await?),
    }
    Ok(Open::Tcp(socket))
}

/// The handshake, then a sign-in in one binary message; its answer is in another.
async fn ws(socket: &mut TcpStream, token: &str) -> Result<(), String> {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).await.map_err(|e| e.to_string())?;
    until(socket, b"\r\n\r\n").await?;
    let request = msg::login::Req { token: token.to_owned(), ..Default::default() };
    let mut frame = Vec::new();
    put_message(&mut frame, &request).expect("fits");
    let length = u16::try_from(frame.len()).map_err(|e| e.to_string())?;
    // Final, binary; masked with zeros, a length of 16 bits.
    let mut message = vec![0x82, 0x80 | 126];
    message.extend(length.to_be_bytes());
    message.extend([0; 4]);
    message.extend(frame);
    socket.write_all(&message).await.map_err(|e| e.to_string())?;
    until(socket, b"msg.Login.Res").await
}

/// Reads until it has seen something.
async fn until(socket: &mut TcpStream, wanted: &[u8]) -> Result<(), String> {
    let mut seen = Vec::new();
    while !seen.windows(wanted.len()).any(|part| part == wanted) {
        let read = socket.read_buf(&mut seen).await.map_err(|e| e.to_string())?;
        if read == 0 || seen.len() > FRAME_BYTES_MAX {
            return Err(format!("the gate hangs up: {}", String::from_utf8_lossy(&seen)));
        }
    }
    Ok(())
}

async fn quic(gate: &str, token: &str) -> Result<Open, String> {
    let here: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let endpoint = Endpoint::client(here).map_err(|e| e.to_string())?;
    let mut crypto = trusting();
    crypto.alpn_protocols = vec![b"bastide".to_vec()];
    let crypto = QuicClientConfig::try_from(crypto).map_err(|e| e.to_string())?;
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(None);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    let address = gate.parse().map_err(|_| "no address".to_owned())?;
    let connecting = endpoint.connect_with(config, address, "localhost");
    let connection = connecting.map_err(|e| e.to_string())?.await.map_err(|e| e.to_string())?;
    let (send, receive) = connection.open_bi().await.map_err(|e| e.to_string())?;
    let mut stream = tokio::io::join(receive, send);
    sign_in_over(&mut stream, token).await?;
    let (receive, send) = stream.into_inner();
    Ok(Open::Quic(Box::new((endpoint, connection, send, receive))))
}

fn trusting() -> ClientConfig {
    ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .expect("settings")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(default_provider())))
        .with_no_client_auth()
}

/// Trusts whoever has the key of the certificate that it shows: this measures memory.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

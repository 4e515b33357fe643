//! Owns the beginning of a QUIC handshake: whichever protocol (ALPN) a client asks for, it is
//! served, and so is one that asks for none.
//!
//! rustls has no such rule: with a list of its own it refuses who asks for nothing, without one who
//! asks for something. So the client's hello is awaited, looked at, and handed to a session of
//! rustls whose list fits it. What a hello may look like is for rustls to judge.

use std::{any::Any, sync::Arc};

use quinn::{
    ConnectionId, Side, TransportErrorCode,
    crypto::{
        ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
        UnsupportedVersion,
        rustls::{NoInitialCipherSuite, QuicServerConfig},
    },
};
use quinn_proto::{TransportError, transport_parameters::TransportParameters};
use tokio_rustls::rustls::{self, server::Acceptor};

use crate::limits::QUIC_HELLO_BYTES_MAX;

/// Preferred, when a client asks for several protocols.
const PROTOCOL: &[u8] = b"bastide";

/// The first byte of a hello.
const CLIENT_HELLO: u8 = 1;

/// The type of a message and its length: one byte, and three.
const HEADER_BYTES: usize = 4;

/// TLS for clients that ask for any protocol, or none.
pub(super) struct AnyProtocol {
    tls: Arc<rustls::ServerConfig>,
    unnamed: Arc<QuicServerConfig>,
    preferred: Arc<QuicServerConfig>,
}

impl AnyProtocol {
    /// # Errors
    /// When `tls` lacks what every QUIC connection begins with.
    pub(super) fn new(tls: Arc<rustls::ServerConfig>) -> Result<Self, NoInitialCipherSuite> {
        let unnamed = QuicServerConfig::try_from(tls.clone())?;
        let preferred = speaking(&tls, PROTOCOL)?;
        Ok(Self { tls, unnamed: unnamed.into(), preferred })
    }

    /// A session that agrees on `protocol`.
    fn agree(
        &self,
        protocol: &[u8],
        version: u32,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, TransportError> {
        let settings = match protocol {
            PROTOCOL => self.preferred.clone(),
            other => speaking(&self.tls, other)
                .map_err(|e| error(TransportErrorCode::INTERNAL_ERROR, e.to_string()))?,
        };
        Ok(settings.start_session(version, params))
    }
}

fn speaking(
    tls: &rustls::ServerConfig,
    protocol: &[u8],
) -> Result<Arc<QuicServerConfig>, NoInitialCipherSuite> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![protocol.to_vec()];
    QuicServerConfig::try_from(tls).map(Arc::new)
}

impl ServerConfig for AnyProtocol {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.unnamed.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.unnamed.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let session = self.unnamed.clone().start_session(version, params);
        let beginning = Beginning { settings: self, version, params: *params, bytes: Vec::new() };
        Box::new(Handshake { session, beginning: Some(Box::new(beginning)) })
    }
}

/// A session of rustls, or one that is about to be.
struct Handshake {
    /// For a client that asks for no protocol, until it is known that it does.
    session: Box<dyn Session>,
    beginning: Option<Box<Beginning>>,
}

/// What is there until the hello is whole.
struct Beginning {
    settings: Arc<AnyProtocol>,
    version: u32,
    params: TransportParameters,
    /// Of the hello; no more than [`QUIC_HELLO_BYTES_MAX`] and the piece that completed it.
    bytes: Vec<u8>,
}

impl Session for Handshake {
    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let Some(beginning) = &mut self.beginning else {
            return self.session.read_handshake(bytes);
        };
        beginning.bytes.extend_from_slice(bytes);
        let Some(hello_bytes) = hello_bytes(&beginning.bytes)? else { return Ok(false) };
        let Some(beginning) = self.beginning.take() else { return Ok(false) };
        let Beginning { settings, version, params, bytes } = *beginning;
        if let Some(protocol) = bytes.get(..hello_bytes).and_then(protocol) {
            self.session = settings.agree(&protocol, version, &params)?;
        }
        self.session.read_handshake(&bytes)
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

/// How many of these bytes are the hello; `None`: it is not whole. What is no hello has none, and
/// is for rustls to refuse.
fn hello_bytes(bytes: &[u8]) -> Result<Option<usize>, TransportError> {
    let length = match *bytes {
        [CLIENT_HELLO, a, b, c, ..] => u32::from_be_bytes([0, a, b, c]) as usize,
        [CLIENT_HELLO, ..] | [] => return Ok(None),
        _ => return Ok(Some(0)),
    };
    let whole = HEADER_BYTES + length;
    if whole > QUIC_HELLO_BYTES_MAX {
        let reason = format!("a hello of more than {QUIC_HELLO_BYTES_MAX} bytes");
        return Err(error(TransportErrorCode::CRYPTO_BUFFER_EXCEEDED, reason));
    }
    Ok((bytes.len() >= whole).then_some(whole))
}

/// The protocol to agree on with who sends this hello; `None`: it asks for none, or it is no good.
fn protocol(hello: &[u8]) -> Option<Vec<u8>> {
    // rustls takes a hello apart as TLS over TCP has it, in a record: that it is of the handshake,
    // which version, how long.
    let length = u16::try_from(hello.len()).ok()?.to_be_bytes();
    let record = [&[22, 3, 1], &length[..], hello].concat();
    let mut acceptor = Acceptor::default();
    let mut rest = &record[..];
    while acceptor.read_tls(&mut rest).ok()? > 0 {}
    let accepted = acceptor.accept().ok()??;
    let hello = accepted.client_hello();
    let mut protocols = hello.alpn()?;
    let first = protocols.next()?;
    let preferred = protocols.find(|protocol| *protocol == PROTOCOL);
    Some(preferred.unwrap_or(first).to_vec())
}

fn error(code: TransportErrorCode, reason: String) -> TransportError {
    TransportError { code, frame: None, reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quinn::crypto::rustls::HandshakeData;
    use tokio_rustls::rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        quic::{ClientConnection, Version},
        version::TLS13,
    };

    use super::*;
    use crate::gate::{Certificates, tls::Tls};

    /// The hello of a client that asks for these.
    fn hello_of<P: AsRef<[u8]>>(protocols: &[P]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&[&TLS13])
            .expect("settings")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_ref().to_vec()).collect();
        let name = "localhost".try_into().expect("a name");
        // What a client says of its transport: nothing, which is what the usual is.
        let client = ClientConnection::new(config.into(), Version::V1, name, Vec::new());
        let mut hello = Vec::new();
        let keys = client.expect("settings").write_hs(&mut hello);
        assert!(keys.is_none());
        hello
    }

    fn server() -> Arc<AnyProtocol> {
        let tls = Tls::new(&Certificates::of_a_developer()).expect("settings");
        Arc::new(AnyProtocol::new(tls.quic).expect("settings"))
    }

    fn session(server: &Arc<AnyProtocol>) -> Box<dyn Session> {
        server.clone().start_session(1, &usual())
    }

    /// Nothing said of the transport.
    fn usual() -> TransportParameters {
        TransportParameters::read(Side::Client, &mut &b""[..]).expect("nothing")
    }

    /// What is agreed on behind a hello that comes in pieces of so many bytes.
    fn agreed(session: &mut dyn Session, hello: &[u8], piece: usize) -> Option<Vec<u8>> {
        let pieces = hello.chunks(piece);
        let count = pieces.len();
        for (n, bytes) in pieces.enumerate() {
            let ready = session.read_handshake(bytes).expect("a good hello");
            assert_eq!(ready, n + 1 == count, "known with the last piece");
            let mut answer = Vec::new();
            session.write_handshake(&mut answer);
            assert_eq!(!answer.is_empty(), n + 1 == count, "answered with the last piece");
        }
        let data = session.handshake_data().expect("ready");
        data.downcast::<HandshakeData>().expect("of rustls").protocol
    }

    #[test]
    fn of_the_protocols_that_a_client_asks_for_it_gets_ours_or_else_its_first() {
        let server = server();
        let cases: [(&[&str], Option<&str>); 6] = [
            (&[], None),
            (&["bastide"], Some("bastide")),
            (&["h3"], Some("h3")),
            (&["h3", "hq"], Some("h3")),
            (&["h3", "bastide", "hq"], Some("bastide")),
            (&["bastide", "h3"], Some("bastide")),
        ];
        for (protocols, expected) in cases {
            for piece in [usize::MAX, 100, 1] {
                let agreed = agreed(&mut *session(&server), &hello_of(protocols), piece);
                assert_eq!(agreed.as_deref(), expected.map(str::as_bytes), "{protocols:?}");
            }
        }
    }

    #[test]
    fn a_hello_up_to_the_limit_is_taken_and_a_larger_one_is_refused_by_its_header() {
        let server = server();
        let of = |names: u8| hello_of(&(0..names).map(|n| [n + 1; 255]).collect::<Vec<_>>());
        let (large, larger) = (of(62), of(70));
        assert!(large.len() < QUIC_HELLO_BYTES_MAX && larger.len() > QUIC_HELLO_BYTES_MAX);
        let agreed = agreed(&mut *session(&server), &large, 1200);
        assert_eq!(agreed, Some(vec![1; 255]));
        let refused = session(&server).read_handshake(&larger[..HEADER_BYTES]);
        let refused = refused.expect_err("too large");
        assert_eq!(refused.code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED);
    }

    #[test]
    fn what_is_no_hello_is_refused_as_rustls_refuses_it() {
        let server = server();
        let mut broken = hello_of(&["h3"]);
        let end = broken.len() - 1;
        broken[end] ^= 0xff;
        broken[39] = 0xff;
        for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), &[2, 0, 0, 1, 0], &[1, 0, 0, 0], &broken] {
            let refused = session(&server).read_handshake(bytes).expect_err("no hello");
            let mut plain = server.unnamed.clone().start_session(1, &usual());
            assert_eq!(Err(refused.code), plain.read_handshake(bytes).map_err(|e| e.code));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
            is_hello in any::<bool>(),
        ) {
            let mut session = session(&server());
            let mut pieces = pieces;
            if is_hello && let Some(first) = pieces.first_mut() {
                first.splice(..0, [CLIENT_HELLO, 0, 0, 90]);
            }
            for bytes in pieces {
                if session.read_handshake(&bytes).is_err() {
                    break;
                }
                session.write_handshake(&mut Vec::new());
            }
        }

        #[test]
        fn no_change_in_a_hello_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            piece in 1usize..400,
        ) {
            let mut hello = hello_of(&["h3", "bastide"]);
            for (at, byte) in changes {
                *at.get_mut(&mut hello) = byte;
            }
            protocol(&hello);
            let mut session = session(&server());
            for bytes in hello.chunks(piece) {
                if session.read_handshake(bytes).is_err() {
                    break;
                }
                session.write_handshake(&mut Vec::new());
            }
        }
    }
}

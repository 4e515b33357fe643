//! Owns the PROXY header, version 2, with which a load balancer says whose connection it brings.

use std::{io, net::SocketAddr};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpStream,
};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// The signature, the command, the family, and the length of what follows.
const FIXED_BYTES: usize = 16;

/// What every header begins with; neither HTTP nor TLS does.
const FIRST_BYTE: u8 = b'\r';

/// Why no address was learnt.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// Connected and gone, as balancers do to see whether somebody is there.
    #[error("closed before the PROXY header")]
    Gone,
    /// Something else came, or something that is longer than any header should be.
    #[error("no PROXY header of version 2")]
    Malformed,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads the header and not a byte more. `None`: the balancer speaks for itself.
///
/// # Errors
/// [`HeaderError`]; the connection is of no use then.
pub(super) async fn read<S>(stream: &mut S) -> Result<Option<SocketAddr>, HeaderError>
where
    S: AsyncRead + Unpin,
{
    let mut header = vec![0; FIXED_BYTES];
    if stream.read(&mut header[..1]).await? == 0 {
        return Err(HeaderError::Gone);
    }
    if header[0] != FIRST_BYTE {
        return Err(HeaderError::Malformed);
    }
    stream.read_exact(&mut header[1..]).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if FIXED_BYTES + rest > PROXY_HEADER_BYTES_MAX {
        return Err(HeaderError::Malformed);
    }
    header.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    parse(&header)
}

/// Whether a header comes first; waits until there is a byte to judge by.
pub(super) async fn announced(socket: &TcpStream) -> Result<bool, HeaderError> {
    let mut first = [0];
    match socket.peek(&mut first).await? {
        0 => Err(HeaderError::Gone),
        _ => Ok(first[0] == FIRST_BYTE),
    }
}

fn parse(header: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let settings = ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true };
    match ProxyHeader::parse(header, settings) {
        Ok((said, _)) => Ok(said.proxied_address().map(|whose| whose.source)),
        Err(_) => Err(HeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, Tlv};

    use super::*;

    fn client() -> ProxiedAddress {
        let (source, destination) = ("192.0.2.7:4711", "198.51.100.1:3017");
        let parsed = |addr: &str| addr.parse().expect("an address");
        ProxiedAddress::stream(parsed(source), parsed(destination))
    }

    fn encoded(header: &ProxyHeader<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode_v2(&mut bytes).expect("encoded");
        bytes
    }

    /// What is learnt, and what is left to read.
    async fn read_from(bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        let mut rest = bytes;
        let said = read(&mut rest).await;
        (said, rest.len())
    }

    #[tokio::test]
    async fn the_client_is_who_the_header_says_and_nothing_behind_it_is_read() {
        let mut bytes = encoded(&ProxyHeader::with_address(client()));
        bytes.extend(b"frames");
        let (said, left) = read_from(&bytes).await;
        assert_eq!((said.expect("read"), left), (Some(client().source), 6));
        let six = ProxiedAddress::stream(
            "[2001:db8::7]:1".parse().expect("an address"),
            "[2001:db8::1]:2".parse().expect("an address"),
        );
        let (said, left) = read_from(&encoded(&ProxyHeader::with_address(six.clone()))).await;
        assert_eq!((said.expect("read"), left), (Some(six.source), 0));
    }

    #[tokio::test]
    async fn what_else_the_balancer_tells_is_skipped() {
        let mut header = ProxyHeader::with_address(client());
        header.append_tlv(Tlv::Authority("town.example".into()));
        header.append_tlv(Tlv::UniqueId((&[7; 128][..]).into()));
        let mut bytes = encoded(&header);
        bytes.push(b'!');
        let (said, left) = read_from(&bytes).await;
        assert_eq!((said.expect("read"), left), (Some(client().source), 1));
    }

    #[tokio::test]
    async fn a_balancer_that_looks_whether_somebody_is_there_speaks_for_itself() {
        let (said, left) = read_from(&encoded(&ProxyHeader::with_local())).await;
        assert_eq!((said.expect("read"), left), (None, 0));
        assert!(matches!(read_from(b"").await.0, Err(HeaderError::Gone)));
    }

    #[tokio::test]
    async fn what_is_no_header_or_too_long_a_one_is_refused_before_it_is_read() {
        let mut long = encoded(&ProxyHeader::with_local());
        long[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        long.resize(70_000, 0);
        let (said, left) = read_from(&long).await;
        assert!(matches!(said, Err(HeaderError::Malformed)), "{said:?}");
        assert_eq!(left, 70_000 - FIXED_BYTES);
        let one = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 3017\r\n";
        assert!(matches!(read_from(one).await.0, Err(HeaderError::Malformed)));
        let mut short = encoded(&ProxyHeader::with_address(client()));
        short[15] = 4;
        assert!(matches!(read_from(&short).await.0, Err(HeaderError::Malformed)));
        let cut = &encoded(&ProxyHeader::with_address(client()))[..20];
        assert!(matches!(read_from(cut).await.0, Err(HeaderError::Io(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_more_is_read_than_a_header_may_have(
            signed in any::<bool>(),
            command in any::<u8>(),
            family in any::<u8>(),
            bytes in prop::collection::vec(any::<u8>(), 0..6000),
        ) {
            let mut all = Vec::new();
            if signed {
                all.extend(b"\r\n\r\n\0\r\nQUIT\n");
                all.extend([0x20 | (command & 1), [family, 0x11, 0x21, 0][usize::from(command >> 6)]]);
            }
            all.extend(bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (_, left) = runtime.block_on(read_from(&all));
            prop_assert!(all.len() - left <= PROXY_HEADER_BYTES_MAX);
        }
    }
}

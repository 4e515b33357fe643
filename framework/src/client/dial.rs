//! Owns where a gate is and how it is reached: an address becomes something that carries bytes.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

/// How the bytes of frames travel to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `tcp://host:port`, and what an address without a scheme means.
    Tcp,
    /// `tls://host:port`
    Tls,
    /// `ws://host:port/path`
    Ws,
    /// `wss://host:port/path`
    Wss,
    /// `quic://host:port`
    Quic,
}

/// Where a gate is, such as `127.0.0.1:3017` or `wss://town.example:443/ws`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// How to speak with it.
    pub scheme: Scheme,
    /// `host:port`; an IPv6 host stands in brackets.
    pub host: String,
    /// What follows the port, with its `/`; empty where nothing does.
    pub path: String,
}

/// Why a text is not the address of a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is not one of `tcp`, `tls`, `ws`, `wss`, `quic`. Write one of them, or none.
    #[error("{0}:// is not a way to a gate; tcp, tls, ws, wss and quic are")]
    Scheme(String),
    /// There is no `host:port`. Write both: no port is assumed.
    #[error("{0:?} is not host:port")]
    Host(String),
}

/// Something that carries bytes both ways, whatever is below it.
pub trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {
    /// The next whole frame that came beside the stream. Such a frame may be lost, and does not
    /// count; what has no such way, as most have not, is pending for ever.
    fn poll_datagram(&mut self, _: &mut Context<'_>) -> Poll<Vec<u8>> {
        Poll::Pending
    }
}

/// A carrier on its way.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Carrier>>> + Send>>;

/// Connects to a gate. [`Net`](super::Net) does it over the network; a test hands out carriers of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not dial",
    note = "implement `Dial`: from an `Address` to a future of a boxed carrier"
)]
pub trait Dial: fmt::Debug + Send + Sync {
    /// Begins to connect. The future owns what it needs: it is kept while the caller waits for
    /// something else, and dropped when it takes too long.
    fn dial(&self, address: &Address) -> Dialing;
}

impl Address {
    /// Reads an address; without a scheme it is TCP.
    ///
    /// # Errors
    /// [`AddressError`] when the scheme is unknown, or host or port are missing.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Tcp, text),
            Some((name, rest)) => (Scheme::parse(name)?, rest),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {}
            _ => return Err(AddressError::Host(text.to_owned())),
        }
        Ok(Self { scheme, host: host.to_owned(), path: path.to_owned() })
    }

    /// The host without its port, as its certificate names it.
    pub(super) fn name(&self) -> &str {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        name.trim_start_matches('[').trim_end_matches(']')
    }
}

impl Scheme {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Tcp, "tcp"),
        (Self::Tls, "tls"),
        (Self::Ws, "ws"),
        (Self::Wss, "wss"),
        (Self::Quic, "quic"),
    ];

    fn parse(name: &str) -> Result<Self, AddressError> {
        let found = Self::ALL.iter().find(|(_, known)| name.eq_ignore_ascii_case(known));
        found.map(|(scheme, _)| *scheme).ok_or_else(|| AddressError::Scheme(name.to_owned()))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, path } = self;
        match scheme {
            Scheme::Tcp => write!(f, "{host}{path}"),
            _ => write!(f, "{scheme}://{host}{path}"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(scheme, _)| scheme == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl fmt::Debug for dyn Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_as_people_write_it() {
        for text in ["127.0.0.1:3017", "[::1]:1", "tls://a:2", "wss://town.example:443/ws?x=1"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let plain = Address::parse("tcp://host:3017").unwrap();
        assert_eq!(plain, Address::parse("host:3017").unwrap());
        assert_eq!((plain.scheme, plain.path.as_str()), (Scheme::Tcp, ""));
    }

    #[test]
    fn an_address_without_a_host_a_port_or_a_known_scheme_is_refused_and_named() {
        for text in ["", "host", ":80", "host:", "host:70000", "ws:///path"] {
            assert!(matches!(Address::parse(text), Err(AddressError::Host(_))), "{text}");
        }
        assert_eq!(Address::parse("ftp://h:1"), Err(AddressError::Scheme("ftp".to_owned())));
    }
}

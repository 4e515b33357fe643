//! Owns how listeners and networks are written: one or a list, in a file as in TOML, elsewhere
//! with commas; and which listeners a gate has.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Unexpected, Visitor},
};

use super::Gate;
use crate::gate::Transport;

/// Addresses to listen on; none: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Vec<SocketAddr>);

/// Networks of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether the address is in one of them; an IPv4 address in IPv6 dress is itself.
    pub(crate) fn contain(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

impl Gate {
    /// Every kind of listener with its addresses.
    pub(crate) fn listeners(&self) -> [(Transport, &Listen); 5] {
        [
            (Transport::Tcp, &self.tcp),
            (Transport::TcpTls, &self.tcp_tls),
            (Transport::Ws, &self.ws),
            (Transport::WsTls, &self.ws_tls),
            (Transport::Quic, &self.quic),
        ]
    }

    /// The first kind of listener that is on and cannot do without a certificate.
    pub(crate) fn encrypted(&self) -> Option<(Transport, &Listen)> {
        self.listeners().into_iter().find(|(transport, at)| {
            matches!(transport, Transport::TcpTls | Transport::WsTls | Transport::Quic)
                && !at.0.is_empty()
        })
    }

    /// The certificate's file and its key's, where both are named.
    pub(crate) fn certificate_files(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }
}

/// The configuration key of a kind of listener, and the flag that sets it.
pub(crate) const fn listener_key(transport: Transport) -> (&'static str, &'static str) {
    match transport {
        Transport::Tcp => ("gate.tcp", "--gate-tcp"),
        Transport::TcpTls => ("gate.tcp_tls", "--set gate.tcp_tls="),
        Transport::Ws => ("gate.ws", "--gate-ws"),
        Transport::WsTls => ("gate.ws_tls", "--set gate.ws_tls="),
        Transport::Quic => ("gate.quic", "--gate-quic"),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&addrs.join(","))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a socket address or a list of them";
        deserializer.deserialize_any(OneOrMore::new(expected)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "addresses or networks such as 10.0.0.0/8";
        let networks: Vec<Network> = deserializer.deserialize_any(OneOrMore::new(expected))?;
        Ok(Self(networks.into_iter().map(|network| network.0).collect()))
    }
}

/// A network, or an address that stands for itself alone.
struct Network(IpNet);

impl FromStr for Network {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map(Self)
    }
}

/// Takes a list of texts, or one text with commas.
struct OneOrMore<T> {
    expected: &'static str,
    items: PhantomData<T>,
}

impl<T: FromStr> OneOrMore<T> {
    fn new(expected: &'static str) -> Self {
        Self { expected, items: PhantomData }
    }

    fn item<E: de::Error>(&self, text: &str) -> Result<T, E> {
        text.trim().parse().map_err(|_| E::invalid_value(Unexpected::Str(text), self))
    }
}

impl<'de, T: FromStr> Visitor<'de> for OneOrMore<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let items = text.split(',').filter(|item| !item.trim().is_empty());
        items.map(|item| self.item(item)).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            items.push(self.item(&text)?);
        }
        Ok(items)
    }
}

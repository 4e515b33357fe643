//! Owns the doors of clients that speak a codec: which codecs are on, and where only their clients
//! come in.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use serde::Serialize;

use super::{address, listen, listen_udp, reached, towards};
use crate::{
    config::{Codec, Config, Listen},
    gate::{AnyCodec, Codecs},
    node::StartError,
};

/// Ports that `--port-base` gives to everything else.
const PORTS_BEFORE: u16 = 8;

/// Free ports for TCP that are tried for one that is free for UDP, too.
const FREE_PORT_TRIES: usize = 8;

/// What clients of one codec have for themselves.
pub(super) struct CodecDoors {
    pub(super) codec: Arc<dyn AnyCodec>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) udp: Option<UdpSocket>,
    advertise: Option<String>,
    /// Why they are not where they would be, for the log once the node is up.
    moved: Option<String>,
}

/// Where they are reached from this machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CodecAddresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) udp: Option<SocketAddr>,
}

/// The codecs that are on, each with its doors.
pub(super) fn bind(config: &Config, all: &Codecs) -> Result<Vec<CodecDoors>, StartError> {
    if let Some(name) = config.codecs.keys().find(|name| all.get(name).is_none()) {
        let known: Vec<_> = all.iter().map(|codec| codec.name()).collect();
        return Err(StartError::Codec { name: name.clone(), known: known.join(", ") });
    }
    let mut doors = Vec::new();
    for (codec, place) in all.iter().zip(0..) {
        let said = config.codecs.get(codec.name());
        if said.map_or(!config.dev, |said| !said.on) {
            continue;
        }
        doors.push(CodecDoors::bind(config, codec, said, place)?);
    }
    Ok(doors)
}

impl CodecDoors {
    fn bind(
        config: &Config,
        codec: &Arc<dyn AnyCodec>,
        said: Option<&Codec>,
        place: u16,
    ) -> Result<Self, StartError> {
        let mut doors = Self {
            codec: codec.clone(),
            tcp: Vec::new(),
            udp: None,
            advertise: said.and_then(|said| said.advertise.clone()),
            moved: None,
        };
        let (tcp, udp) = codec.ports();
        let key = |kind| format!("codecs.{}.{kind}", codec.name());
        let flag = |kind| format!("--set codecs.{}.{kind}=", codec.name());
        let own = |port: Option<u16>| {
            let port = port.filter(|_| config.dev)?;
            let moved = |base: u16| base.checked_add(PORTS_BEFORE + place);
            let port = config.port_base.map_or(Some(port), moved)?;
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let said_udp = said.and_then(|said| said.udp);
        let wants_udp = said_udp.is_none() && own(udp).is_some();
        match said.and_then(|said| said.tcp.as_ref()) {
            Some(Listen(addrs)) => {
                for addr in addrs {
                    doors.tcp.push(listen(key("tcp"), flag("tcp"), *addr)?);
                }
                if let Some(tcp) = doors.tcp.first().filter(|_| wants_udp) {
                    doors.udp = Some(listen_udp(key("udp"), flag("udp"), address(tcp))?);
                }
            }
            None => {
                if let Some(addr) = own(tcp) {
                    let (tcp, udp, moved) = unsaid(codec.name(), addr, wants_udp)?;
                    (doors.tcp, doors.udp, doors.moved) = (vec![tcp], udp, moved);
                }
            }
        }
        if let Some(addr) = said_udp {
            // On the same number, as clients of both expect.
            let addr = match doors.tcp.first().map(address) {
                Some(tcp) if addr.port() == 0 && tcp.ip() == addr.ip() => tcp,
                _ => addr,
            };
            doors.udp = Some(listen_udp(key("udp"), flag("udp"), addr)?);
        }
        Ok(doors)
    }

    fn addresses(&self) -> CodecAddresses {
        let udp = self
            .udp
            .as_ref()
            .map(|socket| reached(socket.local_addr().expect("a bound socket has an address")));
        CodecAddresses { tcp: self.tcp.first().map(address).map(reached), udp }
    }

    /// What its clients are told to connect to.
    fn advertised(&self, config: &Config) -> Option<String> {
        let bound = address(self.tcp.first()?);
        Some(self.advertise.clone().unwrap_or_else(|| towards(config, bound).to_string()))
    }
}

/// A port that nobody asked for, for datagrams as well if so; where it is taken, any other will do,
/// and it is said why.
fn unsaid(
    codec: &str,
    addr: SocketAddr,
    datagrams: bool,
) -> Result<(TcpListener, Option<UdpSocket>, Option<String>), StartError> {
    let flag = |kind| format!("--set codecs.{codec}.{kind}=");
    let bind = |addr| {
        let tcp = listen(format!("codecs.{codec}.tcp"), flag("tcp"), addr)?;
        let udp = || listen_udp(format!("codecs.{codec}.udp"), flag("udp"), address(&tcp));
        let udp = datagrams.then(udp).transpose()?;
        Ok((tcp, udp))
    };
    let mut bound: Result<_, StartError> = bind(addr);
    let mut moved = None;
    for _ in 0..FREE_PORT_TRIES {
        let Err(e) = bound else { break };
        bound = bind(SocketAddr::new(addr.ip(), 0));
        moved = Some(e.to_string());
    }
    let (tcp, udp) = bound?;
    let moved = moved.map(|why| format!("{why}; until then {} does", address(&tcp)));
    Ok((tcp, udp, moved))
}

/// Says which codecs have other doors than they would.
pub(super) fn tell_moved(doors: &[CodecDoors]) {
    for why in doors.iter().filter_map(|doors| doors.moved.as_ref()) {
        tracing::warn!(target: "node", "{why}");
    }
}

pub(super) fn addresses(doors: &[CodecDoors]) -> BTreeMap<&'static str, CodecAddresses> {
    doors.iter().map(|doors| (doors.codec.name(), doors.addresses())).collect()
}

pub(super) fn advertised(doors: &[CodecDoors], config: &Config) -> BTreeMap<String, String> {
    let told =
        |doors: &CodecDoors| Some((doors.codec.name().to_owned(), doors.advertised(config)?));
    doors.iter().filter_map(told).collect()
}

//! Owns the listeners of a node: bound before anything else, opened after everything else.

mod codecs;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
};

use actix_web::dev::{Server, ServerHandle};
use serde::Serialize;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

pub(crate) use self::codecs::CodecAddresses;
use self::codecs::CodecDoors;
use crate::{
    account::{self, AccountCenter, Own, Sockets},
    admin::{self, Admin},
    config::{self, Config, listener_key},
    directory::Role,
    gate::{AnyCodec, Codecs, Door, Entrance, Transport},
    limits::{ACCEPT_QUEUE_MAX, CLIENT_SOCKET_BYTES, QUIC_SOCKET_BYTES},
    link::{Links, Served},
    node::{StartError, system},
    tasks::Tasks,
};

/// What a node listens on.
pub(crate) struct Doors {
    http: Vec<TcpListener>,
    gate: GateDoors,
    codecs: Vec<CodecDoors>,
    link: Option<TcpListener>,
    admin: TcpListener,
}

/// An HTTP server that runs.
#[derive(Debug)]
pub(crate) struct Desk {
    server: ServerHandle,
    /// Those on its ports.
    sockets: Option<Sockets>,
}

/// What a gate listens on; nothing when the node is none.
#[derive(Default)]
struct GateDoors {
    streams: Vec<(Transport, TcpListener)>,
    quic: Vec<UdpSocket>,
}

/// Where a node is reached from this machine; what `--announce` writes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Addresses {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) http: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate_tcp: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate_tcp_tls: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate_ws: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate_ws_tls: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate_quic: Option<SocketAddr>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) codecs: BTreeMap<&'static str, CodecAddresses>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) pid: u32,
}

impl Doors {
    pub(crate) fn bind(config: &Config, codecs: &Codecs) -> Result<Self, StartError> {
        let http = config.account.listen.iter().filter(|_| config.has(Role::Account));
        let http = http.map(|a| listen("account.listen", "--http", *a));
        let link = || listen("link.listen", "--link", config.link.listen);
        Ok(Self {
            http: http.collect::<Result<_, _>>()?,
            gate: match config.has(Role::Gate) {
                true => GateDoors::bind(&config.gate)?,
                false => GateDoors::default(),
            },
            codecs: match config.has(Role::Gate) {
                true => codecs::bind(config, codecs)?,
                false => Vec::new(),
            },
            link: config.clustered().then(link).transpose()?,
            admin: listen("admin.listen", "--admin", config.admin.listen)?,
        })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            http: self.http.iter().map(|http| reached(address(http))).collect(),
            gate_tcp: self.gate.first(Transport::Tcp).map(reached),
            gate_tcp_tls: self.gate.first(Transport::TcpTls).map(reached),
            gate_ws: self.gate.first(Transport::Ws).map(reached),
            gate_ws_tls: self.gate.first(Transport::WsTls).map(reached),
            gate_quic: self.gate.first(Transport::Quic).map(reached),
            codecs: codecs::addresses(&self.codecs),
            link: self.link.as_ref().map(|link| reached(address(link))),
            admin: reached(address(&self.admin)),
            pid: std::process::id(),
        }
    }

    /// What clients are told to connect to: where frames are spoken over TCP, if they are.
    pub(crate) fn gate_advertised(&self, config: &Config) -> Option<String> {
        use Transport::{Quic, Tcp, TcpTls, Ws, WsTls};
        let bound = [Tcp, TcpTls, Ws, WsTls, Quic];
        let (transport, bound) =
            bound.into_iter().find_map(|kind| Some((kind, self.gate.first(kind)?)))?;
        if let Some(said) = &config.gate.advertise {
            return Some(said.clone());
        }
        let told = towards(config, bound);
        if bound.ip().is_unspecified() && told.ip().is_loopback() {
            tracing::warn!(
                target: "node",
                "{} = {bound} is every address of this machine: clients are told {told}; say with \
                 --gate-advertise where they reach the gate from elsewhere",
                listener_key(transport).0
            );
        }
        Some(told.to_string())
    }

    /// Where people are told to reach the account center, when this node is one.
    pub(crate) fn http_advertised(&self, config: &Config) -> Option<String> {
        let bound = address(self.http.first()?);
        let said = config.account.advertise.clone();
        Some(said.unwrap_or_else(|| towards(config, bound).to_string()))
    }

    /// What clients of WebSockets are told to connect to, as a URL: on the host that
    /// `gate.advertise` names, where it names one.
    pub(crate) fn websocket_advertised(&self, config: &Config) -> Option<String> {
        let (scheme, bound) = match self.gate.first(Transport::Ws) {
            Some(bound) => ("ws", bound),
            None => ("wss", self.gate.first(Transport::WsTls)?),
        };
        let said = config.gate.advertise.as_ref().and_then(|said| said.parse::<SocketAddr>().ok());
        let host = said.map_or_else(|| towards(config, bound).ip(), |said| said.ip());
        Some(format!("{scheme}://{}/ws", SocketAddr::new(host, bound.port())))
    }

    /// The codecs that are on.
    pub(crate) fn codecs(&self) -> Codecs {
        self.codecs.iter().map(|doors| doors.codec.clone()).collect()
    }

    /// Where clients of each codec are told to connect to.
    pub(crate) fn codecs_advertised(&self, config: &Config) -> BTreeMap<String, String> {
        codecs::advertised(&self.codecs, config)
    }

    /// The sockets for datagrams of codecs' clients.
    pub(crate) fn take_datagrams(&mut self) -> Vec<(Arc<dyn AnyCodec>, UdpSocket)> {
        let sockets = |doors: &mut CodecDoors| {
            let codec = doors.codec.clone();
            doors.udp.take().map(|socket| (codec, socket))
        };
        self.codecs.iter_mut().filter_map(sockets).collect()
    }

    /// Where other nodes reach this one's link.
    pub(crate) fn link_advertised(&self, config: &Config) -> Option<String> {
        let bound = address(self.link.as_ref()?);
        Some(config.link.advertise.clone().unwrap_or_else(|| towards(config, bound).to_string()))
    }

    /// Lets other nodes in.
    pub(crate) fn open_link(
        &mut self,
        links: &Links,
        served: Served,
        tasks: &Tasks,
    ) -> Result<(), StartError> {
        if let Some(listener) = self.link.take() {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(system("link.listen"))?;
            tasks.spawn(links.clone().accept(listener, served));
        }
        Ok(())
    }

    /// Lets clients, people and operators in. The account center's server is the first: it must
    /// not send people here while the rest stops.
    pub(crate) fn open(
        self,
        gate: Option<&Arc<Entrance>>,
        center: Option<AccountCenter>,
        settings: &config::Account,
        own: Own,
        admin: Admin,
        tasks: &Tasks,
    ) -> Result<Vec<Desk>, StartError> {
        if let Some(gate) = gate {
            self.gate.open(gate, tasks)?;
            codecs::tell_moved(&self.codecs);
            for CodecDoors { codec, tcp, .. } in self.codecs {
                for listener in tcp {
                    let door = Door { transport: Transport::Tcp, codec: Some(codec.clone()) };
                    open(gate, listener, door, tasks).map_err(system("codecs"))?;
                }
            }
        }
        let people = center.map(|center| account::serve(self.http, center, settings, own, tasks));
        let people = people.transpose().map_err(system("account.listen"))?;
        let people = people.map(|(server, sockets)| (server, Some(sockets)));
        let operators = admin::serve(self.admin, admin).map_err(system("admin.listen"))?;
        let servers = people.into_iter().chain([(operators, None)]);
        Ok(servers.map(|(server, sockets)| Desk { server: run(server, tasks), sockets }).collect())
    }
}

impl Desk {
    /// Lets requests end; sockets never would.
    pub(crate) async fn stop(self) {
        let Self { server, sockets } = self;
        if let Some(sockets) = sockets {
            sockets.close().await;
        }
        server.stop(true).await;
    }
}

impl GateDoors {
    fn bind(gate: &config::Gate) -> Result<Self, StartError> {
        let mut doors = Self::default();
        for (transport, addrs) in gate.listeners() {
            let (key, flag) = listener_key(transport);
            for addr in &addrs.0 {
                if transport == Transport::Quic {
                    doors.quic.push(listen_udp(key, flag, *addr)?);
                } else {
                    doors.streams.push((transport, listen(key, flag, *addr)?));
                }
            }
        }
        Ok(doors)
    }

    /// Where the first listener of a kind is.
    fn first(&self, transport: Transport) -> Option<SocketAddr> {
        if transport == Transport::Quic {
            let socket = self.quic.first()?;
            return Some(socket.local_addr().expect("a bound socket has an address"));
        }
        self.streams.iter().find(|(kind, _)| *kind == transport).map(|(_, at)| address(at))
    }

    fn open(self, gate: &Arc<Entrance>, tasks: &Tasks) -> Result<(), StartError> {
        for (transport, listener) in self.streams {
            let (key, _) = listener_key(transport);
            let door = Door { transport, codec: None };
            open(gate, listener, door, tasks).map_err(system(key))?;
        }
        for socket in self.quic {
            gate.accept_quic(socket).map_err(system("gate.quic"))?;
        }
        Ok(())
    }
}

/// Lets clients in by one door.
fn open(gate: &Arc<Entrance>, listener: TcpListener, door: Door, tasks: &Tasks) -> io::Result<()> {
    bound_buffers(&listener)?;
    tasks.spawn(gate.clone().accept(tokio::net::TcpListener::from_std(listener)?, door));
    Ok(())
}

/// Serves until the server is stopped, or the tasks are: whoever has not sent a whole request by
/// then is cut.
fn run(server: Server, tasks: &Tasks) -> ServerHandle {
    let (handle, until) = (server.handle(), tasks.clone());
    tasks.spawn(async move {
        tokio::select! {
            ended = server => if let Err(e) = ended {
                tracing::error!(target: "node", "an HTTP server ended: {e}");
            },
            () = until.stopped() => {}
        }
    });
    handle
}

fn listen(
    key: impl Into<String>,
    flag: impl Into<String>,
    addr: SocketAddr,
) -> Result<TcpListener, StartError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A town that restarts takes its ports back at once; one that runs keeps them.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(ACCEPT_QUEUE_MAX)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|source| StartError::Listen {
        key: key.into(),
        flag: flag.into(),
        addr,
        source,
    })
}

/// Its connections inherit it. Left alone, Linux keeps 4 MiB of what a client does not read, and
/// more of what it sends and the gate does not read: kernel memory, and work for a client that is
/// about to be sent away.
fn bound_buffers(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_recv_buffer_size(CLIENT_SOCKET_BYTES)?;
    socket.set_send_buffer_size(CLIENT_SOCKET_BYTES)
}

fn listen_udp(
    key: impl Into<String>,
    flag: impl Into<String>,
    addr: SocketAddr,
) -> Result<UdpSocket, StartError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&addr.into())?;
        // All clients share the socket. What the system does not grant, it does not.
        let _granted = socket.set_recv_buffer_size(QUIC_SOCKET_BYTES);
        let _granted = socket.set_send_buffer_size(QUIC_SOCKET_BYTES);
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|source| StartError::Listen {
        key: key.into(),
        flag: flag.into(),
        addr,
        source,
    })
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener has an address")
}

/// Where a program of this machine reaches it.
fn reached(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    addr
}

/// The address that others reach: of every address of the machine the one that leads to etcd, for
/// there the others are as well.
fn towards(config: &Config, bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let here = config.discovery.etcd.iter().find_map(|url| own_address(url, bound.is_ipv4()).ok());
    SocketAddr::new(here.unwrap_or(Ipv4Addr::LOCALHOST.into()), bound.port())
}

/// The address of this machine from which `url` is reached, of the family that is listened on.
/// Nothing is sent.
fn own_address(url: &str, v4: bool) -> io::Result<IpAddr> {
    let url = reqwest::Url::parse(url).map_err(io::Error::other)?;
    let host = url.host_str().ok_or(io::ErrorKind::InvalidInput)?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(2379);
    let mut peers = (host, port).to_socket_addrs()?;
    let peer = peers.find(|peer| peer.is_ipv4() == v4).ok_or(io::ErrorKind::NotFound)?;
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_towards_a_server_is_that_of_the_way_to_it() {
        assert_eq!(
            own_address("http://127.0.0.1:2379", true).ok(),
            Some(Ipv4Addr::LOCALHOST.into())
        );
        assert!(own_address("http://127.0.0.1:2379", false).is_err());
        assert!(own_address("nonsense", true).is_err());
    }
}

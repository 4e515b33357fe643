//! Owns the way in of one connection: a token from the account center, the gate's yes, a seat in a
//! room. Plain bytes on one socket, so that it costs little beside the server.

use std::{io, rc::Rc, time::Duration};

use prost::Message as _;
use tokio::{net::TcpStream, time::timeout};

use super::{
    dialogue::{Loss, code},
    plan::RoomWish,
};
use crate::{
    Named, Request,
    client::{ClientError, auth_over, connections},
    msg,
    wire::{self, Cut, FRAME_BYTES_MAX},
};

/// How long one may take to get in: longer than each server on the way gives itself. Beyond: it is
/// counted as an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a session that ends may take to be told so. Beyond: the connection is closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where connections get in.
#[derive(Debug)]
pub(super) struct Entrance {
    http: reqwest::Client,
    addr: String,
    gate: Option<String>,
}

/// Somebody who is in.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) socket: Rc<TcpStream>,
    account: i64,
    /// What came after the last answer.
    pub(super) unread: Vec<u8>,
}

impl Entrance {
    pub(super) fn new(addr: &str, gate: Option<&str>) -> Result<Self, String> {
        Ok(Self { http: connections()?, addr: addr.to_owned(), gate: gate.map(str::to_owned) })
    }

    /// Signs in on a new connection, and takes a seat where one is wished for.
    ///
    /// # Errors
    /// What kept it out.
    pub(super) async fn come_in(
        &self,
        device: &str,
        room: Option<&RoomWish>,
        n: usize,
    ) -> Result<Guest, Loss> {
        let all = async {
            let mut guest = self.sign_in(device).await?;
            if let Some(wish) = room {
                guest.take_seat(wish, n).await?;
            }
            Ok(guest)
        };
        timeout(PATIENCE, all).await.unwrap_or_else(|_| Err("sign-in: no end of it".to_owned()))
    }

    async fn sign_in(&self, device: &str) -> Result<Guest, Loss> {
        let form = [("device_id", device)];
        let signed_in = auth_over(&self.http, &self.addr, &form).await.map_err(|e| match e {
            ClientError::Refused(refusal) => format!("sign-in: {}", code(refusal.code.0)),
            _ => "sign-in: the account center does not answer".to_owned(),
        })?;
        let gate = self.gate.as_ref().unwrap_or(&signed_in.addr);
        let socket = TcpStream::connect(gate).await.map_err(|e| format!("gate: {}", e.kind()))?;
        socket.set_nodelay(true).map_err(|e| format!("gate: {}", e.kind()))?;
        let socket = Rc::new(socket);
        let mut guest = Guest { socket, account: signed_in.account_id, unread: Vec::new() };
        let login = msg::login::Req { token: signed_in.token, ..msg::login::Req::default() };
        match guest.ask(&login).await?.code {
            0 => Ok(guest),
            refused => Err(format!("gate: {}", code(refused))),
        }
    }
}

impl Guest {
    async fn take_seat(&mut self, wish: &RoomWish, n: usize) -> Result<(), Loss> {
        let RoomWish { kind, options } = wish;
        let number = n.to_string();
        let of_mine =
            |(key, value): (&String, &String)| (key.clone(), value.replace("{n}", &number));
        let options = options.iter().map(of_mine).collect();
        let enter = msg::enter_room::Req { kind: kind.clone(), options, ..Default::default() };
        let ticket = self.ask(&enter).await?.ticket;
        let join = msg::join_room::Req { ticket, name: format!("Load {n}") };
        self.ask(&join).await.map(drop)
    }

    /// Ends the session, so that nothing of it is kept.
    pub(super) async fn say_goodbye(mut self) {
        let logout = msg::logout::Req { account: self.account };
        // Whatever it answers, and if it does not: the connection closes now.
        drop(timeout(GOODBYE, self.ask(&logout)).await);
    }

    /// Asks for something, and passes over what is told before the answer.
    async fn ask<Q: Request>(&mut self, request: &Q) -> Result<Q::Res, Loss> {
        let mut out = Vec::new();
        wire::put_message(&mut out, request).map_err(|e| e.to_string())?;
        let mut rest = &out[..];
        while !rest.is_empty() {
            let ready = self.socket.writable().await;
            let sent = tried(ready.and_then(|()| self.socket.try_write(rest)))?;
            rest = &rest[sent..];
        }
        loop {
            let (used, said) = match wire::cut(&self.unread, FRAME_BYTES_MAX) {
                Ok(Cut::Frame(frame)) => {
                    let (api, payload) = (frame.api.as_str(), frame.payload);
                    (frame.bytes.len(), answer::<Q>(api, payload))
                }
                Ok(Cut::Partial { .. }) => (0, None),
                Err(e) => return Err(format!("no frame: {e}")),
            };
            self.unread.drain(..used);
            if let Some(said) = said {
                return said;
            }
            if used == 0 {
                let ready = self.socket.readable().await;
                tried(ready.and_then(|()| match self.socket.try_read_buf(&mut self.unread) {
                    Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                }))?;
            }
        }
    }
}

/// How many bytes went; none when the socket was not ready after all.
fn tried(done: io::Result<usize>) -> Result<usize, Loss> {
    match done {
        Ok(bytes) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(e) => Err(format!("gate: {}", e.kind())),
    }
}

/// What a frame says to whoever has asked this; `None`: something else.
fn answer<Q: Request>(api: &str, payload: &[u8]) -> Option<Result<Q::Res, Loss>> {
    if Some(api) == Q::ANSWER {
        let decoded = Q::Res::decode(payload);
        return Some(decoded.map_err(|e| format!("{api} is not what it should be: {e}")));
    }
    if api == msg::error::Res::NAME {
        let error = msg::error::Res::decode(payload).unwrap_or_default();
        return Some(Err(format!("{}: {}", Q::NAME, code(error.code))));
    }
    if api == msg::kick::Res::NAME {
        let kick = msg::kick::Res::decode(payload).unwrap_or_default();
        return Some(Err(format!("kicked: {}", code(kick.code))));
    }
    None
}

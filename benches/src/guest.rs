//! Owns a client that signs in: plain bytes on two sockets, so that it costs little beside the
//! servers under measurement. Panics at whatever goes wrong: a figure with errors is none.

use bastide::{Request, msg, prost::Message as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// A guest's way in: a connection to the account center that is kept, and the gate's address.
#[derive(Debug)]
pub struct Guest {
    http: TcpStream,
    gate: String,
    unread: Vec<u8>,
}

impl Guest {
    /// Connects to the account center.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn new(http: &str, gate: &str) -> Self {
        let http = TcpStream::connect(http).await.expect("the account center listens");
        http.set_nodelay(true).expect("a socket");
        Self { http, gate: gate.to_owned(), unread: Vec::with_capacity(4096) }
    }

    /// Signs in as the owner of a device, on a new connection to the gate; the connection, once
    /// the gate has answered.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn sign_in(&mut self, device: &str) -> TcpStream {
        self.try_sign_in(device).await.unwrap_or_else(|why| panic!("{device}: {why}"))
    }

    /// As [`Guest::sign_in`].
    ///
    /// # Errors
    /// What the account center or the gate said instead of yes.
    pub async fn try_sign_in(&mut self, device: &str) -> Result<TcpStream, String> {
        let token = self.token(device).await?;
        let mut socket = TcpStream::connect(&self.gate).await.map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        sign_in_over(&mut socket, &token).await?;
        Ok(socket)
    }

    /// A token from the account center.
    ///
    /// # Errors
    /// What the account center said instead.
    pub async fn token(&mut self, device: &str) -> Result<String, String> {
        let answer = self.post("/v1/account/auth", "", &format!("device_id={device}")).await?;
        let token = answer["token"].as_str();
        token.map(str::to_owned).ok_or_else(|| answer.to_string())
    }

    /// What the account center answers to a form. Each of `headers` ends its line.
    ///
    /// # Errors
    /// When it does not answer, or not in JSON.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Result<serde_json::Value, String> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n{headers}\
             content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        );
        self.http.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        self.unread.clear();
        loop {
            if let Some(body) = body_of(&self.unread) {
                return serde_json::from_slice(body).map_err(|e| e.to_string());
            }
            if self.http.read_buf(&mut self.unread).await.map_err(|e| e.to_string())? == 0 {
                return Err("the account center hangs up".to_owned());
            }
        }
    }
}

/// Signs in on a connection to the gate; the gate's answer.
///
/// # Errors
/// What the gate said instead of yes.
pub async fn sign_in_over<S>(stream: &mut S, token: &str) -> Result<msg::login::Res, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = msg::login::Req { token: token.to_owned(), ..Default::default() };
    let answer = ask(stream, &request).await?;
    if answer.code == 0 { Ok(answer) } else { Err(format!("refused: {answer:?}")) }
}

/// Takes a seat in a room that there is, or in one that is opened for it; the room's id.
///
/// # Errors
/// What was said instead of yes.
pub async fn join<S>(stream: &mut S, ask_for: &msg::enter_room::Req) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let entered = ask(stream, ask_for).await?;
    let request = msg::join_room::Req { ticket: entered.ticket, name: "Bench".to_owned() };
    Ok(ask(stream, &request).await?.room_id)
}

/// Asks for something, and reads up to the answer; what is told before it is not kept, nor what
/// came with it.
///
/// # Errors
/// What was said instead.
pub async fn ask<S, Q>(stream: &mut S, request: &Q) -> Result<Q::Res, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Request,
{
    let mut frame = Vec::new();
    bastide::wire::put_message(&mut frame, request).expect("fits");
    stream.write_all(&frame).await.map_err(|e| e.to_string())?;
    let (mut unread, answer) = (Vec::with_capacity(1024), Q::ANSWER.unwrap_or_default());
    loop {
        while unread.len() < 2 || unread.len() < size(&unread) {
            match stream.read_buf(&mut unread).await {
                Ok(n) if n > 0 => {}
                broken => return Err(format!("the gate hangs up: {broken:?}")),
            }
        }
        let (end, api) =
            (size(&unread), 4 + usize::from(u16::from_le_bytes([unread[2], unread[3]])));
        match &unread[4..api] {
            name if name == answer.as_bytes() => {
                return Q::Res::decode(&unread[api..end]).map_err(|e| e.to_string());
            }
            b"msg.Error.Res" | b"msg.Kick.Res" => {
                return Err(format!("refused: {}", String::from_utf8_lossy(&unread[api..end])));
            }
            _ => drop(unread.drain(..end)),
        }
    }
}

/// Bytes of the first frame.
fn size(frame: &[u8]) -> usize {
    2 + usize::from(u16::from_le_bytes([frame[0], frame[1]]))
}

/// The body of an answer that says how long it is, once it is whole.
fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..head]).ok()?.to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    answer.get(head + 4..head + 4 + length.trim().parse::<usize>().ok()?)
}

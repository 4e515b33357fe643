//! Owns a client that signs in: plain bytes on two sockets, so that it costs little beside the
//! servers under measurement. Panics at whatever goes wrong: a figure with errors is none.

use bastide::msg;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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
        let request = msg::login::Req { token: self.token(device).await?, ..Default::default() };
        let mut socket = TcpStream::connect(&self.gate).await.map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut frame = Vec::new();
        bastide::wire::put_message(&mut frame, &request).expect("fits");
        socket.write_all(&frame).await.map_err(|e| e.to_string())?;
        self.unread.clear();
        while self.unread.len() < 2 || self.unread.len() < size(&self.unread) {
            match socket.read_buf(&mut self.unread).await {
                Ok(n) if n > 0 => {}
                broken => return Err(format!("the gate hangs up: {broken:?}")),
            }
        }
        match self.unread[..size(&self.unread)].windows(13).any(|w| w == b"msg.Login.Res") {
            true => Ok(socket),
            false => Err(format!("refused: {}", String::from_utf8_lossy(&self.unread))),
        }
    }

    async fn token(&mut self, device: &str) -> Result<String, String> {
        let body = format!("device_id={device}");
        let request = format!(
            "POST /v1/account/auth HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        );
        self.http.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        self.unread.clear();
        loop {
            if let Some(body) = body_of(&self.unread) {
                let answer: serde_json::Value =
                    serde_json::from_slice(body).map_err(|e| e.to_string())?;
                let token = answer["token"].as_str();
                return token.map(str::to_owned).ok_or_else(|| answer.to_string());
            }
            if self.http.read_buf(&mut self.unread).await.map_err(|e| e.to_string())? == 0 {
                return Err("the account center hangs up".to_owned());
            }
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

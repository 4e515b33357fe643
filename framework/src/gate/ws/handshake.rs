//! Owns the beginning of a WebSocket: one HTTP request, what it tells of the client, and the
//! answer to it. tungstenite judges the request; what is said in it for a gate is read here.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tungstenite::{
    handshake::{
        machine::TryParse as _,
        server::{Request, Response, create_response, write_response},
    },
    http::{HeaderValue, header},
};

use super::super::Pages;
use crate::{forwarded, limits::WS_HEAD_BYTES_MAX};

/// How a WebSocket begins.
#[derive(Debug)]
pub(super) struct Opening {
    /// What the client said of itself.
    pub(super) hello: Hello,
    /// Bytes that came behind the request.
    pub(super) rest: Vec<u8>,
}

/// What a client says of itself in its request.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Hello {
    /// `token` of the URL, or the one of the header `Authorization`, which wins.
    pub(super) token: Option<String>,
    pub(super) device_id: Option<String>,
    pub(super) platform: Option<String>,
    /// Of the client's program.
    pub(super) version: Option<String>,
    pub(super) choice: Option<Choice>,
}

/// What a client wants to speak, if it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Json,
    Frames,
}

/// A request that is not answered with a WebSocket.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    NotFound,
    NotAnUpgrade,
    Malformed,
    TooLarge,
    /// The gate is full for this address.
    Full,
}

/// Reads the request and answers it; `None` when it was for a page, or refused, and told so. `admit` is asked
/// with the client's address where a proxy tells another than `peer`.
///
/// # Errors
/// When the connection fails.
pub(super) async fn accept<C>(
    stream: &mut C,
    pages: &Pages,
    believes: impl Fn(IpAddr) -> bool,
    peer: &mut SocketAddr,
    admit: impl FnOnce(IpAddr) -> bool,
) -> io::Result<Option<Opening>>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (request, rest) = match read(stream).await? {
        Ok(read) => read,
        Err(refused) => return refuse(stream, &refused).await,
    };
    if let Some(page) = pages.answer(&request) {
        stream.write_all(&page).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    let (hello, mut response) = match judge(&request) {
        Ok(judged) => judged,
        Err(refused) => return refuse(stream, &refused).await,
    };
    let header = |name: &str| {
        let values = request.headers().get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    };
    if believes(peer.ip())
        && let Some(ip) = forwarded::client(header, believes)
    {
        *peer = SocketAddr::new(ip, 0);
        if !admit(ip) {
            return refuse(stream, &Refused::Full).await;
        }
    }
    if hello.choice == Some(Choice::Json) && offers_json(&request) {
        let json = HeaderValue::from_static("json");
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, json);
    }
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(Some(Opening { hello, rest }))
}

/// Reads a request's head, and what came behind it.
async fn read<C>(stream: &mut C) -> io::Result<Result<(Request, Vec<u8>), Refused>>
where
    C: AsyncRead + Unpin,
{
    let mut head = Vec::new();
    loop {
        // Looked for in what is new: a byte at a time costs no more than all at once.
        let from = head.len().saturating_sub(3);
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[from..].windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
        if head.len() > WS_HEAD_BYTES_MAX {
            return Ok(Err(Refused::TooLarge));
        }
    }
    Ok(match Request::try_parse(&head) {
        Ok(Some((bytes, _))) if bytes > WS_HEAD_BYTES_MAX => Err(Refused::TooLarge),
        Ok(Some((bytes, request))) => Ok((request, head.split_off(bytes))),
        Ok(None) | Err(_) => Err(Refused::Malformed),
    })
}

fn judge(request: &Request) -> Result<(Hello, Response), Refused> {
    if !matches!(request.uri().path(), "/" | "/ws") {
        return Err(Refused::NotFound);
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Refused::NotAnUpgrade);
    }
    let response = create_response(request).map_err(|_| Refused::Malformed)?;
    Ok((hello(request), response))
}

fn hello(request: &Request) -> Hello {
    let query = request.uri().query().unwrap_or_default();
    let mut hello = Hello::default();
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    for (name, value) in pairs {
        match (name.as_str(), value.as_str()) {
            (_, "") => {}
            ("token", _) => hello.token = Some(value),
            ("device_id", _) => hello.device_id = Some(value),
            ("version", _) => hello.version = Some(value),
            ("platform", _) => hello.platform = Some(value),
            ("codec", "json") => hello.choice = Some(Choice::Json),
            ("codec", "frame") => hello.choice = Some(Choice::Frames),
            _ => {}
        }
    }
    if hello.choice.is_none() && offers_json(request) {
        hello.choice = Some(Choice::Json);
    }
    hello.token = bearer(request).or(hello.token);
    hello
}

fn bearer(request: &Request) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// Whether the client offers the sub-protocol `json`.
fn offers_json(request: &Request) -> bool {
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let texts = offers.filter_map(|offer| offer.to_str().ok());
    texts.flat_map(|offer| offer.split(',')).any(|offer| offer.trim() == "json")
}

impl fmt::Debug for Hello {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, device_id, platform, version, choice } = self;
        f.debug_struct("Hello")
            .field("token", &token.is_some())
            .field("device_id", device_id)
            .field("platform", platform)
            .field("version", version)
            .field("choice", choice)
            .finish()
    }
}

async fn refuse<C>(stream: &mut C, refused: &Refused) -> io::Result<Option<Opening>>
where
    C: AsyncWrite + Unpin,
{
    let (status, text) = match refused {
        Refused::NotFound => ("404 Not Found", "WebSockets are at / and /ws\n"),
        Refused::NotAnUpgrade => ("426 Upgrade Required", "this port speaks WebSocket\n"),
        Refused::Malformed => ("400 Bad Request", "not a WebSocket request\n"),
        Refused::TooLarge => ("431 Request Header Fields Too Large", "too many headers\n"),
        Refused::Full => ("503 Service Unavailable", "too many connections\n"),
    };
    let upgrade = match refused {
        Refused::NotAnUpgrade => "Upgrade: websocket\r\n",
        Refused::NotFound | Refused::Malformed | Refused::TooLarge | Refused::Full => "",
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\n{upgrade}Connection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(None)
}

//! Owns a bare connection to a gate: one request at a time, and nothing after it breaks.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Named, Request, msg,
    wire::{Code, Cut, FRAME_BYTES_MAX, FrameError, Refusal, cut, put_message},
};

/// How long one answer may take: twice what the server allows itself by default.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pushes that wait to be looked at; beyond it the oldest is dropped.
const PUSHES_MAX: usize = 1024;

/// Why a client's wish did not come true.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, with a code.
    #[error("{0}")]
    Refused(Refusal),
    /// The account center could not be asked.
    #[error("the account center at {url} did not answer: {why}")]
    Http {
        /// What was asked.
        url: String,
        /// What went wrong on the way.
        why: String,
    },
    /// The gate cannot be reached, or the connection broke.
    #[error("the gate: {0}")]
    Io(#[from] std::io::Error),
    /// The gate sent something that is not a frame.
    #[error("the gate sent a bad frame: {0}")]
    Frame(#[from] FrameError),
    /// The gate sent a frame whose payload is not what its name says.
    #[error("the gate sent an undecodable {0}")]
    Payload(String),
    /// The gate ended the session.
    #[error("kicked: {0}")]
    Kicked(Refusal),
    /// The gate closed the connection.
    #[error("the gate closed the connection")]
    Closed,
    /// No answer came in time.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Late,
}

/// A frame that came unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// What it is.
    pub api: String,
    /// Its protobuf bytes.
    pub payload: Vec<u8>,
}

/// A connection to a gate, one request at a time.
#[derive(Debug)]
pub struct Client<C = TcpStream> {
    carrier: C,
    unread: BytesMut,
    pushes: VecDeque<Push>,
}

impl Client {
    /// Connects to a gate, such as [`SignedIn::addr`](super::SignedIn::addr).
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(addr: &str) -> Result<Self, ClientError> {
        let carrier = TcpStream::connect(addr).await?;
        carrier.set_nodelay(true)?;
        Ok(Self::over(carrier))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Client<C> {
    /// Speaks over a carrier that is connected already.
    pub fn over(carrier: C) -> Self {
        Self { carrier, unread: BytesMut::new(), pushes: VecDeque::new() }
    }

    /// The carrier, and the bytes that were read from it and are not part of a frame yet.
    pub(super) fn into_parts(self) -> (C, BytesMut) {
        let Self { carrier, unread, pushes: _ } = self;
        (carrier, unread)
    }

    /// Signs in.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code of `msg.Login.Res` when it is not 0.
    pub async fn sign_in(&mut self, token: &str) -> Result<msg::login::Res, ClientError> {
        let request = msg::login::Req {
            token: token.to_owned(),
            device_id: None,
            platform: Some("rust".to_owned()),
            version: None,
        };
        let answer = self.request(&request).await?;
        match Code(answer.code) {
            Code::OK => Ok(answer),
            code => Err(ClientError::Refused(code.into())),
        }
    }

    /// Sends a request and waits for its answer; what is pushed meanwhile is kept for
    /// [`Client::push`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the answer is `msg.Error.Res`; the connection lives on.
    /// After any other error it is of no more use.
    pub async fn request<Q: Request>(&mut self, request: &Q) -> Result<Q::Res, ClientError> {
        self.send(request).await?;
        let answer = Q::ANSWER.unwrap_or_default();
        loop {
            let frame = self.receive().await?;
            if frame.api == answer {
                return <Q::Res as prost::Message>::decode(frame.payload.as_slice())
                    .map_err(|_| ClientError::Payload(frame.api));
            }
            if frame.api == msg::error::Res::NAME {
                let error: msg::error::Res = decode(&frame)?;
                if error.api == Q::NAME || error.api.is_empty() {
                    return Err(ClientError::Refused(Code(error.code).because(error.message)));
                }
            }
            self.keep(frame);
        }
    }

    /// Sends a message without waiting for an answer.
    ///
    /// # Errors
    /// When the connection broke, or the message is too large for a frame.
    pub async fn send<M: Named>(&mut self, message: &M) -> Result<(), ClientError> {
        let mut frame = Vec::new();
        put_message(&mut frame, message)?;
        self.send_bytes(&frame).await
    }

    /// Sends bytes as they are, for tests of what a gate does with them.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.carrier.write_all(bytes).await?;
        Ok(self.carrier.flush().await?)
    }

    /// The oldest push that has been received while waiting for an answer, if there is one.
    pub fn push(&mut self) -> Option<Push> {
        self.pushes.pop_front()
    }

    /// The next frame, whatever it is.
    ///
    /// # Errors
    /// [`ClientError::Kicked`] for `msg.Kick.Res`, [`ClientError::Closed`] at the end of the
    /// stream, [`ClientError::Late`] when nothing came for 10 s.
    pub async fn receive(&mut self) -> Result<Push, ClientError> {
        let frame =
            timeout(ANSWER_TIMEOUT, self.read_frame()).await.map_err(|_| ClientError::Late)??;
        if frame.api == msg::kick::Res::NAME {
            let kick: msg::kick::Res = decode(&frame)?;
            return Err(ClientError::Kicked(Code(kick.code).because(kick.reason)));
        }
        Ok(frame)
    }

    async fn read_frame(&mut self) -> Result<Push, ClientError> {
        loop {
            if let Cut::Frame(frame) = cut(&self.unread, FRAME_BYTES_MAX)? {
                let push = Push { api: frame.api.to_string(), payload: frame.payload.to_vec() };
                let used = frame.bytes.len();
                let _frame = self.unread.split_to(used);
                return Ok(push);
            }
            if self.carrier.read_buf(&mut self.unread).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    fn keep(&mut self, frame: Push) {
        if self.pushes.len() == PUSHES_MAX {
            self.pushes.pop_front();
        }
        self.pushes.push_back(frame);
    }
}

fn decode<M: Named>(frame: &Push) -> Result<M, ClientError> {
    M::decode(frame.payload.as_slice()).map_err(|_| ClientError::Payload(frame.api.clone()))
}

//! Owns what a game says of a codec beside its messages: its name, the doors of its own; and which
//! codecs a gate has turned on.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{Begins, Codec, CodecCtx, Malformed};
use crate::wire::Frame;

/// A codec and the ports where only its clients come in, as [`App::codec`](crate::App::codec)
/// takes it.
#[derive(Debug)]
pub struct CodecKind<C> {
    name: &'static str,
    tcp: Option<u16>,
    udp: Option<u16>,
    codec: PhantomData<fn() -> C>,
}

impl<C: Codec> CodecKind<C> {
    /// A codec that operators know by this name; its clients come in where those of frames do.
    ///
    /// # Panics
    /// When the name is not 1 to 32 lower-case letters, digits and `-`.
    pub fn new(name: &'static str) -> Self {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let is_name = (1..=32).contains(&name.len()) && name.bytes().all(plain);
        assert!(is_name, "a codec named {name:?}: choose 1 to 32 of a-z, 0-9 and '-'");
        Self { name, tcp: None, udp: None, codec: PhantomData }
    }

    /// In `dev` its clients have this port of their own, unless the operator says another
    /// (`codecs.<name>.tcp`).
    #[must_use]
    pub const fn tcp(mut self, port: u16) -> Self {
        self.tcp = Some(port);
        self
    }

    /// In `dev` datagrams of its clients come to this port, unless the operator says another
    /// (`codecs.<name>.udp`).
    #[must_use]
    pub const fn udp(mut self, port: u16) -> Self {
        self.udp = Some(port);
        self
    }
}

/// A codec whose type does not matter.
pub(crate) trait AnyCodec: Send + Sync {
    fn name(&self) -> &'static str;
    /// The ports of its own that it has in `dev`, for TCP and for UDP.
    fn ports(&self) -> (Option<u16>, Option<u16>);
    fn begins(&self, bytes: &[u8]) -> Begins;
    fn claims(&self, datagram: &[u8]) -> Option<Vec<u8>>;
    /// For one connection.
    fn begin(&self) -> Box<dyn AnyTongue>;
}

/// One connection's codec.
pub(crate) trait AnyTongue: Send + Sync {
    fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed>;
    fn read_datagram(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed>;
    fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx);
}

impl<C: Codec> AnyTongue for C {
    fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        Codec::read(self, bytes, ctx)
    }

    fn read_datagram(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        Codec::read_datagram(self, bytes, ctx)
    }

    fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx) {
        Codec::write(self, frame, ctx);
    }
}

impl<C: Codec> AnyCodec for CodecKind<C> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ports(&self) -> (Option<u16>, Option<u16>) {
        (self.tcp, self.udp)
    }

    fn begins(&self, bytes: &[u8]) -> Begins {
        C::begins(bytes)
    }

    fn claims(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        C::claims(datagram)
    }

    fn begin(&self) -> Box<dyn AnyTongue> {
        Box::new(C::default())
    }
}

impl fmt::Debug for dyn AnyCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for dyn AnyTongue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a codec")
    }
}

/// The codecs of a game, or those that a gate has turned on, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codecs(Vec<Arc<dyn AnyCodec>>);

impl Codecs {
    /// # Panics
    /// When there is a codec of that name already.
    pub(crate) fn add(&mut self, codec: Arc<dyn AnyCodec>) {
        let name = codec.name();
        assert!(self.get(name).is_none(), "two codecs named {name}: keep one of them");
        self.0.push(codec);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn AnyCodec>> {
        self.0.iter().find(|codec| codec.name() == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn AnyCodec>> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<dyn AnyCodec>> for Codecs {
    fn from_iter<I: IntoIterator<Item = Arc<dyn AnyCodec>>>(codecs: I) -> Self {
        Self(codecs.into_iter().collect())
    }
}

//! Owns one connection's codec and what lies between it and the gate: the beginning of a message
//! whose rest has not arrived, frames that the connection has not read, bytes that are not written.

use std::io;

use tokio::{io::ReadBuf, time::Instant};

use super::{
    CodecCtx,
    kind::{AnyCodec, AnyTongue},
};
use crate::{
    config,
    gate::rate::{Budget, Verdict},
    limits::{CODEC_OUT_BYTES, FRAME_BYTES_BEFORE_SIGN_IN_MAX},
    wire::{Cut, FRAME_BYTES_MAX, FrameError, cut},
};

/// One client's codec at work.
pub(in crate::gate) struct Translator {
    tongue: Box<dyn AnyTongue>,
    ctx: CodecCtx,
    /// The beginning of a message.
    input: Vec<u8>,
    /// Of the frames in `ctx`, so many bytes are given.
    given: usize,
    /// What ends the connection once the frames before it are given.
    fault: Option<FrameError>,
    /// Judges messages that the game hears nothing of; made with the first of them.
    noise: Option<Box<Budget>>,
    signed_in_bytes_max: usize,
    noise_per_s: u32,
    noise_burst: u32,
}

impl Translator {
    pub(in crate::gate) fn new(codec: &dyn AnyCodec, settings: &config::Gate) -> Self {
        Self {
            tongue: codec.begin(),
            ctx: CodecCtx::new(FRAME_BYTES_BEFORE_SIGN_IN_MAX),
            input: Vec::new(),
            given: 0,
            fault: None,
            noise: None,
            signed_in_bytes_max: settings.frame_bytes_max,
            noise_per_s: settings.rate_frames_per_s,
            noise_burst: settings.rate_burst_frames,
        }
    }

    /// The client has signed in: it may send more at once.
    pub(in crate::gate) fn signed_in(&mut self) {
        self.ctx.bytes_max = self.signed_in_bytes_max;
    }

    /// Takes in what has arrived.
    pub(in crate::gate) fn take(&mut self, bytes: &[u8]) {
        if self.input.is_empty() {
            let taken = self.read_all(bytes);
            self.input.extend_from_slice(&bytes[taken..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let taken = self.read_all(&input);
            input.drain(..taken);
            if !input.is_empty() {
                self.input = input;
            }
        }
    }

    /// Reads every whole message; says how many bytes they are.
    fn read_all(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.fault.is_none() {
            let frames = self.ctx.frames.len();
            match self.tongue.read(&bytes[at..], &mut self.ctx) {
                // It waits for more than it may ever get.
                Ok(0) if bytes.len() - at >= self.ctx.bytes_max => {
                    let (bytes, bytes_max) = (bytes.len() - at + 1, self.ctx.bytes_max);
                    self.fault = Some(FrameError::TooLarge { bytes, bytes_max });
                }
                Ok(0) => break,
                Ok(taken) => {
                    at += taken.min(bytes.len() - at);
                    if self.ctx.frames.len() == frames && !self.allows_noise() {
                        self.fault = Some(FrameError::Codec("too much that means nothing"));
                    }
                }
                Err(malformed) => self.fault = Some(malformed.0),
            }
        }
        if self.fault.is_some() { bytes.len() } else { at }
    }

    /// What the game does not hear of counts nowhere else.
    fn allows_noise(&mut self) -> bool {
        let now = Instant::now();
        let fresh = || Budget::new(self.noise_per_s, self.noise_burst, now);
        self.noise.get_or_insert_with(|| Box::new(fresh())).judge(now) != Verdict::Close
    }

    /// Takes in a datagram: one whole message, which is an input and nothing else. What the codec
    /// would answer to it is left out: it may have come twice, or from somebody else.
    pub(super) fn take_datagram(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (frames, out) = (self.ctx.frames.len(), self.ctx.out.len());
        let loose = self.ctx.loose.len();
        let taken = self.tongue.read_datagram(bytes, &mut self.ctx);
        let said = self.ctx.frames.split_off(frames);
        self.ctx.out.truncate(out);
        self.ctx.loose.truncate(loose);
        if taken == Ok(bytes.len()) { said } else { Vec::new() }
    }

    /// Gives the connection frames, or what ends it. Says whether there was something.
    pub(in crate::gate) fn give(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let frames = &self.ctx.frames[self.given..];
        if frames.is_empty() {
            return match self.fault.take() {
                Some(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
                None => Ok(false),
            };
        }
        let bytes = frames.len().min(buf.remaining());
        buf.put_slice(&frames[..bytes]);
        self.given += bytes;
        if self.given == self.ctx.frames.len() {
            self.given = 0;
            // An idle client keeps nothing.
            if self.ctx.frames.capacity() > CODEC_OUT_BYTES {
                self.ctx.frames = Vec::new();
            }
            self.ctx.frames.clear();
        }
        Ok(true)
    }

    /// Tells the client what whole frames say; says how many bytes of them are told. The rest waits
    /// until what is told now is written.
    pub(in crate::gate) fn write(&mut self, frames: &[u8]) -> usize {
        let mut at = 0;
        while self.ctx.told() < CODEC_OUT_BYTES
            && let Ok(Cut::Frame(frame)) = cut(&frames[at..], FRAME_BYTES_MAX)
        {
            self.tongue.write(&frame, &mut self.ctx);
            at += frame.bytes.len();
        }
        at
    }

    /// What the client is told, to be written.
    pub(in crate::gate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.ctx.out
    }

    /// What the client is told as datagrams, and may miss.
    pub(super) fn loose(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.ctx.loose
    }

    /// What is to go as datagrams goes with the rest: there is nothing else.
    pub(in crate::gate) fn all_in_order(&mut self) {
        let CodecCtx { out, loose, .. } = &mut self.ctx;
        loose.drain(..).for_each(|message| out.extend_from_slice(&message));
    }

    /// Whether the codec gave a sign of life since this was asked last.
    pub(in crate::gate) fn heard(&mut self) -> bool {
        std::mem::take(&mut self.ctx.lives)
    }

    /// The word that the client's datagrams come with, when it is another than before.
    pub(super) fn expected(&mut self) -> Option<Vec<u8>> {
        self.ctx.expected.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        gate::{Codec, CodecKind, Malformed},
        wire::{Frame, put},
    };

    /// `length: u8 | body`: a frame of that body; a body of `!` is none, one of `.` nothing.
    #[derive(Default)]
    struct Short;

    impl Codec for Short {
        fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
            let Some(body) = ctx.body(bytes, 1, bytes[0].into())? else { return Ok(0) };
            match body {
                b"!" => return Err(Malformed::new("a shout")),
                b"." => {}
                body => ctx.say_encoded("a.B", body)?,
            }
            Ok(1 + body.len())
        }

        fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx) {
            ctx.client().extend_from_slice(frame.payload);
        }
    }

    /// Never takes anything.
    #[derive(Default)]
    struct Never;

    impl Codec for Never {
        fn read(&mut self, _: &[u8], _: &mut CodecCtx) -> Result<usize, Malformed> {
            Ok(0)
        }

        fn write(&mut self, _: &Frame<'_>, _: &mut CodecCtx) {}
    }

    fn short() -> Translator {
        Translator::new(&CodecKind::<Short>::new("short"), &config::Gate::default())
    }

    /// All frames, and what ends the connection.
    fn given(translator: &mut Translator, room: usize) -> (Vec<u8>, Option<FrameError>) {
        let mut frames = Vec::new();
        loop {
            let mut bytes = vec![0; room];
            let mut buf = ReadBuf::new(&mut bytes);
            match translator.give(&mut buf) {
                Ok(true) => frames.extend_from_slice(buf.filled()),
                Ok(false) => return (frames, None),
                Err(e) => return (frames, Some(e.downcast().expect("of a frame"))),
            }
        }
    }

    #[test]
    fn a_codec_that_never_takes_anything_is_ended_at_the_limit() {
        let never = CodecKind::<Never>::new("never");
        let mut translator = Translator::new(&never, &config::Gate::default());
        for taken in (0..FRAME_BYTES_BEFORE_SIGN_IN_MAX).step_by(64) {
            assert_eq!(given(&mut translator, 8), (Vec::new(), None), "{taken}");
            translator.take(&[0; 64]);
        }
        let (_, fault) = given(&mut translator, 8);
        assert!(matches!(fault, Some(FrameError::TooLarge { .. })), "{fault:?}");
        // What comes behind it is not kept.
        translator.take(&[0; 64]);
        assert_eq!(translator.input.len(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_game_hears_nothing_of_has_a_rate_as_well() {
        let mut translator = short();
        let settings = config::Gate::default();
        let tolerated = usize::try_from(settings.rate_burst_frames * 10).expect("small");
        translator.take(&b"\x01.".repeat(tolerated));
        assert_eq!(given(&mut translator, 8).1, None);
        translator.take(&b"\x01.".repeat(2));
        assert!(given(&mut translator, 8).1.is_some());
    }

    #[test]
    fn what_is_told_at_once_is_bounded_and_the_rest_is_told_later() {
        let mut frames = Vec::new();
        put(&mut frames, "a.B", &[7; 1000]).expect("small");
        let frames = frames.repeat(100);
        let mut translator = short();
        let (mut at, mut rounds) = (0, 0);
        while at < frames.len() {
            at += translator.write(&frames[at..]);
            assert!(translator.out().len() < CODEC_OUT_BYTES + 1000);
            translator.out().clear();
            rounds += 1;
        }
        assert_eq!(rounds, 2);
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_the_same_frames_are_given_up_to_what_is_none(
            bodies in prop::collection::vec(prop_oneof![Just(b"!".to_vec()), prop::collection::vec(any::<u8>(), 2..40)], 0..20),
            chunk in 1usize..64, room in 1usize..64,
        ) {
            let whole: Vec<u8> = bodies.iter().flat_map(|b| [vec![b.len() as u8], b.clone()].concat()).collect();
            let mut expected = Vec::new();
            for body in bodies.iter().take_while(|body| *body != b"!") {
                put(&mut expected, "a.B", body).expect("small");
            }
            let mut translator = short();
            let (mut frames, mut fault) = (Vec::new(), None);
            for chunk in whole.chunks(chunk) {
                translator.take(chunk);
                let (more, ended) = given(&mut translator, room);
                frames.extend(more);
                fault = ended;
                if fault.is_some() { break }
            }
            prop_assert_eq!(frames, expected);
            prop_assert_eq!(fault.is_some(), bodies.iter().any(|body| body == b"!"));
        }
    }
}

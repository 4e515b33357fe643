//! Owns recordings: what happened in a room, as a file, and what comes of it when it happens again.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics::Counter;
use prost::Message as _;

use super::{
    Room, RoomKind, Seat,
    context::Setting,
    core::{Core, Input},
};
use crate::{
    LoadError,
    limits::RECORDING_BYTES_MAX,
    link::Mark,
    proto::link::{
        RecordedInput, RecordedJoin, RecordedMessage, RecordedRoom, recorded_input::What,
    },
    wire::Refusal,
};

/// What is written now.
const VERSION: u32 = 1;

/// A recorded match: everything that happened in one room, in order.
pub struct Recording(RecordedRoom);

/// What came of a recording when it was played again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Ticks that there were.
    pub ticks: u64,
    /// Everything that happened, ticks among it.
    pub inputs: u64,
    /// SHA-256 of what [`Room::save`] gave at the end.
    pub hash: Vec<u8>,
    /// It is the hash that was recorded.
    pub matches: bool,
    /// What [`Room::save`] gave at the end.
    pub saved: Vec<u8>,
}

/// Why a recording was not played again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a recording, or not a whole one.
    #[error("this is not a recording, or not a whole one: {0}")]
    Broken(#[from] prost::DecodeError),
    /// Another version wrote it.
    #[error("the recording has version {0}, and this program reads {VERSION}")]
    Version(u32),
    /// The game has no rooms of that kind.
    #[error("it is of a room of kind {0}, which this game does not have")]
    Kind(String),
    /// The room did not open as it did then.
    #[error("the room does not open: {0}")]
    Open(#[from] Refusal),
    /// What it was to be made again from is not understood.
    #[error(transparent)]
    Restore(#[from] LoadError),
    /// [`Room::save`] panicked.
    #[error("`save` panicked")]
    Save,
}

impl Recording {
    /// Reads a recording from a file.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ReplayError> {
        let path = path.as_ref();
        let file = |source| ReplayError::File { path: path.to_owned(), source };
        let recorded = RecordedRoom::decode(fs::read(path).map_err(file)?.as_slice())?;
        if recorded.version != VERSION {
            return Err(ReplayError::Version(recorded.version));
        }
        Ok(Self(recorded))
    }

    /// The kind of the room.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The room's id.
    pub fn room_id(&self) -> &str {
        &self.0.room_id
    }

    /// SHA-256 of what [`Room::save`] gave at the end.
    pub fn hash(&self) -> &[u8] {
        &self.0.hash
    }

    /// The room went on, but the recording was full.
    pub fn is_cut(&self) -> bool {
        self.0.cut
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("kind", &self.0.kind)
            .field("room", &self.0.room_id)
            .field("bytes", &self.0.inputs.len())
            .finish()
    }
}

impl<R: Room> RoomKind<R> {
    /// Lets what was recorded happen again.
    ///
    /// # Errors
    /// [`ReplayError`]; not that something else came of it: see [`Replayed::matches`].
    pub fn replay(&self, recording: &Recording) -> Result<Replayed, ReplayError> {
        let recorded = &recording.0;
        if recorded.kind != self.name {
            return Err(ReplayError::Kind(recorded.kind.clone()));
        }
        let seed = recorded.seed.as_slice().try_into();
        let setting = Setting {
            id: recorded.room_id.as_str().into(),
            options: recorded.options.clone().into_iter().collect(),
            capacity: recorded.capacity,
            seed: seed.map_err(|_| LoadError::new("the seed has another length"))?,
            now_ms: recorded.opened_ms,
            classes: Arc::default(),
        };
        let (table, panics) = (self.table.clone(), Counter::noop());
        let mut core = match recorded.kept.as_slice() {
            [] => Core::open(table, setting, panics)?,
            kept => Core::restore(table, setting, kept, panics)?,
        };
        let (mut ticks, mut inputs, mut rest) = (0, 0, recorded.inputs.as_slice());
        while !rest.is_empty() {
            let input = RecordedInput::decode_length_delimited(&mut rest)?;
            let Some(what) = &input.what else { continue };
            // What was refused then is refused now.
            let _refused = core.apply(input.at_ms, again(what));
            core.said().clear();
            inputs += 1;
            ticks += u64::from(matches!(what, What::TickNs(_)));
        }
        let (saved, hash) = (core.save(), core.hash());
        let (saved, hash) = saved.zip(hash).ok_or(ReplayError::Save)?;
        let matches = hash == recorded.hash;
        Ok(Replayed { ticks, inputs, hash, matches, saved })
    }
}

/// An input, as it was before it was recorded.
fn again(what: &What) -> Input<'_> {
    match what {
        What::Join(RecordedJoin { account, name }) => Input::Join { account: *account, name },
        What::Leave(seat) => Input::Leave(Seat(*seat)),
        What::Away(seat) => Input::Away(Seat(*seat)),
        What::Back(seat) => Input::Back(Seat(*seat)),
        What::Message(RecordedMessage { seat, api, payload, asks, loose }) => {
            let mark = match (asks, loose) {
                (true, _) => Mark::Request,
                (false, true) => Mark::Loose,
                (false, false) => Mark::Plain,
            };
            Input::Message { seat: Seat(*seat), mark, api, payload }
        }
        What::TickNs(ns) => Input::Tick(Duration::from_nanos(*ns)),
    }
}

/// An input, as it is recorded.
fn recorded(input: Input<'_>) -> What {
    match input {
        Input::Join { account, name } => What::Join(RecordedJoin { account, name: name.into() }),
        Input::Leave(seat) => What::Leave(seat.0),
        Input::Away(seat) => What::Away(seat.0),
        Input::Back(seat) => What::Back(seat.0),
        Input::Message { seat, mark, api, payload } => What::Message(RecordedMessage {
            seat: seat.0,
            api: api.to_owned(),
            payload: payload.to_vec(),
            asks: mark == Mark::Request,
            loose: mark == Mark::Loose,
        }),
        Input::Tick(dt) => What::TickNs(u64::try_from(dt.as_nanos()).unwrap_or(u64::MAX)),
    }
}

/// Notes what happens in a room.
pub(super) struct Recorder {
    recorded: RecordedRoom,
    folder: PathBuf,
    /// Counts recordings that were full.
    cuts: Counter,
    over: bool,
    /// Of what happens; a test has less.
    bytes_max: usize,
}

impl Recorder {
    /// Of a room that is opened, or made again from what was kept.
    pub(super) fn new(
        kind: &str,
        setting: &Setting,
        kept: Option<&[u8]>,
        folder: &Path,
        cuts: Counter,
    ) -> Self {
        let recorded = RecordedRoom {
            version: VERSION,
            kind: kind.to_owned(),
            room_id: setting.id.to_string(),
            capacity: setting.capacity,
            options: setting.options.clone().into_iter().collect(),
            seed: setting.seed.to_vec(),
            opened_ms: setting.now_ms,
            kept: kept.unwrap_or_default().to_vec(),
            ..RecordedRoom::default()
        };
        let (folder, bytes_max) = (folder.to_owned(), RECORDING_BYTES_MAX);
        Self { recorded, folder, cuts, over: false, bytes_max }
    }

    #[cfg(test)]
    pub(super) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// Notes an input. Says whether there was room for it, or none is needed any more.
    pub(super) fn note(&mut self, at_ms: i64, input: Input<'_>) -> bool {
        if self.over {
            return true;
        }
        let input = RecordedInput { at_ms, what: Some(recorded(input)) };
        let inputs = &mut self.recorded.inputs;
        if inputs.len() + input.encoded_len() + 4 > self.bytes_max {
            return false;
        }
        input.encode_length_delimited(inputs).expect("a vector grows");
        true
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Nothing more is noted; `cut`: although something happens.
    pub(super) fn end(&mut self, hash: Option<Vec<u8>>, cut: bool) {
        (self.over, self.recorded.cut) = (true, cut);
        self.recorded.hash = hash.unwrap_or_default();
        if cut {
            self.cuts.increment(1);
            let RecordedRoom { kind, room_id, .. } = &self.recorded;
            tracing::warn!(target: "room", kind, room = room_id, "the recording is full: it ends before the room does");
        }
    }

    /// What was noted.
    #[cfg(test)]
    pub(super) fn recording(self) -> Recording {
        Recording(self.recorded)
    }

    /// Writes it, whole or not at all. Where it lies then.
    pub(super) fn write(self) -> io::Result<PathBuf> {
        let Self { recorded, folder, .. } = self;
        fs::create_dir_all(&folder)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let id: String = recorded.room_id.chars().map(plain).collect();
        // A room that goes on at another server does not overwrite how it began.
        let part = match recorded.kept.as_slice() {
            [] => String::new(),
            _ => format!("-{}", recorded.opened_ms),
        };
        let path = folder.join(format!("{}-{id}{part}.rec", recorded.kind));
        let beside = path.with_extension("rec.new");
        fs::write(&beside, recorded.encode_to_vec())?;
        fs::rename(&beside, &path)?;
        Ok(path)
    }
}

//! Owns those that this program itself is: bastide (gate, session, player, protobuf both ways)
//! in one process or as a gate and a game server, and the floors of `path`.

use std::{
    env,
    path::Path,
    process::Command,
    sync::{Arc, LazyLock},
};

use bastide::{Request as _, wire};
use bastide_benches::{Guest, Nodes, Req, Servers, floor::each_frame, request};
use tokio::net::TcpStream;

use crate::peer::{At, Later, Peer, Taken, connect, unexpected};

/// What every one of them is asked, and what a floor answers.
static ASK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut frame = Vec::new();
    wire::put_message(&mut frame, &request()).expect("fits");
    frame
});

/// What bastide answers: the same payload under another name.
static ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (mut frame, payload) = (Vec::new(), bastide::prost::Message::encode_to_vec(&request()));
    wire::put(&mut frame, Req::ANSWER.unwrap_or_default(), &payload).expect("fits");
    frame
});

#[derive(Clone, Copy)]
pub(crate) enum Ours {
    FloorOneHop,
    FloorTwoHops,
    BastideOneHop,
    BastideTwoHops,
}

impl Ours {
    fn nodes(self) -> Option<Nodes> {
        match self {
            Self::FloorOneHop | Self::FloorTwoHops => None,
            Self::BastideOneHop => Some(Nodes::One),
            Self::BastideTwoHops => Some(Nodes::Cluster(&["account,gate", "game"])),
        }
    }
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        match self {
            Self::FloorOneHop => "floor-1-hop",
            Self::FloorTwoHops => "floor-2-hops",
            Self::BastideOneHop => "bastide-1-hop",
            Self::BastideTwoHops => "bastide-2-hops",
        }
    }

    fn install(&self) -> Result<String, String> {
        let (version, here) = (env!("CARGO_PKG_VERSION"), env!("CARGO_MANIFEST_DIR"));
        let describe = ["-C", here, "describe", "--always", "--dirty", "--abbrev=12"];
        let commit =
            Command::new("git").args(describe).output().ok().filter(|o| o.status.success());
        let commit = commit.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        Ok(format!("bastide {version}, commit {}", commit.as_deref().unwrap_or("unknown")))
    }

    fn roles(&self) -> &'static [&'static str] {
        match self {
            Self::FloorOneHop => &["floor"],
            Self::FloorTwoHops => &["floor-echo", "floor-gate"],
            // It starts by its own command line, not by a role's name.
            Self::BastideOneHop | Self::BastideTwoHops => &[],
        }
    }

    fn start(&'static self) -> Later<Servers> {
        Box::pin(async {
            let Some(nodes) = self.nodes() else { return Ok(Servers::raw(self.roles()).await) };
            let this = env::current_exe().map_err(|e| format!("this program is gone: {e}"))?;
            Ok(Servers::bastide(Path::new(&this), nodes).await)
        })
    }

    fn join(&'static self, at: Arc<At>, nth: usize) -> Later<TcpStream> {
        Box::pin(async move {
            let Some(http) = &at.http else { return connect(&at).await };
            Guest::new(http, &at.gate).await.try_sign_in(&format!("bench-{nth}")).await
        })
    }

    fn request(&self, _: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&ASK);
    }

    fn answers(&self, unread: &[u8], _: &mut Vec<u8>) -> Result<Taken, String> {
        let expected = if self.nodes().is_some() { &*ANSWER } else { &*ASK };
        let (mut answers, mut wrong) = (0, None);
        let bytes = each_frame(unread, |frame| match frame == expected.as_slice() {
            true => answers += 1,
            false => wrong = Some(unexpected(frame)),
        });
        wrong.map_or(Ok(Taken { bytes, answers }), Err)
    }
}

//! Owns a channel as a room: who is in it hears who comes and goes and what is said. Leaves what
//! may be said, and what is remembered, to `talk`.

use bastide::{Code, LoadError, Member, Refusal, Room, RoomCtx};
use prost::Message as _;

use crate::{
    proto::chat as proto,
    talk::{Speaker, Talk},
};

/// What a channel is called that was opened without a name.
const NAME: &str = "lobby";

/// Characters of a channel's name.
const NAME_CHARS_MAX: usize = 32;

/// One channel.
#[derive(Debug)]
pub struct Channel {
    talk: Talk,
}

impl Room for Channel {
    fn open(ctx: &mut RoomCtx) -> Result<Self, Refusal> {
        show(ctx)?;
        Ok(Self { talk: Talk::default() })
    }

    fn on_join(&mut self, member: &Member, ctx: &mut RoomCtx) -> Result<(), Refusal> {
        ctx.broadcast_but(member.seat, &present(member));
        Ok(())
    }

    fn state(&self, _: &Member, ctx: &RoomCtx) -> Vec<u8> {
        let present = ctx.members().map(present).collect();
        proto::Channel { present, lines: self.talk.history(0) }.encode_to_vec()
    }

    fn on_leave(&mut self, member: &Member, ctx: &mut RoomCtx) {
        self.talk.forget(ctx.now_ms());
        ctx.broadcast(&proto::Present { gone: true, ..present(member) });
    }

    fn on_away(&mut self, member: &Member, ctx: &mut RoomCtx) {
        ctx.broadcast_but(member.seat, &present(member));
    }

    fn on_back(&mut self, member: &Member, ctx: &mut RoomCtx) {
        ctx.broadcast_but(member.seat, &present(member));
    }

    fn save(&self) -> Vec<u8> {
        self.talk.save()
    }

    fn restore(saved: &[u8], ctx: &mut RoomCtx) -> Result<Self, LoadError> {
        show(ctx).map_err(LoadError::new)?;
        Ok(Self { talk: Talk::restore(saved)? })
    }
}

/// Says something to everybody.
pub(crate) fn say(
    channel: &mut Channel,
    ask: proto::say::Req,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<proto::say::Res, Refusal> {
    let speaker = Speaker { account: member.account, name: &member.name };
    let line = channel.talk.say(speaker, ask.text, ctx.now_ms())?;
    ctx.broadcast(&line);
    Ok(proto::say::Res { code: 0, number: line.number })
}

/// What was said earlier.
pub(crate) fn history(
    channel: &mut Channel,
    ask: proto::history::Req,
    _: &Member,
    _: &mut RoomCtx,
) -> Result<proto::history::Res, Code> {
    Ok(proto::history::Res { code: 0, lines: channel.talk.history(ask.before) })
}

/// Lists of rooms tell the channel's name, and find it by that.
fn show(ctx: &mut RoomCtx) -> Result<(), Refusal> {
    let name = channel_name(ctx.options().get("channel").map(String::as_str))?.to_owned();
    ctx.set_info("channel", &name);
    Ok(())
}

fn channel_name(asked: Option<&str>) -> Result<&str, Refusal> {
    let name = asked.unwrap_or(NAME);
    let chars = name.chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Code::PARAMETER.because("channel: 1 to 32 characters"));
    }
    Ok(name)
}

fn present(member: &Member) -> proto::Present {
    let Member { account, name, away, .. } = member;
    proto::Present { account: *account, name: name.clone(), away: *away, gone: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_a_name_of_1_to_32_characters_or_is_the_lobby() {
        assert_eq!(channel_name(None), Ok("lobby"));
        let longest = "字".repeat(32);
        assert_eq!(channel_name(Some(&longest)), Ok(longest.as_str()));
        for wrong in ["", "a\nb", &"字".repeat(33)] {
            let refused = channel_name(Some(wrong)).expect_err("no name");
            assert_eq!(refused.code, Code::PARAMETER);
        }
    }

    #[test]
    fn what_a_full_channel_tells_who_comes_fits_into_a_frame() {
        let mut talk = Talk::default();
        for second in 0..60 {
            let speaker = Speaker { account: i64::MAX, name: "字" };
            talk.say(speaker, "字".repeat(500), second * 1000).expect("a line");
        }
        let member = proto::Present {
            account: i64::MAX,
            name: "\u{10ffff}".repeat(14),
            away: true,
            gone: false,
        };
        let present = vec![member; crate::SEATS as usize];
        let state = proto::Channel { present, lines: talk.history(0) };
        let bytes = state.encoded_len();
        assert!((40 * 1024..60 * 1024).contains(&bytes), "{bytes}");
    }
}

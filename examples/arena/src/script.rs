//! Owns a client that plays: what `play` does in an arena.

use std::time::Duration;

use bastide::{Named as _, Play, PlayError, client::Push, msg};
use prost::Message as _;

use crate::{Eaten, Field, KIND, Steer, View, respawn};

/// A view comes at every tick.
const PATIENCE: Duration = Duration::from_secs(5);

/// Two seconds of them.
const VIEWS: usize = 40;

/// A new ball makes this in a tenth of a second.
const MOVED_UNITS: u32 = 20;

/// Enters an arena, steers to its middle, sees that its ball moves, and leaves.
///
/// # Errors
/// When a step is refused, or the ball stays where it is.
pub async fn play(play: &mut Play) -> Result<(), PlayError> {
    let ask = msg::enter_room::Req { kind: KIND.to_owned(), ..msg::enter_room::Req::default() };
    let entered = play.request(&ask).await?;
    let join = msg::join_room::Req { ticket: entered.ticket, name: "Player".to_owned() };
    let joined = play.request(&join).await?;
    let field = Field::decode(joined.state.as_slice()).unwrap_or_default();
    play.expect(
        field.width > 0 && field.me > 0,
        "the arena tells its size and which ball is mine",
    )?;
    play.step(format_args!("joined the arena {}", joined.room_id));

    let mut from = None;
    let mut way = 0;
    for _ in 0..VIEWS {
        let push = play.next_push(PATIENCE).await?;
        if push.api == Eaten::NAME {
            play.request(&respawn::Req {}).await?;
            from = None;
            continue;
        }
        let Some((x, y)) = me(&push, field.me) else { continue };
        let (from_x, from_y) = *from.get_or_insert((x, y));
        way = x.abs_diff(from_x).max(y.abs_diff(from_y));
        if way >= MOVED_UNITS {
            break;
        }
        let toward = |at: u32, size: u32| if at < size / 2 { 100 } else { -100 };
        play.input(&Steer { dx: toward(x, field.width), dy: toward(y, field.height) }).await?;
    }
    play.expect(way >= MOVED_UNITS, "my ball goes where I steer")?;
    play.step(format_args!("steered: my ball went {way} units"));

    play.request(&msg::leave_room::Req { room_id: joined.room_id }).await?;
    play.step("left the arena");
    Ok(())
}

/// Where my ball is, if this is a view of it.
fn me(push: &Push, id: u32) -> Option<(u32, u32)> {
    let view = (push.api == View::NAME).then(|| View::decode(push.payload.as_slice()).ok())??;
    view.balls.iter().find(|ball| ball.id == id).map(|ball| (ball.x, ball.y))
}

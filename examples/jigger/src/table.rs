//! Owns a table: who sits there, who is ready, and what each is told. Leaves the rules to
//! `sentence`.

use std::collections::BTreeSet;

use bastide::{Code, Member, Refusal, Room, RoomCtx, Seat};
use prost::Message as _;

use crate::{
    answers::number,
    proto::{
        self, Action, ActionType, BattlePlayer, CardTable, ErrorCode, GameState, GameStateNotify,
        PlayerActionNotify, RoomDetail, RoomDetailNotify, RoomPlayer, WordCard,
        action::ActionDetail, game_action, get_ready,
    },
    sentence::{Game, Refused, Word},
};

/// Longest name of a table, in bytes: lists tell no longer values. Beyond: it is not opened (210).
const NAME_BYTES_MAX: usize = 256;

/// Who is needed for a game.
const PLAYERS_MIN: usize = 2;

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    /// At most as many as there are seats.
    ready: BTreeSet<Seat>,
    game: Option<Game>,
}

impl Room for Table {
    fn open(ctx: &mut RoomCtx) -> Result<Self, Refusal> {
        let name = ctx.options().get("name").cloned().unwrap_or_default();
        if name.len() > NAME_BYTES_MAX {
            return Err(Code::PARAMETER.because("name: at most 256 bytes"));
        }
        ctx.set_info("name", &name);
        Ok(Self { name, ready: BTreeSet::new(), game: None })
    }

    /// Who comes to others hears of them, and they of it. Who is alone has heard what there is.
    fn on_join(&mut self, _: &Member, ctx: &mut RoomCtx) -> Result<(), Refusal> {
        if ctx.members().len() > 1 {
            self.tell_who_is_here(ctx);
        }
        Ok(())
    }

    fn state(&self, _: &Member, ctx: &RoomCtx) -> Vec<u8> {
        self.detail(ctx).encode_to_vec()
    }

    /// Such clients sign in anew and do not come back to where they were: nobody waits for them.
    fn on_away(&mut self, member: &Member, ctx: &mut RoomCtx) {
        ctx.remove(member.seat, Code::NOT_IN_ROOM, "away from the table");
    }

    fn on_leave(&mut self, member: &Member, ctx: &mut RoomCtx) {
        self.ready.remove(&member.seat);
        self.tell_who_is_here(ctx);
        match &mut self.game {
            Some(game) => {
                game.leave(member.account);
                self.tell_game(ctx);
            }
            // Those who are left may all be ready.
            None => self.begin(ctx),
        }
    }
}

/// A member is ready; when all are, the game begins.
pub(crate) fn get_ready(
    table: &mut Table,
    _: get_ready::Req,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<get_ready::Res, Code> {
    if table.game.is_some() {
        return Ok(get_ready::Res { ret: ErrorCode::InvalidState.into() });
    }
    table.ready.insert(member.seat);
    table.begin(ctx);
    Ok(get_ready::Res { ret: ErrorCode::Ok.into() })
}

/// A member does something: everybody hears of it, and of what came of it.
pub(crate) fn game_action(
    table: &mut Table,
    ask: game_action::Req,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<game_action::Res, Code> {
    let ret = match ask.action {
        None => ErrorCode::InvalidParam,
        Some(action) => match table.act(&action, member) {
            Ok(()) => {
                tell_action(action, member, ctx);
                table.tell_game(ctx);
                ErrorCode::Ok
            }
            Err(refused) => refused,
        },
    };
    Ok(game_action::Res { ret: ret.into() })
}

impl Table {
    fn act(&mut self, action: &Action, member: &Member) -> Result<(), ErrorCode> {
        let kind = ActionType::try_from(action.action_type).unwrap_or_default();
        let moved = match (kind, &mut self.game) {
            // At any time.
            (ActionType::AutoChat, _) => return Ok(()),
            (ActionType::ActionUnknown, _) => return Err(ErrorCode::InvalidAction),
            (_, None) => return Err(ErrorCode::InvalidState),
            (ActionType::SkipTurn, Some(game)) => game.pass(member.account),
            (ActionType::PlaceCard, Some(game)) => match &action.action_detail {
                Some(ActionDetail::PlaceCard(place)) => {
                    game.lay(member.account, place.card_id, place.target_index)
                }
                None => return Err(ErrorCode::InvalidParam),
            },
        };
        moved.map_err(|refused| match refused {
            Refused::Turn => ErrorCode::NotAllowed,
            Refused::Word => ErrorCode::InvalidCard,
            Refused::Place => ErrorCode::InvalidAction,
        })
    }

    /// Deals, when there are enough and all are ready. Nobody new comes in until it is over.
    fn begin(&mut self, ctx: &mut RoomCtx) {
        let players: Vec<_> = ctx.members().map(|member| (member.seat, member.account)).collect();
        let all = players.iter().all(|(seat, _)| self.ready.contains(seat));
        if players.len() < PLAYERS_MIN || !all {
            return;
        }
        let accounts: Vec<_> = players.into_iter().map(|(_, account)| account).collect();
        self.ready.clear();
        self.game = Some(Game::deal(&accounts, || ctx.random()));
        ctx.lock(true);
        self.tell_game(ctx);
    }

    fn tell_who_is_here(&self, ctx: &mut RoomCtx) {
        let detail = self.detail(ctx);
        for (seat, be_notified_uid) in to_all(ctx) {
            ctx.push(seat, &RoomDetailNotify { be_notified_uid, room: Some(detail.clone()) });
        }
    }

    /// Tells each how the game stands; of the words in hands, one's own. One that is over is told
    /// once.
    fn tell_game(&mut self, ctx: &mut RoomCtx) {
        let Some(game) = &self.game else { return };
        for (seat, be_notified_uid) in to_all(ctx) {
            let room_id = ctx.id().to_owned();
            let game_state = Some(shown(game, be_notified_uid, ctx));
            ctx.push(seat, &GameStateNotify { be_notified_uid, room_id, game_state });
        }
        if game.is_over() {
            self.game = None;
            ctx.lock(false);
        }
    }

    fn detail(&self, ctx: &RoomCtx) -> RoomDetail {
        let current_players: Vec<_> = ctx
            .members()
            .map(|member| RoomPlayer { uid: uid(member), name: member.name.clone() })
            .collect();
        let room = proto::Room {
            id: ctx.id().to_owned(),
            name: self.name.clone(),
            max_players: number(ctx.capacity()),
            current_players: i32::try_from(current_players.len()).unwrap_or(i32::MAX),
        };
        RoomDetail { room: Some(room), current_players }
    }
}

fn tell_action(action: Action, member: &Member, ctx: &mut RoomCtx) {
    let player_id = uid(member);
    // Who did it is not for the client to say.
    let action = Action { player_id, ..action };
    for (seat, be_notified_uid) in to_all(ctx) {
        let (room_id, action) = (ctx.id().to_owned(), Some(action));
        ctx.push(seat, &PlayerActionNotify { be_notified_uid, room_id, player_id, action });
    }
}

fn shown(game: &Game, to: u64, ctx: &RoomCtx) -> GameState {
    let players = game.hands.iter().map(|hand| {
        let id = hand.account.unsigned_abs();
        let name = ctx.members().find(|member| member.account == hand.account);
        BattlePlayer {
            id,
            name: name.map(|member| member.name.clone()).unwrap_or_default(),
            cards: if id == to { cards(&hand.words) } else { Vec::new() },
            current_score: hand.score,
        }
    });
    let players = players.collect();
    let sentence = game.laid.iter().map(|word| word.text).collect();
    GameState {
        players,
        card_table: Some(CardTable { cards: cards(&game.laid), sentence }),
        current_turn: i32::try_from(game.turn).unwrap_or(i32::MAX),
    }
}

/// Words with their places, which is how they are named.
fn cards(words: &[Word]) -> Vec<WordCard> {
    let card = |(id, word): (u64, &Word)| WordCard {
        id,
        word: word.text.to_owned(),
        word_class: word.class.name().to_owned(),
        description: String::new(),
    };
    (0..).zip(words).map(card).collect()
}

fn uid(member: &Member) -> u64 {
    member.account.unsigned_abs()
}

fn to_all(ctx: &RoomCtx) -> Vec<(Seat, u64)> {
    ctx.members().map(|member| (member.seat, uid(member))).collect()
}

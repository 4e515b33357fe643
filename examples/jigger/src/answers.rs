//! Owns what the answers of the gate and of rooms are in envelopes: result codes, who has signed
//! in, rooms. Pure functions.

use bastide::{Code, def, msg};
use prost::Message as _;

use crate::proto::{ErrorCode, Room, auth, create_room, get_room_list};

/// How long a sign-in is said to last, in seconds: as long as a login server's credential.
const SESSION_S: i64 = 24 * 60 * 60;

/// Kinds of things in a bag (`def.Item.idx`).
const GOLD: i32 = 100;
const DIAMOND: i32 = 101;

/// What a result code of the contract is here.
pub(crate) fn ret_of(code: Code) -> ErrorCode {
    match code {
        Code::OK => ErrorCode::Ok,
        Code::PARAMETER | Code::UNDECODABLE => ErrorCode::InvalidParam,
        Code::TOKEN_INVALID | Code::TOKEN_EXPIRED => ErrorCode::AuthFailed,
        Code::NO_SUCH_ACCOUNT => ErrorCode::InvalidUser,
        Code::RATE_LIMITED | Code::ROOM_FULL => ErrorCode::NotAllowed,
        Code::UNKNOWN_API => ErrorCode::NotSupported,
        Code::DEADLINE => ErrorCode::Timeout,
        Code::ROOM_NOT_FOUND | Code::NOT_IN_ROOM | Code::ROOM_CLOSED => ErrorCode::InvalidRoom,
        Code::ALREADY_IN_ROOM => ErrorCode::PlayerAlreadyInRoom,
        _ => ErrorCode::ServerError,
    }
}

/// An answer that says no more than how it went: in each of them that is field 1.
pub(crate) fn only_ret(ret: ErrorCode) -> Vec<u8> {
    crate::proto::get_ready::Res { ret: ret.into() }.encode_to_vec()
}

/// The answer to who has signed in.
pub(crate) fn signed_in(login: &msg::login::Res, is_guest: bool) -> auth::Res {
    let user = login.user.clone().unwrap_or_default();
    let number = |kind: i32| {
        let of_kind = |item: &&def::Item| item.idx == kind;
        user.items.iter().find(of_kind).map_or(0, |item| item.num)
    };
    let now_s = login.server_time_ms().div_euclid(1000);
    auth::Res {
        ret: ErrorCode::Ok.into(),
        uid: user.id.unsigned_abs(),
        conn_id: conn_id(login.session_id()),
        server_time: rfc3339(now_s),
        session_expiry: now_s.saturating_add(SESSION_S),
        nickname: user.name().to_owned(),
        level: 0,
        exp: 0,
        gold: number(GOLD),
        diamond: number(DIAMOND),
        error_msg: String::new(),
        is_guest,
    }
}

/// The answer to who has not.
pub(crate) fn not_signed_in(code: Code, is_guest: bool) -> auth::Res {
    let (ret, text) = match code {
        Code::TOKEN_INVALID | Code::TOKEN_EXPIRED => {
            (ErrorCode::AuthFailed, "Invalid token or session expired")
        }
        code => (ErrorCode::ServerError, code.text()),
    };
    refused(ret, text, is_guest)
}

pub(crate) fn refused(ret: ErrorCode, text: &str, is_guest: bool) -> auth::Res {
    auth::Res { ret: ret.into(), error_msg: text.to_owned(), is_guest, ..auth::Res::default() }
}

/// The answer to who wanted a room of this name, and has none.
pub(crate) fn not_created(ret: ErrorCode, name: String) -> create_room::Res {
    create_room::Res { ret: ret.into(), room: Some(Room { name, ..Room::default() }) }
}

pub(crate) fn listed(rooms: msg::list_rooms::Res) -> get_room_list::Res {
    let room = |room: msg::list_rooms::Room| Room {
        name: room.info.get("name").cloned().unwrap_or_default(),
        id: room.room_id,
        max_players: number(room.capacity),
        current_players: number(room.members),
    };
    get_room_list::Res {
        ret: ErrorCode::Ok.into(),
        rooms: rooms.rooms.into_iter().map(room).collect(),
    }
}

pub(crate) fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// 32 hex digits for a session: another one, other digits.
fn conn_id(session_id: &str) -> String {
    let digits = session_id.bytes().filter(u8::is_ascii_digit);
    let number =
        digits.fold(0_u128, |n, digit| n.wrapping_mul(10).wrapping_add(u128::from(digit - b'0')));
    // Odd, so that no two numbers become one.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!("{spread:032x}")
}

/// A moment in seconds since 1970, as RFC 3339 writes it.
fn rfc3339(unix_s: i64) -> String {
    const DAY_S: i64 = 24 * 60 * 60;
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // 1970-01-01 is so many days after 0000-03-01, from where leap days come last.
    const EPOCH_DAYS: i64 = 719_468;
    // Beyond the year 9999 there is no such text.
    let unix_s = unix_s.clamp(0, 253_402_300_799);
    let (days, second) = (unix_s.div_euclid(DAY_S) + EPOCH_DAYS, unix_s.rem_euclid(DAY_S));
    let (era, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (year + era * 400, month + 3),
        _ => (year + era * 400 + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_written_as_rfc_3339_writes_them() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_757_731_002, "2025-09-13T02:36:42Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix_s), text);
        }
    }

    #[test]
    fn only_its_own_token_is_what_a_client_is_told_to_be_wrong() {
        let of = |code| not_signed_in(code, false);
        for code in [Code::TOKEN_INVALID, Code::TOKEN_EXPIRED] {
            assert_eq!(of(code).ret(), ErrorCode::AuthFailed);
            assert_eq!(of(code).error_msg, "Invalid token or session expired");
        }
        for code in [Code::NOT_READY, Code::BANNED, Code::INTERNAL, Code(77_777)] {
            assert_eq!(of(code).ret(), ErrorCode::ServerError);
        }
    }

    #[test]
    fn every_failure_of_the_contract_is_one_here() {
        for (code, name) in Code::ALL {
            assert_eq!(ret_of(*code) == ErrorCode::Ok, *code == Code::OK, "{name}");
        }
        assert_eq!(only_ret(ErrorCode::InvalidRoom), [0x08, 12]);
    }

    proptest! {
        #[test]
        fn sessions_have_32_hex_digits_each_its_own(one: u64, other: u64) {
            let of = |n: u64| conn_id(&format!("session_{n}"));
            prop_assert_eq!(of(one).len(), 32);
            prop_assert!(of(one).bytes().all(|digit| digit.is_ascii_hexdigit()));
            prop_assert_eq!(of(one) == of(other), one == other);
        }
    }
}

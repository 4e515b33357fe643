//! Owns the commands with which an operator gives orders: asks a node's admin page, and says in
//! one sentence what came of it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `admin` and what follows it.
#[derive(Debug, Args)]
pub(crate) struct AdminFlags {
    #[command(subcommand)]
    order: Order,
    /// Operators' pages of any node.
    #[arg(long, global = true, value_name = "ADDR", default_value = "127.0.0.1:9600")]
    addr: String,
    /// File that holds the secret of `admin.secret`.
    #[arg(long, global = true, value_name = "FILE", default_value = "./bastide-data/admin.secret")]
    secret_file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Ends the session of an account, which may sign in again.
    Kick {
        /// The account's number.
        account: i64,
        /// What the player is told.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Ends the session of an account, and lets nobody sign in to it for a time.
    Ban {
        /// The account's number.
        account: i64,
        /// For how long, such as 30m, 2h, 7days.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        time: Duration,
        /// What the player is told.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Ends a ban.
    Unban {
        /// The account's number.
        account: i64,
    },
    /// Shows an account, and what happened to it last.
    Account {
        /// The account's number.
        account: i64,
    },
    /// Lists the rooms of the cluster: where each runs, and who has a seat.
    Rooms,
    /// Makes a new key to sign tokens with; tokens that the old one has signed stay good.
    RotateKey,
}

/// Why an order was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// The file of the secret cannot be read.
    #[error("--secret-file {}: {source}; name the file that holds the secret", .path.display())]
    Secret { path: PathBuf, source: std::io::Error },
    /// The node does not know this secret, or has none.
    #[error("{addr}: {message}")]
    Denied { addr: String, message: String },
    /// Nobody answers there.
    #[error("nobody answers at {addr}: {why}; see whether the node is up, or say --addr")]
    Away { addr: String, why: String },
    /// The node did not do it.
    #[error("{0}")]
    Refused(String),
}

impl OrderError {
    /// Whether the operator has to change something.
    pub(crate) fn is_operators(&self) -> bool {
        matches!(self, Self::Secret { .. } | Self::Denied { .. })
    }
}

/// Gives the order; the answer is a sentence.
pub(crate) async fn give(flags: &AdminFlags) -> Result<String, OrderError> {
    let AdminFlags { order, addr, secret_file } = flags;
    let secret = std::fs::read_to_string(secret_file)
        .map_err(|source| OrderError::Secret { path: secret_file.clone(), source })?;
    let (path, body) = match order {
        Order::Kick { account, reason } => {
            ("kick".to_owned(), Some(json!({ "account": account, "reason": reason })))
        }
        Order::Ban { account, time, reason } => {
            let seconds = time.as_secs();
            let body = json!({ "account": account, "seconds": seconds, "reason": reason });
            ("ban".to_owned(), Some(body))
        }
        Order::Unban { account } => ("unban".to_owned(), Some(json!({ "account": account }))),
        Order::Account { account } => (format!("accounts/{account}"), None),
        Order::Rooms => ("rooms".to_owned(), None),
        Order::RotateKey => ("keys/rotate".to_owned(), Some(json!({}))),
    };
    let host = addr.trim_start_matches("http://").trim_end_matches('/');
    let away = |e: reqwest::Error| OrderError::Away { addr: addr.clone(), why: root(&e) };
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build();
    let (http, url) = (http.map_err(away)?, format!("http://{host}/admin/{path}"));
    let asked = match body {
        Some(body) => {
            http.post(url).header("content-type", "application/json").body(body.to_string())
        }
        None => http.get(url),
    };
    let response = asked.bearer_auth(secret.trim()).send().await.map_err(away)?;
    let status = response.status().as_u16();
    let text = response.text().await.map_err(away)?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let message = || match answer["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("no answer of a node of bastide (status {status}): see --addr"),
    };
    match status {
        200 if answer["session"] == "unknown" => Err(OrderError::Refused(order.told(&answer))),
        200 => Ok(order.told(&answer)),
        401 | 403 | 429 => Err(OrderError::Denied { addr: addr.clone(), message: message() }),
        _ => Err(OrderError::Refused(message())),
    }
}

impl Order {
    fn told(&self, answer: &Value) -> String {
        let session = match answer["session"].as_str() {
            Some("ended") => "its session is over",
            Some("none") => "it had no session",
            _ => "its game server was not reached, so its session may go on: ask again",
        };
        match self {
            Self::Kick { account, .. } => format!("account {account} is kicked: {session}"),
            Self::Ban { account, .. } => {
                let until = answer["until"].as_str().unwrap_or("then");
                format!("account {account} is banned until {until}: {session}")
            }
            Self::Unban { account } if answer["was_banned"] == true => {
                format!("account {account} may sign in again")
            }
            Self::Unban { account } => format!("account {account} was not banned"),
            Self::Account { account } => sheet(*account, answer),
            Self::Rooms => table(answer),
            Self::RotateKey => {
                let said = |member: &str| answer[member].as_str().unwrap_or("?").to_owned();
                format!(
                    "the key {} is published, and signs from {} on",
                    said("kid"),
                    said("signs_from")
                )
            }
        }
    }
}

/// An account as a page of text: what it is, then what happened to it, the newest first.
fn sheet(account: i64, answer: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = format!("account {account}\n");
    let said = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    };
    for key in SHEET {
        let value = said(&answer[key]).unwrap_or_else(|| "-".to_owned());
        writeln!(text, "  {key:<14} {value}").expect("writing to a String does not fail");
    }
    for note in answer["notes"].as_array().into_iter().flatten() {
        let words = ["at", "what", "way", "ip", "app_id", "detail"];
        let words: Vec<_> = words.iter().filter_map(|key| said(&note[*key])).collect();
        write!(text, "\n  {}", words.join("  ")).expect("writing to a String does not fail");
    }
    text
}

/// Rooms as a table: a line each.
fn table(answer: &Value) -> String {
    let rooms = answer["rooms"].as_array().map_or(&[][..], Vec::as_slice);
    if rooms.is_empty() {
        return "there are no rooms".to_owned();
    }
    let line = |room: &Value| {
        let word = |key: &str| room[key].as_str().unwrap_or("?").to_owned();
        let count = |key: &str| room[key].as_u64().unwrap_or_default();
        let seats = format!("{}+{}/{}", count("members"), count("reserved"), count("capacity"));
        let marks = ["locked", "private", "opening"].into_iter();
        let marks: Vec<_> = marks.filter(|mark| room[*mark] == true).collect();
        [word("kind"), word("room_id"), word("node"), seats, marks.join(" ")]
    };
    let head = ["kind", "room", "node", "seats", ""].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rooms.iter().map(line)).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text: Vec<_> = lines
        .iter()
        .map(|[kind, room, node, seats, marks]| {
            let [a, b, c, d] = widths;
            format!("{kind:<a$}  {room:<b$}  {node:<c$}  {seats:<d$}  {marks}")
                .trim_end()
                .to_owned()
        })
        .collect();
    if answer["more"] == true {
        text.push("and more, which are not shown".to_owned());
    }
    text.join("\n")
}

/// The members of an account's sheet, in their order.
const SHEET: [&str; 12] = [
    "openid",
    "username",
    "phone",
    "email",
    "guest",
    "password",
    "status",
    "created",
    "last_sign_in",
    "last_play",
    "banned_until",
    "banned_reason",
];

/// The innermost reason: the outer ones of an HTTP client only say that there is one.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Twice what the node itself allows the account center.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_a_table_with_a_line_each() {
        let answer = json!({ "more": true, "rooms": [
            { "kind": "arena", "room_id": "abc", "node": "town-1", "members": 3, "reserved": 1,
              "capacity": 16, "locked": false, "private": false, "opening": false },
            { "kind": "chat", "room_id": "x", "node": "town-22", "members": 0, "reserved": 1,
              "capacity": 2, "locked": true, "private": true, "opening": true },
        ]});
        let expected = "kind   room  node     seats\n\
                        arena  abc   town-1   3+1/16\n\
                        chat   x     town-22  0+1/2   locked private opening\n\
                        and more, which are not shown";
        assert_eq!(Order::Rooms.told(&answer), expected);
        assert_eq!(Order::Rooms.told(&json!({ "rooms": [] })), "there are no rooms");
    }
}

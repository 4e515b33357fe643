//! Owns what must not stand in any log: the secrets that tests sent or were given, and the words of
//! the logs of the servers that they started.
//!
//! A log and a secret may come in any order: a word is looked for among all secrets, and a secret
//! among all words. Only what is a token by its looks needs nobody to register it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Shorter ones are not told from other words.
const SECRET_BYTES_MIN: usize = 6;

/// What begins the line with which development sends a code to a phone: the one place in which a
/// secret stands in a log, because there the log is the phone.
const CODE_LINE: &str = "向手机号";

/// Words of logs, each with the first line in which it stood; and secrets.
#[derive(Debug, Default)]
struct Seen {
    words: HashMap<String, String>,
    secrets: HashSet<String>,
}

fn seen() -> MutexGuard<'static, Seen> {
    static SEEN: OnceLock<Mutex<Seen>> = OnceLock::new();
    SEEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a password, a token, a code, or whatever else only its owner may know; gives it back.
///
/// # Panics
/// When it is so short that it may be part of a time or of an address.
pub fn secret<T: AsRef<str>>(text: T) -> T {
    // Of a token with dots the last part is what nobody can know: the signature.
    let last = words(text.as_ref()).last().unwrap_or_default().to_owned();
    assert!(last.len() >= SECRET_BYTES_MIN, "a secret of a test has at least six bytes");
    seen().secrets.insert(last);
    text
}

/// Takes in a log, whole or in part; parts end with a line.
pub fn logged(log: &str) {
    let mut seen = seen();
    for line in log.lines().filter(|line| !line.contains(CODE_LINE)) {
        for word in words(line).filter(|word| word.len() >= SECRET_BYTES_MIN) {
            if !seen.words.contains_key(word) {
                seen.words.insert(word.to_owned(), line.to_owned());
            }
        }
    }
}

/// Fails when a secret that was registered so far stands in a log that was taken in so far.
///
/// # Panics
/// Then, with the line.
pub fn assert_none_is_logged() {
    let seen = seen();
    let told = seen.words.iter().find(|(word, _)| seen.secrets.contains(*word) || is_token(word));
    if let Some((word, line)) = told {
        panic!("the secret `{word}` stands in a log:\n{line}");
    }
}

/// A part of a JWT, or of a password's hash.
fn is_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.len() > 20 || word == "argon2id"
}

/// What stands between the signs that no secret of ours has.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c)).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_whichever_came_first_and_the_phone_of_development_is_no_log() {
        let told = || std::panic::catch_unwind(assert_none_is_logged).is_err();
        logged(
            "INFO signed in account=10001 sid=\"abc-def\"\nWARN 向手机号 +86138 发送验证码: 123456",
        );
        secret("hunter2-one");
        secret("123456");
        assert!(!told());
        logged("INFO body={\"password\":\"hunter2-one\"}");
        assert!(told(), "the secret came first");
        seen().words.clear();
        logged("INFO token=e30.e30.c2lnbmF0dXJl");
        assert!(!told());
        secret("e30.e30.c2lnbmF0dXJl");
        assert!(told(), "the log came first");
        seen().words.clear();
        logged("eyJhbGciOiJFZERTQSJ9xxxx");
        assert!(told(), "by its looks");
        seen().words.clear();
    }
}

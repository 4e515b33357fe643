//! Owns what a name, a password and a device id must look like; a refusal names the parameter.
//! Leaves whether they are right to `center`.

use std::ops::RangeInclusive;

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use crate::wire::{Code, Refusal};

/// 32 letters of four bytes, each with a few marks.
const USERNAME_BYTES_MAX: usize = 512;
const USERNAME_CHARS: RangeInclusive<usize> = 3..=32;
const PASSWORD_BYTES: RangeInclusive<usize> = 6..=128;
const DEVICE_ID_BYTES_MAX: usize = 128;
/// The longest address that mail can be sent to (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;
const APP_ID_BYTES_MAX: usize = 64;

/// Above, what is tried at sign-in is nobody's password and is not even hashed.
pub(super) const PASSWORD_TRIED_BYTES_MAX: usize = 1024;

pub(super) fn missing(parameter: &str) -> Refusal {
    Code::PARAMETER.because(format!("parameter `{parameter}` is missing"))
}

/// Letters of any script with their marks, digits, `_`, `-` and `.`, however the marks are written.
pub(super) fn is_username(username: &str) -> bool {
    // A longer one is not put together first, for it may be a thousand times as long.
    if username.len() > USERNAME_BYTES_MAX {
        return false;
    }
    let composed = || username.nfc();
    USERNAME_CHARS.contains(&composed().count())
        && composed().next().is_some_and(|first| !is_combining_mark(first))
        && composed().all(|c| c.is_alphanumeric() || is_combining_mark(c) || "_-.".contains(c))
}

pub(super) fn username(username: String) -> Result<String, Refusal> {
    if username.is_empty() {
        return Err(missing("username"));
    }
    if !is_username(&username) {
        return Err(Code::PARAMETER.because(
            "parameter `username` is not a name: 3 to 32 letters, digits, `_`, `-` or `.`",
        ));
    }
    Ok(username.nfc().collect())
}

pub(super) fn password(password: String) -> Result<String, Refusal> {
    password_named("password", password)
}

/// A password that comes under another name, such as `new_password`.
pub(super) fn password_named(parameter: &str, password: String) -> Result<String, Refusal> {
    if password.is_empty() {
        return Err(missing(parameter));
    }
    if !PASSWORD_BYTES.contains(&password.len()) {
        let message = format!("parameter `{parameter}` is not 6 to 128 bytes long");
        return Err(Code::PARAMETER.because(message));
    }
    Ok(password)
}

pub(super) fn device_id(device_id: String) -> Result<String, Refusal> {
    if device_id.len() > DEVICE_ID_BYTES_MAX || device_id.chars().any(char::is_control) {
        return Err(Code::PARAMETER
            .because("parameter `device_id` is not 1 to 128 bytes of printable characters"));
    }
    Ok(device_id)
}

/// Something before an `@` and something after it; whether mail arrives there nobody knows.
pub(super) fn email(email: String) -> Result<String, Refusal> {
    if email.is_empty() {
        return Err(missing("email"));
    }
    let whole = |(name, host): (&str, &str)| !name.is_empty() && !host.is_empty();
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    if email.len() > EMAIL_BYTES_MAX
        || !email.rsplit_once('@').is_some_and(whole)
        || !email.chars().all(plain)
    {
        return Err(Code::PARAMETER.because(
            "parameter `email` is not an address: a name, `@` and a host, at most 254 bytes",
        ));
    }
    Ok(email)
}

pub(super) fn app_id(app_id: &str) -> Result<(), Refusal> {
    if app_id.is_empty() {
        return Err(missing("app_id"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if app_id.len() > APP_ID_BYTES_MAX || !app_id.chars().all(plain) {
        return Err(Code::PARAMETER
            .because("parameter `app_id` is not 1 to 64 letters, digits, `_`, `-` or `.`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_3_to_32_letters_of_any_script_digits_and_three_signs() {
        assert_eq!(username("E\u{301}cole".to_owned()).as_deref(), Ok("École"));
        for good in ["abc", "玩家一", "नमस्तेजी", "தமிழன்", "Ünal_1-2.3", "абв", &"界".repeat(32)]
        {
            assert_eq!(username(good.to_owned()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "ab",
            "a b c",
            "a@b.c",
            "abc\0",
            "\u{301}abc",
            "a/b/c",
            "abc\u{202e}",
            &"a".repeat(33),
        ] {
            let refusal = username(bad.to_owned()).unwrap_err();
            assert_eq!(refusal.code, Code::PARAMETER, "{bad:?}");
            assert!(refusal.message.contains("`username`"), "{bad:?}");
        }
    }

    #[test]
    fn a_password_has_6_to_128_bytes_of_anything() {
        for good in ["123456", "密码", "a b\tc!", &"a".repeat(128)] {
            assert_eq!(password(good.to_owned()).as_deref(), Ok(good));
        }
        for bad in ["", "12345", &"a".repeat(129)] {
            let refusal = password(bad.to_owned()).unwrap_err();
            assert_eq!(refusal.code, Code::PARAMETER);
            assert!(refusal.message.contains("`password`"));
        }
    }

    #[test]
    fn an_address_has_a_name_and_a_host_and_an_app_a_plain_id() {
        let host = "x".repeat(252);
        for good in ["a@b", "玩家@例子.cn", "a@b@c", &format!("a@{host}")] {
            assert_eq!(email(good.to_owned()).as_deref(), Ok(good));
        }
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b\0", &format!("aa@{host}")] {
            assert!(email(bad.to_owned()).unwrap_err().message.contains("`email`"), "{bad}");
        }
        assert_eq!(app_id("jigger_game"), Ok(()));
        for bad in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert!(app_id(bad).unwrap_err().message.contains("`app_id`"), "{bad}");
        }
    }

    #[test]
    fn a_device_id_is_printable_and_short() {
        assert_eq!(device_id("phone 1/ä".to_owned()).as_deref(), Ok("phone 1/ä"));
        for bad in ["a\nb", "a\0", &"a".repeat(129)] {
            assert!(device_id(bad.to_owned()).unwrap_err().message.contains("`device_id`"));
        }
    }
}

//! Owns what a name, a password and a device id must look like; a refusal names the parameter.
//! Leaves whether they are right to `center`.

use std::ops::RangeInclusive;

use crate::wire::{Code, Refusal};

const USERNAME_CHARS: RangeInclusive<usize> = 3..=32;
const PASSWORD_BYTES: RangeInclusive<usize> = 6..=128;
const DEVICE_ID_BYTES_MAX: usize = 128;

/// Above, what is tried at sign-in is nobody's password and is not even hashed.
pub(super) const PASSWORD_TRIED_BYTES_MAX: usize = 1024;

pub(super) fn missing(parameter: &str) -> Refusal {
    Code::PARAMETER.because(format!("parameter `{parameter}` is missing"))
}

/// Letters of any script, digits, `_`, `-` and `.`.
pub(super) fn is_username(username: &str) -> bool {
    USERNAME_CHARS.contains(&username.chars().count())
        && username.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
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
    Ok(username)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_3_to_32_letters_of_any_script_digits_and_three_signs() {
        for good in ["abc", "玩家一", "Ünal_1-2.3", "абв", &"界".repeat(32)] {
            assert_eq!(username(good.to_owned()).as_deref(), Ok(good));
        }
        for bad in ["", "ab", "a b c", "a@b.c", "abc\0", "a/b/c", "abc\u{202e}", &"a".repeat(33)] {
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
    fn a_device_id_is_printable_and_short() {
        assert_eq!(device_id("phone 1/ä".to_owned()).as_deref(), Ok("phone 1/ä"));
        for bad in ["a\nb", "a\0", &"a".repeat(129)] {
            assert!(device_id(bad.to_owned()).unwrap_err().message.contains("`device_id`"));
        }
    }
}

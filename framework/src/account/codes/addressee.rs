//! Owns where a code can be sent: a phone, or an address of mail.

use super::Phone;
use crate::wire::{Code, Refusal};

/// Whoever a code is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::account) struct Addressee {
    /// What codes and guesses are counted under: no phone's and no account's when it is mail.
    pub(super) key: String,
    /// Its normal form, as the sender is told.
    pub(in crate::account) address: String,
}

/// What mail allows.
const MAIL_BYTES_MAX: usize = 254;

impl Addressee {
    /// An address of mail has an `@`; everything else is a phone, at home where it names no
    /// country.
    pub(in crate::account) fn parse(country_code: &str, to: &str) -> Result<Self, Refusal> {
        let Some((whose, host)) = to.split_once('@') else {
            return Phone::parse_at_home(country_code, to).map(|phone| Self::from(&phone));
        };
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'@')
        };
        if !plain(whose) || !plain(host) || to.len() > MAIL_BYTES_MAX {
            return Err(Code::PHONE_INVALID.because("parameter `address` is no address of mail"));
        }
        let address = to.to_ascii_lowercase();
        Ok(Self { key: format!("mail.{address}"), address })
    }
}

impl From<&Phone> for Addressee {
    fn from(phone: &Phone) -> Self {
        Self { key: phone.e164(), address: phone.e164() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_goes_to_a_phone_or_to_mail_and_nowhere_else() {
        let to = |to: &str| Addressee::parse("+86", to).map(|to| to.address);
        assert_eq!(to("13812345678"), Ok("+8613812345678".to_owned()));
        assert_eq!(to("+1 555 123 4567"), Ok("+15551234567".to_owned()));
        assert_eq!(to("Anna@Example.org"), Ok("anna@example.org".to_owned()));
        let long = format!("{}@example.org", "a".repeat(250));
        for odd in ["", "anna", "@example.org", "anna@", "a b@example.org", "a@b@c", "ä@b", &long]
        {
            assert_eq!(to(odd).unwrap_err().code, Code::PHONE_INVALID, "{odd}");
        }
    }

    #[test]
    fn no_address_of_mail_is_counted_as_a_phone_or_an_account() {
        let mail = Addressee::parse("+86", "of.5@example.org").unwrap();
        assert!(mail.key.starts_with("mail."));
    }
}

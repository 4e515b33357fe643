//! Owns what a phone's number is. Leaves whose phone it is to `accounts`.

use std::fmt;

use crate::wire::{Code, Refusal};

/// A country code: `+` and 1 to 4 digits.
const COUNTRY_CODE_BYTES: std::ops::RangeInclusive<usize> = 2..=5;
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;
/// A number as people write it, with spaces, dashes and brackets. Beyond: it is none.
const WRITTEN_BYTES_MAX: usize = 64;

/// A phone's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phone {
    /// With its `+`; that alone when the number was written whole, for then nobody knows where
    /// it ends.
    country_code: String,
    number: String,
}

impl Phone {
    /// Reads a number beside its country code; without one, the number is written whole, as in
    /// `+8613812345678`.
    pub(crate) fn parse(country_code: Option<&str>, number: &str) -> Result<Self, Refusal> {
        let country_code = match country_code.map(with_plus) {
            Some(code) if is_country_code(&code) => code,
            Some(_) => {
                return Err(Code::PHONE_INVALID.because(
                    "parameter `country_code` is not `+` and 1 to 4 digits, such as +86",
                ));
            }
            None if is_whole(number) => "+".to_owned(),
            None => {
                return Err(Code::PHONE_INVALID
                    .because("parameter `phone` does not begin with `+` and a country code"));
            }
        };
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        // A digit of another script is one all the same, and may not be left out.
        let foreign = number.chars().any(|c| c.is_numeric() && !c.is_ascii_digit());
        if foreign || !NUMBER_DIGITS.contains(&digits.len()) || number.len() > WRITTEN_BYTES_MAX {
            return Err(
                Code::PHONE_INVALID.because("parameter `phone` is not a number of 8 to 15 digits")
            );
        }
        Ok(Self { country_code, number: digits })
    }

    /// A number that is written whole, or else one of `country_code`.
    pub(crate) fn parse_at_home(country_code: &str, number: &str) -> Result<Self, Refusal> {
        Self::parse((!is_whole(number)).then_some(country_code), number)
    }

    /// As in `+8613812345678`; equal numbers are equal texts.
    pub(crate) fn e164(&self) -> String {
        self.to_string()
    }

    pub(crate) fn country_code(&self) -> &str {
        &self.country_code
    }

    /// Its digits without those of the country, where they are known apart.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }

    /// The name of whoever signs in with it for the first time.
    pub(crate) fn username(&self) -> String {
        let country = self.country_code.trim_start_matches('+');
        format!("user_{country}_{}", &self.number[self.number.len() - 6..])
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { country_code, number } = self;
        write!(f, "{country_code}{number}")
    }
}

/// Whether a number begins with its country.
fn is_whole(number: &str) -> bool {
    with_plus(number).starts_with('+')
}

/// A form whose writer did not escape the `+` brings a space instead.
fn with_plus(text: &str) -> String {
    match text.strip_prefix(' ') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => format!("+{rest}"),
        _ => text.trim_start().to_owned(),
    }
}

/// `+` and digits, 2 to 5 characters in all.
pub(crate) fn is_country_code(text: &str) -> bool {
    let digits = |rest: &str| rest.bytes().all(|b| b.is_ascii_digit());
    COUNTRY_CODE_BYTES.contains(&text.len()) && text.strip_prefix('+').is_some_and(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        let phone = Phone::parse(Some("+86"), "138-1234 5678").unwrap();
        assert_eq!(phone.e164(), "+8613812345678");
        assert_eq!((phone.country_code(), phone.number()), ("+86", "13812345678"));
        assert_eq!(phone.username(), "user_86_345678");
        for whole in ["+8613812345678", " +86 (138) 1234-5678", " 8613812345678"] {
            assert_eq!(Phone::parse(None, whole).unwrap().e164(), phone.e164());
            assert_eq!(Phone::parse_at_home("+1", whole).unwrap().e164(), phone.e164());
        }
        assert_eq!(Phone::parse_at_home("+86", "13812345678").unwrap(), phone);
        assert_eq!(Phone::parse(Some(" 86"), "13812345678").unwrap(), phone);
    }

    #[test]
    fn what_is_no_number_is_refused_with_the_parameters_name() {
        let long = "1".repeat(16);
        let padded = format!("12345678{}", " ".repeat(64));
        for (country_code, number, named) in [
            (Some("86"), "13812345678", "`country_code`"),
            (Some("+"), "13812345678", "`country_code`"),
            (Some("+12345"), "13812345678", "`country_code`"),
            (Some("+8a"), "13812345678", "`country_code`"),
            (Some("+８６"), "13812345678", "`country_code`"),
            (Some(""), "13812345678", "`country_code`"),
            (Some("+86"), "1234567", "`phone`"),
            (Some("+86"), &long, "`phone`"),
            (Some("+86"), "１３８１２３４５６７８", "`phone`"),
            (Some("+86"), &padded, "`phone`"),
            (Some("+86"), "", "`phone`"),
            (None, "13812345678", "`phone`"),
            (None, "+1234567", "`phone`"),
        ] {
            let refusal = Phone::parse(country_code, number).unwrap_err();
            assert_eq!(refusal.code, Code::PHONE_INVALID, "{country_code:?} {number}");
            assert!(refusal.message.contains(named), "{country_code:?} {number}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_refused(country: Option<String>, number: String) {
            if let Ok(phone) = Phone::parse(country.as_deref(), &number) {
                prop_assert!(phone.e164().len() <= 20 && phone.username().len() >= 12);
            }
        }
    }
}

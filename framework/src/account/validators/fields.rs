//! Owns named values and the signature over them: MD5 over keys, values and a secret, as the
//! platforms of the seeds do it.

use std::{collections::BTreeMap, fmt};

use md5::{Digest as _, Md5};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::super::rules;
use crate::wire::{Code, Refusal};

/// The member that holds the signature over the others.
const SIGN: &str = "sign";

/// Named values: what a signature covers, or what a page was asked. Each is a text, a number, or
/// yes or no. Never shown: who reads a signature may use it.
#[derive(Clone, Default, PartialEq)]
pub struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, or changes it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves one out, such as a code that a person adds to what was signed.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Adds the signature over all others, as [`Fields::signature`] makes it.
    #[must_use]
    pub fn signed(self, secret: &str) -> Self {
        let sign = self.signature(secret);
        self.with(SIGN, sign)
    }

    /// A text; a number is taken for its text.
    ///
    /// # Errors
    /// 210, and the name, when it is absent, empty, or not a text.
    pub fn text(&self, name: &str) -> Result<String, Refusal> {
        match self.0.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(number @ Value::Number(_)) => Ok(plain(number)),
            None | Some(Value::String(_)) => Err(rules::missing(&shown(name))),
            Some(_) => Err(not(name, "a text")),
        }
    }

    /// A whole number, or a text that is one.
    ///
    /// # Errors
    /// 210, and the name, when it is absent, or not a whole number.
    pub fn number(&self, name: &str) -> Result<i64, Refusal> {
        self.text(name)?.parse().map_err(|_| not(name, "a whole number"))
    }

    /// Whether there is nothing but these. Where keys and values are signed without a mark
    /// between them, the end of a value can be read as another name: only who knows all names
    /// reads what was signed.
    ///
    /// # Errors
    /// 210, and the name of the first that is not among them.
    pub fn only(&self, names: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|name| !names.contains(&name.as_str())) {
            Some(odd) => {
                Err(Code::PARAMETER
                    .because(format!("parameter `{}` does not belong here", shown(odd))))
            }
            None => Ok(()),
        }
    }

    /// In hex, the MD5 of every name and value but `sign`, in the order of the names, and the
    /// secret after them.
    pub fn signature(&self, secret: &str) -> String {
        let mut md5 = Md5::new();
        for (name, value) in self.0.iter().filter(|(name, _)| *name != SIGN) {
            md5.update(name.as_bytes());
            md5.update(plain(value).as_bytes());
        }
        md5.update(secret.as_bytes());
        md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `sign` is the signature over the others, in constant time.
    ///
    /// # Errors
    /// 210 when there is no `sign`.
    pub fn signed_with(&self, secret: &str) -> Result<bool, Refusal> {
        let sign = self.text(SIGN)?.to_ascii_lowercase();
        Ok(same(&self.signature(secret), &sign))
    }

    /// What a client sent as an object under `name`.
    ///
    /// # Errors
    /// 210 when a member is a list, an object or nothing: a signature does not cover those.
    pub(crate) fn sent(name: &str, object: Map<String, Value>) -> Result<Self, Refusal> {
        for (member, value) in &object {
            if !matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)) {
                return Err(Code::PARAMETER.because(format!(
                    "parameter `{name}.{}` is not a text, a number, or true or false",
                    shown(member)
                )));
            }
        }
        Ok(Self(object.into_iter().collect()))
    }

    /// As a page shows it.
    pub(crate) fn into_json(self) -> Value {
        Value::Object(self.0.into_iter().collect())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether two texts are equal; how long it takes says nothing but their lengths.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A value as it is signed: as JavaScript writes it into a text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            // 1e9 and 1.0 are whole there; beyond 2^53 neither side is exact.
            Some(whole) if number.is_f64() && whole.fract() == 0.0 && whole.abs() < 9e15 => {
                format!("{whole:.0}")
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn not(name: &str, what: &str) -> Refusal {
    Code::PARAMETER.because(format!("parameter `{}` is not {what}", shown(name)))
}

/// A name that a stranger may have chosen, short enough for a message.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(value: Value) -> Result<Fields, Refusal> {
        Fields::sent("auth", value.as_object().unwrap().clone())
    }

    /// The digest was computed with coreutils: `printf 'is_touristfalsenicknameÄt1700000000userId7key' | md5sum`.
    #[test]
    fn a_signature_is_the_md5_of_sorted_names_and_values_and_the_secret() {
        let fields = sent(json!({
            "userId": 7.0, "t": 1_700_000_000, "nickname": "Ä", "is_tourist": false, "sign": "x",
        }));
        let fields = fields.unwrap();
        assert_eq!(fields.signature("key"), MD5);
        assert_eq!(fields.signed_with("key"), Ok(false));
        let signed = fields.signed("key");
        assert_eq!(signed.signed_with("key"), Ok(true));
        assert_eq!(signed.signed_with("other"), Ok(false));
        assert_eq!(signed.clone().with("t", 1_700_000_001).signed_with("key"), Ok(false));
        assert_eq!(signed.with("sign", MD5.to_uppercase()).signed_with("key"), Ok(true));
    }

    const MD5: &str = "699971948f4c7301e2f1592f8238faa8";

    #[test]
    fn what_is_absent_or_odd_is_named() {
        let fields = sent(json!({ "t": "soon", "id": "", "yes": true, "n": 5 })).unwrap();
        for (refused, name) in [
            (fields.text("id").map(drop), "`id` is missing"),
            (fields.text("nonce").map(drop), "`nonce` is missing"),
            (fields.text("yes").map(drop), "`yes` is not a text"),
            (fields.number("t").map(drop), "`t` is not a whole number"),
            (fields.signed_with("key").map(drop), "`sign` is missing"),
            (fields.only(&["t", "id", "yes"]), "`n` does not belong here"),
            (sent(json!({ "a": [1] })).map(drop), "`auth.a`"),
            (sent(json!({ "a": {} })).map(drop), "`auth.a`"),
            (sent(json!({ "a": null })).map(drop), "`auth.a`"),
        ] {
            let refusal = refused.unwrap_err();
            assert_eq!(refusal.code, Code::PARAMETER);
            assert!(refusal.message.contains(name), "{refusal}");
        }
        assert_eq!((fields.text("n"), fields.number("n")), (Ok("5".to_owned()), Ok(5)));
        assert_eq!(fields.only(&["t", "id", "yes", "n"]), Ok(()));
    }

    #[test]
    fn what_was_signed_is_not_shown() {
        let shown = format!("{:?}", Fields::new().with("nonce", "hidden").signed("key"));
        assert_eq!(shown, r#"{"nonce", "sign"}"#);
    }
}

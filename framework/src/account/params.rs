//! Owns how parameters come out of an HTTP request: a form, a JSON object, or a query.
//! Leaves which parameters a route wants to `http`, and their rules to `rules`.

use std::collections::BTreeMap;

use super::rules;
use crate::wire::{Code, Refusal};

/// The parameters of one request, all as text. Never shown: a password is among them.
#[derive(PartialEq)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// From a body of the named content type. An empty body has no parameters.
    pub(super) fn from_body(content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let essence =
            content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/x-www-form-urlencoded" => {
                let text = std::str::from_utf8(body)
                    .map_err(|_| malformed("the form in the body is not UTF-8"))?;
                Self::from_urlencoded(text)
            }
            "application/json" => Self::from_json(body),
            "" if body.is_empty() => Ok(Self(BTreeMap::new())),
            "" => Err(malformed(
                "the request has no content-type: send application/x-www-form-urlencoded or \
                 application/json",
            )),
            _ => Err(malformed(
                "the content-type is not one of application/x-www-form-urlencoded and \
                 application/json",
            )),
        }
    }

    /// From a query, or a form.
    pub(super) fn from_urlencoded(text: &str) -> Result<Self, Refusal> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text)
            .map_err(|_| malformed("the parameters are not url-encoded"))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            // Which of the two is meant would depend on who reads them.
            if let Some(_twice) = params.insert(name.clone(), value) {
                return Err(malformed(format!("parameter `{}` is given twice", shown(&name))));
            }
        }
        Ok(Self(params))
    }

    fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
            .map_err(|error| {
                let (line, column) = (error.line(), error.column());
                malformed(format!("the body is not a JSON object (line {line}, column {column})"))
            })?;
        let mut params = BTreeMap::new();
        for (name, value) in object {
            let value = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::Bool(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_) => {
                    let name = shown(&name);
                    return Err(malformed(format!("parameter `{name}` is not a string or number")));
                }
            };
            params.insert(name, value);
        }
        Ok(Self(params))
    }

    /// Takes one out; `None` when it was not sent.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes one out that must be there.
    pub(super) fn need(&mut self, name: &str) -> Result<String, Refusal> {
        self.take(name).ok_or_else(|| rules::missing(name))
    }
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Code::PARAMETER.because(message)
}

/// A name that a stranger chose, short enough for a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";

    fn read(content_type: &str, body: &str) -> Result<Vec<(String, String)>, String> {
        match Params::from_body(content_type, body.as_bytes()) {
            Ok(params) => Ok(params.0.into_iter().collect()),
            Err(refusal) => {
                assert_eq!(refusal.code, Code::PARAMETER);
                Err(refusal.message.into_owned())
            }
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_form_and_a_json_object_say_the_same() {
        let same = vec![pair("account_id", "10001"), pair("username", "Ü b+c")];
        assert_eq!(read(FORM, "username=%C3%9C+b%2Bc&account_id=10001"), Ok(same.clone()));
        let json = r#"{"username":"Ü b+c","account_id":10001,"device_id":null}"#;
        assert_eq!(read("Application/JSON; charset=utf-8", json), Ok(same));
        assert_eq!(read(FORM, ""), Ok(vec![]));
        assert_eq!(read("", ""), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_trouble() {
        for (content_type, body, trouble) in [
            ("text/plain", "username=a", "content-type"),
            ("multipart/form-data; boundary=x", "--x", "content-type"),
            ("", "username=a", "no content-type"),
            (JSON, "{", "not a JSON object (line 1"),
            (JSON, "", "not a JSON object"),
            (JSON, "[1]", "not a JSON object"),
            (JSON, r#"{"username":["a"]}"#, "`username` is not a string or number"),
            (JSON, r#"{"password":true}"#, "`password` is not"),
            (FORM, "a=1&b=2&a=3", "`a` is given twice"),
        ] {
            let said = read(content_type, body).unwrap_err();
            assert!(said.contains(trouble), "{content_type} {body}: {said}");
        }
        assert!(Params::from_body(FORM, &[0xff]).is_err());
    }

    #[test]
    fn a_message_repeats_no_value() {
        for said in [
            read(JSON, r#"{"password":"hunter2",}"#),
            read(JSON, r#"{"password":{"a":"hunter2"}}"#),
            read(FORM, "password=hunter2&password=hunter2"),
        ] {
            assert!(!said.unwrap_err().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, json: bool) {
            drop(Params::from_body(if json { JSON } else { FORM }, &body));
        }
    }
}

//! Owns how parameters come out of an HTTP request: a form, a JSON object, or a query.
//! Leaves which parameters a route wants to `http`, and their rules to `rules`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::super::rules;
use crate::wire::{Code, Refusal};

/// The parameters of one request, and the names that its route declares, once it has said them.
/// Never shown: a password is among them.
pub(super) struct Params(BTreeMap<String, Given>, Option<Arc<[&'static str]>>);

/// What was sent under a name.
enum Given {
    /// Text, or a number.
    Text(String),
    /// What JSON alone can say: an object, a list, a yes or no.
    Json(Value),
}

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
            "" if body.is_empty() => Ok(Self(BTreeMap::new(), None)),
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
            if let Some(_twice) = params.insert(name.clone(), Given::Text(value)) {
                return Err(malformed(format!("parameter `{}` is given twice", shown(&name))));
            }
        }
        Ok(Self(params, None))
    }

    fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        let object: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            malformed(format!("the body is not a JSON object (line {line}, column {column})"))
        })?;
        Ok(Self::from_object(object))
    }

    /// From a JSON object.
    pub(super) fn from_object(object: Map<String, Value>) -> Self {
        let mut params = BTreeMap::new();
        for (name, value) in object {
            let given = match value {
                Value::Null => continue,
                Value::String(text) => Given::Text(text),
                Value::Number(number) => Given::Text(number.to_string()),
                Value::Bool(_) | Value::Array(_) | Value::Object(_) => Given::Json(value),
            };
            params.insert(name, given);
        }
        Self(params, None)
    }

    /// From now on nothing else may be taken: the description of the routes is made from what
    /// they declare, and would lie.
    pub(super) fn declare(&mut self, names: Arc<[&'static str]>) {
        self.1 = Some(names);
    }

    fn remove(&mut self, name: &str) -> Option<Given> {
        let declared = self.1.as_ref().is_none_or(|names| names.contains(&name));
        debug_assert!(declared, "a handler takes `{name}`, which its route does not declare");
        self.0.remove(name).filter(|_| declared)
    }

    /// Takes a text or a number out; `None` when it was not sent.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.remove(name) {
            Some(Given::Text(text)) => Ok(Some(text)),
            Some(Given::Json(_)) => {
                Err(malformed(format!("parameter `{name}` is not a string or number")))
            }
            None => Ok(None),
        }
    }

    /// Takes one out that must be there, and not be empty.
    pub(super) fn need(&mut self, name: &str) -> Result<String, Refusal> {
        self.take(name)?.filter(|text| !text.is_empty()).ok_or_else(|| rules::missing(name))
    }

    /// Takes one out as it was sent.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).map(|given| match given {
            Given::Text(text) => Value::String(text),
            Given::Json(value) => value,
        })
    }

    /// Takes a yes or no out; not sent is no.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.remove(name) {
            None => Ok(false),
            Some(Given::Json(Value::Bool(said))) => Ok(said),
            Some(Given::Text(text)) if matches!(text.as_str(), "true" | "1") => Ok(true),
            Some(Given::Text(text)) if matches!(text.as_str(), "false" | "0" | "") => Ok(false),
            Some(_) => Err(malformed(format!("parameter `{name}` is not true or false"))),
        }
    }

    /// What is left of the texts and numbers.
    pub(super) fn texts(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter().filter_map(|(name, given)| match given {
            Given::Text(text) => Some((name, text)),
            Given::Json(_) => None,
        })
    }

    /// Takes a JSON object out, which a form and a query bring as its text.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        let not_one = || malformed(format!("parameter `{name}` is not a JSON object"));
        match self.remove(name) {
            None => Ok(None),
            Some(Given::Json(Value::Object(object))) => Ok(Some(object)),
            Some(Given::Text(text)) => serde_json::from_str(&text).map_err(|_| not_one()).map(Some),
            Some(Given::Json(_)) => Err(not_one()),
        }
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
            Ok(mut params) => {
                let names: Vec<String> = params.0.keys().cloned().collect();
                let taken = names.into_iter().map(|name| {
                    let text = params.take(&name)?.expect("it is there");
                    Ok::<_, Refusal>((name, text))
                });
                taken.collect::<Result<_, _>>().map_err(|refusal| refusal.message.into_owned())
            }
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
    fn an_object_and_a_yes_come_as_json_or_as_text() {
        let json = r#"{"info":{"a":{"b":1}},"guest":true}"#;
        let form = "info=%7B%22a%22%3A%7B%22b%22%3A1%7D%7D&guest=1";
        for (content_type, body) in [(JSON, json), (FORM, form)] {
            let mut params = Params::from_body(content_type, body.as_bytes()).unwrap();
            assert_eq!(params.object("info").unwrap().unwrap()["a"]["b"], 1);
            assert_eq!((params.flag("guest"), params.flag("other")), (Ok(true), Ok(false)));
            assert!(params.object("info").unwrap().is_none(), "taken");
        }
        let mut wrong = Params::from_body(FORM, b"info=%5B1%5D&guest=perhaps").unwrap();
        assert!(wrong.object("info").unwrap_err().message.contains("`info`"));
        assert!(wrong.flag("guest").unwrap_err().message.contains("`guest`"));
    }

    #[test]
    #[should_panic(expected = "`password`, which its route does not declare")]
    fn what_a_route_does_not_declare_its_handler_cannot_take() {
        let mut params = Params::from_body(FORM, b"username=anna&password=secret1").unwrap();
        params.declare(["username"].into());
        assert_eq!(params.take("username"), Ok(Some("anna".to_owned())));
        drop(params.take("password"));
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

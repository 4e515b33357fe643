//! Owns what the messages of a game look like, by name: from protobuf to JSON and back, for who
//! knows a message only when it comes. Leaves handlers their compiled types.

use std::fmt;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};

use crate::{Named as _, msg};

/// Every message of a game, bastide's own among them.
pub(crate) struct Schema {
    pool: DescriptorPool,
}

/// Why a message is not turned into the other form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TranscodeError {
    /// No message has this name.
    #[error("no message has this name")]
    UnknownApi,
    /// It is not what its name promises.
    #[error("{0}")]
    Body(String),
}

impl Schema {
    /// `sets` are encoded `FileDescriptorSet`s, as [`Named::schema`](crate::Named::schema) gives
    /// them. One that contradicts those before it is left out, and the log says so.
    pub(crate) fn new(sets: &[&[u8]]) -> Self {
        let mut pool = DescriptorPool::new();
        for set in [msg::ping::Req::schema()].iter().chain(sets) {
            if let Err(e) = pool.decode_file_descriptor_set(*set) {
                tracing::warn!(
                    target: "gate",
                    "text clients cannot use some messages of this game, for two .proto files of \
                     one name differ: {e}; give each file a name of its own"
                );
            }
        }
        Self { pool }
    }

    /// Encodes a message that is written in JSON; no body is an empty message.
    ///
    /// # Errors
    /// [`TranscodeError`]: for the client's programmer to read.
    pub(crate) fn encode(&self, api: &str, body: Option<&str>) -> Result<Vec<u8>, TranscodeError> {
        let wrong = |e: serde_json::Error| TranscodeError::Body(e.to_string());
        let descriptor = self.find(api)?;
        let mut json = serde_json::Deserializer::from_str(body.unwrap_or("{}"));
        let message = DynamicMessage::deserialize(descriptor, &mut json).map_err(wrong)?;
        json.end().map_err(wrong)?;
        Ok(message.encode_to_vec())
    }

    /// Appends a message as JSON. What is never unset is there also when it is 0, or empty: a
    /// client reads `code` without asking whether there is one. To an unsuccessful end `out` is as it was.
    ///
    /// # Errors
    /// [`TranscodeError`], when this schema is not the sender's.
    pub(crate) fn write_json(
        &self,
        api: &str,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        let before = out.len();
        let wrong = |e: &dyn fmt::Display| TranscodeError::Body(e.to_string());
        let message = DynamicMessage::decode(self.find(api)?, payload).map_err(|e| wrong(&e))?;
        let mut json = serde_json::Serializer::new(&mut *out);
        let options = SerializeOptions::new().skip_default_fields(false);
        let written = message.serialize_with_options(&mut json, &options);
        written.map_err(|e| {
            out.truncate(before);
            wrong(&e)
        })
    }

    fn find(&self, api: &str) -> Result<MessageDescriptor, TranscodeError> {
        self.pool.get_message_by_name(api).ok_or(TranscodeError::UnknownApi)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool } = self;
        f.debug_struct("Schema").field("messages", &pool.all_messages().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_reflect::{ReflectMessage as _, Value};

    use super::*;

    fn json(schema: &Schema, api: &str, payload: &[u8]) -> String {
        let mut out = Vec::new();
        schema.write_json(api, payload, &mut out).expect("known");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_message_in_json_has_the_form_that_protobuf_prescribes() {
        let schema = Schema::new(&[]);
        let echo = msg::echo::Req { val: Some(7), ct: None };
        assert_eq!(json(&schema, "msg.Echo.Req", &echo.encode_to_vec()), r#"{"val":"7"}"#);
        let payload =
            schema.encode("msg.Echo.Req", Some(r#"{"val": 7}"#)).expect("a number will do");
        assert_eq!(payload, echo.encode_to_vec());
        let resumed = json(&schema, "msg.Resume.Res", &[]);
        assert_eq!(resumed, r#"{"code":0,"received":"0","resumeToken":""}"#);
        let refused = msg::login::Res { code: 2001, ..Default::default() };
        let refused = json(&schema, "msg.Login.Res", &refused.encode_to_vec());
        assert_eq!(refused, r#"{"code":2001}"#, "what is optional is there when it is set");
        let login = schema.encode("msg.Login.Req", Some(r#"{"token":"t","device_id":"d"}"#));
        let login = msg::login::Req::decode(login.expect("either spelling").as_slice());
        assert_eq!(login.expect("a login").device_id.as_deref(), Some("d"));
    }

    #[test]
    fn what_is_no_message_is_told_from_what_is_no_such_message() {
        let schema = Schema::new(&[]);
        let unknown = schema.encode("no.Such.Req", None);
        assert!(matches!(unknown, Err(TranscodeError::UnknownApi)));
        for body in ["7", "{", r#"{"val":"x"}"#, r#"{"wal":1}"#, "{} {}"] {
            let wrong = schema.encode("msg.Echo.Req", Some(body));
            assert!(matches!(wrong, Err(TranscodeError::Body(_))), "{body}");
        }
        let mut out = b"before".to_vec();
        assert!(schema.write_json("msg.Echo.Req", &[0xff], &mut out).is_err());
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_has_a_form_in_json_comes_back_from_it(which in 0usize..200, payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let schema = Schema::new(&[]);
            let all: Vec<_> = schema.pool.all_messages().filter(|m| !m.is_map_entry()).collect();
            let api = all[which % all.len()].full_name().to_owned();
            let mut out = Vec::new();
            if schema.write_json(&api, &payload, &mut out).is_ok() {
                let text = String::from_utf8(out).expect("text");
                let back = schema.encode(&api, Some(&text)).expect("it was written by the same schema");
                prop_assert_eq!(json(&schema, &api, &back), text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            drop(Schema::new(&[]).encode("msg.Login.Res", Some(&text)));
        }
    }

    #[test]
    fn every_bundled_message_with_all_its_fields_comes_back_from_json() {
        let schema = Schema::new(&[]);
        for descriptor in schema.pool.all_messages() {
            let mut message = DynamicMessage::new(descriptor.clone());
            for field in descriptor.fields().filter(|f| !f.is_list() && !f.is_map()) {
                let value = match field.default_value() {
                    Value::Message(inner) => {
                        Value::Message(DynamicMessage::new(inner.descriptor()))
                    }
                    value => value,
                };
                message.set_field(&field, value);
            }
            let api = descriptor.full_name();
            let text = json(&schema, api, &message.encode_to_vec());
            assert_eq!(
                schema.encode(api, Some(&text)).expect(api),
                message.encode_to_vec(),
                "{text}"
            );
        }
    }
}

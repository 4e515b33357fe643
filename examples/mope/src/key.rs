//! Owns the key with which a client comes to its room: which room, and who it is.

/// `room . token`, as the account center writes it into the client's hand.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) room_id: &'a str,
    /// Of the sign-in; good at every gate.
    pub(crate) token: &'a str,
}

impl<'a> Key<'a> {
    pub(crate) fn parse(key: &'a str) -> Option<Self> {
        let (room_id, token) = key.split_once('.')?;
        (!room_id.is_empty() && !token.is_empty()).then_some(Self { room_id, token })
    }

    pub(crate) fn text(&self) -> String {
        let Self { room_id, token } = self;
        format!("{room_id}.{token}")
    }
}

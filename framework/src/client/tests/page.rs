//! The page for whoever writes a client shows bytes: they are what this one speaks.

use crate::{Named, msg, wire::put_message};

const PAGE: &str = include_str!("../../../../docs/CLIENTS.md");

#[test]
fn the_bytes_that_the_page_shows_are_those_on_the_wire() {
    let token = |secret: std::ops::Range<u8>| -> Vec<u8> {
        let (account, session) = (10_001_i64.to_le_bytes(), 7_u64.to_le_bytes());
        account.into_iter().chain(session).chain(secret).collect()
    };
    let (first, second) = (token(0xa0..0xb0), token(0xb0..0xc0));
    is_shown(&msg::login::Res {
        resume_token: Some(first.clone()),
        resume_window_s: Some(60),
        ..msg::login::Res::default()
    });
    is_shown(&msg::ping::Req { ct: 1, received: 2 });
    is_shown(&msg::ping::Res { ct: 1, st: 0, received: 3 });
    is_shown(&msg::resume::Req { resume_token: first, received: 4 });
    is_shown(&msg::resume::Res { code: 0, received: 5, resume_token: second });
    is_shown(&msg::echo::Req { val: Some(6), ct: None });
}

fn is_shown<M: Named>(message: &M) {
    let mut frame = Vec::new();
    put_message(&mut frame, message).unwrap();
    let line =
        |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    let shown: Vec<_> = frame.chunks(16).map(line).collect();
    let shown = format!("```text\n{}\n```", shown.join("\n"));
    assert!(PAGE.contains(&shown), "{}:\n{shown}", M::NAME);
}

//! Sessions that somebody else ends: logout, kick, ban; and who may come back after it.

use std::time::Duration;

use bastide::{
    Code,
    client::{Client, ClientError, SignedIn, guest},
    msg,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::world::{World, code, echo_of, kick, slow_of};

const SECRET: &str = "a-secret-of-the-operators-of-this-test";

/// With a secret of its own, so that both sets know it.
fn world() -> World {
    World::with(&[&format!("admin.secret={SECRET}"), "gate.rate_frames_per_s=0"])
}

/// Gives an order at one of the nodes, any will do: the next one each time.
async fn order(world: &World, what: &str, body: Value) -> (u16, Value) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let nodes = world.admin();
    let node = nodes[NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % nodes.len()];
    post(&format!("http://{node}/admin/{what}"), Some(SECRET), &body.to_string()).await
}

async fn post(url: &str, bearer: Option<&str>, body: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.post(url).body(body.to_owned());
    request = request.header("content-type", "application/json");
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn logout(world: &World, token: &str) -> Value {
    let url = format!("http://{}/v1/account/logout", world.http());
    post(&url, Some(token), "{}").await.1
}

/// Somebody who is signed in, and what it shows to resume.
struct Guest {
    signed_in: SignedIn,
    client: Client,
    resume_token: Vec<u8>,
}

async fn enter(world: &World, device: &str) -> Guest {
    let signed_in = guest(&world.http().to_string(), device).await.unwrap();
    let mut client = world.connect().await;
    let session = client.sign_in(&signed_in.token).await.unwrap();
    assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
    Guest { signed_in, client, resume_token: session.resume_token.unwrap() }
}

/// The code of a resume on a new connection. Nothing but the greeting was received.
async fn resume(world: &World, guest: &Guest) -> Code {
    let mut client = world.connect().await;
    let resume_token = guest.resume_token.clone();
    client
        .request(&msg::resume::Req { resume_token, received: 1 })
        .await
        .map_or_else(|e| panic!("no answer to a resume: {e}"), |answer| Code(answer.code))
}

async fn sign_in(world: &World, token: &str) -> Result<msg::login::Res, ClientError> {
    world.connect().await.sign_in(token).await
}

/// Twice as many players as game servers, so that each has some, whichever node is told.
#[test]
fn a_kick_closes_the_socket_within_a_second_and_its_session_is_over_for_good() {
    let world = world();
    world.run(async {
        for n in 0..4 {
            let mut guest = enter(&world, &format!("kicked-{n}")).await;
            guest.client.request(&echo_of(1)).await.unwrap();
            let began = Instant::now();
            let account = guest.signed_in.account_id;
            let (status, answer) =
                order(&world, "kick", json!({ "account": account, "reason": "spam" })).await;
            assert_eq!((status, &answer["session"]), (200, &json!("ended")), "{answer}");
            let Err(ClientError::Kicked(why)) = guest.client.receive().await else {
                panic!("not kicked")
            };
            assert_eq!(
                (why.code, &*why.message),
                (Code::REMOVED, "removed by an administrator: spam")
            );
            assert!(matches!(guest.client.receive().await, Err(ClientError::Closed)));
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            assert_eq!(resume(&world, &guest).await, Code::RESUME_REFUSED);
            sign_in(&world, &guest.signed_in.token).await.unwrap();
        }
        let (status, nobody) = order(&world, "kick", json!({ "account": 1 })).await;
        assert_eq!((status, &nobody["session"]), (200, &json!("none")));
    });
}

#[test]
fn a_session_without_a_connection_is_ended_by_a_kick_too() {
    let world = world();
    world.run(async {
        let mut guest = enter(&world, "away").await;
        guest.client = world.connect().await;
        assert_eq!(resume(&world, &guest).await, Code::OK);
        let account = guest.signed_in.account_id;
        let (_, answer) = order(&world, "kick", json!({ "account": account })).await;
        assert_eq!(answer["session"], "ended");
        assert_eq!(resume(&world, &guest).await, Code::RESUME_REFUSED);
    });
}

/// Hundreds of slow requests wait before the end in the player's mailbox.
#[test]
fn no_client_keeps_its_kick_away_by_asking_for_much() {
    let world = world();
    world.run(async {
        let mut guest = enter(&world, "busy").await;
        for _ in 0..200 {
            guest.client.send(&slow_of(400)).await.unwrap();
            tokio::task::yield_now().await;
        }
        let account = guest.signed_in.account_id;
        let (_, answer) = order(&world, "kick", json!({ "account": account })).await;
        assert_eq!(answer["session"], "ended");
        while let Ok(frame) = guest.client.receive().await {
            assert_eq!(frame.api, "msg.GetRank.Res");
        }
    });
}

#[test]
fn a_ban_closes_the_socket_refuses_sign_in_and_resume_and_ends_by_itself() {
    let world = world();
    world.run(async {
        let mut guest = enter(&world, "banned").await;
        let account = guest.signed_in.account_id;
        let ban = json!({ "account": account, "seconds": 3, "reason": "cheating" });
        let (status, answer) = order(&world, "ban", ban).await;
        assert_eq!((status, &answer["session"]), (200, &json!("ended")), "{answer}");
        let told = format!("account banned until {}: cheating", answer["until"].as_str().unwrap());
        let Err(ClientError::Kicked(why)) = guest.client.receive().await else {
            panic!("not kicked")
        };
        assert_eq!((why.code, &*why.message), (Code::BANNED, told.as_str()));
        assert_eq!(resume(&world, &guest).await, Code::RESUME_REFUSED);
        assert_eq!(code(sign_in(&world, &guest.signed_in.token).await), Code::BANNED);
        let http = world.http().to_string();
        match bastide::client::guest(&http, "banned").await {
            Err(ClientError::Refused(why)) => {
                assert_eq!((why.code, &*why.message), (Code::BANNED, told.as_str()));
            }
            other => panic!("not refused: {other:?}"),
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        sign_in(&world, &guest.signed_in.token).await.unwrap();
        enter(&world, "banned").await;
    });
}

#[test]
fn who_is_unbanned_may_come_back_at_once() {
    let world = world();
    world.run(async {
        let guest = enter(&world, "pardoned").await;
        let account = guest.signed_in.account_id;
        order(&world, "ban", json!({ "account": account, "seconds": 3600 })).await;
        assert_eq!(code(sign_in(&world, &guest.signed_in.token).await), Code::BANNED);
        let (_, answer) = order(&world, "unban", json!({ "account": account })).await;
        assert_eq!(answer["was_banned"], true);
        sign_in(&world, &guest.signed_in.token).await.unwrap();
        let (status, nobody) = order(&world, "ban", json!({ "account": 1, "seconds": 9 })).await;
        assert_eq!((status, &nobody["code"]), (404, &json!(204)));
    });
}

#[test]
fn a_logout_closes_the_socket_and_its_token_is_no_good_any_more() {
    let world = world();
    world.run(async {
        let mut guest = enter(&world, "leaver").await;
        assert_eq!(logout(&world, &guest.signed_in.token).await, json!({ "code": 0 }));
        assert_eq!(kick(guest.client.receive().await), Code::TOKEN_INVALID);
        assert_eq!(code(sign_in(&world, &guest.signed_in.token).await), Code::TOKEN_INVALID);
        assert_eq!(resume(&world, &guest).await, Code::RESUME_REFUSED);
        enter(&world, "leaver").await;
    });
}

/// The thief of an old token must not throw its owner out by trying it.
#[test]
fn an_older_sign_in_that_is_revoked_does_not_hurt_a_newer_one() {
    let world = world();
    world.run(async {
        let old = enter(&world, "owner").await;
        let mut new = enter(&world, "owner").await;
        assert_eq!(logout(&world, &old.signed_in.token).await, json!({ "code": 0 }));
        new.client.request(&echo_of(1)).await.unwrap();
        assert_eq!(code(sign_in(&world, &old.signed_in.token).await), Code::TOKEN_INVALID);
        new.client.request(&echo_of(2)).await.unwrap();
    });
}

/// The logout comes at every moment of a sign-in: before it, in its middle, after it. Whichever
/// of the two was first, the session does not stay.
#[test]
fn a_logout_that_races_with_a_sign_in_always_wins() {
    let world = world();
    world.run(async {
        for n in 0..40 {
            let token = world.token(&format!("racer-{}", n % 4)).await;
            let mut client = world.connect().await;
            let late = Duration::from_micros(150 * n);
            let (signed_in, answer) = tokio::join!(client.sign_in(&token), async {
                tokio::time::sleep(late).await;
                logout(&world, &token).await
            });
            assert_eq!(answer, json!({ "code": 0 }));
            if signed_in.is_ok() {
                // What was said before its end may come first.
                let ended = loop {
                    match client.receive().await {
                        Ok(_) => {}
                        Err(ended) => break ended,
                    }
                };
                assert_eq!(kick::<()>(Err(ended)), Code::TOKEN_INVALID, "{n}");
            } else {
                assert_eq!(code(signed_in), Code::TOKEN_INVALID, "{n}");
            }
            let again = sign_in(&world, &token).await;
            assert_eq!(code(again), Code::TOKEN_INVALID, "{n}");
        }
    });
}

#[test]
fn only_who_knows_the_secret_gives_orders() {
    let world = world();
    world.run(async {
        let body = json!({ "account": 1 }).to_string();
        for admin in world.admin() {
            let url = format!("http://{admin}/admin/kick");
            for wrong in [None, Some("wrong")] {
                assert_eq!(post(&url, wrong, &body).await.0, 401);
            }
            assert_eq!(post(&url, Some(SECRET), "{}").await.0, 400);
            let (_, odd) = post(&url, Some(SECRET), r#"{"account":1,"acount":1}"#).await;
            assert!(odd["message"].as_str().unwrap().contains("acount"), "{odd}");
            for _ in 0..8 {
                post(&url, Some("wrong"), &body).await;
            }
            assert_eq!(post(&url, Some(SECRET), &body).await.0, 429);
        }
    });
}

#[test]
fn a_process_alone_makes_a_secret_that_only_its_owner_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::alone(&[]);
    let path = format!("{}/admin.secret", world.data());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(&path).unwrap();
    world.run(async {
        let url = format!("http://{}/admin/kick", world.admin()[0]);
        let body = json!({ "account": 1 }).to_string();
        assert_eq!(post(&url, Some(secret.trim()), &body).await.0, 200);
    });
}

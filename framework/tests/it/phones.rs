//! Signing in by a code, what a new password ends, and what operators see of an account.

use std::sync::{Arc, Mutex};

use bastide::{Code, CodeSendError, CodeSender, client::guest, msg};
use serde_json::{Value, json};

use crate::world::{World, game, kick, post, until};

/// Every phone there is.
#[derive(Clone, Default)]
struct Phones(Arc<Mutex<Vec<(String, String)>>>);

impl CodeSender for Phones {
    async fn send(&self, phone: &str, code: &str) -> Result<(), CodeSendError> {
        self.0.lock().unwrap().push((phone.to_owned(), code.to_owned()));
        Ok(())
    }
}

impl Phones {
    fn code(&self, phone: &str) -> String {
        self.0.lock().unwrap().iter().rev().find(|(to, _)| to == phone).unwrap().1.clone()
    }
}

const SECRET: &str = "a-secret-of-the-operators-of-this-test";

fn world(phones: &Phones) -> World {
    let phones = phones.clone();
    let secret = format!("admin.secret={SECRET}");
    World::playing(&move || game().code_sender(phones.clone()), &[&secret])
}

async fn view(world: &World, account: i64, secret: &str) -> (u16, Value) {
    let admin = *world.admin().last().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{admin}/admin/accounts/{account}");
    let response = client.get(url).bearer_auth(secret).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

#[test]
fn a_code_signs_in_at_the_platform_then_at_the_login_server_and_both_open_a_session() {
    let phones = Phones::default();
    let world = world(&phones);
    world.run(async {
        let http = format!("http://{}", world.http());
        let phone = json!({
            "country_code": "+86", "phone": "13812345678", "app_id": "game", "device_id": "d1",
        });
        let (status, sent) = post(&format!("{http}/auth/phone/send-code"), &phone).await;
        assert_eq!((status, &sent["expires_in"]), (200, &json!(300)), "{sent}");
        let mut body = phone;
        body["code"] = phones.code("+8613812345678").into();
        let (status, signed) = post(&format!("{http}/auth/phone/login"), &body).await;
        assert_eq!(status, 200, "{signed}");
        let (status, session) = post(&format!("{http}/phone/login"), &body).await;
        assert_eq!((status, &session["success"]), (200, &json!(true)), "{session}");
        assert_eq!(session["gateway_url"], format!("ws://{}/ws", world.ws()));
        let account = signed["user"]["id"].as_i64().unwrap();
        for token in [&signed["token"], &session["session_id"]] {
            let mut client = world.connect().await;
            let answer = client.sign_in(token.as_str().unwrap()).await.unwrap();
            assert_eq!((answer.code, answer.user.unwrap().id), (0, account));
        }
    });
}

#[test]
fn a_new_password_ends_the_session_that_runs() {
    let world = world(&Phones::default());
    world.run(async {
        let http = format!("http://{}/v1/account", world.http());
        let named = json!({ "username": "anna", "password": "secret1" });
        let (_, new) = post(&format!("{http}/registry"), &named).await;
        let mut client = world.connect().await;
        client.sign_in(new["token"].as_str().unwrap()).await.unwrap();
        assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
        let account = &new["account_id"];
        let body =
            json!({ "account_id": account, "password": "secret1", "new_password": "secret2" });
        let (_, changed) = post(&format!("{http}/password/change"), &body).await;
        assert_eq!(changed, json!({ "code": 0 }));
        assert_eq!(kick(client.receive().await), Code::TOKEN_INVALID);
    });
}

#[test]
fn an_operator_sees_that_an_account_plays_as_soon_as_it_is_in_a_room() {
    let world = world(&Phones::default());
    world.run(async {
        let signed_in = guest(&world.http().to_string(), "in a room").await.unwrap();
        let mut client = world.connect().await;
        client.sign_in(&signed_in.token).await.unwrap();
        let last_play =
            async || view(&world, signed_in.account_id, SECRET).await.1["last_play"].clone();
        assert_eq!(last_play().await, Value::Null);
        let kind = "square".to_owned();
        let enters = msg::enter_room::Req { kind, ..msg::enter_room::Req::default() };
        let ticket = client.request(&enters).await.unwrap().ticket;
        let joins = msg::join_room::Req { ticket, name: "one".to_owned() };
        client.request(&joins).await.unwrap();
        until("it is noted", async || last_play().await.is_string()).await;
    });
}

#[test]
fn an_operator_sees_when_an_account_signed_in_and_played_last() {
    let world = world(&Phones::default());
    world.run(async {
        let signed_in = guest(&world.http().to_string(), "seen").await.unwrap();
        let mut client = world.connect().await;
        client.sign_in(&signed_in.token).await.unwrap();
        let account = signed_in.account_id;
        let (status, seen) = view(&world, account, SECRET).await;
        assert_eq!((status, &seen["guest"], &seen["last_play"]), (200, &json!(true), &Value::Null));
        assert_eq!(seen["notes"].as_array().unwrap().len(), 2, "registered, signed in: {seen}");
        let logout = format!("http://{}/v1/account/logout", world.http());
        post(&logout, &json!({ "token": signed_in.token })).await;
        until("the end of the session is noted", async || {
            view(&world, account, SECRET).await.1["last_play"].is_string()
        })
        .await;
        assert_eq!(view(&world, account, "a-wrong-secret-of-24-characters").await.0, 401);
        assert_eq!(view(&world, 1, SECRET).await.0, 404);
    });
}

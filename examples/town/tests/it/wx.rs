//! The way to sign in that the town adds to those that are built in, over HTTP.

use bastide::client::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::town::Town;

async fn http(town: &Town, request: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(town.http()).await.unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: town\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn whoever_fetches_a_signature_signs_in_with_it_and_plays() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let auth = http(&town, "GET /auth/new.html?id=wx.111", "").await;
    assert_eq!(auth["userId"], "111");
    let body = json!({ "openid": "wx.111", "openkey": "111", "auth": auth });
    let one = http(&town, "POST /v1/account/login", &body.to_string()).await;
    assert_eq!(one["code"], 0, "{one}");
    let mut client = Client::connect(&town.gate()).await.unwrap();
    client.sign_in(one["token"].as_str().unwrap()).await.unwrap();

    let call = json!({ "func": "1000", "oemInfo": body });
    let again = http(&town, "POST /index.html", &call.to_string()).await;
    assert_eq!((&again["code"], &again["data"]["id"]), (&json!(0), &one["account_id"]));

    let mut forged = body;
    forged["auth"]["userId"] = "112".into();
    let refused = http(&town, "POST /v1/account/login", &forged.to_string()).await;
    assert_eq!(refused["code"], 201, "{refused}");
    town.stop().await;
}

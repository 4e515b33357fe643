//! That nobody learns from an answer whether a name has an account: every route that takes a
//! password tells whoever does not know it the same, to the byte.

use std::collections::BTreeSet;

use super::{routes, tests::Edge};

const FORM: &str = "application/x-www-form-urlencoded";

/// Routes that take a password, with a body of somebody who does not know it. `{who}` is the
/// account, by name or by id.
const ASKED: &[(&str, Who, &str)] = &[
    ("/v1/account/auth", Who::Name, "username={who}&password=wrong-1"),
    (
        "/v1/account/bind/phone",
        Who::Id,
        "account_id={who}&password=wrong-1&phone=13812345678&code=123456",
    ),
    (
        "/v1/account/password/change",
        Who::Id,
        "account_id={who}&password=wrong-1&new_password=secret2",
    ),
    ("/v1/account/password/reset", Who::Id, "account_id={who}&new_password=secret2&code=123456"),
    ("/auth/login", Who::Name, "username={who}&password=wrong-1&app_id=game&device_id=x"),
    ("/login", Who::Name, "username={who}&password=wrong-1"),
];

/// Routes that take a password for somebody who has none yet: a name that is taken is told (203),
/// for whoever chooses one must learn it.
const FOR_THE_NEW: &[&str] =
    &["/v1/account/registry", "/v1/account/bind/account", "/auth/register", "/register"];

/// How a route is told whom it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Name,
    Id,
}

impl Who {
    /// Somebody with an account, somebody without, and somebody who cannot have one.
    fn all(self) -> [&'static str; 3] {
        match self {
            Self::Name => ["anna", "nobody", "a%20b"],
            Self::Id => ["10001", "99999", "1"],
        }
    }
}

#[test]
fn every_route_that_takes_a_password_is_asked_here() {
    let takes_one = |name: &&str| matches!(*name, "password" | "new_password");
    let routes = routes();
    let there: BTreeSet<_> = routes
        .iter()
        .filter(|route| route.takes.iter().any(|parameter| takes_one(&parameter.name)))
        .map(|route| route.path)
        .collect();
    let asked = ASKED.iter().map(|(path, ..)| *path).chain(FOR_THE_NEW.iter().copied());
    assert_eq!(asked.collect::<BTreeSet<_>>(), there);
}

#[tokio::test]
async fn a_name_without_an_account_is_told_what_a_wrong_password_is_told() {
    let edge = Edge::balanced(0).await;
    edge.world.registry("anna", "secret1").await.unwrap();
    for (number, (path, who, body)) in ASKED.iter().enumerate() {
        let mut told = Vec::new();
        for (place, name) in who.all().into_iter().enumerate() {
            let request = edge.client.post(format!("{}{path}", edge.url));
            let request = request.header("content-type", FORM).body(body.replace("{who}", name));
            let request = request.header("x-forwarded-for", format!("203.0.{number}.{place}"));
            let response = request.send().await.unwrap();
            let (status, mut headers) = (response.status(), response.headers().clone());
            headers.remove("date");
            told.push((status, headers, response.bytes().await.unwrap()));
        }
        let [known, others @ ..] = told.as_slice() else { unreachable!("three were asked") };
        for other in others {
            assert_eq!(other, known, "{path}");
        }
    }
}

#[tokio::test]
async fn a_name_without_an_account_is_throttled_as_one_with() {
    let edge = Edge::balanced(0).await;
    edge.world.registry("anna", "secret1").await.unwrap();
    for (number, name) in ["anna", "nobody"].into_iter().enumerate() {
        let mut told = Vec::new();
        for place in 0..7 {
            let request = edge.client.post(format!("{}/v1/account/auth", edge.url));
            let body = format!("username={name}&password=wrong-1");
            let request = request.header("content-type", FORM).body(body);
            let request = request.header("x-forwarded-for", format!("203.0.{number}.{place}"));
            let response = request.send().await.unwrap();
            let after = response.headers().get("retry-after").cloned();
            let answer: serde_json::Value =
                serde_json::from_str(&response.text().await.unwrap()).unwrap();
            told.push((answer["code"].as_i64().unwrap(), after));
        }
        let late = Some("300".parse().unwrap());
        let expected = [201, 201, 201, 201, 201, 208, 208];
        let expected = expected.map(|code| (code, late.clone().filter(|_| code == 208)));
        assert_eq!(told, expected, "{name}");
    }
}

//! Owns what anybody may look at: the keys that check tokens, whether people can sign in.

use serde_json::{Value, json};

use super::{
    answers::PAGE,
    route::{Call, Methods, Refused, Route},
};

pub(super) fn routes() -> Vec<Route> {
    let get = Methods::Get;
    vec![
        Route::new(
            get,
            "/.well-known/jwks.json",
            "The keys that tokens are checked with.",
            PAGE,
            jwks,
        ),
        Route::new(get, "/health", "Whether people can sign in.", PAGE, health),
    ]
}

async fn jwks(call: Call) -> Result<Value, Refused> {
    Ok(json!({ "keys": call.center.jwks() }))
}

async fn health(call: Call) -> Result<Value, Refused> {
    call.center.healthy().await?;
    Ok(json!({ "status": "ok" }))
}

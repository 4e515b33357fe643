//! Owns what anybody may look at: the keys that check tokens, whether it lives.

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
        Route::new(get, "/health", "Whether it lives.", PAGE, health),
    ]
}

async fn jwks(call: Call) -> Result<Value, Refused> {
    Ok(json!({ "keys": call.center.jwks() }))
}

async fn health(_: Call) -> Result<Value, Refused> {
    Ok(json!({ "status": "ok" }))
}

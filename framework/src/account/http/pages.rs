//! Owns what anybody may look at: the keys that check tokens, whether people can sign in, what
//! routes there are.

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
        Route::new(get, "/openapi.json", "This description.", PAGE, description),
    ]
}

async fn jwks(call: Call) -> Result<Value, Refused> {
    Ok(json!({ "keys": call.center.jwks() }))
}

async fn description(call: Call) -> Result<Value, Refused> {
    Ok(call.front.description())
}

async fn health(call: Call) -> Result<Value, Refused> {
    call.center.healthy().await?;
    Ok(json!({ "status": "ok" }))
}

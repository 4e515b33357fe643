//! Owns the routes that turn a refresh token into the next pair of tokens: one for the account
//! routes' clients, one for those of WebSockets.

use serde_json::{Value, json};

use super::{
    answers::{ENVELOPE, REFRESH},
    route::{Call, Methods, Refused, Route},
};

const REFRESH_TOKEN: &str = "the newest one of the sign-in; shown twice it ends the sign-in";

pub(super) fn routes() -> Vec<Route> {
    let post = Methods::Post;
    let about = "Gives a new access token and a new refresh token for one that was not used yet.";
    vec![
        Route::new(post, "/v1/token/refresh", about, REFRESH, refresh)
            .needs("refresh_token", REFRESH_TOKEN),
        Route::new(post, "/api/refresh-token", about, ENVELOPE, envelope)
            .needs("refresh_token", REFRESH_TOKEN),
    ]
}

async fn refresh(mut call: Call) -> Result<Value, Refused> {
    let given = call.center.refresh(&call.params.need("refresh_token")?).await?;
    Ok(json!({
        "code": 0, "token": given.token, "refresh_token": given.refresh_token,
        "expires_in": given.expires_in,
    }))
}

async fn envelope(mut call: Call) -> Result<Value, Refused> {
    let given = call.center.refresh(&call.params.need("refresh_token")?).await?;
    let body = json!({ "access_token": given.token, "refresh_token": given.refresh_token });
    Ok(json!({ "code": 200, "body": body, "err_msg": "" }))
}

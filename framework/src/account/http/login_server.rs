//! Owns the login server's routes: JSON in, a status, `success` and what a game client needs out.

use serde_json::{Value, json};

use super::{
    super::{
        credentials::{Admitted, CREDENTIAL_TTL},
        rules,
    },
    answers::LOGIN_SERVER,
    route::{Call, Methods, Refused, Route},
};
use crate::wire::Code;

const DEVICE_ID: &str = "1 to 128 bytes of printable characters; may differ each time";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Methods::Post,
            "/register",
            "Lets into the game by a name that is new, or that was just registered at the platform.",
            LOGIN_SERVER,
            register,
        )
        .needs("username", "3 to 32 letters of any script, digits, `_`, `-` or `.`")
        .needs("password", "6 to 128 bytes")
        .takes("email", "an address that no other account has, at most 254 bytes")
        .takes("device_id", DEVICE_ID),
        Route::new(
            Methods::Post,
            "/login",
            "Lets into the game by name and password, by a platform's token, or as a guest.",
            LOGIN_SERVER,
            login,
        )
        .takes("username", "the name; with `password`")
        .takes("password", "its password")
        .takes("token", "a token of the platform; with `app_id`")
        .takes("app_id", "the app that it is for")
        .takes("is_guest", "true for a guest; with `device_id`")
        .takes("device_id", DEVICE_ID),
    ]
}

async fn register(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let (username, password) = (params.need("username")?, params.need("password")?);
    let email = params.take("email")?.filter(|email| !email.is_empty());
    params.take("device_id")?.map(rules::device_id).transpose()?;
    Ok(success(center.enter_by_registry(username, password, email, ip.as_deref()).await?))
}

async fn login(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let ip = ip.as_deref();
    let mut said = |name| params.take(name).map(|text| text.filter(|text| !text.is_empty()));
    let (token, app_id) = (said("token")?, said("app_id")?);
    let (username, password) = (said("username")?, said("password")?);
    let device_id = said("device_id")?.map(rules::device_id).transpose()?;
    let admitted = match (token, username, params.flag("is_guest")?) {
        (Some(token), ..) => {
            let app_id = app_id.ok_or_else(|| rules::missing("app_id"))?;
            center.enter_by_token(&token, &app_id, ip).await?
        }
        (None, Some(username), _) => {
            let password = password.ok_or_else(|| rules::missing("password"))?;
            center.enter_by_password(&username, password, ip).await?
        }
        (None, None, true) => {
            let device_id = device_id.ok_or_else(|| rules::missing("device_id"))?;
            center.enter_as_guest(device_id, ip).await?
        }
        (None, None, false) => {
            let why =
                "parameter `username` is missing (or `token`, or `is_guest` with `device_id`)";
            return Err(Code::PARAMETER.because(why).into());
        }
    };
    Ok(success(admitted))
}

/// What a game client goes on with.
pub(super) fn success(admitted: Admitted) -> Value {
    let Admitted { session_id, gateway_url, username, openid } = admitted;
    json!({
        "success": true, "session_id": session_id, "gateway_url": gateway_url,
        "username": username, "openid": openid, "expires_in": CREDENTIAL_TTL.as_secs(),
    })
}

//! Owns the routes that sign in by a phone: those of the platform, and that of the login server.

use serde_json::{Value, json};

use super::{
    super::{codes::Phone, rules},
    answers::{LOGIN_SERVER, PLATFORM},
    params::Params,
    route::{Call, Methods, Refused, Route},
};
use crate::{limits::CODE_TTL, wire::Refusal};

const COUNTRY_CODE: &str = "`+` and 1 to 4 digits";
const PHONE: &str = "8 to 15 digits, without the country code";
const CODE: &str = "the six digits that were sent";
const APP_ID: &str = "the app that is signed in to";
const DEVICE_ID: &str = "the client's device; nothing is bound to it";

pub(super) fn routes() -> Vec<Route> {
    let post = Methods::Post;
    vec![
        Route::new(
            post,
            "/auth/phone/send-code",
            "Sends a code of six digits to a phone.",
            PLATFORM,
            send_code,
        )
        .needs("country_code", COUNTRY_CODE)
        .needs("phone", PHONE)
        .needs("app_id", APP_ID)
        .needs("device_id", DEVICE_ID),
        Route::new(
            post,
            "/auth/phone/login",
            "Signs in by a code; the first time makes the account.",
            PLATFORM,
            platform_login,
        )
        .needs("country_code", COUNTRY_CODE)
        .needs("phone", PHONE)
        .needs("code", CODE)
        .needs("app_id", APP_ID)
        .needs("device_id", DEVICE_ID),
        Route::new(
            post,
            "/phone/login",
            "Signs in at the login server by a code, be it one that the platform has taken.",
            LOGIN_SERVER,
            login_server_login,
        )
        .needs("country_code", COUNTRY_CODE)
        .needs("phone", PHONE)
        .needs("code", CODE)
        .needs("device_id", DEVICE_ID),
    ]
}

async fn send_code(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let phone = phone(&mut params)?;
    rules::app_id(&params.need("app_id")?)?;
    rules::device_id(params.need("device_id")?)?;
    center.send_code(&phone, ip.as_deref()).await?;
    Ok(json!({ "message": "the code was sent", "expires_in": CODE_TTL.as_secs() }))
}

async fn platform_login(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let phone = phone(&mut params)?;
    let code = params.need("code")?;
    let app_id = params.need("app_id")?;
    rules::app_id(&app_id)?;
    rules::device_id(params.need("device_id")?)?;
    let signed = center.by_phone(&phone, &code, Some(&app_id), ip.as_deref()).await?;
    Ok(json!({
        "message": "signed in",
        "token": signed.token,
        "openid": signed.openid,
        "user": {
            "id": signed.account.id,
            "username": signed.account.username,
            "phone": phone.number(),
            "country_code": phone.country_code(),
        },
        "jti": signed.claims.jti,
    }))
}

async fn login_server_login(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let phone = phone(&mut params)?;
    let code = params.need("code")?;
    rules::device_id(params.need("device_id")?)?;
    let session = center.session_by_phone(&phone, &code, ip.as_deref()).await?;
    Ok(json!({ "success": true, "session_id": session.id, "gateway_url": session.gateway_url }))
}

fn phone(params: &mut Params) -> Result<Phone, Refusal> {
    let country_code = params.need("country_code")?;
    Phone::parse(Some(&country_code), &params.need("phone")?)
}

#[cfg(test)]
mod tests;

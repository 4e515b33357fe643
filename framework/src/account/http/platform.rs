//! Owns the platform's routes: JSON in, a status and JSON out.

use serde_json::{Value, json};

use super::{
    super::{
        entry::Signed,
        platform::{NotInternal, shown_name},
        rules,
    },
    answers::{INTERNAL, PLATFORM},
    route::{Call, Methods, Refused, Route},
};
use crate::{
    msg,
    store::Account,
    wire::{Code, Refusal},
};

const APP_ID: &str = "the app that is signed in to: 1 to 64 letters, digits, `_`, `-` or `.`";

pub(super) fn routes() -> Vec<Route> {
    let post = Methods::Post;
    vec![
        Route::new(
            post,
            "/auth/register",
            "Creates an account with a name and an address, and signs it in to an app.",
            PLATFORM,
            register,
        )
        .needs("username", "3 to 32 letters of any script, digits, `_`, `-` or `.`")
        .needs("password", "6 to 128 bytes")
        .needs("email", "an address that no other account has, at most 254 bytes")
        .needs("app_id", APP_ID),
        Route::new(
            post,
            "/auth/login",
            "Signs in to an app by name and password; a sign-in to it from before ends.",
            PLATFORM,
            login,
        )
        .needs("username", "the name")
        .needs("password", "its password")
        .needs("app_id", APP_ID)
        .needs("device_id", "1 to 128 bytes of printable characters; may differ each time"),
        Route::new(
            post,
            "/auth/check-token",
            "Tells another server of the studio whose token it is; needs the header \
             `X-Internal-Auth`.",
            INTERNAL,
            check_token,
        )
        .needs("token", "an access token")
        .needs("app_id", "the app that it is for"),
        Route::new(
            Methods::GetAndPost,
            "/auth/verify",
            "Tells whose token `Authorization: Bearer` has.",
            PLATFORM,
            verify,
        ),
        Route::new(
            post,
            "/auth/logout",
            "Ends the sign-in of the token that `Authorization: Bearer` has.",
            PLATFORM,
            logout,
        ),
    ]
}

async fn register(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let (username, password) = (params.need("username")?, params.need("password")?);
    let (email, app_id) = (params.need("email")?, params.need("app_id")?);
    let signed = center.platform_register(username, password, email, &app_id, ip.as_deref());
    Ok(signed_in("Registered", signed.await?))
}

async fn login(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let (username, password) = (params.need("username")?, params.need("password")?);
    let app_id = params.need("app_id")?;
    rules::device_id(params.need("device_id")?)?;
    let signed = center.platform_login(&username, password, &app_id, ip.as_deref()).await?;
    Ok(signed_in("Signed in", signed))
}

fn signed_in(message: &str, signed: Signed) -> Value {
    let Signed { account, openid, token, claims, .. } = signed;
    json!({
        "message": message, "token": token, "openid": openid,
        "user": { "username": shown_name(&account), "email": account.email }, "jti": claims.jti,
    })
}

async fn check_token(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, internal, .. } = call;
    center.is_internal(internal.as_deref()).map_err(|why| match why {
        NotInternal::Missing => {
            Code::NOT_SIGNED_IN.because("the header `X-Internal-Auth` is missing")
        }
        NotInternal::Wrong => {
            Code::WRONG_CREDENTIALS.because("the header `X-Internal-Auth` is wrong")
        }
        NotInternal::Closed => {
            Code::WRONG_CREDENTIALS.because("account.internal_secret is not set on this server")
        }
    })?;
    let (token, app_id) = (params.need("token")?, params.need("app_id")?);
    Ok(match center.0.check_token(&token, &app_id).await? {
        Ok((account, claims)) => json!({
            "valid": true, "openid": claims.openid, "user_id": account.id,
            "username": shown_name(&account), "app_id": app_id, "session_id": claims.sid,
            "exp": claims.exp, "iat": claims.iat, "jti": claims.jti,
        }),
        Err(reason) => json!({ "valid": false, "reason": reason.to_string() }),
    })
}

async fn verify(call: Call) -> Result<Value, Refused> {
    let token = call.bearer.ok_or_else(no_bearer)?;
    let checked = call.center.0.verify_token(&token).await?;
    let (account, claims) =
        checked.map_err(|reason| Code::TOKEN_INVALID.because(reason.to_string()))?;
    let Account { id, .. } = &account;
    Ok(json!({
        "valid": true, "user_id": id, "username": shown_name(&account), "openid": claims.openid,
        "app_id": claims.app,
    }))
}

async fn logout(call: Call) -> Result<Value, Refused> {
    let token = call.bearer.ok_or_else(no_bearer)?;
    let checked = call.center.0.verify_token(&token).await?;
    checked.map_err(|reason| Code::TOKEN_INVALID.because(reason.to_string()))?;
    let req = msg::sign_out::Req { token: Some(token), refresh_token: None };
    call.center.sign_out(req).await?;
    Ok(json!({ "message": "Signed out" }))
}

fn no_bearer() -> Refusal {
    Code::TOKEN_INVALID.because("the header `Authorization: Bearer …` is missing")
}

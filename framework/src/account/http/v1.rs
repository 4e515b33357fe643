//! Owns the account routes: form, JSON or query in, always 200 and a `code` out.

use serde_json::{Value, json};

use super::{
    answers::{self, CODE, SIGN_IN},
    params::Params,
    route::{Call, Methods, Refused, Route},
};
use crate::{
    msg,
    wire::{Code, Refusal},
};

const USERNAME: &str = "3 to 32 letters of any script, digits, `_`, `-` or `.`";
const PASSWORD: &str = "6 to 128 bytes";
const ACCOUNT_ID: &str = "the account's number";
const PHONE: &str = "as in +8613812345678; without `+`, a phone of the server's country";
const CODE_SENT: &str = "the six digits that were sent";
const TOKEN: &str = "an access token, unless the header `Authorization: Bearer` has it";

pub(super) fn routes() -> Vec<Route> {
    let post = Methods::Post;
    vec![
        Route::new(
            post,
            "/v1/account/registry",
            "Creates an account with a name, and signs it in.",
            SIGN_IN,
            registry,
        )
        .needs("username", USERNAME)
        .needs("password", PASSWORD),
        Route::new(
            Methods::GetAndPost,
            "/v1/account/auth",
            "Signs in by name and password, or as the guest of a device, who is made when new.",
            SIGN_IN,
            auth,
        )
        .takes("username", USERNAME)
        .takes("password", PASSWORD)
        .takes("device_id", "1 to 128 bytes of printable characters; alone: a guest")
        .takes("version", "the client's version"),
        Route::new(
            post,
            "/v1/account/bind/account",
            "Gives an account that has none a name and a password.",
            CODE,
            bind_account,
        )
        .needs("account_id", ACCOUNT_ID)
        .needs("username", USERNAME)
        .needs("password", PASSWORD)
        .takes("token", TOKEN),
        Route::new(
            post,
            "/v1/verification",
            "Sends a code of six digits to a phone.",
            CODE,
            verification,
        )
        .needs("phone", PHONE),
        Route::new(
            post,
            "/v1/account/bind/phone",
            "Gives an account that has none a phone.",
            CODE,
            bind_phone,
        )
        .needs("account_id", ACCOUNT_ID)
        .needs("password", PASSWORD)
        .needs("phone", PHONE)
        .needs("code", CODE_SENT),
        Route::new(
            post,
            "/v1/account/password/change",
            "Changes a password, and ends every other sign-in of the account.",
            CODE,
            change_password,
        )
        .needs("account_id", ACCOUNT_ID)
        .needs("password", PASSWORD)
        .needs("new_password", PASSWORD)
        .takes("token", "the sign-in that goes on; or in the header `Authorization: Bearer`"),
        Route::new(
            post,
            "/v1/account/password/reset",
            "Sets a password by a code that was sent to the account's phone, and ends every sign-in.",
            CODE,
            reset_password,
        )
        .needs("account_id", ACCOUNT_ID)
        .needs("new_password", PASSWORD)
        .needs("code", CODE_SENT),
        Route::new(
            post,
            "/v1/account/logout",
            "Ends the sign-in of a token, and its session.",
            CODE,
            logout,
        )
        .takes("token", TOKEN)
        .takes("refresh_token", "instead of an access token"),
    ]
}

async fn auth(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let req = msg::auth::Req {
        version: params.take("version")?,
        username: params.take("username")?,
        password: params.take("password")?,
        device_id: params.take("device_id")?,
        client_ip: ip,
    };
    Ok(answers::sign_in(center.auth(req).await?))
}

async fn registry(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let req = msg::registry::Req {
        username: params.need("username")?,
        password: params.need("password")?,
        client_ip: ip,
    };
    let msg::registry::Res { code, token, addr, account_id, openid, refresh_token, expires_in } =
        center.registry(req).await?;
    let res = msg::auth::Res { code, token, addr, account_id, openid, refresh_token, expires_in };
    Ok(answers::sign_in(res))
}

async fn bind_account(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, bearer, .. } = call;
    let account = account_id(&mut params)?;
    let (username, password) = (params.need("username")?, params.need("password")?);
    let token = token(&mut params, bearer)?;
    center.bind_name(account, token.as_deref(), username, password, ip.as_deref()).await?;
    Ok(done())
}

async fn verification(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let phone = center.phone_at_home(&params.need("phone")?)?;
    center.send_code(&phone, ip.as_deref()).await?;
    Ok(done())
}

async fn bind_phone(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let account = account_id(&mut params)?;
    let password = params.need("password")?;
    let phone = center.phone_at_home(&params.need("phone")?)?;
    let code = params.need("code")?;
    center.bind_phone(account, password, &phone, &code, ip.as_deref()).await?;
    Ok(done())
}

async fn change_password(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, bearer, .. } = call;
    let account = account_id(&mut params)?;
    let (password, new) = (params.need("password")?, params.need("new_password")?);
    let token = token(&mut params, bearer)?;
    center.change_password(account, password, new, token.as_deref(), ip.as_deref()).await?;
    Ok(done())
}

async fn reset_password(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let account = account_id(&mut params)?;
    let (new, code) = (params.need("new_password")?, params.need("code")?);
    center.reset_password(account, new, &code, ip.as_deref()).await?;
    Ok(done())
}

fn done() -> Value {
    json!({ "code": Code::OK.0 })
}

fn account_id(params: &mut Params) -> Result<i64, Refusal> {
    let not_one = |_| Code::PARAMETER.because("parameter `account_id` is not an account's number");
    params.need("account_id")?.parse().map_err(not_one)
}

/// A token comes in its header, or as a parameter.
fn token(params: &mut Params, bearer: Option<String>) -> Result<Option<String>, Refusal> {
    match bearer {
        Some(token) => Ok(Some(token)),
        None => params.take("token"),
    }
}

async fn logout(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, bearer, .. } = call;
    let token = token(&mut params, bearer)?;
    let refresh_token = params.take("refresh_token")?;
    let res = center.sign_out(msg::sign_out::Req { token, refresh_token }).await?;
    Ok(json!({ "code": res.code }))
}

//! Owns the account routes with which somebody changes an own account; `v1` has those that sign in.

use serde_json::{Value, json};

use super::{
    answers::CODE,
    params::Params,
    route::{Call, Methods, Refused, Route},
    v1::{PASSWORD, USERNAME},
};
use crate::wire::{Code, Refusal};

const ACCOUNT_ID: &str = "the account's number";
const PHONE: &str = "as in +8613812345678; without `+`, a phone of the server's country";
const CODE_SENT: &str = "the six digits that were sent";
const TOKEN: &str = "an access token, unless the header `Authorization: Bearer` has it";

pub(super) fn routes() -> Vec<Route> {
    let post = Methods::Post;
    vec![
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
    ]
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

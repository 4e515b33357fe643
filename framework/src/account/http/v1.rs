//! Owns the account routes: form, JSON or query in, always 200 and a `code` out.

use serde_json::{Value, json};

use super::{
    super::{Claim, Known},
    answers::{self, CODE, SIGN_IN},
    func::signature,
    route::{Call, Methods, Refused, Route},
};
use crate::msg;

pub(super) const USERNAME: &str = "3 to 32 letters of any script, digits, `_`, `-` or `.`";
pub(super) const PASSWORD: &str = "6 to 128 bytes";

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
        .takes("version", "the client's version")
        .open(),
        Route::new(
            post,
            "/v1/account/login",
            "Signs in whoever a validator knows; who is new gets an account.",
            SIGN_IN,
            login,
        )
        .needs("openid", "a validator's name, a dot, and who it is there, such as official.001")
        .takes("openkey", "a key of the platform; at `official` a password")
        .takes("auth", "the signature: a JSON object, or its text")
        .takes("pf", "what the platform calls the place that one comes from")
        .takes("app_id", "the app to be signed in for"),
        Route::new(
            post,
            "/v1/account/logout",
            "Ends the sign-in of a token or of a refresh token, and its session.",
            CODE,
            logout,
        )
        .takes("token", "an access token, unless the header `Authorization: Bearer` has it")
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
    Ok(answers::sign_in(center.sign_in(req).await?))
}

async fn login(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let filled = |text: &String| !text.is_empty();
    let claim = Claim {
        openid: params.need("openid")?,
        openkey: params.take("openkey")?.filter(filled),
        auth: match params.value("auth") {
            Some(auth) => signature("auth", auth)?,
            None => None,
        },
        pf: params.take("pf")?.filter(filled),
        token: None,
        app: params.take("app_id")?.filter(filled),
        ip,
    };
    let Known { signed, name: _, addr } = center.login(claim).await?;
    let res = signed.answer(String::new());
    Ok(answers::sign_in(msg::auth::Res { addr, ..res }))
}

async fn registry(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    let req = msg::registry::Req {
        username: params.need("username")?,
        password: params.need("password")?,
        client_ip: ip,
    };
    let msg::registry::Res { code, token, addr, account_id, openid, refresh_token, expires_in } =
        center.sign_up(req).await?;
    let res = msg::auth::Res { code, token, addr, account_id, openid, refresh_token, expires_in };
    Ok(answers::sign_in(res))
}

async fn logout(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, bearer, .. } = call;
    let token = match bearer {
        Some(token) => Some(token),
        None => params.take("token")?,
    };
    let refresh_token = params.take("refresh_token")?;
    let res = center.sign_out(msg::sign_out::Req { token, refresh_token }).await?;
    Ok(json!({ "code": res.code }))
}

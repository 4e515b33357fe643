//! Owns the pages that show a signature: those of the validators, each at its own path.
//! Leaves what is signed to them.

use serde_json::Value;

use super::{
    super::{Fields, Validators},
    answers::SIGNATURE,
    func::OemInfo,
    params::Params,
    route::{Call, Methods, Refused, Route},
};
use crate::wire::Refusal;

/// A page of every validator that signs.
pub(super) fn routes(validators: &Validators) -> Vec<Route> {
    let route = |(page, _): (&'static str, &'static str)| {
        let sign = move |call| sign(call, page);
        let about = "A signature with which somebody signs in; bare, without a code.";
        Route::new(Methods::Get, page, about, SIGNATURE, sign)
            .takes("id", "who it is for; a prefix that is the validator's name is left out")
            .takes("oemInfo", "a JSON object whose `openid` stands for `id`")
            .open()
    };
    validators.pages().map(route).collect()
}

async fn sign(call: Call, page: &'static str) -> Result<Value, Refused> {
    let Call { center, params, ip, .. } = call;
    Ok(center.signature(page, asked(params)?, ip).await?.into_json())
}

/// What a page was asked.
pub(super) fn asked(mut params: Params) -> Result<Fields, Refusal> {
    let info = params.object("oemInfo")?.map(OemInfo::read).transpose()?;
    let asked = params.texts().fold(Fields::new(), |asked, (name, text)| asked.with(&name, text));
    Ok(match info.and_then(|info| info.openid) {
        Some(openid) if asked.text("id").is_err() => asked.with("id", openid),
        _ => asked,
    })
}

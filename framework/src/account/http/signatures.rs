//! Owns the pages that show a signature: those of the validators, each at its own path.
//! Leaves what is signed to them.

use serde_json::Value;

use super::{
    super::{Fields, Validators},
    answers::SIGNATURE,
    func::{OemInfo, texts},
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

/// What a page was asked. What is said of the person counts before what stands beside it: a client
/// writes `undefined` there for what it does not know.
pub(super) fn asked(mut params: Params) -> Result<Fields, Refusal> {
    let info = params.object("oemInfo")?.map(OemInfo::read).transpose()?.unwrap_or_default();
    let mut asked = texts(params);
    if asked.text("id").is_err()
        && let Some(openid) = info.openid
    {
        asked = asked.with("id", openid);
    }
    let said = [("addrType", info.addr_type), ("address", info.address)];
    let said = said.into_iter().filter_map(|(name, said)| Some((name, said?)));
    Ok(said.fold(asked, |asked, (name, said)| asked.with(name, said)))
}

//! Owns the calls by `func`: where to go, sign in, whether a token is good. Always 200 with a
//! `code`, and open to pages of any site, since the browsers of such clients come from anywhere.

use serde_json::{Map, Value, json};

use super::{
    super::{Claim, Fields, Validators, called},
    answers::FUNC,
    params::Params,
    route::{Call, Methods, Refused, Route},
    signatures::asked,
};
use crate::wire::{Code, Refusal};

/// The code of the clients for a page that nobody has.
const NO_ROUTE: i32 = 9007;

pub(super) fn routes() -> Vec<Route> {
    let route = |path| {
        let about = "Calls by name: `lb.getServerInfo` says where to go, `1000` signs in, \
                     `test.echo` says whether a token is good.";
        Route::new(Methods::GetAndPost, path, about, FUNC, answer)
            .takes("func", "the call's name, or what stands behind the dot of it")
            .takes("control", "what stands before the dot of it")
            .takes(
                "oemInfo",
                "a JSON object, or its text: domain, openid, openkey, auth, pf, token",
            )
            .takes("thirdUrl", "a page whose signature is wanted instead, such as auth.html")
            .takes("id", "whom that signature is for")
            .open()
    };
    ["/", "/index.html"].map(route).into()
}

async fn answer(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    if let Some(page) = params.take("thirdUrl")?.filter(|page| !page.is_empty()) {
        let Some(page) = center.0.proofs.validators().page(&page) else {
            return Ok(json!({ "code": NO_ROUTE, "message": "no validator has this page" }));
        };
        return Ok(center.signature(page, asked(params)?, ip).await?.into_json());
    }
    let func = name(&mut params)?;
    let info = params.object("oemInfo")?.map(OemInfo::read).transpose()?.unwrap_or_default();
    let validators = center.0.proofs.validators();
    match func.as_str() {
        "lb.getServerInfo" | "config.getServerInfo" => {
            let openid = info.openid_in(validators)?.ok_or_else(|| missing("oemInfo.openid"))?;
            // Who is no validator's is nobody's: new everywhere.
            let newbie = match center.is_new(&openid).await {
                Err(refusal) if refusal.code == Code::PARAMETER => true,
                newbie => newbie?,
            };
            let front = (center.0.fronts)(&openid).ok_or(Code::NOT_READY)?;
            let (ip, port) = front.addr.rsplit_once(':').ok_or(Code::NOT_READY)?;
            let port: u16 = port.parse().map_err(|_| Code::NOT_READY)?;
            let ip = ip.trim_matches(['[', ']']);
            let mut data = json!({ "newbie": newbie, "ip": ip, "port": port });
            if let Some(url) = front.ws {
                data["url"] = url.into();
            }
            Ok(json!({ "code": 0, "data": data }))
        }
        "1000" | "login.UserLogin" => {
            let Some(openid) = info.openid_in(validators)? else {
                let token = info.token.ok_or_else(|| missing("oemInfo.openid"))?;
                let (claims, account) = center.by_token(&token).await?;
                let data = json!({
                    "id": account.id, "openid": account.openid, "token": token,
                    "time": claims.iat, "name": called(&account),
                });
                return Ok(json!({ "code": 0, "data": data }));
            };
            let OemInfo { domain: _, openid: said, openkey, auth, pf, token } = info;
            let claim = Claim { openid, openkey, auth, pf, token, app: None, ip };
            let known = center.login(claim).await?;
            let signed = known.signed;
            // Clients take all of this over, and sign in with it again: their own openid.
            let data = json!({
                "id": signed.account.id, "openid": said, "token": signed.token,
                "time": signed.claims.iat, "name": known.name,
            });
            Ok(json!({ "code": 0, "data": data }))
        }
        "test.echo" => {
            let token = info.token.ok_or_else(|| missing("oemInfo.token"))?;
            center.by_token(&token).await?;
            Ok(json!({ "code": 0 }))
        }
        _ => Err(Code::UNKNOWN_API.because("there is no such func").into()),
    }
}

/// The whole name of a call, which clients send in one or in two.
fn name(params: &mut Params) -> Result<String, Refusal> {
    let control = params.take("control")?.filter(|c| !c.is_empty() && c != "index");
    let func = params.take("func")?.unwrap_or_default();
    Ok(match control {
        Some(control) if !func.starts_with(&format!("{control}.")) => format!("{control}.{func}"),
        _ => func.strip_prefix("index.").unwrap_or(&func).to_owned(),
    })
}

fn missing(name: &str) -> Refusal {
    super::super::rules::missing(name)
}

/// What a client says of itself. An empty text is nothing: clients send all members always.
#[derive(Default)]
pub(super) struct OemInfo {
    domain: Option<String>,
    pub(super) openid: Option<String>,
    openkey: Option<String>,
    auth: Option<Fields>,
    pf: Option<String>,
    token: Option<String>,
}

impl OemInfo {
    pub(super) fn read(mut members: Map<String, Value>) -> Result<Self, Refusal> {
        let auth = match members.remove("auth") {
            None | Some(Value::Null) => None,
            Some(auth) => signature("oemInfo.auth", auth)?,
        };
        let mut text = |name: &str| match members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(Code::PARAMETER
                .because(format!("parameter `oemInfo.{name}` is not a string or number"))),
        };
        Ok(Self {
            domain: text("domain")?,
            openid: text("openid")?,
            openkey: text("openkey")?,
            auth,
            pf: text("pf")?,
            token: text("token")?,
        })
    }

    /// The openid with a validator's name before it: older clients say that in `domain`, and
    /// `official` is meant where nothing is said.
    fn openid_in(&self, validators: &Validators) -> Result<Option<String>, Refusal> {
        let Some(openid) = &self.openid else { return Ok(None) };
        let first = |text: &str| text.split('.').next().unwrap_or_default().to_owned();
        if validators.has(&first(openid)) && openid.contains('.') {
            return Ok(Some(openid.clone()));
        }
        let domain = self.domain.as_deref().map(first).filter(|domain| validators.has(domain));
        Ok(Some(match domain {
            Some(domain) => format!("{domain}.{openid}"),
            None if !openid.contains('.') => format!("official.{openid}"),
            None => openid.clone(),
        }))
    }
}

/// A signature as an object or as its text; one without any member is none.
pub(super) fn signature(name: &str, sent: Value) -> Result<Option<Fields>, Refusal> {
    let object = match sent {
        Value::Object(object) => Some(object),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => serde_json::from_str(&text).ok(),
        _ => None,
    };
    let not_one = || Code::PARAMETER.because(format!("parameter `{name}` is not a JSON object"));
    let object = object.ok_or_else(not_one)?;
    if object.is_empty() {
        return Ok(None);
    }
    Fields::sent(name, object).map(Some)
}

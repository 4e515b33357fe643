//! Owns the calls by `func`: where to go, sign in, whether a token is good. Always 200 with a
//! `code`, and open to pages of any site, since the browsers of such clients come from anywhere.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    super::{AccountCenter, Claim, Fields, Known, Validators, called, rules},
    answers::FUNC,
    params::Params,
    route::{Call, Methods, Refused, Route},
    signatures::asked,
};
use crate::wire::{Code, Refusal};

/// The code of the clients for a page that nobody has.
const NO_ROUTE: i32 = 9007;

/// The path whose budget calls have that come over a socket.
pub(super) const PATH: &str = "/index.html";

/// What somebody is called in a signature, by the platforms' names for it.
const SIGNED_NAMES: [&str; 4] = ["openid", "plat_user_id", "userId", "id"];

pub(super) fn routes() -> Vec<Route> {
    ["/", PATH].map(route).into()
}

/// What a call takes.
pub(super) fn names() -> Arc<[&'static str]> {
    route(PATH).takes.iter().map(|parameter| parameter.name).collect()
}

fn route(path: &'static str) -> Route {
    let about = "Calls by name: `lb.getServerInfo` says where to go, `1000` signs in, \
                     `test.echo` says whether a token is good.";
    Route::new(Methods::GetAndPost, path, about, FUNC, answer)
        .takes("func", "the call's name, or what stands behind the dot of it")
        .takes("control", "what stands before the dot of it")
        .takes("oemInfo", "a JSON object, or its text: domain, openid, openkey, auth, pf, token")
        .takes("thirdUrl", "a page whose signature is wanted instead, such as auth.html")
        .takes("id", "whom that signature is for")
        .takes("address", "a phone or an address of mail, for calls of a validator")
        .open()
}

/// What a call is answered.
pub(super) async fn answer(call: Call) -> Result<Value, Refused> {
    let Call { center, mut params, ip, .. } = call;
    if let Some(page) = params.take("thirdUrl")?.filter(|page| !page.is_empty()) {
        let Some(page) = center.0.proofs.validators().page(&page) else {
            return Ok(json!({ "code": NO_ROUTE, "message": "no validator has this page" }));
        };
        return Ok(center.signature(page, asked(params)?, ip).await?.into_json());
    }
    let func = name(&mut params)?;
    let info = params.object("oemInfo")?.map(OemInfo::read).transpose()?.unwrap_or_default();
    match func.as_str() {
        "lb.getServerInfo" | "config.getServerInfo" => locate(&center, &info).await,
        "1000" | "login.UserLogin" | "admin.login" => login(&center, info, ip).await,
        "test.echo" => {
            let token = info.token.ok_or_else(|| rules::missing("oemInfo.token"))?;
            center.by_token(&token).await?;
            Ok(json!({ "code": 0 }))
        }
        other => {
            let none = || Code::UNKNOWN_API.because("there is no such func");
            let (validator, call) = other.split_once('.').ok_or_else(none)?;
            let asked = texts(params);
            let data = center.ask_validator(validator, call, asked, ip).await?;
            Ok(json!({ "code": 0, "data": data }))
        }
    }
}

/// The gate that somebody is sent to, always the same while it lives.
async fn locate(center: &AccountCenter, info: &OemInfo) -> Result<Value, Refused> {
    let openid = info.openid_in(center.0.proofs.validators());
    let openid = openid.ok_or_else(|| rules::missing("oemInfo.openid"))?;
    let newbie = match &info.token {
        Some(token) => center.by_token(token).await.is_err(),
        None => center.is_new(&openid).await?,
    };
    let front = (center.0.fronts)(&openid).ok_or(Code::NOT_READY)?;
    let (ip, port) = front.addr.rsplit_once(':').ok_or(Code::NOT_READY)?;
    let port: u16 = port.parse().map_err(|_| Code::NOT_READY)?;
    let mut data = json!({ "newbie": newbie, "ip": ip.trim_matches(['[', ']']), "port": port });
    if let Some(url) = front.ws {
        data["url"] = url.into();
    }
    Ok(json!({ "code": 0, "data": data }))
}

/// Who shows an openid is judged anew, whatever token it shows beside it; without one, a good token
/// says who it is.
async fn login(
    center: &AccountCenter,
    info: OemInfo,
    ip: Option<String>,
) -> Result<Value, Refused> {
    let Some(openid) = info.openid_in(center.0.proofs.validators()) else {
        let token = info.token.ok_or_else(|| rules::missing("oemInfo.openid"))?;
        let (claims, account) = center.by_token(&token).await?;
        let data = json!({
            "id": account.id, "openid": account.openid, "token": token, "time": claims.iat,
            "name": called(&account),
        });
        return Ok(json!({ "code": 0, "data": data }));
    };
    let OemInfo { domain: _, openid: said, openkey, auth, pf, token, addr_type: _, address: _ } =
        info;
    let said = said.unwrap_or_else(|| openid.clone());
    let claim = Claim { openid, openkey, auth, pf, token, app: None, ip };
    let Known { signed, name, addr: _ } = center.login(claim).await?;
    // Clients take all of this over and sign in with it again, so the openid is as they said it.
    let data = json!({
        "id": signed.account.id, "openid": said, "token": signed.token,
        "time": signed.claims.iat, "name": name,
    });
    Ok(json!({ "code": 0, "data": data }))
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

/// What a client says of itself. An empty text is nothing: clients send all members always.
#[derive(Default)]
pub(super) struct OemInfo {
    domain: Option<String>,
    pub(super) openid: Option<String>,
    openkey: Option<String>,
    auth: Option<Fields>,
    pf: Option<String>,
    token: Option<String>,
    /// What `address` is.
    pub(super) addr_type: Option<String>,
    /// Where a code is wanted.
    pub(super) address: Option<String>,
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
            addr_type: text("addrType")?,
            address: text("address")?,
        })
    }

    /// The openid with a validator's name before it: older clients say that in `domain`, and
    /// `official` is meant where nothing is said. Some say it in the signature alone.
    fn openid_in(&self, validators: &Validators) -> Option<String> {
        let openid = self.openid.clone().or_else(|| {
            let auth = self.auth.as_ref()?;
            SIGNED_NAMES.iter().find_map(|name| auth.text(name).ok())
        })?;
        let first = |text: &str| text.split('.').next().unwrap_or_default().to_owned();
        if validators.has(&first(&openid)) && openid.contains('.') {
            return Some(openid);
        }
        let domain = self.domain.as_deref().map(first).filter(|domain| validators.has(domain));
        Some(match domain {
            Some(domain) => format!("{domain}.{openid}"),
            None if !openid.contains('.') => format!("official.{openid}"),
            None => openid,
        })
    }
}

/// What is left of the texts and numbers that were sent.
pub(super) fn texts(params: Params) -> Fields {
    params.texts().fold(Fields::new(), |asked, (name, text)| asked.with(&name, text))
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

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        test_runner::{Config, TestRunner},
    };

    use super::{
        super::{super::world::WS, tests::Edge},
        *,
    };

    /// A call through both doors; they must say the same, but for what is new each time.
    async fn both(edge: &Edge, func: &str, info: &Value) -> Value {
        let posted = post(edge, &json!({ "func": func, "oemInfo": info })).await;
        let got = get(edge, "/index.html", &[("func", func), ("oemInfo", &info.to_string())]).await;
        let mut said = [posted.clone(), got];
        for said in &mut said {
            if let Some(token) = said.pointer_mut("/data/token") {
                *token = Value::Null;
            }
        }
        assert_eq!(said[0], said[1]);
        posted
    }

    async fn post(edge: &Edge, call: &Value) -> Value {
        let request = edge.client.post(format!("{}/", edge.url));
        let request = request.header("content-type", "application/json").body(call.to_string());
        let (status, answer) = edge.send(request).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn get(edge: &Edge, path: &str, query: &[(&str, &str)]) -> Value {
        let query = serde_urlencoded::to_string(query).unwrap();
        edge.get(&format!("{path}?{query}")).await.1
    }

    #[tokio::test]
    async fn somebody_is_located_signs_in_by_a_signature_and_goes_on_with_the_token_alone() {
        let edge = Edge::new().await;
        let mut info = json!({ "domain": "CoreOfWallet", "openid": "360.007", "openkey": "" });
        let here = json!({ "newbie": true, "ip": "127.0.0.1", "port": 3017, "url": WS });
        let located = both(&edge, "lb.getServerInfo", &info).await;
        assert_eq!(located, json!({ "code": 0, "data": here }));
        assert_eq!(both(&edge, "config.getServerInfo", &info).await, located);
        info["auth"] = get(&edge, "/auth360.html", &[("id", "360.007")]).await;
        let call = json!({ "control": "login", "func": "UserLogin", "oemInfo": info });
        let login = post(&edge, &call).await;
        assert_eq!((&login["code"], &login["data"]["openid"]), (&json!(0), &json!("360.007")));
        assert_eq!((&login["data"]["time"], &login["data"]["name"]), (&1000.into(), &"007".into()));
        assert_eq!(post(&edge, &call).await["code"], 9006, "the nonce was used");
        let located = both(&edge, "lb.getServerInfo", &info).await;
        assert_eq!(located["data"]["newbie"], false);
        let mut known = info.clone();
        known["token"] = login["data"]["token"].clone();
        let located = both(&edge, "lb.getServerInfo", &known).await;
        assert_eq!(located["data"]["newbie"], false);
        let later = json!({ "token": login["data"]["token"], "pf": "" });
        assert_eq!(both(&edge, "test.echo", &later).await, json!({ "code": 0 }));
        let again = both(&edge, "1000", &later).await;
        assert_eq!((&again["code"], &again["data"]["id"]), (&0.into(), &login["data"]["id"]));
        // A dead token does not matter to who can show a proof.
        info["token"] = "dead".into();
        assert_eq!(both(&edge, "test.echo", &info).await["code"], 9006);
        info["auth"] =
            get(&edge, "/index.html", &[("thirdUrl", "auth360.html"), ("id", "007")]).await;
        let anew = post(&edge, &json!({ "func": "1000", "oemInfo": info })).await;
        assert_eq!((&anew["code"], &anew["data"]["id"]), (&0.into(), &login["data"]["id"]));
    }

    #[tokio::test]
    async fn each_trouble_has_the_code_that_the_clients_know() {
        let edge = Edge::new().await;
        let good = json!({ "openid": "official.phone" });
        for (func, info, code) in [
            ("1000", json!({}), 9001),
            ("1000", json!({ "openid": [] }), 9001),
            ("1000", json!({ "openid": "nobodys.1" }), 9001),
            ("1000", json!({ "openid": "360.1", "auth": 5 }), 9001),
            ("1000", json!({ "openid": "360.1", "auth": { "t": 1000 } }), 9001),
            ("1000", json!({ "openid": "official.anna", "openkey": "wrong" }), 9006),
            ("1000", json!({ "openid": "tx.1", "openkey": "a", "pf": "b" }), 9000),
            ("lb.getServerInfo", json!({ "domain": "x" }), 9001),
            ("test.echo", json!({}), 9001),
            ("test.echo", json!({ "token": "nonsense" }), 9006),
            ("test.nothing", good.clone(), 9000),
            ("nothing", good.clone(), 9000),
            ("", good.clone(), 9000),
        ] {
            let said = both(&edge, func, &info).await;
            assert_eq!(said["code"], code, "{func} {info}: {said}");
            assert!(said["message"].is_string() && said.get("data").is_none(), "{said}");
        }
        assert_eq!(post(&edge, &json!({ "func": "1000", "oemInfo": "{" })).await["code"], 9001);
        assert_eq!(get(&edge, "/", &[("thirdUrl", "nothing.html")]).await["code"], 9007);
        edge.world.gate_lives.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(both(&edge, "lb.getServerInfo", &good).await["code"], 9000);
    }

    #[tokio::test]
    async fn older_clients_say_their_validator_in_the_domain_or_nowhere() {
        let edge = Edge::new().await;
        let id = async |info: Value| both(&edge, "1000", &info).await["data"]["id"].clone();
        let guest = id(json!({ "openid": "official.phone" })).await;
        assert_eq!(id(json!({ "openid": "phone" })).await, guest);
        assert_eq!(id(json!({ "openid": "phone", "domain": "official" })).await, guest);
        let auth = get(&edge, "/auth360.html", &[("id", "phone")]).await;
        let other = json!({ "openid": "phone", "domain": "360.CoreOfWallet", "auth": auth });
        let other = post(&edge, &json!({ "func": "1000", "oemInfo": other })).await;
        assert!(other["code"] == 0 && other["data"]["id"] != guest, "{other}");
    }

    #[tokio::test]
    async fn a_page_of_another_site_may_call_and_look_at_signatures() {
        let edge = Edge::new().await;
        for path in ["/", "/index.html", "/auth.html", "/v1/account/auth"] {
            let url = format!("{}{path}?id=1", edge.url);
            let asked = edge.client.request(reqwest::Method::OPTIONS, &url).send().await.unwrap();
            assert_eq!(asked.status(), 200);
            assert_eq!(asked.headers()["access-control-allow-origin"], "*");
            assert!(asked.headers().contains_key("access-control-allow-headers"));
            let got = edge.client.get(&url).send().await.unwrap();
            assert_eq!(got.headers()["access-control-allow-origin"], "*");
            assert_eq!(got.headers()["access-control-expose-headers"], "retry-after");
        }
        let (status, nobody) = edge.get("/auth.html").await;
        assert_eq!(status, 400);
        assert!(nobody["error"].as_str().unwrap().contains("`id`"), "{nobody}");
        let info = r#"{"openid":"official.7"}"#;
        let signed = get(&edge, "/auth.html", &[("oemInfo", info)]).await;
        assert_eq!((&signed["id"], &signed["t"]), (&json!("7"), &json!(1000)));
        assert!(signed["sign"].is_string() && signed.get("code").is_none(), "{signed}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let name = prop_oneof!["[a-z]{1,3}", Just("t".to_owned()), Just("sign".to_owned())];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    #[test]
    fn whatever_a_client_sends_it_is_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let edge = runtime.block_on(Edge::new());
        let validator = prop::sample::select(vec!["official", "360", "tx", "admin"]);
        let call = (validator, ".{0,8}", any_json(), any_json(), any_json());
        let mut runner = TestRunner::new(Config::with_cases(48));
        let ran = runner.run(&call, |(validator, id, one, auth, key)| {
            let info = json!({
                "openid": format!("{validator}.{id}"), "auth": auth, "openkey": key, "pf": one,
            });
            runtime.block_on(async {
                for info in [&info, &one] {
                    for func in ["1000", "lb.getServerInfo", "test.echo"] {
                        let said = post(&edge, &json!({ "func": func, "oemInfo": info })).await;
                        assert!(said["code"].is_number(), "{said}");
                    }
                }
                let body = json!({ "openid": info["openid"], "auth": auth, "openkey": key });
                let login = "/v1/account/login";
                edge.post(login, "application/json", &body.to_string()).await;
            });
            Ok(())
        });
        ran.unwrap();
    }
}

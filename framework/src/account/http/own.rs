//! Owns the routes that a studio adds to the account center's HTTP, such as the one through which
//! its older clients sign in. Leaves rates, places and addresses to `front`, as for every route.

use std::{fmt, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, Resource,
    http::{StatusCode, header},
    web,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;

use super::{
    super::{AccountCenter, Claims, called},
    answers::{PAGE, problem},
    front::Front,
    params::Params,
    route::Refused,
};
use crate::{
    ask::Asker,
    directory::{Directory, Role},
    limits::ROLE_ASK_DEADLINE,
    msg,
    proto::link::{Asking, enter},
    wire::{Code, Refusal},
};

/// The routes of a game.
#[derive(Clone, Default)]
pub(crate) struct OwnRoutes(Vec<OwnRoute>);

#[derive(Clone)]
pub(super) struct OwnRoute {
    path: &'static str,
    handler: Handler,
}

type Handler = Arc<dyn Fn(HttpCall) -> BoxFuture<'static, HttpAnswer> + Send + Sync>;

/// The routes of a game, and what they may ask.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) routes: OwnRoutes,
    pub(crate) asker: Asker,
    pub(crate) directory: Directory,
}

impl OwnRoutes {
    /// # Panics
    /// When the path is taken, or is no path.
    pub(crate) fn add<F>(
        &mut self,
        path: &'static str,
        handler: impl Fn(HttpCall) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = HttpAnswer> + Send + 'static,
    {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"/-_.".contains(&c);
        let is_path = path.starts_with('/') && path.bytes().all(plain);
        assert!(is_path, "a route at {path:?}: write / and letters, digits, '-', '_', '.'");
        let known = self.0.iter().map(|route| route.path).chain(super::paths());
        assert!(!known.into_iter().any(|known| known == path), "two routes at {path}: keep one");
        let handler: Handler = Arc::new(move |call| handler(call).boxed());
        self.0.push(OwnRoute { path, handler });
    }
}

impl Own {
    pub(super) fn serve(&self, cfg: &mut web::ServiceConfig, front: &Front) {
        for route in &self.routes.0 {
            cfg.service(route.resource(front, self));
        }
    }
}

impl fmt::Debug for OwnRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|route| route.path)).finish()
    }
}

/// A GET to a studio's route, and what its handler may do about it.
#[derive(Clone)]
pub struct HttpCall {
    center: AccountCenter,
    asker: Asker,
    directory: Directory,
    params: Vec<(String, String)>,
    cookies: Vec<(String, String)>,
    ip: Option<String>,
}

/// Somebody who is signed in.
#[derive(Clone)]
#[non_exhaustive]
pub struct SignedIn {
    /// The account's id.
    pub account: i64,
    /// What it is called.
    pub name: String,
    /// The access token, good at every gate.
    pub token: String,
    /// It was made just now.
    pub is_new: bool,
    claims: Claims,
}

impl HttpCall {
    /// A parameter of the query.
    pub fn param(&self, name: &str) -> Option<&str> {
        value(&self.params, name)
    }

    /// A cookie that the client sent.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        value(&self.cookies, name)
    }

    /// Signs in by name and password.
    ///
    /// # Errors
    /// 201 when they are wrong, 208 after too many tries, 101 when a service is away.
    pub async fn sign_in(&self, username: &str, password: &str) -> Result<SignedIn, Refusal> {
        let (username, password) = (Some(username.to_owned()), Some(password.to_owned()));
        self.authorize(msg::auth::Req { username, password, ..Default::default() }).await
    }

    /// Signs in as the guest of a device, who is made when new.
    ///
    /// # Errors
    /// 210 when the device's name is none, 101 when a service is away.
    pub async fn sign_in_guest(&self, device_id: &str) -> Result<SignedIn, Refusal> {
        let device_id = Some(device_id.to_owned());
        self.authorize(msg::auth::Req { device_id, ..Default::default() }).await
    }

    /// Whose a token is.
    ///
    /// # Errors
    /// 2001 when it is not good, 2002 when it is too old.
    pub async fn signed_in(&self, token: &str) -> Result<SignedIn, Refusal> {
        self.whose(token, i64::MAX).await
    }

    async fn whose(&self, token: &str, asked_ms: i64) -> Result<SignedIn, Refusal> {
        let (claims, account) = self.center.by_token(token).await?;
        let (name, is_new) = (called(&account), account.created_ms >= asked_ms);
        let (account, token) = (account.id, token.to_owned());
        Ok(SignedIn { account, name, token, is_new, claims })
    }

    /// A seat in a room, as `msg.EnterRoom.Req` asks for one.
    ///
    /// # Errors
    /// Those of `msg.EnterRoom`: 3001, 3002, 3004.
    pub async fn enter_room(
        &self,
        who: &SignedIn,
        room: msg::enter_room::Req,
    ) -> Result<msg::enter_room::Res, Refusal> {
        let msg::enter_room::Req { kind, room_id, request_id, options } = room;
        let (openid, sid) = (who.claims.openid.clone(), who.claims.sid.clone());
        let who = Some(Asking { account: who.account, openid, sid });
        let request = enter::Req { who, kind, room_id, request_id, options };
        let enter::Res { room_id, ticket, addr, members } =
            self.asker.ask(Role::Rooms, &request).await?;
        Ok(msg::enter_room::Res { code: Code::OK.0, room_id, ticket, addr, members })
    }

    /// Where a gate lets clients of a codec in, `ip:port`: for the same account the same while it
    /// lives. `None`: no gate that is up has the codec on.
    pub fn gate(&self, codec: &str, who: &SignedIn) -> Option<String> {
        self.directory.gate_of_codec(codec, &who.account.to_string())
    }

    async fn authorize(&self, req: msg::auth::Req) -> Result<SignedIn, Refusal> {
        let asked_ms = self.center.0.clock.now_ms();
        let req = msg::auth::Req { client_ip: self.ip.clone(), ..req };
        let answer = self.center.clone().sign_in(req).await.map_err(|refused| refused.refusal)?;
        let token = answer.token.ok_or(Code::INTERNAL)?;
        self.whose(&token, asked_ms).await
    }
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// What a studio's route answers.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl HttpAnswer {
    /// 200 and these bytes.
    pub fn bytes(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: 200, content_type, headers: Vec::new(), body }
    }

    /// With another status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// With one header more. One that HTTP does not allow is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    fn respond(self) -> HttpResponse {
        let Self { status, content_type, headers, body } = self;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        response.content_type(content_type).insert_header((header::CACHE_CONTROL, "no-store"));
        for (name, value) in headers {
            let value = header::HeaderValue::from_str(&value);
            let name = header::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value) {
                response.append_header((name, value));
            }
        }
        response.body(body)
    }
}

impl OwnRoute {
    /// The resource that serves it; every other method is told 405.
    pub(super) fn resource(&self, front: &Front, own: &Own) -> Resource {
        let Self { path, handler } = self.clone();
        let (front, own) = (front.clone(), own.clone());
        let serve = move |req: HttpRequest| {
            let answer = answer(path, handler.clone(), front.clone(), own.clone(), req);
            async move { answer.await.unwrap_or_else(|refused| PAGE.respond(Err(refused))) }
        };
        let other = || async { problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed") };
        web::resource(path).default_service(web::to(other)).route(web::get().to(serve))
    }
}

async fn answer(
    path: &'static str,
    handler: Handler,
    front: Front,
    own: Own,
    req: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let place = front.place()?;
    let ip = front.client(&req);
    front.admit(ip, path)?;
    let query = Params::from_urlencoded(req.query_string())?;
    let cookies = req.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let cookies = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    let call = HttpCall {
        center: front.center.clone(),
        asker: own.asker,
        directory: own.directory,
        params: query.texts().collect(),
        cookies: cookies.collect(),
        ip: ip.map(|ip| ip.to_string()),
    };
    // It goes on when the client does not wait for it: what changes an account is done whole.
    let done = actix_web::rt::spawn(async move {
        let answer = handler(call).await;
        drop(place);
        answer
    });
    match timeout(ROLE_ASK_DEADLINE, done).await {
        Ok(Ok(answer)) => Ok(answer.respond()),
        Ok(Err(ended)) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_stopped) => Err(Code::NOT_READY.into()),
        },
        Err(_late) => Err(Code::DEADLINE.into()),
    }
}

impl fmt::Debug for HttpCall {
    /// Without what the client said: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall").field("ip", &self.ip).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedIn {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn").field("account", &self.account).finish_non_exhaustive()
    }
}

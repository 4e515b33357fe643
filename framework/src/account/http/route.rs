//! Owns what a route is: its path, its methods, what it takes, how it answers, who does it. The
//! server and its description are both made from these.

use std::{panic::resume_unwind, rc::Rc, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, Resource,
    http::{Method, StatusCode, header},
    web,
};
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use serde_json::Value;
use tokio::time::timeout;

pub(super) use super::super::refused::Refused;
use super::{
    super::AccountCenter,
    answers::{Dialect, problem},
    body,
    front::Front,
    params::Params,
};
use crate::{
    limits::ROLE_ASK_DEADLINE,
    wire::{Code, Refusal},
};

/// One route.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) methods: Methods,
    /// What it does, in a sentence.
    pub(super) about: &'static str,
    pub(super) takes: Vec<Parameter>,
    pub(super) dialect: Dialect,
    /// Whether pages of any site may ask it.
    open: bool,
    handler: Handler,
}

type Handler = Rc<dyn Fn(Call) -> LocalBoxFuture<'static, Result<Value, Refused>>>;

/// How a route may be asked. A GET brings its parameters in the query, a POST in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    Get,
    Post,
    GetAndPost,
}

/// What a route takes by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) needed: bool,
    /// What it has to look like.
    pub(super) about: &'static str,
}

/// One request, read.
pub(super) struct Call {
    pub(super) center: AccountCenter,
    pub(super) front: Front,
    pub(super) params: Params,
    /// Where it comes from, for throttling.
    pub(super) ip: Option<String>,
    /// The token of `Authorization: Bearer`.
    pub(super) bearer: Option<String>,
    /// What the header `X-Internal-Auth` says.
    pub(super) internal: Option<String>,
}

impl Route {
    pub(super) fn new<F>(
        methods: Methods,
        path: &'static str,
        about: &'static str,
        dialect: Dialect,
        handler: impl Fn(Call) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Value, Refused>> + 'static,
    {
        let handler: Handler = Rc::new(move |call| handler(call).boxed_local());
        Self { path, methods, about, takes: Vec::new(), dialect, open: false, handler }
    }

    /// Takes a parameter that must be there.
    pub(super) fn needs(mut self, name: &'static str, about: &'static str) -> Self {
        self.takes.push(Parameter { name, needed: true, about });
        self
    }

    /// Takes a parameter that may be there.
    pub(super) fn takes(mut self, name: &'static str, about: &'static str) -> Self {
        self.takes.push(Parameter { name, needed: false, about });
        self
    }

    /// Lets pages of any site ask it: no cookie of ours is at stake there.
    pub(super) fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// The resource that serves it; every other method is told 405, and which it takes.
    pub(super) fn resource(self, front: Front) -> Resource {
        let Self { path, methods, about: _, takes, dialect, open, handler } = self;
        let names: Arc<[&'static str]> = takes.iter().map(|parameter| parameter.name).collect();
        let served = Served { path, names, handler, front };
        let serve = move |req: HttpRequest, payload: web::Payload| {
            let served = served.clone();
            async move {
                let read = match methods {
                    Methods::Get => Ok(Params::from_urlencoded(req.query_string())),
                    Methods::GetAndPost if req.method() == "GET" => {
                        Ok(Params::from_urlencoded(req.query_string()))
                    }
                    Methods::Post | Methods::GetAndPost => body::read(&req, payload).await,
                };
                let mut response = match read {
                    Ok(params) => dialect.respond(served.answer(&req, params).await),
                    Err(response) => response,
                };
                if open {
                    let all = header::HeaderValue::from_static("*");
                    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, all);
                    // When to come back is for pages, too.
                    let told = header::HeaderValue::from_static("retry-after");
                    response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, told);
                }
                response
            }
        };
        let resource = web::resource(path).default_service(web::to(move || async move {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            let allow = header::HeaderValue::from_static(methods.allow());
            response.headers_mut().insert(header::ALLOW, allow);
            response
        }));
        let resource = match open {
            true => resource.route(web::method(Method::OPTIONS).to(preflight)),
            false => resource,
        };
        match methods {
            Methods::Get => resource.route(web::get().to(serve)),
            Methods::Post => resource.route(web::post().to(serve)),
            Methods::GetAndPost => {
                resource.route(web::get().to(serve.clone())).route(web::post().to(serve))
            }
        }
    }
}

/// What a browser asks before a page of another site may post.
async fn preflight() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "*"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "86400"))
        .finish()
}

/// A route that a worker serves.
#[derive(Clone)]
struct Served {
    path: &'static str,
    /// Of what it takes.
    names: Arc<[&'static str]>,
    handler: Handler,
    front: Front,
}

impl Served {
    async fn answer(
        self,
        req: &HttpRequest,
        params: Result<Params, Refusal>,
    ) -> Result<Value, Refused> {
        let Self { path, names, handler, front } = self;
        let place = front.place()?;
        let ip = front.client(req);
        // A body that cannot be read counts as well.
        front.admit(ip, path)?;
        let mut params = params?;
        params.declare(names);
        let call = Call {
            center: front.center.clone(),
            front,
            params,
            ip: ip.map(|ip| ip.to_string()),
            bearer: bearer(req),
            internal: text(req, "x-internal-auth").map(str::to_owned),
        };
        // It goes on when the client does not wait for it: what changes an account is done whole.
        let done = actix_web::rt::spawn(async move {
            let answer = handler(call).await;
            drop(place);
            answer
        });
        match timeout(ROLE_ASK_DEADLINE, done).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(ended)) => match ended.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_stopped) => Err(Code::NOT_READY.into()),
            },
            Err(_late) => Err(Code::DEADLINE.into()),
        }
    }
}

impl Methods {
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::GetAndPost => "GET, POST",
        }
    }
}

fn bearer(req: &HttpRequest) -> Option<String> {
    let (scheme, token) = text(req, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn text<'r>(req: &'r HttpRequest, header: &str) -> Option<&'r str> {
    req.headers().get(header)?.to_str().ok()
}

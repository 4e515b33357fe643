//! Owns the account center's HTTP edge: the server, its limits, its routes.
//! Routes are thin: read `params`, ask, write `answers`. Knows no rule of signing in.

use std::{io, net::TcpListener, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, Resource,
    dev::Server,
    error::PayloadError,
    http::{Method, StatusCode, header},
    middleware::from_fn,
    web,
};
use futures_util::StreamExt as _;
use serde_json::json;

use super::{
    Routes,
    answers::{Answer, done, guarded, problem},
    params::Params,
};
use crate::{directory::Role, limits::HTTP_BODY_BYTES_MAX, msg, wire::Refusal};

/// What a client sends beyond the limit is read and dropped up to here, so that it reads our 413
/// and not a reset connection.
const BODY_BYTES_DROPPED: usize = 1024 * 1024;
/// Per worker; the next connection waits in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// For the head, and once more for the body. Slower: 408.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Two, since they only read, ask and write: hashing has threads of its own.
const WORKERS: usize = 2;
/// How long requests may take to end once the server is told to stop. Beyond: cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves every route on all listeners. The answer is a future to be spawned; its `handle()`
/// stops it.
pub(crate) fn serve(listeners: Vec<TcpListener>, routes: Routes) -> io::Result<Server> {
    serve_with(listeners, move |cfg| configure(cfg, routes.clone()))
}

fn serve_with(
    listeners: Vec<TcpListener>,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> io::Result<Server> {
    let mut server =
        HttpServer::new(move || App::new().wrap(from_fn(guarded)).configure(routes.clone()))
            .disable_signals()
            .workers(WORKERS)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(READ_TIMEOUT)
            .max_connections(CONNECTIONS_MAX)
            .shutdown_timeout(STOP_TIMEOUT.as_secs());
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// Every route, with the methods it takes.
pub(super) fn configure(cfg: &mut web::ServiceConfig, routes: Routes) {
    let (get, post) = (web::get, web::post);
    cfg.app_data(web::Data::new(routes))
        .service(
            route("/v1/account/auth", "GET, POST").route(get().to(auth)).route(post().to(auth)),
        )
        .service(route("/v1/account/registry", "POST").route(post().to(registry)))
        .service(route("/v1/account/logout", "POST").route(post().to(logout)))
        .service(route("/.well-known/jwks.json", "GET").route(get().to(jwks)))
        .service(route("/health", "GET").route(get().to(health)))
        .default_service(web::to(not_found));
}

// === routes ===

async fn auth(req: HttpRequest, body: web::Payload, routes: web::Data<Routes>) -> HttpResponse {
    let params = match *req.method() {
        // The seed's own client signs in by a query.
        Method::GET => Params::from_urlencoded(req.query_string()),
        _ => match read(&req, body).await {
            Ok(params) => params,
            Err(response) => return response,
        },
    };
    let answer = async {
        let mut params = params?;
        let req = msg::auth::Req {
            version: params.take("version"),
            username: params.take("username"),
            password: params.take("password"),
            device_id: params.take("device_id"),
            client_ip: client_ip(&req),
        };
        routes.asker.ask(Role::Account, &req).await
    };
    Answer::auth(answer.await).respond()
}

async fn registry(req: HttpRequest, body: web::Payload, routes: web::Data<Routes>) -> HttpResponse {
    let params = match read(&req, body).await {
        Ok(params) => params,
        Err(response) => return response,
    };
    let answer = async {
        let mut params = params?;
        let req = msg::registry::Req {
            username: params.need("username")?,
            password: params.need("password")?,
            client_ip: client_ip(&req),
        };
        routes.asker.ask(Role::Account, &req).await
    };
    Answer::registry(answer.await).respond()
}

async fn logout(req: HttpRequest, body: web::Payload, routes: web::Data<Routes>) -> HttpResponse {
    let params = match read(&req, body).await {
        Ok(params) => params,
        Err(response) => return response,
    };
    let answer = async {
        let mut params = params?;
        let token = bearer(&req).or_else(|| params.take("token"));
        let req = msg::sign_out::Req { token, refresh_token: params.take("refresh_token") };
        routes.asker.ask(Role::Account, &req).await
    };
    done(answer.await.map(|res| res.code))
}

async fn jwks(routes: web::Data<Routes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "max-age=300"))
        .json(json!({ "keys": routes.keys }))
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn not_found() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "no such route")
}

/// A resource that answers every other method with 405 and says which it takes.
fn route(path: &'static str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        response
    }))
}

// === reading ===

/// The parameters of a body. `Err` is an answer of HTTP itself: 408, 413.
async fn read(
    req: &HttpRequest,
    body: web::Payload,
) -> Result<Result<Params, Refusal>, HttpResponse> {
    let too_large = || {
        let limit = format!("the body is larger than {HTTP_BODY_BYTES_MAX} bytes");
        problem(StatusCode::PAYLOAD_TOO_LARGE, &limit)
    };
    let announced = req.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    if announced.and_then(|v| v.parse().ok()).is_some_and(|n: usize| n > BODY_BYTES_DROPPED) {
        return Err(too_large());
    }
    let body = match tokio::time::timeout(READ_TIMEOUT, collect(body)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None)) => return Err(too_large()),
        Ok(Err(_)) => return Err(problem(StatusCode::BAD_REQUEST, "the body could not be read")),
        Err(_) => return Err(problem(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
    };
    let content_type = req.headers().get(header::CONTENT_TYPE);
    // A header that is not ASCII is a content type that nobody knows.
    let content_type = content_type.map_or("", |value| value.to_str().unwrap_or("unknown"));
    Ok(Params::from_body(content_type, &body))
}

/// The whole body; `None` when it is too large.
async fn collect(mut body: web::Payload) -> Result<Option<Vec<u8>>, PayloadError> {
    let (mut read, mut length) = (Vec::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        length += chunk.len();
        if length <= HTTP_BODY_BYTES_MAX {
            read.extend_from_slice(&chunk);
        } else if length > BODY_BYTES_DROPPED {
            break;
        }
    }
    Ok((length <= HTTP_BODY_BYTES_MAX).then_some(read))
}

/// The token of `Authorization: Bearer`.
fn bearer(req: &HttpRequest) -> Option<String> {
    let (scheme, token) =
        req.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn client_ip(req: &HttpRequest) -> Option<String> {
    req.peer_addr().map(|peer| peer.ip().to_string())
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ServerHandle;
    use serde_json::Value;

    use super::{
        super::{AccountCenter, world::World},
        *,
    };
    use crate::{
        ask::{Asker, Calls},
        tasks::Tasks,
    };

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    const MEMBERS: [&str; 7] =
        ["code", "token", "addr", "account_id", "openid", "refresh_token", "expires_in"];

    /// A real server on a free port.
    struct Edge {
        url: String,
        client: reqwest::Client,
        handle: ServerHandle,
        asker: Asker,
        world: World,
    }

    impl Edge {
        async fn new() -> Self {
            let world = World::new().await;
            let (asker, tasks) = (Asker::default(), Tasks::default());
            let calls = Calls::default()
                .on(&world.center, AccountCenter::auth)
                .on(&world.center, AccountCenter::registry)
                .on(&world.center, AccountCenter::sign_out);
            asker.start(Role::Account, calls, &tasks);
            let shown = Routes { asker: asker.clone(), keys: world.center.jwks() };
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let routes = move |cfg: &mut web::ServiceConfig| {
                cfg.route("/panics", web::get().to(panics));
                cfg.route("/fails", web::get().to(fails));
                configure(cfg, shown.clone());
            };
            let server = serve_with(vec![listener], routes).unwrap();
            let handle = server.handle();
            tasks.spawn(server);
            Self { url, client: reqwest::Client::new(), handle, asker, world }
        }

        async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
        }

        /// Posts to an account route, which answers 200 with all members whatever happened.
        async fn post(&self, path: &str, content_type: &str, body: &str) -> Value {
            let request = self.client.post(format!("{}{path}", self.url));
            let request = request.header("content-type", content_type).body(body.to_owned());
            let (status, answer) = self.send(request).await;
            assert_eq!(status, 200, "{answer}");
            for member in MEMBERS {
                assert!(answer.get(member).is_some(), "{member} is absent: {answer}");
            }
            assert_eq!(answer.get("message").is_some(), answer["code"] != 0, "{answer}");
            answer
        }

        async fn get(&self, path: &str) -> (u16, Value) {
            self.send(self.client.get(format!("{}{path}", self.url))).await
        }
    }

    async fn panics() -> HttpResponse {
        panic!("a bug");
    }

    async fn fails() -> HttpResponse {
        problem(StatusCode::SERVICE_UNAVAILABLE, "away")
    }

    #[tokio::test]
    async fn a_form_registers_and_a_query_signs_in() {
        let edge = Edge::new().await;
        let new = edge.post("/v1/account/registry", FORM, "username=anna&password=secret1").await;
        assert_eq!((&new["code"], &new["account_id"]), (&Value::from(0), &Value::from(10_001)));
        assert_eq!((&new["addr"], &new["expires_in"]), (&"127.0.0.1:3017".into(), &7200.into()));
        assert_eq!(new["refresh_token"], Value::Null);
        let (status, again) = edge.get("/v1/account/auth?username=anna&password=secret1").await;
        assert_eq!((status, &again["code"], &again["openid"]), (200, &0.into(), &new["openid"]));
        assert!(again["token"].as_str().unwrap().starts_with("eyJ"));
        let form = edge.post("/v1/account/auth", FORM, "username=anna&password=secret1").await;
        assert_eq!(form["openid"], new["openid"]);
    }

    #[tokio::test]
    async fn json_signs_in_and_numbers_are_taken_for_text() {
        let edge = Edge::new().await;
        let body = r#"{"username":"12345","password":"678901"}"#;
        assert_eq!(edge.post("/v1/account/registry", JSON, body).await["code"], 0);
        let body = r#"{"username":12345,"password":678901,"device_id":null}"#;
        assert_eq!(edge.post("/v1/account/auth", JSON, body).await["code"], 0);
        let guest = edge.post("/v1/account/auth", JSON, r#"{"device_id":"phone-1"}"#).await;
        let again = edge.get("/v1/account/auth?device_id=phone-1").await.1;
        assert_eq!((&guest["code"], &guest["account_id"]), (&0.into(), &again["account_id"]));
    }

    #[tokio::test]
    async fn a_refusal_has_all_members_null_and_a_message() {
        let edge = Edge::new().await;
        let register = "/v1/account/registry";
        edge.post(register, FORM, "username=anna&password=secret1").await;
        let taken = edge.post(register, FORM, "username=Anna&password=secret1").await;
        let told = serde_json::json!({
            "code": 203, "token": null, "addr": null, "account_id": null, "openid": null,
            "refresh_token": null, "expires_in": null, "message": "name taken",
        });
        assert_eq!(taken, told);
        for (content_type, body, named) in [
            (FORM, "username=anna", "`password`"),
            (FORM, "", "`username`"),
            (JSON, "{", "JSON"),
            (JSON, r#"{"username":[],"password":"x"}"#, "`username`"),
            ("text/plain", "username=anna&password=secret1", "content-type"),
        ] {
            let refused = edge.post(register, content_type, body).await;
            assert_eq!(refused["code"], 210);
            assert!(refused["message"].as_str().unwrap().contains(named), "{refused}");
        }
        let query = edge.get("/v1/account/auth?username=a&username=b").await;
        assert_eq!((query.0, &query.1["code"]), (200, &210.into()));
    }

    #[tokio::test]
    async fn a_logout_takes_the_token_as_bearer_or_as_parameter() {
        let edge = Edge::new().await;
        let guest = edge.post("/v1/account/auth", FORM, "device_id=phone").await;
        let token = guest["token"].as_str().unwrap();
        let logout = || edge.client.post(format!("{}/v1/account/logout", edge.url));
        let done = serde_json::json!({ "code": 0 });
        assert_eq!(edge.send(logout().bearer_auth(token)).await, (200, done.clone()));
        let form = logout().header("content-type", FORM).body(format!("token={token}"));
        assert_eq!(edge.send(form).await, (200, done));
        for (body, code) in [("refresh_token=x", 2001), ("token=x", 2001), ("", 210)] {
            let form = logout().header("content-type", FORM).body(body);
            let (status, answer) = edge.send(form).await;
            assert_eq!((status, &answer["code"]), (200, &code.into()), "{answer}");
            assert!(answer["message"].is_string(), "{answer}");
        }
    }

    #[tokio::test]
    async fn the_peer_address_is_throttled() {
        let edge = Edge::new().await;
        for i in 0..5 {
            let wrong = format!("username=nobody{i}&password=wrong");
            assert_eq!(edge.post("/v1/account/auth", FORM, &wrong).await["code"], 201);
        }
        let other = edge.post("/v1/account/auth", FORM, "username=anna&password=secret1").await;
        assert_eq!(other["code"], 208);
    }

    #[tokio::test]
    async fn unknown_routes_wrong_methods_and_large_bodies_are_told_in_json() {
        let edge = Edge::new().await;
        let (status, body) = edge.get("/v1/account/nothing").await;
        assert!(status == 404 && body["error"].is_string(), "{status} {body}");
        for (path, allow) in [("/v1/account/registry", "POST"), ("/v1/account/auth", "GET, POST")] {
            let request = edge.client.delete(format!("{}{path}", edge.url));
            let response = request.send().await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["allow"]),
                (405, &allow.parse().unwrap())
            );
            assert!(response.text().await.unwrap().contains("\"error\""));
        }
        assert_eq!(edge.get("/v1/account/registry").await.0, 405);
        for (bytes, told) in
            [(HTTP_BODY_BYTES_MAX, 200), (HTTP_BODY_BYTES_MAX + 1, 413), (900 * 1024, 413)]
        {
            let request = edge.client.post(format!("{}/v1/account/auth", edge.url));
            let request = request.header("content-type", FORM).body("a".repeat(bytes));
            let (status, body) = edge.send(request).await;
            assert_eq!(status, told, "{bytes}");
            assert_eq!(body["error"].is_string(), told == 413, "{body}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_500_with_a_request_id_and_the_server_lives() {
        let edge = Edge::new().await;
        let (status, body) = edge.get("/panics").await;
        assert_eq!((status, &body["error"]), (500, &"internal server error".into()));
        assert_eq!(body["request_id"].as_str().unwrap().len(), 16);
        let (status, body) = edge.get("/fails").await;
        assert!(status == 503 && body["request_id"].is_string(), "{status} {body}");
        assert_eq!(edge.get("/health").await, (200, serde_json::json!({ "status": "ok" })));
    }

    #[tokio::test]
    async fn without_an_account_center_the_edge_says_101() {
        let edge = Edge::new().await;
        edge.asker.stop();
        let away = edge.post("/v1/account/auth", FORM, "device_id=phone").await;
        assert_eq!(away["code"], 101);
    }

    #[tokio::test]
    async fn the_public_keys_are_shown_and_nothing_else() {
        let edge = Edge::new().await;
        let (status, body) = edge.get("/.well-known/jwks.json").await;
        let keys: Vec<crate::directory::Jwk> =
            serde_json::from_value(body["keys"].clone()).unwrap();
        assert_eq!((status, keys), (200, edge.world.center.jwks()));
        assert_eq!(body["keys"][0].as_object().unwrap().len(), 6, "{body}");
    }

    #[tokio::test]
    async fn a_stopped_server_frees_its_port() {
        let edge = Edge::new().await;
        assert_eq!(edge.get("/health").await.0, 200);
        edge.handle.stop(true).await;
        let gone = edge.client.get(format!("{}/health", edge.url)).send().await;
        assert!(gone.is_err());
    }
}

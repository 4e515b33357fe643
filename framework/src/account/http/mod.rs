//! Owns the account center's HTTP edge: the server, its limits, all its routes. Routes are thin:
//! they read parameters, call the center, and answer in their dialect; no rule of signing in is
//! here.

mod answers;
mod body;
mod func;
mod pages;
mod params;
mod route;
mod signatures;
mod v1;

use std::{io, net::TcpListener, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, dev::Server, http::StatusCode, middleware::from_fn, web,
};

use self::{
    answers::{guarded, problem},
    body::READ_TIMEOUT,
    route::Route,
};
use super::AccountCenter;

/// Per worker; the next connection waits in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Two, since they only read, ask and write: hashing has threads of its own.
const WORKERS: usize = 2;
/// How long requests may take to end once the server is told to stop. Beyond: cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves every route on all listeners. The answer is a future to be spawned; its `handle()`
/// stops it.
pub(crate) fn serve(listeners: Vec<TcpListener>, center: AccountCenter) -> io::Result<Server> {
    serve_with(listeners, move |cfg| configure(cfg, &center))
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

/// Every route with a dialect.
fn routes() -> Vec<Route> {
    [v1::routes(), func::routes(), pages::routes()].into_iter().flatten().collect()
}

/// The paths that no validator's page may have.
pub(super) fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|route| route.path).collect()
}

fn configure(cfg: &mut web::ServiceConfig, center: &AccountCenter) {
    let signatures = signatures::routes(center.0.proofs.validators());
    for route in routes().into_iter().chain(signatures) {
        cfg.service(route.resource(center.clone()));
    }
    cfg.default_service(web::to(not_found));
}

async fn not_found() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "no such route")
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ServerHandle;
    use serde_json::Value;

    use super::{super::world::World, *};
    use crate::{limits::HTTP_BODY_BYTES_MAX, tasks::Tasks};

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    const MEMBERS: [&str; 7] =
        ["code", "token", "addr", "account_id", "openid", "refresh_token", "expires_in"];

    /// A real server on a free port.
    pub(super) struct Edge {
        pub(super) url: String,
        pub(super) client: reqwest::Client,
        handle: ServerHandle,
        pub(super) world: World,
    }

    impl Edge {
        pub(super) async fn new() -> Self {
            let world = World::new().await;
            let tasks = Tasks::default();
            let center = world.center.clone();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let routes = move |cfg: &mut web::ServiceConfig| {
                cfg.route("/panics", web::get().to(panics));
                cfg.route("/fails", web::get().to(fails));
                configure(cfg, &center);
            };
            let server = serve_with(vec![listener], routes).unwrap();
            let handle = server.handle();
            tasks.spawn(server);
            Self { url, client: reqwest::Client::new(), handle, world }
        }

        pub(super) async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
        }

        /// Posts to an account route, which answers 200 with all members whatever happened.
        pub(super) async fn post(&self, path: &str, content_type: &str, body: &str) -> Value {
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

        pub(super) async fn get(&self, path: &str) -> (u16, Value) {
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

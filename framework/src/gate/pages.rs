//! Owns the pages that a gate shows to browsers at the address of its WebSockets: those of the
//! studio, and where the cluster's account centers and gates are. Leaves reading the request and
//! everything about WebSockets to `ws`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, PoisonError, RwLock},
};

use ring::digest::{SHA256, digest};
use serde_json::json;
use tungstenite::{
    handshake::server::Request,
    http::{Method, header},
};

use crate::directory::{NodeInfo, NodeState, Nodes};

/// Where a page asks whom it may sign in at, and which gates there are.
const FRONT: &str = "/front.json";

/// A page runs its own scripts and styles and nobody else's, is framed by nobody, and connects to
/// gates and account centers, which may be at any address.
const SECURITY: &str = "Content-Security-Policy: default-src 'self'; connect-src 'self' http: \
                        https: ws: wss:; img-src 'self' data:; base-uri 'none'; form-action \
                        'none'; frame-ancestors 'none'\r\n\
                        X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n";

/// A file that browsers are shown, such as a page or its script.
///
/// ```
/// use bastide::Page;
///
/// static PLAY: Page = Page::html("<!doctype html><title>Play</title>");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Page {
    content_type: &'static str,
    bytes: &'static [u8],
}

impl Page {
    /// A file of any type, such as `image/png`.
    pub const fn new(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { content_type, bytes }
    }

    /// A page of HTML.
    pub const fn html(text: &'static str) -> Self {
        Self::new("text/html; charset=utf-8", text.as_bytes())
    }

    /// A script.
    pub const fn script(text: &'static str) -> Self {
        Self::new("text/javascript; charset=utf-8", text.as_bytes())
    }

    /// A style sheet.
    pub const fn style(text: &'static str) -> Self {
        Self::new("text/css; charset=utf-8", text.as_bytes())
    }
}

/// Every page of a game, and what is known of the cluster. A clone is a handle to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    by_path: Arc<BTreeMap<&'static str, Page>>,
    /// Std lock: held to clone an `Arc`, by a request, and by what follows the nodes.
    front: Arc<RwLock<Arc<str>>>,
}

impl Pages {
    /// Adds a page, before the game runs.
    ///
    /// # Panics
    /// When the path is none, or is taken.
    pub(crate) fn add(&mut self, path: &'static str, page: Page) {
        let simple = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        assert!(
            path.starts_with('/') && path.len() > 1 && path.chars().all(simple),
            "`{path}` is no path of a page: write one such as /play"
        );
        let ours = matches!(path, "/ws" | FRONT);
        let taken = Arc::make_mut(&mut self.by_path).insert(path, page).is_some();
        assert!(!ours && !taken, "the page `{path}` is taken: choose another path");
    }

    /// The paths of what people look at: the pages of HTML.
    pub(crate) fn shown(&self) -> Vec<&'static str> {
        let html = |page: &Page| page.content_type.starts_with("text/html");
        self.by_path.iter().filter(|(_, page)| html(page)).map(|(path, _)| *path).collect()
    }

    /// Takes over where the nodes that are up are reached.
    pub(super) fn learn(&self, nodes: &Nodes) {
        let up = || nodes.iter().filter(|node| node.state == NodeState::Up);
        let at = |of: fn(&NodeInfo) -> Option<String>| -> Vec<String> {
            up().filter_map(|node| of(node)).collect()
        };
        let accounts = at(|node| Some(format!("http://{}", node.http.as_ref()?)));
        let front = json!({ "accounts": accounts, "gates": at(|node| node.ws.clone()) });
        *self.front.write().unwrap_or_else(PoisonError::into_inner) = front.to_string().into();
    }

    /// What a request is answered that is for a page; `None` when it is not.
    pub(super) fn answer(&self, request: &Request) -> Option<Vec<u8>> {
        if request.method() != Method::GET || request.headers().contains_key(header::UPGRADE) {
            return None;
        }
        let path = request.uri().path();
        if path == FRONT && !self.by_path.is_empty() {
            let front = self.front.read().unwrap_or_else(PoisonError::into_inner).clone();
            // It may be asked by pages that another server serves.
            let more = "Cache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\n";
            return Some(response("200 OK", "application/json", more, front.as_bytes()));
        }
        let page = self.by_path.get(path)?;
        let tag = tag(page.bytes);
        let more = format!("ETag: {tag}\r\nCache-Control: no-cache\r\n{SECURITY}");
        let known = request.headers().get_all(header::IF_NONE_MATCH).into_iter();
        let mut known = known.filter_map(|tags| tags.to_str().ok()).flat_map(|t| t.split(','));
        if known.any(|known| known.trim().trim_start_matches("W/") == tag) {
            return Some(response("304 Not Modified", page.content_type, &more, b""));
        }
        Some(response("200 OK", page.content_type, &more, page.bytes))
    }
}

/// Names these bytes and no others.
fn tag(bytes: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in &digest(&SHA256, bytes).as_ref()[..16] {
        _ = write!(tag, "{byte:02x}");
    }
    tag + "\""
}

fn response(status: &str, content_type: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         {more}Connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        let mut pages = Pages::default();
        pages.add("/play", Page::html("<p>play</p>"));
        pages.add("/play/play.js", Page::script("export {}"));
        pages
    }

    fn asked(pages: &Pages, path: &str, header: Option<(&str, &str)>) -> Option<String> {
        let mut request = http::Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = pages.answer(&request.body(()).expect("a request"))?;
        Some(String::from_utf8(answer).expect("text"))
    }

    #[test]
    fn a_page_is_answered_whole_and_not_again_to_who_has_it() {
        let pages = pages();
        let first = asked(&pages, "/play?x=1", None).expect("there");
        let (head, body) = first.split_once("\r\n\r\n").expect("a head");
        assert_eq!(body, "<p>play</p>");
        for part in [
            "HTTP/1.1 200 OK\r\n",
            "Content-Type: text/html; charset=utf-8\r\n",
            "Content-Length: 11\r\n",
            "Cache-Control: no-cache\r\n",
            "Content-Security-Policy: default-src 'self'; connect-src 'self' http: https: ws: wss:;",
            "X-Content-Type-Options: nosniff\r\n",
            "Connection: close",
        ] {
            assert!(head.contains(part), "{part} is not in {head}");
        }
        let tag = head.split("ETag: ").nth(1).and_then(|rest| rest.lines().next()).expect("a tag");
        let known = format!("\"other\", W/{tag}");
        let again = asked(&pages, "/play", Some(("if-none-match", &known))).expect("there");
        assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
        assert!(again.contains(tag) && again.contains("Content-Length: 0"), "{again}");
        let script = asked(&pages, "/play/play.js", Some(("if-none-match", tag))).expect("there");
        assert!(script.starts_with("HTTP/1.1 200 ") && script.ends_with("export {}"), "{script}");
        assert!(script.contains("text/javascript"), "{script}");
    }

    #[test]
    fn people_look_at_html() {
        assert_eq!(pages().shown(), ["/play"]);
    }

    #[test]
    fn what_is_below_a_page_or_asks_for_a_websocket_is_none() {
        let pages = pages();
        for path in ["/play/", "/play/other.js", "/playing", "/", "/ws"] {
            assert_eq!(asked(&pages, path, None), None, "{path}");
        }
        assert_eq!(asked(&pages, "/play", Some(("upgrade", "websocket"))), None);
    }

    #[test]
    fn the_front_names_account_centers_and_gates_that_are_up() {
        let pages = pages();
        let node = |http: Option<&str>, ws: Option<&str>, state| {
            let (http, ws) = (http.map(str::to_owned), ws.map(str::to_owned));
            Arc::new(NodeInfo { http, ws, state, ..NodeInfo::default() })
        };
        let nodes = Arc::new(vec![
            node(Some("10.0.0.1:8080"), None, NodeState::Up),
            node(None, Some("ws://10.0.0.2:18080/ws"), NodeState::Up),
            node(Some("10.0.0.3:8080"), Some("ws://10.0.0.3:18080/ws"), NodeState::Draining),
        ]);
        pages.learn(&nodes);
        let said = asked(&pages, FRONT, None).expect("there");
        let body = said.split("\r\n\r\n").nth(1).expect("a body");
        assert_eq!(
            body,
            r#"{"accounts":["http://10.0.0.1:8080"],"gates":["ws://10.0.0.2:18080/ws"]}"#
        );
        assert!(said.contains("Access-Control-Allow-Origin: *\r\n"), "{said}");
        let without = Pages::default();
        without.learn(&nodes);
        assert_eq!(asked(&without, FRONT, None), None, "nobody needs it where there is no page");
    }

    #[test]
    #[should_panic(expected = "`/play` is taken")]
    fn two_pages_with_one_path_are_refused() {
        pages().add("/play", Page::html(""));
    }

    #[test]
    #[should_panic(expected = "`play` is no path of a page")]
    fn what_is_no_path_is_refused() {
        pages().add("play", Page::html(""));
    }
}

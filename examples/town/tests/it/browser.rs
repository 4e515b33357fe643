//! Owns a headless Chromium and its pages, driven over its DevTools protocol. Leaves what the
//! pages show to `web`.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tungstenite::{Message, WebSocket, stream::MaybeTlsStream};

use crate::nodes::PATIENCE;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// It must work as root, in a container, without a screen; and a page that nobody looks at must
/// go on as if somebody did.
const FLAGS: [&str; 14] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// A browser without a screen. It ends with this.
pub(crate) struct Browser {
    process: Child,
    wire: Arc<Mutex<Wire>>,
    /// Its profile.
    _folder: tempfile::TempDir,
}

/// The way to it, shared by its pages.
struct Wire {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    next: u64,
    /// What the pages complained of.
    complaints: Vec<String>,
}

/// One page, in a profile of its own.
pub(crate) struct Page {
    wire: Arc<Mutex<Wire>>,
    session: String,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("chromium");
        command.args(FLAGS).arg(format!("--user-data-dir={}", folder.path().display()));
        command.arg("about:blank").env("HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let mut process = command
            .spawn()
            .unwrap_or_else(|e| panic!("chromium does not start ({e}): run ./services.sh"));
        let announced = folder.path().join("DevToolsActivePort");
        let until = Instant::now() + PATIENCE;
        let (port, path) = loop {
            let said = fs::read_to_string(&announced).unwrap_or_default();
            if let Some((port, path)) = said.split_once('\n') {
                break (port.to_owned(), path.trim().to_owned());
            }
            let ended = process.try_wait().unwrap();
            let fine = ended.is_none() && Instant::now() < until;
            assert!(fine, "{ended:?} {}", fs::read_to_string(&log).unwrap_or_default());
            sleep(LOOK_EVERY).await;
        };
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tungstenite::client(url, MaybeTlsStream::Plain(stream)).unwrap();
        let wire = Arc::new(Mutex::new(Wire { socket, next: 1, complaints: Vec::new() }));
        Self { process, wire, _folder: folder }
    }

    /// A page of somebody else's, at this address.
    pub(crate) async fn open(&self, url: &str, (width, height): (u32, u32)) -> Page {
        let ask = |method: &str, params: Value| lock(&self.wire).call(None, method, params);
        let profile = ask("Target.createBrowserContext", json!({}));
        let blank = json!({
            "url": "about:blank", "browserContextId": profile["browserContextId"], "newWindow": true,
        });
        let target = ask("Target.createTarget", blank)["targetId"].clone();
        let attached = ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let page = Page { wire: self.wire.clone(), session };
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize((width, height));
        page.goto(url).await;
        page
    }

    /// What pages complained of so far: exceptions that nobody caught, and errors of the browser.
    pub(crate) fn complaints(&self) -> Vec<String> {
        lock(&self.wire).complaints.clone()
    }
}

impl Page {
    async fn goto(&self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        let loaded =
            format!("location.href === {} && document.readyState === 'complete'", json!(url));
        self.until(&loaded).await;
    }

    /// As large as a window, or a phone, that shows a pixel as a pixel.
    pub(crate) fn resize(&self, (width, height): (u32, u32)) {
        let phone = width < 500;
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 },
            "mobile": phone,
        });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// What an expression is, when it is a promise what it resolves to.
    #[track_caller]
    pub(crate) fn eval(&self, expression: &str) -> Value {
        self.tried(expression).unwrap_or_else(|e| panic!("{expression}: {e}"))
    }

    fn tried(&self, expression: &str) -> Result<Value, String> {
        let ask = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
            "userGesture": true,
        });
        let answer = self.call("Runtime.evaluate", ask);
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(thrown["exception"]["description"].to_string()),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    /// Waits until an expression holds.
    pub(crate) async fn until(&self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            // A page that is just being left throws.
            let was = self.tried(expression);
            if was == Ok(Value::Bool(true)) {
                return;
            }
            let seen = "[location.href, document.body?.innerText, globalThis.arena?.state]";
            assert!(
                Instant::now() < until,
                "waited in vain until {expression}: {was:?} {:?} {:?}",
                self.tried(seen),
                lock(&self.wire).complaints
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// Moves the mouse there, from the middle of the page.
    pub(crate) fn point(&self, dx: f64, dy: f64) {
        let size = self.eval("[innerWidth / 2, innerHeight / 2]");
        let (x, y) = (size[0].as_f64().unwrap() + dx, size[1].as_f64().unwrap() + dy);
        let event = json!({ "type": "mouseMoved", "x": x, "y": y });
        self.call("Input.dispatchMouseEvent", event);
    }

    /// Keeps what it shows as a picture in `target/screenshots`.
    pub(crate) fn screenshot(&self, name: &str) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = root.join("target/screenshots");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = from_base64(shot["data"].as_str().unwrap());
        assert!(bytes.starts_with(b"\x89PNG\r\n"), "{name}");
        fs::write(&path, &bytes).unwrap();
        path
    }

    fn call(&self, method: &str, params: Value) -> Value {
        lock(&self.wire).call(Some(&self.session), method, params)
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        let mut ask = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            ask["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(ask.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().expect(method) else { continue };
            let said: Value = serde_json::from_str(&text).unwrap();
            if said["id"] == id {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].clone();
            }
            self.hear(&said);
        }
    }

    fn hear(&mut self, said: &Value) {
        let params = &said["params"];
        let complaint = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                params["exceptionDetails"]["exception"]["description"].to_string()
            }
            // The network is broken on purpose; what a policy forbids is not.
            Some("Log.entryAdded") if params["entry"]["source"] != "network" => {
                params["entry"]["text"].to_string()
            }
            _ => return,
        };
        self.complaints.push(complaint);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its helpers itself when it is asked to, and the connection behind them.
        let close = json!({ "id": 0, "method": "Browser.close" });
        let mut wire = lock(&self.wire);
        if wire.socket.send(Message::text(close.to_string())).is_ok() {
            while wire.socket.read().is_ok() {}
        }
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> =
        text.bytes().filter(|byte| *byte != b'=').map(|byte| digit(byte).into()).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let all = four.iter().fold(0, |all, digit| all << 6 | digit) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&all.to_be_bytes()[1..four.len()]);
    }
    bytes
}

//! The web kit in `examples/clients/web` and the page `/play`, in a headless Chromium.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use bastide::{Named, def, msg};
use bastide_testkit::secret;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    browser::{Browser, Page},
    nodes::Cluster,
    town::Town,
};

const WINDOW: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (360, 740);
const KIT: &str = "/play/kit/bastide.js";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_messages_that_the_web_kit_knows_are_those_of_the_proto_files() {
    let folders = ["arena", "cards", "chat"].map(|game| examples().join(game).join("proto"));
    let text = bastide_build::javascript(&folders).unwrap();
    let path = examples().join("clients/web/messages.js");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "{} is not what the .proto files say: write it anew with `UPDATE=1 cargo test -p town web`",
        path.display()
    );
}

/// What a gate answers to `GET path`: its head and its body.
fn get(gate: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(gate).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: town\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn the_gate_shows_the_page_and_nothing_below_it_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let gate = town.gate_ws();
    for (path, holds) in [
        ("/play", "<canvas"),
        ("/play/style.css", "#field"),
        ("/play/play.js", "import"),
        (KIT, "export"),
    ] {
        let (head, body) = get(&gate, path);
        assert!(head.starts_with("HTTP/1.1 200 ") && body.contains(holds), "{path}: {head}");
        assert!(head.contains("Content-Security-Policy: default-src 'self'"), "{path}: {head}");
    }
    for path in ["/play/", "/play/none.js", "/play/kit", "/play/../play"] {
        assert!(get(&gate, path).0.starts_with("HTTP/1.1 404 "), "{path}");
    }
    let (_, front) = get(&gate, "/front.json");
    let front: Value = serde_json::from_str(&front).unwrap();
    assert_eq!(front["accounts"], json!([format!("http://{}", town.http())]));
    assert_eq!(front["gates"], json!([format!("ws://{gate}/ws")]));
}

/// Runs one of the kit's own tests in a page of this gate's; what was wrong.
async fn kit_test(browser: &Browser, gate: &str, name: &str, given: &Value) -> Value {
    let test = examples().join("clients/web/tests").join(name);
    let test = fs::read_to_string(test).unwrap();
    // Of the same origin as the kit, and without the game.
    let page = browser.open(&format!("http://{gate}/play/style.css"), WINDOW).await;
    page.eval(&format!("(\n{test})({given})"))
}

/// A message as prost writes it, and what it has to be in JavaScript.
fn known<M: Named>(message: &M, fields: Value) -> Value {
    let hex: String = message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "name": M::NAME, "encoded": hex, "fields": fields })
}

#[tokio::test]
async fn the_kit_reads_and_writes_what_prost_writes() {
    let user = def::User {
        id: 7,
        account: i64::MAX,
        motto: Some("Grüße, 世界".to_owned()),
        status: -1,
        items: vec![def::Item {
            id: 1,
            idx: 100,
            num: 9_007_199_254_740_993,
            ..Default::default()
        }],
        ..Default::default()
    };
    let login = msg::login::Res {
        user: Some(user),
        resume_token: Some(vec![0, 255, 16]),
        server_time_ms: Some(1_790_000_000_000),
        ..Default::default()
    };
    let logged_in = json!({
        "code": 0,
        "user": {
            "id": 7, "account": "9223372036854775807n", "status": -1, "createTime": 0,
            "updateTime": 0, "items": [{
                "id": 1, "idx": 100, "num": "9007199254740993n", "createTime": 0, "updateTime": 0,
            }],
            "motto": "Grüße, 世界",
        },
        "resumeToken": "00ff10",
        "serverTimeMs": 1_790_000_000_000_u64,
    });
    let enter = msg::enter_room::Req {
        kind: "arena".to_owned(),
        options: [("robots".to_owned(), "0".to_owned())].into(),
        ..Default::default()
    };
    let entered =
        json!({ "kind": "arena", "roomId": "", "requestId": "", "options": { "robots": "0" } });
    let fields = [known(&login, logged_in), known(&enter, entered)];
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let browser = Browser::start().await;
    let given = json!({ "kit": KIT, "known": fields });
    assert_eq!(kit_test(&browser, &town.gate_ws(), "messages.js", &given).await, json!([]));
}

#[tokio::test]
async fn a_session_of_the_kit_is_cut_and_nothing_is_lost_or_done_twice() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let browser = Browser::start().await;
    let given = json!({ "kit": KIT, "device": secret("web-of-a-test-0123456789") });
    assert_eq!(kit_test(&browser, &town.gate_ws(), "session.js", &given).await, json!([]));
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A player's page, in its arena.
async fn player(browser: &Browser, gate: &str, name: &str, size: (u32, u32)) -> Page {
    let page = browser.open(&format!("http://{gate}/play?robots=0&name={name}"), size).await;
    page.until("arena.state === 'playing' && arena.scene.views > 20 && arena.me !== null").await;
    page
}

/// Where its own ball is.
fn place(page: &Page) -> (f64, f64) {
    let me = page.eval("[arena.me.x, arena.me.y]");
    (me[0].as_f64().unwrap(), me[1].as_f64().unwrap())
}

/// Moves each towards the other until both see both.
async fn meet(one: &Page, other: &Page) {
    const BOTH: &str = "arena.scene.drawn.balls.filter((ball) => !ball.robot).length === 2";
    for _ in 0..600 {
        let ((x, y), (to_x, to_y)) = (place(one), place(other));
        let (dx, dy) = (to_x - x, to_y - y);
        let length = dx.hypot(dy).max(1.0);
        one.point(dx / length * 150.0, dy / length * 150.0);
        other.point(-dx / length * 150.0, -dy / length * 150.0);
        if [one, other].iter().all(|page| page.eval(BOTH) == true) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    for page in [one, other] {
        page.point(0.0, 0.0);
        page.until(BOTH).await;
        page.until("arena.scene.players === 2").await;
    }
}

/// The page is on: views come, and what it steers is done.
async fn goes_on(page: &Page) {
    page.until("arena.state === 'playing' && arena.session.connected").await;
    page.eval("globalThis.seen = arena.scene.views");
    page.until("arena.scene.views > seen + 20").await;
}

/// Steers one across the line between both, to where more of the field is: nothing stops it, and
/// neither eats the other. The other must see it go.
async fn moves_before_the_other_s_eyes(one: &Page, other: &Page) {
    const MIDDLE: f64 = 2000.0;
    let ((x, y), (to_x, to_y)) = (place(one), place(other));
    let length = (to_x - x).hypot(to_y - y).max(1.0);
    let (across_x, across_y) = ((y - to_y) / length * 150.0, (to_x - x) / length * 150.0);
    let inwards = across_x * (MIDDLE - x) + across_y * (MIDDLE - y);
    let sign = if inwards < 0.0 { -1.0 } else { 1.0 };
    // As the other draws it.
    let id = one.eval("arena.scene.me");
    let seen = format!("arena.scene.drawn.balls.find((ball) => ball.id === {id})");
    other.until(&format!("{seen} !== undefined")).await;
    other.eval(&format!("globalThis.from = {seen}"));
    one.point(across_x * sign, across_y * sign);
    other.until(&format!("Math.hypot({seen}.x - from.x, {seen}.y - from.y) > 40")).await;
    one.point(0.0, 0.0);
}

/// Keeps a picture, and sees that there is something on the canvas.
fn shows_something(page: &Page, name: &str) {
    let colours = page.eval(
        "(() => {
            const { width, height } = document.getElementById('field');
            const copy = Object.assign(document.createElement('canvas'), { width, height });
            const context = copy.getContext('2d', { willReadFrequently: true });
            context.drawImage(document.getElementById('field'), 0, 0);
            const { data } = context.getImageData(0, 0, width, height);
            const pixels = new Uint32Array(data.buffer);
            return new Set(pixels.filter((_, at) => at % 7 === 0)).size;
        })()",
    );
    assert!(colours.as_u64() > Some(8), "{name} has {colours} colours");
    let bytes = fs::metadata(page.screenshot(name)).unwrap().len();
    assert!(bytes > 8 * 1024, "{name} has {bytes} bytes");
}

/// Nothing on the page lies beyond its edges, or is too small to be read.
fn is_readable(page: &Page) {
    let unreadable = page.eval(
        "[...document.querySelectorAll('#me p, #top h1, #top li, #banner, #again, #told')]
            .filter((element) => element.offsetParent !== null)
            .filter((element) => {
                const { left, right, top, bottom } = element.getBoundingClientRect();
                const inside = left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
                return !inside || parseFloat(getComputedStyle(element).fontSize) < 14;
            })
            .map((element) => element.outerHTML)",
    );
    assert_eq!(unreadable, json!([]));
    assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), true);
}

/// What a game seldom does when a test wants it: an arena of the test's own does it.
#[tokio::test]
async fn who_is_eaten_is_told_and_comes_in_again_and_whose_room_closed_enters_another() {
    const ASKED: &str =
        "mock.asked.splice(0).join(' ').replaceAll('msg.', '').replaceAll('.Req', '')";
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let browser = Browser::start().await;
    let page = browser.open(&format!("http://{}/play", town.gate_ws()), PHONE).await;
    page.until("arena.session !== null").await;
    let mock = fs::read_to_string(examples().join("arena/web/tests/mock.js")).unwrap();
    page.eval(&format!("(\n{mock})()"));
    page.until("arena.state === 'playing' && arena.me !== null").await;
    // It sat somewhere, from before.
    assert_eq!(page.eval(ASKED), "EnterRoom JoinRoom LeaveRoom EnterRoom JoinRoom");

    page.eval("mock.alive = false; mock.push('arena.Eaten', { by: 'Berta', score: 144 })");
    page.until("arena.state === 'eaten' && arena.me === null").await;
    assert_eq!(
        page.eval("document.getElementById('told').innerText"),
        "Eaten by Berta with 144 points."
    );
    is_readable(&page);
    shows_something(&page, "arena-eaten");
    page.eval("document.getElementById('again').click()");
    page.until("arena.state === 'playing' && arena.me !== null").await;
    assert_eq!(page.eval(ASKED), "arena.Respawn");

    // Whoever was eaten while the page was not there is told as well.
    page.eval("mock.alive = false");
    page.until("arena.state === 'eaten'").await;
    page.eval("document.getElementById('again').click()");
    page.until("arena.state === 'playing' && document.getElementById('dialog').hidden").await;
    assert_eq!(page.eval(ASKED), "arena.Respawn");

    page.eval("mock.push('msg.RoomClosed', { roomId: 'r', code: 3007, reason: 'gone' })");
    page.until("arena.state === 'playing' && mock.asked.length === 2").await;
    assert_eq!(page.eval(ASKED), "EnterRoom JoinRoom");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[tokio::test]
async fn two_pages_see_each_other_move_and_go_on_when_they_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let (gate, browser) = (town.gate_ws(), Browser::start().await);
    let anna = player(&browser, &gate, "anna", WINDOW).await;
    let bert = player(&browser, &gate, "bert", WINDOW).await;
    assert_eq!(anna.eval("arena.roomId"), bert.eval("arena.roomId"));
    meet(&anna, &bert).await;
    moves_before_the_other_s_eyes(&anna, &bert).await;
    meet(&anna, &bert).await;
    moves_before_the_other_s_eyes(&bert, &anna).await;
    for (page, other) in [(&anna, "bert"), (&bert, "anna")] {
        page.until(&format!("arena.scene.drawn.balls.some(({{ name }}) => name === '{other}')"))
            .await;
        page.until(&format!("document.getElementById('top').innerText.includes('{other}')")).await;
        page.until("Number(document.querySelector('#score span').textContent) > 0").await;
        page.until("Number(document.getElementById('ping').textContent) > 0").await;
    }
    shows_something(&anna, "arena-anna");
    shows_something(&bert, "arena-bert");

    for page in [&anna, &bert] {
        page.eval("arena.session.cut()");
        page.until("arena.session.resumes === 1").await;
        goes_on(page).await;
    }
    meet(&anna, &bert).await;
    moves_before_the_other_s_eyes(&anna, &bert).await;

    bert.resize(PHONE);
    goes_on(&bert).await;
    is_readable(&bert);
    shows_something(&bert, "arena-phone");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A town that starts anew has forgotten the session: the page signs in again, by itself, and gets
/// the same player.
#[tokio::test]
async fn a_page_whose_session_is_lost_signs_in_anew_and_plays_on() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let (http, gate) = (town.http(), town.gate_ws());
    let browser = Browser::start().await;
    let anna = player(&browser, &gate, "anna", WINDOW).await;
    let account = anna.eval("arena.session.user.account");
    anna.eval("globalThis.first = arena.session");
    assert_eq!(town.stop().await.code(), Some(0));
    anna.until("arena.state === 'reconnecting' || arena.state === 'connecting'").await;
    anna.until("!document.getElementById('banner').hidden").await;
    let again = Town::start_at(dir.path(), &http, &gate);
    anna.until("arena.session !== first && arena.state === 'playing'").await;
    goes_on(&anna).await;
    assert_eq!(anna.eval("arena.session.user.account"), account);
    drop(again);
}

#[tokio::test]
async fn pages_go_on_when_their_gate_was_killed_and_started_again() {
    let cluster = Cluster::shared();
    let [_town, mut gate] = cluster.nodes(["account,game,rooms", "gate"]).await;
    let (tcp, ws) = (gate.gate(), gate.gate_ws());
    let browser = Browser::start().await;
    let anna = player(&browser, &ws, "anna", WINDOW).await;
    let bert = player(&browser, &ws, "bert", PHONE).await;
    gate.kill();
    for page in [&anna, &bert] {
        page.until("arena.state === 'reconnecting'").await;
        page.until("document.getElementById('banner').innerText === 'reconnecting …'").await;
        is_readable(page);
    }
    shows_something(&bert, "arena-reconnecting");
    let at = ["--gate-tcp", &tcp, "--gate-ws", &ws].map(str::to_owned).into();
    let [_gate] = cluster.nodes_with([("gate", at)]).await;
    for page in [&anna, &bert] {
        page.until("arena.session.resumes >= 1").await;
        goes_on(page).await;
        page.until("document.getElementById('banner').hidden").await;
    }
    meet(&anna, &bert).await;
    moves_before_the_other_s_eyes(&anna, &bert).await;
    assert_eq!(browser.complaints(), [""; 0]);
}

//! The page that the arena is played in, at `/play`, and the client kit that it is made with.

use bastide::{App, Page};

macro_rules! page {
    ($file:literal) => {
        include_str!(concat!("../../arena/web/", $file))
    };
}

macro_rules! kit {
    ($file:literal) => {
        Page::script(include_str!(concat!("../../clients/web/", $file)))
    };
}

/// Shows the page and all that it loads.
pub(crate) fn mount<P>(app: App<P>) -> App<P> {
    app.page("/play", Page::html(page!("index.html")))
        .page("/play/style.css", Page::style(page!("style.css")))
        .page("/play/play.js", Page::script(page!("play.js")))
        .page("/play/draw.js", Page::script(page!("draw.js")))
        .page("/play/hud.js", Page::script(page!("hud.js")))
        .page("/play/scene.js", Page::script(page!("scene.js")))
        .page("/play/steer.js", Page::script(page!("steer.js")))
        .page("/play/kit/account.js", kit!("account.js"))
        .page("/play/kit/bastide.js", kit!("bastide.js"))
        .page("/play/kit/frames.js", kit!("frames.js"))
        .page("/play/kit/link.js", kit!("link.js"))
        .page("/play/kit/messages.js", kit!("messages.js"))
        .page("/play/kit/proto.js", kit!("proto.js"))
        .page("/play/kit/session.js", kit!("session.js"))
}

//! The page itself: files of this origin, so that the browser can be told to run and fetch nothing else.

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::api::AgentHandle;

/// Path, media type and content of each file.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/model.js", SCRIPT, include_str!("page/model.js")),
    ("/draw.js", SCRIPT, include_str!("page/draw.js")),
    ("/topology.js", SCRIPT, include_str!("page/topology.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn routes() -> Router<AgentHandle> {
    FILES.into_iter().fold(Router::new(), |router, (path, media, content)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, media)], content)))
    })
}

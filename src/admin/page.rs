//! The page for people, at `/`: three files in the binary that hold nothing by themselves. What they show they ask the API for, with
//! the token of whoever looks.

use axum::{
    Router,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    response::IntoResponse,
    routing::get,
};

use super::Admin;

/// Path, type, content.
const FILES: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];

/// Nothing from anywhere else, and nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Whether the path is one of the page's files.
pub fn has(path: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == path)
}

pub fn router() -> Router<Admin> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        let answer = || async {
            let headers = [
                (CONTENT_TYPE, *kind),
                (CONTENT_SECURITY_POLICY, POLICY),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (REFERRER_POLICY, "no-referrer"),
                (CACHE_CONTROL, "no-cache"),
            ];
            (headers, *content).into_response()
        };
        router.route(path, get(answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::rig::{TABLE, serve};

    const AUTH: &str = "admin: { auth: { tokens: { ops: { token: \"0123456789abcdef0123\", scopes: [view] } } } }";

    #[tokio::test]
    async fn the_page_is_everyones_and_what_it_shows_is_not() {
        let server = serve(&format!("{TABLE}{AUTH}")).await;
        for (path, kind, content) in FILES {
            let (status, head, body) = server.ask("GET", path, "", "").await;
            assert_eq!((status, body.as_str()), (200, content), "{path}");
            assert!(head.contains(kind) && head.contains("default-src 'none'") && head.contains("nosniff"), "{head}");
        }
        assert_eq!(server.ask("GET", "/api/v1/routes", "", "").await.0, 401);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_its_parts_fit() {
        let [(_, _, html), (_, _, css), (_, _, script)] = FILES;
        for text in [html, css, script] {
            assert!(!text.contains("://") && !text.contains("@import"), "it asks somebody else");
        }
        for markup in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!script.contains(markup), "{markup}: what a message holds could become markup");
        }
        assert!(!html.contains("onclick") && !html.contains("style="), "the policy does not allow it");
        for used in script.split("of(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(html.contains(&format!("id=\"{used}\"")), "{used} is not on the page");
        }
    }
}

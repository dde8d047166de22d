//! The description of the API, for programs (`/openapi.json`) and for people (`/docs`). Both are
//! files beside this one; the page needs no network but this server.

use super::reply::Reply;

const DOCUMENT: &str = include_str!("openapi.json");
const PAGE: &str = include_str!("docs.html");

/// `/openapi.json`.
pub(super) fn document() -> Reply {
    Reply::json(200, DOCUMENT.replace("$VERSION", env!("CARGO_PKG_VERSION")))
}

/// `/docs`.
pub(super) fn page() -> Reply {
    Reply { content_type: "text/html; charset=utf-8", ..Reply::json(200, PAGE) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::server::routes::{ROUTES, Route};

    fn document() -> Value {
        serde_json::from_slice(&super::document().body).unwrap()
    }

    #[test]
    fn it_describes_what_there_is_and_nothing_else() {
        let document = document();
        let described = document["paths"].as_object().unwrap();
        let hidden = |route| matches!(route, Route::Unsupported(_) | Route::OpenApi | Route::Docs);
        let offered: Vec<_> = ROUTES.iter().filter(|(.., route)| !hidden(*route)).collect();
        assert_eq!(described.len(), offered.len());
        for (path, method, _) in offered {
            assert!(described[*path][method.to_lowercase()].is_object(), "{method} {path}");
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for (at, marker) in text.match_indices("\"$ref\":\"#") {
            let rest = &text[at + marker.len()..];
            let pointer = &rest[..rest.find('"').unwrap()];
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}

//! How a server is, for those who watch over it: `/health` says that it is alive, `/ready` that
//! it should be sent requests.

use std::time::{Duration, Instant};

use serde_json::json;

use super::app::App;
use super::phase::Phase;
use super::reply::Reply;

/// How long the online store may take to answer; who asks for readiness does not wait for long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Alive: an empty 200, as Feast's server has it. A registry that is no longer refreshed is no
/// reason to be restarted, as features are served from the old one: it is told of in the body.
pub(super) fn health(app: &App) -> Reply {
    let freshness = app.refresher().freshness();
    let Some((since, why)) = freshness.failing else {
        return Reply::empty(200);
    };
    let registry = json!({
        "age_seconds": freshness.age.as_secs(),
        "refresh_fails_since_seconds": since.as_secs(),
        "refresh_failures": freshness.failures,
        "error": why,
    });
    Reply::json(200, json!({ "status": "alive", "registry": registry }).to_string())
}

/// Ready: the registry is loaded, the online store answers, and the server is not stopping.
pub(super) async fn ready(app: &App, phase: Phase) -> Reply {
    if phase > Phase::Serving {
        return unready("the server is stopping");
    }
    match app.ping(Instant::now() + PATIENCE).await {
        Ok(()) => Reply::json(200, r#"{"ready":true}"#),
        Err(error) => unready(&error.to_string()),
    }
}

fn unready(why: &str) -> Reply {
    Reply::json(503, json!({ "ready": false, "reason": why }).to_string())
        .with_header("retry-after", "1")
}

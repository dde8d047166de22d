//! The feature server without its connections: requests that somebody else has taken, such as an
//! ASGI server, and answers for asyncio's loops.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::server::auth::Principal;
use crate::server::{App, Request, is_json};

use super::event_loop::LoopReads;

/// What answers requests.
#[pyclass(frozen, module = "feastrs._native")]
pub struct ServerApp(Arc<App>);

impl ServerApp {
    /// Answers with the handlers of `app`.
    pub fn new(app: Arc<App>) -> Self {
        ServerApp(app)
    }
}

#[pymethods]
impl ServerApp {
    /// Starts a request, whose answer the future shall have: status, headers, body.
    #[expect(clippy::too_many_arguments, reason = "a request's parts, and the loop's")]
    fn start(
        &self,
        method: &str,
        path: String,
        query: &[u8],
        content_type: &[u8],
        authorization: &[u8],
        body: PyBackedBytes,
        reads: &Bound<'_, LoopReads>,
        future: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let authorization = authorization.to_owned();
        let request = Request {
            query: String::from_utf8_lossy(query).into_owned(),
            principal: Principal::Anyone,
            is_json: is_json(content_type),
            body: Bytes::copy_from_slice(&body),
            deadline: None,
        };
        let (app, method) = (self.0.clone(), method.to_owned());
        let reply = async move { app.respond(&method, &path, Some(&authorization), request).await };
        Ok(reads.get().start_reply(reply, future.unbind())?)
    }

    /// Makes materializations that go on end soon.
    fn stop(&self) {
        self.0.stop();
    }
}

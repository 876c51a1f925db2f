//! What the listener for operators answers.

use crate::stop::Stop;
use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tidegate::{Admin, Limiter};

/// What answers are made of.
pub(super) struct Desk {
    pub(super) numbers: &'static PrometheusHandle,
    pub(super) limiter: Limiter,
    pub(super) stop: Arc<Stop>,
    pub(super) token: Option<String>,
}

pub(super) fn router(desk: Arc<Desk>, api: Option<&Admin>) -> Router {
    let own = Router::new()
        .route("/healthz", get(|| async { (NOT_KEPT, "ok\n") }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(desk);
    match api {
        Some(api) => own.merge(api.router()),
        None => own,
    }
}

const NOT_KEPT: [(http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let (status, text) = if desk.stop.is_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "the server stops\n")
    } else if !desk.limiter.is_ready() {
        (StatusCode::SERVICE_UNAVAILABLE, "the store is down, and limits refuse without it\n")
    } else {
        (StatusCode::OK, "ready\n")
    };
    (status, NOT_KEPT, text).into_response()
}

async fn metrics(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    if !desk.token.as_deref().is_none_or(|token| has_token(&headers, token)) {
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        let text = "send the token as `Authorization: Bearer ..`\n";
        return (StatusCode::UNAUTHORIZED, NOT_KEPT, challenge, text).into_response();
    }
    desk.limiter.set_gauges("proxy");
    let format = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (NOT_KEPT, format, desk.numbers.render()).into_response()
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some((scheme, sent)) = line.as_bytes().split_at_checked(b"Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && sent.trim_ascii().ct_eq(token.as_bytes()).into()
}

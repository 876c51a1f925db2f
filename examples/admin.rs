//! Tasks are enqueued by clients whose limits are set over HTTP, while the system runs.
//!
//! ```sh
//! ADMIN_API_KEY=$(openssl rand -hex 32) cargo run --example admin --features admin
//! cargo run --example admin --features admin -- --open-without-key-on-loopback   # for a look at it
//! curl -d '{"client_id":"ann","tier":"free"}' http://127.0.0.1:8080/admin/clients/set
//! curl -d '{"client_id":"ann","queue":"default","task":{}}' http://127.0.0.1:8080/v1/enqueue   # 10 a minute
//! curl -H 'x-client-id: ann' http://127.0.0.1:8080/v1/rate-limit
//! examples/admin.sh   # more of it
//! ```
#![allow(clippy::print_stdout)]

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::StatusCode,
    routing::post,
};
use serde_json::{Value, json};
use std::{
    env,
    error::Error,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use tidegate::*;
use tokio::net::TcpListener;

type Answer = (StatusCode, Json<Value>);

fn refuse(status: StatusCode, error: impl ToString) -> Answer {
    (status, Json(json!({ "error": error.to_string() })))
}

async fn enqueue(
    State(limiter): State<Limiter>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: String,
) -> Result<Answer, Answer> {
    let task: Value =
        serde_json::from_str(&body).map_err(|_| refuse(StatusCode::BAD_REQUEST, "Invalid body"))?;
    let queue = task["queue"].as_str().unwrap_or("default");
    let id = match &task["client_id"] {
        Value::Null => None,
        Value::String(id) => Some(&**id).filter(|id| !id.is_empty()),
        _ => return Err(refuse(StatusCode::BAD_REQUEST, "Invalid body: client_id is a string")),
    };
    let client = limiter.client(&id.map_or(Identity::anonymous(), Identity::name));
    let wanted = task.get("rate_limit").filter(|wanted| !wanted.is_null());
    let wanted = wanted.map(|wanted| Grant::from_json(wanted, "rate_limit")).transpose();
    let wanted = wanted.map_err(|error| refuse(StatusCode::BAD_REQUEST, error))?;
    let mut charging = client.charge("enqueue").address(peer.ip()).resource(queue);
    if let Some(wanted) = &wanted {
        charging = charging.with_limits(wanted);
    }
    let decision = charging.await.map_err(|error| {
        let status = match &error {
            ChargeError::Rejected(rejection) => rejection.status(),
            ChargeError::BadOverride { .. } => StatusCode::BAD_REQUEST,
            ChargeError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        refuse(status, format!("Client validation failed: {error}"))
    })?;
    let id = id.unwrap_or(FALLBACK);
    let grant = wanted.unwrap_or_default().or(&in_force(&limiter, id).await);
    if decision.is_allowed() {
        let task_id = format!("{:08x}", TASKS.fetch_add(1, Relaxed));
        let enqueued = json!({
            "status": "enqueued", "task_id": task_id, "queue": queue, "client_id": id, "rate_limit": grant,
        });
        return Ok((StatusCode::CREATED, Json(enqueued)));
    }
    let most = grant.requests_quota().map_or(0, |quota| quota.amount());
    let wait = decision.retry_after_secs().unwrap_or(0);
    let message = format!("exceeded {most} requests per minute; try again in {wait} seconds");
    let error = json!({
        "error": "Rate limit exceeded", "message": message, "client_id": id, "requests_per_min": most,
    });
    Err((StatusCode::TOO_MANY_REQUESTS, Json(error)))
}

/// What a client may do; one that could not be created has what the tier `default` grants.
async fn in_force(limiter: &Limiter, id: &str) -> Grant {
    let Some(clients) = limiter.clients() else { return Grant::new() };
    let (Ok(record), Ok(tiers)) = (clients.get(id).await, clients.tiers().await) else { return Grant::new() };
    let default = || tiers.get("default").cloned().unwrap_or_default();
    record.map_or_else(default, |record| record.in_force(&tiers, clients.now()))
}

static TASKS: AtomicU32 = AtomicU32::new(1);
/// Whom tasks without a client are counted for.
const FALLBACK: &str = "legacy-default";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let most = Grant::new().max_concurrent(100).requests_per_min(1_000);
    let overrides = ["free", "basic", "premium", "enterprise", "default"]
        .into_iter()
        .fold(Overrides::up_to(most), Overrides::tier);
    let clients = Clients::new(MemoryRegistry::new()).fallback(FALLBACK).overrides(overrides);
    let requests = Limit::per_client("requests", Quota::per_minute(50)).granted();
    let policy = Policy::new()
        .identify(Source::api_key_header("x-api-key").or(Source::header("x-client-id")).registered())
        .rule(Rule::new("enqueue").by_hand().limit(requests));
    let limiter = Limiter::builder(policy).clients(clients).build()?;

    let admin = match env::var("ADMIN_API_KEY") {
        Ok(key) => Admin::builder(&limiter).key(&key),
        Err(_) if env::args().any(|arg| arg == "--open-without-key-on-loopback") => {
            Admin::builder(&limiter).open_without_key_on_loopback()
        }
        Err(_) => return Err("set ADMIN_API_KEY, or start with --open-without-key-on-loopback".into()),
    };
    let admin = admin.build()?;
    let app = Router::new().route("/v1/enqueue", post(enqueue)).with_state(limiter);
    let app = app.merge(admin.router()).merge(admin.self_service());

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:8080".into())).await?;
    println!("curl http://{}/admin/openapi.json", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

//! A server with a limiter, its admin API and self-service, and requests to it.

use axum::{Router, routing::get};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};
use tidegate::*;
use tokio::net::TcpListener;

pub const KEY: &str = "an admin's long random key";

pub struct Stage {
    pub address: SocketAddr,
    pub limiter: Limiter,
    pub clock: ManualClock,
    /// Audit events: actor, action, subject, old, new; or status and reason.
    pub audit: Arc<Mutex<Vec<String>>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// A problem with this status, about this field.
    #[track_caller]
    pub fn is_problem(&self, status: u16, field: Option<&str>) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["field"].as_str(), field, "{}", self.text);
        assert_eq!((&problem["error"], &problem["message"]), (&problem["title"], &problem["detail"]));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
}

pub fn policy() -> Policy {
    let requests = Limit::per_client("requests", Quota::per_minute(7)).granted();
    let exports = Limit::per_client_and_route("exports", Quota::per_hour(4));
    Policy::new()
        .identify(Source::api_key_header("x-api-key").or(Source::header("x-client-id")).registered())
        .rule(Rule::new("api").route("/").limit(requests).limit(Limit::shared("all", Quota::per_hour(1_000))))
        .rule(Rule::new("exports").route("/exports/{id}").limit(exports))
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(Clients::new(crate::registry::new()), |admin| admin.key(KEY)).await
    }

    pub async fn with(clients: Clients, set: impl FnOnce(AdminBuilder) -> AdminBuilder) -> Self {
        Self::of(policy(), clients, set).await
    }

    pub async fn of(
        policy: Policy,
        clients: Clients,
        set: impl FnOnce(AdminBuilder) -> AdminBuilder,
    ) -> Self {
        let (clock, audit) = (ManualClock::new(), Arc::new(Mutex::new(Vec::new())));
        let log = audit.clone();
        let limiter = Limiter::builder(policy)
            .clock(clock.clone())
            .clients(clients)
            .observe(move |event: &Event<'_>| {
                let line = match event {
                    Event::Admin(act) => format!(
                        "{} {} {:?} {:?} {:?}",
                        act.actor(),
                        act.action(),
                        act.subject(),
                        act.before(),
                        act.after()
                    ),
                    Event::AdminRefused { status, reason, .. } => format!("{status} {reason}"),
                    _ => return,
                };
                log.lock().unwrap().push(line);
            })
            .build()
            .unwrap();
        let admin = set(Admin::builder(&limiter)).build().unwrap();
        let app = Router::new()
            .route("/", get(async || "hello"))
            .route("/exports/{id}", get(async || "export"))
            .layer(limiter.layer())
            .merge(admin.router())
            .merge(admin.self_service());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        Self { address, limiter, clock, audit }
    }

    /// Sends a request as it is.
    pub async fn send(
        &self,
        from: Option<IpAddr>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let mut connector = HttpConnector::new();
        connector.set_local_address(from);
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
        let (head, body) = client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(body.into()).unwrap() }
    }

    /// Sends a request with the admin's key.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(None, method, path, &[("x-admin-key", KEY)], &body).await
    }

    #[track_caller]
    pub fn expect(answer: Answer, status: u16) -> Value {
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }

    pub async fn get(&self, path: &str) -> Value {
        Self::expect(self.ask("GET", path, Value::Null).await, 200)
    }

    /// The status of a request of the public.
    pub async fn status(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.send(None, "GET", path, headers, "").await.status.as_u16()
    }

    pub async fn delete(&self, path: &str) {
        Self::expect(self.ask("DELETE", path, Value::Null).await, 204);
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        Self::expect(self.ask("POST", path, body).await, 200)
    }

    /// How many of so many requests a client gets through.
    pub async fn admits(&self, id: &str, most: usize) -> usize {
        let mut passed = 0;
        for _ in 0..most {
            let answer = self.send(None, "GET", "/", &[("x-client-id", id)], "").await;
            passed += usize::from(answer.status == 200);
        }
        passed
    }
}

//! Charged by hand: each message of a WebSocket, and each query by what it asks for.
//!
//! ```sh
//! cargo run --example check_in_handler --features axum
//! curl -i -d '{ user { name posts { title } } }' http://127.0.0.1:3000/query   # 4 units of 10 in ten seconds
//! websocat ws://127.0.0.1:3000/chat                                            # 3 messages in ten seconds
//! ```
#![allow(clippy::print_stdout)]

use axum::{
    Router,
    body::Body,
    extract::{State, WebSocketUpgrade, ws::WebSocket},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Client, Limit, Limiter, Policy, RequestHead, Rule, ThrottleLayer};
use tokio::net::TcpListener;

async fn chat(ws: WebSocketUpgrade, State(layer): State<ThrottleLayer>, parts: Parts) -> Response {
    match layer.limiter().identify(RequestHead::from_parts(&parts)) {
        Ok(client) => ws.on_upgrade(|socket| echo(socket, client)),
        Err(rejection) => (rejection.status(), rejection.detail()).into_response(),
    }
}

async fn echo(mut socket: WebSocket, client: Client) {
    while let Some(Ok(message)) = socket.recv().await {
        let allowed = client.charge("messages").await.is_ok_and(|decision| decision.is_allowed());
        if socket.send(if allowed { message } else { "slow down".into() }).await.is_err() {
            break;
        }
    }
}

async fn query(State(layer): State<ThrottleLayer>, parts: Parts, query: String) -> Response {
    let head = RequestHead::from_parts(&parts);
    let Ok(client) = layer.limiter().identify(head) else { return StatusCode::UNAUTHORIZED.into_response() };
    let fields = query.split([' ', '{', '}']).filter(|field| !field.is_empty()).count() as u32;
    match client.charge("queries").cost(fields).await {
        Ok(decision) if decision.is_allowed() => format!("{fields} fields\n").into_response(),
        Ok(decision) => layer.refuse(&decision, head).map(Body::from),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let by_hand = |name, quota| Rule::new(name).by_hand().limit(Limit::per_client(name, quota));
    let policy = Policy::per_client("100/minute".parse()?)
        .rule(by_hand("messages", "3 per 10s".parse()?))
        .rule(by_hand("queries", "10 per 10s".parse()?));
    let layer = Limiter::new(policy)?.layer();
    let app = Router::new().route("/chat", any(chat)).route("/query", post(query));
    let app = app.layer(layer.clone()).with_state(layer);

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i -d '{{ user {{ name posts {{ title }} }} }}' http://{}/query", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

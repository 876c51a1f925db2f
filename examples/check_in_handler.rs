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
    extract::{ConnectInfo, State, WebSocketUpgrade, ws::WebSocket},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use std::{env, error::Error, net::SocketAddr};
use tidegate::{Client, Identity, Limit, Limiter, Policy, Rule};
use tokio::net::TcpListener;

type Peer = ConnectInfo<SocketAddr>;

async fn chat(ws: WebSocketUpgrade, State(limiter): State<Limiter>, peer: Peer) -> Response {
    let client = limiter.client(&Identity::address(peer.ip()));
    ws.on_upgrade(|socket| echo(socket, client))
}

async fn echo(mut socket: WebSocket, client: Client) {
    while let Some(Ok(message)) = socket.recv().await {
        let allowed = client.charge("messages").await.is_ok_and(|decision| decision.is_allowed());
        if socket.send(if allowed { message } else { "slow down".into() }).await.is_err() {
            break;
        }
    }
}

async fn query(State(limiter): State<Limiter>, peer: Peer, query: String) -> Response {
    let fields = query.split([' ', '{', '}']).filter(|field| !field.is_empty()).count() as u32;
    let client = limiter.client(&Identity::address(peer.ip()));
    match client.charge("queries").cost(fields).await {
        Ok(decision) if decision.is_allowed() => format!("{fields} fields\n").into_response(),
        Ok(decision) => match decision.retry_after().map(|wait| wait.as_secs() + 1) {
            Some(secs) => {
                (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, secs)], "slow down\n").into_response()
            }
            None => (StatusCode::BAD_REQUEST, "ask for less\n").into_response(),
        },
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::new()
        .rule(Rule::new("messages").limit(Limit::per_client("messages", "3 per 10s".parse()?)))
        .rule(Rule::new("queries").limit(Limit::per_client("queries", "10 per 10s".parse()?)));
    let limiter = Limiter::new(policy)?;
    // Without a layer, which would hold every request to these rules, too.
    let app = Router::new().route("/chat", any(chat)).route("/query", post(query)).with_state(limiter);

    let listener = TcpListener::bind(env::var("ADDR").unwrap_or("127.0.0.1:3000".into())).await?;
    println!("curl -i -d '{{ user {{ name posts {{ title }} }} }}' http://{}/query", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

//! Three servers that share one limit, counted in Redis: whichever a client asks, it has ten requests in ten seconds.
//!
//! ```sh
//! redis-server --port 6379 &
//! cargo run --example cluster --features axum,redis
//! for n in 0 1 2 0 1 2 0 1 2 0 1 2; do curl -si http://127.0.0.1:300$n/ | head -1; done   # 200 ten times, then 429
//! ```
//!
//! Stop Redis, and each server admits its third of the limit until it is back.
#![allow(clippy::print_stdout)]

use axum::{Router, routing::get};
use std::{env, error::Error, net::SocketAddr, time::Duration};
use tidegate::{Concurrency, Limit, Limiter, Policy, Quota, RedisStore, Rule, StoreDown};
use tokio::{net::TcpListener, task::JoinSet};

/// From a secret store in earnest: 16 random bytes, the same for all instances.
const SECRET: [u8; 16] = *b"not so secret...";

fn limiter(url: &str) -> Result<Limiter, Box<dyn Error>> {
    let limit = Limit::per_client("api", Quota::per(10, Duration::from_secs(10)));
    // Also together: no client has more than five requests running, on whichever servers.
    let at_once = Concurrency::per_client("at-once", 5).store_down(StoreDown::Local);
    let rule = Rule::new("api").limit(limit.store_down(StoreDown::Local)).concurrency(at_once);
    let policy = Policy::new().rule(rule);
    let store = RedisStore::builder(url).build()?;
    Ok(Limiter::builder(policy).secret(SECRET).store(store).build()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS").unwrap_or("redis://127.0.0.1:6379".into());
    let mut servers = JoinSet::new();
    for port in 3000..3003 {
        // In earnest these are three machines.
        let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limiter(&url)?.layer());
        let address = env::var("ADDR").unwrap_or(format!("127.0.0.1:{port}"));
        let listener = TcpListener::bind(address).await?;
        println!("curl -i http://{}/", listener.local_addr()?);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        servers.spawn(async { axum::serve(listener, app).await });
    }
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

//! Who is banned gets its answer on every connection that it opens, and others get theirs.

use crate::stage::*;
use std::time::Duration;
use tidegate::*;

#[tokio::test]
async fn a_banned_peer_is_refused_on_all_its_connections_until_the_ban_is_over() {
    within(async {
        for (server, version) in everywhere() {
            if server == Server::Axum && !cfg!(feature = "axum") {
                continue;
            }
            let (clock, ban) = (ManualClock::new(), Ban::after(2, MINUTE).lasting(MINUTE));
            let policy = Policy::per_client(Quota::per_second(1)).ban(ban);
            let limiter = Limiter::builder(policy).clock(clock.clone()).build().unwrap();
            let address = server.start(Some(limiter.layer()), Stage::default()).await;
            let mut first = Connection::from("127.0.0.1", address, version).await;
            for status in [203, 429, 429, 403] {
                assert_eq!(first.status("/plain").await, status, "{server:?} {version:?}");
            }
            let mut second = Connection::from("127.0.0.1", address, version).await;
            clock.advance(Duration::from_secs(30));
            let banned = second.get("/empty").await;
            assert_eq!(
                (banned.status().as_u16(), &banned.headers()["retry-after"]),
                (403, &"30".parse().unwrap())
            );
            assert_eq!(Connection::from("127.0.0.2", address, version).await.status("/plain").await, 203);
            clock.advance(Duration::from_secs(30));
            assert_eq!(first.status("/plain").await, 203, "{server:?} {version:?}");
        }
    })
    .await;
}

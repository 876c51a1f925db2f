//! Who is at the other end, and what the limiter says where it cannot tell.

use crate::stage::*;
use axum::body::Body;
use http::{HeaderValue, Method, Version};
use std::sync::{Arc, Mutex};
use tidegate::*;

/// What `limiter` warns of, and no more.
fn watched(policy: Policy) -> (Limiter, Arc<Mutex<Vec<String>>>) {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let seen = warnings.clone();
    let builder =
        Limiter::builder(policy).clock(ManualClock::new()).observe(move |event: &Event<'_>| match event {
            Event::Anonymous { cause: text } | Event::UntrustedProxy { advice: text } => {
                seen.lock().unwrap().push(text.to_string());
            }
            _ => {}
        });
    (builder.build().unwrap(), warnings)
}

#[tokio::test]
async fn each_peer_has_its_own_quota_over_all_its_connections() {
    within(async {
        for (server, version) in everywhere() {
            if server == Server::Axum && !cfg!(feature = "axum") {
                continue;
            }
            let (limiter, warnings) = watched(Policy::per_client(Quota::per_minute(1)));
            let address = server.start(Some(limiter.layer()), Stage::default()).await;
            for (ip, status) in
                [("127.0.0.1", 203), ("127.0.0.1", 429), ("127.0.0.2", 203), ("127.0.0.2", 429)]
            {
                assert_eq!(
                    Connection::from(ip, address, version).await.status("/plain").await,
                    status,
                    "{ip}"
                );
            }
            assert_eq!(*warnings.lock().unwrap(), [""; 0]);
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_peer_all_are_one_client_and_one_warning_says_why() {
    within(async {
        let (limiter, warnings) = watched(Policy::per_client(Quota::per_minute(2)));
        let address = Server::AxumAlone.start(Some(limiter.layer()), Stage::default()).await;
        for (ip, status) in [("127.0.0.1", 203), ("127.0.0.2", 203), ("127.0.0.3", 429)] {
            assert_eq!(
                Connection::from(ip, address, Version::HTTP_11).await.status("/plain").await,
                status,
                "{ip}"
            );
        }
        let warnings = warnings.lock().unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for part in [
            if cfg!(feature = "axum") { "into_make_service_with_connect_info" } else { "feature `axum`" },
            "PeerAddr",
            "anonymous",
        ] {
            assert!(warnings[0].contains(part), "{warnings:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_nobody_trusts_is_told_of_once_it_is_refused() {
    let forwarded = |client: &'static str| {
        let mut request = request(Method::GET, "/plain", Body::empty());
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static(client));
        request
    };
    within(async {
        let policy = Policy::per_client(Quota::per_minute(1));
        for (trusts, statuses) in [(false, [203, 429, 429]), (true, [203, 203, 429])] {
            let (limiter, warnings) = watched(match trusts {
                true => policy.clone().trust_proxies(TrustedProxies::x_forwarded_for(["127.0.0.0/8"])),
                false => policy.clone(),
            });
            let address = Server::Hyper.start(Some(limiter.layer()), Stage::default()).await;
            let mut client = Connection::new(address, Version::HTTP_2).await;
            for (ip, status) in ["198.51.100.1", "198.51.100.2", "198.51.100.1"].into_iter().zip(statuses) {
                let told = warnings.lock().unwrap().len();
                assert_eq!(
                    told,
                    usize::from(!trusts && ip == "198.51.100.1" && told > 0),
                    "not before a refusal"
                );
                assert_eq!(client.send(forwarded(ip)).await.status(), status, "{ip}");
            }
            let warnings = warnings.lock().unwrap();
            assert_eq!(warnings.len(), usize::from(!trusts), "{warnings:?}");
            assert!(warnings.iter().all(|text| text.contains("trust_proxies")), "{warnings:?}");
        }
    })
    .await;
}

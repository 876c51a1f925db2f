//! Signals from an endpoint on a socket.

use crate::stage::*;
use axum::{Router, body::Body, http::StatusCode, routing::get};
use futures_util::stream;
use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tidegate::{Event, Feedback, Quota, Scrape, Signals};
use tokio::net::TcpListener;

/// A server with an endpoint of each sort, and the text that the first of them answers with.
async fn serve() -> (String, Arc<Mutex<String>>) {
    let text = Arc::new(Mutex::new(String::new()));
    let shown = text.clone();
    let endless = || async {
        let lines = stream::repeat_with(|| Ok::<_, Infallible>(bytes::Bytes::from_static(b"lag 1\n")));
        Body::from_stream(lines)
    };
    let app = Router::new()
        .route("/metrics", get(move || std::future::ready(shown.lock().unwrap().clone())))
        .route("/endless", get(endless))
        .route("/silent", get(pending::<StatusCode>))
        .route("/bytes", get(|| async { &b"lag{topic=\"\xff\"} 5\n\xfe\xff lag 7\nlag 8"[..] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, text)
}

fn feedback() -> Feedback {
    let fresh = Duration::from_secs(10);
    Feedback::new()
        .signal("lag", 0.0, fresh)
        .signal("cpu", 0.1, fresh)
        .rule(|signals: &Signals| if signals.get("cpu") > Some(0.9) { 0.5 } else { 1.0 })
}

#[tokio::test]
async fn samples_set_signals_which_go_stale() {
    let (url, text) = serve().await;
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.feedback(feedback()).unwrap());
    let scrape = Scrape::new(&format!("{url}/metrics?all")).unwrap();
    let scrape = scrape.sum("lag", "lag{topic=\"a\"}").unwrap().highest("cpu", "cpu").unwrap();
    *text.lock().unwrap() =
        "lag{topic=\"a\"} 3\nlag{topic=\"b\"} 5\nlag{topic=\"a\"} 4\ncpu 0.2\ncpu 0.95\n".to_owned();
    assert_eq!(scrape.once(&stage.pacer).await.unwrap(), 2);
    let signals = stage.pacer.signals();
    assert_eq!((signals.get("lag"), signals.get("cpu")), (Some(7.0), Some(0.95)));
    assert_eq!(stage.pacer.factor(), 0.5);
    // Nothing and nonsense set nothing.
    *text.lock().unwrap() = "cpu NaN\nlag{topic=\"a\"} much\n".to_owned();
    assert_eq!(scrape.once(&stage.pacer).await.unwrap(), 0);
    assert_eq!(stage.pacer.signals().get("lag"), Some(7.0));
    stage.clock.advance(Duration::from_secs(20));
    assert_eq!(stage.pacer.signals().get("lag"), Some(0.0), "its default");
    assert_eq!(stage.pacer.factor(), 1.0);
}

#[tokio::test]
async fn endpoints_that_misbehave_end_in_errors() {
    let (url, _) = serve().await;
    let stage = stage([own(Quota::per_second(100))]).with(|pacer| pacer.feedback(feedback()).unwrap());
    let scrape = |url: String| {
        Scrape::new(&url)
            .unwrap()
            .sum("lag", "lag")
            .unwrap()
            .timeout(Duration::from_secs(5))
            .max_bytes(10_000)
    };
    for (path, expected) in [
        ("/endless", "the endpoint was not scraped: it answered with more than 10000 bytes"),
        ("/missing", "the endpoint was not scraped: it answered with 404 Not Found"),
    ] {
        let error = scrape(format!("{url}{path}")).once(&stage.pacer).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let start = Instant::now();
    let silent = scrape(format!("{url}/silent")).timeout(Duration::from_millis(50));
    let error = silent.once(&stage.pacer).await.unwrap_err();
    assert_eq!(error.to_string(), "the endpoint was not scraped: it did not answer within 50ms");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(scrape(format!("{url}/bytes")).once(&stage.pacer).await.unwrap(), 1);
    assert_eq!(stage.pacer.signals().get("lag"), Some(13.0), "what can be read");
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(scrape(format!("http://{port}/")).once(&stage.pacer).await.is_err(), "nobody is there");
    let unknown = Scrape::new(&format!("{url}/bytes")).unwrap().sum("lags", "lag").unwrap();
    let error = unknown.once(&stage.pacer).await.unwrap_err().to_string();
    assert!(error.contains("nothing is named \"lags\""), "{error}");
    for wrong in ["https://broker/metrics", "broker:7071", "/metrics", "http://", "http://me:secret@broker/"]
    {
        let error = Scrape::new(wrong).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Again and again; that it fails is told once for each time that it begins to.
#[tokio::test]
async fn it_goes_on_through_failures() {
    let (url, text) = serve().await;
    let (stage, told) = told([own(Quota::per_second(100))], |event: &Event<'_>| match event {
        Event::ScrapeFailed { error } => Some((*error).to_owned()),
        _ => None,
    });
    let stage = stage.with(|pacer| pacer.feedback(feedback()).unwrap());
    *text.lock().unwrap() = "lag 1\n".to_owned();
    let scrape = Scrape::new(&format!("{url}/metrics")).unwrap().sum("lag", "lag").unwrap();
    let scrape = scrape.every(Duration::from_millis(1)).max_bytes(100);
    let pacer = stage.pacer.clone();
    let running = tokio::spawn(async move { scrape.run(&pacer).await });
    let reaches = |lag: f64| {
        let pacer = stage.pacer.clone();
        async move {
            while pacer.signals().get("lag") != Some(lag) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let all = async {
        reaches(1.0).await;
        *text.lock().unwrap() = " ".repeat(101);
        while told.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *text.lock().unwrap() = "lag 2\n".to_owned();
        reaches(2.0).await;
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    running.abort();
    assert_eq!(*told.lock().unwrap(), ["the endpoint was not scraped: it answered with more than 100 bytes"]);
}

//! What deciding in memory does not do: allocate, wait, or keep anything of a client but its place in the table.
#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::Full;
use std::{convert::Infallible, fs, future::IntoFuture as _};
use tidegate::{
    ClientPatch, Clients, HeaderStyle, Identity, Limit, Limiter, ManualClock, MemoryRegistry, Policy, Quota,
    Rule, Source,
};
use tower::{Layer as _, Service as _, service_fn};

/// Four limits of all kinds, two of which only watch.
fn policy() -> Policy {
    let many = Quota::per_second(1_000_000);
    Policy::new()
        .identify(Source::header("client"))
        .rule(
            Rule::new("rule")
                .limit(Limit::per_client("one", many))
                .limit(Limit::per_client_and_route("two", many)),
        )
        .rule(
            Rule::new("watch")
                .shadow()
                .limit(Limit::shared("three", many))
                .limit(Limit::per_client("four", many)),
        )
}

fn limiter() -> Limiter {
    Limiter::builder(policy()).clock(ManualClock::new()).memory_bytes(1 << 20).build().unwrap()
}

#[test]
fn a_charge_is_ready_at_first_poll_and_allocates_nothing() {
    let limiter = limiter();
    let client = limiter.client(&Identity::name("ann"));
    // Those who trace and count register their interest at the first event.
    for rule in ["rule", "watch"] {
        client.charge(rule).into_future().now_or_never().unwrap().unwrap();
    }
    let mut allowed = 0;
    let made = measure(|| {
        for rule in ["rule", "watch"] {
            let decision = client.charge(rule).cost(2).into_future().now_or_never().unwrap().unwrap();
            allowed += usize::from(decision.is_allowed());
            client.refund(&decision);
            allowed +=
                usize::from(client.peek(rule).into_future().now_or_never().unwrap().unwrap().is_allowed());
            allowed +=
                usize::from(client.reset(rule).into_future().now_or_never().unwrap().unwrap().is_allowed());
        }
    });
    assert_eq!((made.count_total, allowed), (0, 6));
}

#[test]
fn a_newcomer_is_counted_without_allocation() {
    let limiter = limiter();
    limiter.client(&Identity::name("ann")).charge("rule").into_future().now_or_never().unwrap().unwrap();
    let made = measure(|| {
        let ben = limiter.client(&Identity::name("ben"));
        ben.charge("rule").into_future().now_or_never().unwrap().unwrap();
    });
    assert_eq!(made.count_total, 0);
}

#[test]
fn an_allowed_request_without_fields_allocates_nothing() {
    let limiter = limiter();
    let layer = limiter.layer().headers(HeaderStyle::Off);
    let mut service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let request = || Request::get("/").header("client", "ann").body(()).unwrap();
    drop(service.call(request()).now_or_never().unwrap().unwrap());
    let next = request();
    let mut status = 0;
    let made = measure(|| {
        // As axum does it: a clone for each request.
        let response = service.clone().call(next).now_or_never().unwrap().unwrap();
        status = response.status().as_u16();
    });
    // The request's own headers are only given back.
    assert_eq!((made.count_total, status), (0, 200));
}

/// Once it is known; to look a client up may allocate.
#[test]
fn a_request_of_a_registered_client_allocates_nothing() {
    let limit = Limit::per_client("requests", Quota::per_minute(5)).granted();
    let policy =
        Policy::new().identify(Source::header("client").registered()).rule(Rule::new("r").limit(limit));
    let limiter = Limiter::builder(policy).clients(Clients::new(MemoryRegistry::new())).build().unwrap();
    let clients = limiter.clients().unwrap();
    clients.set("ann", ClientPatch::new().tier("free")).now_or_never().unwrap().unwrap();
    let layer = limiter.layer().headers(HeaderStyle::Off);
    let mut service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let request = || Request::get("/").header("client", "ann").body(()).unwrap();
    drop(service.call(request()).now_or_never().unwrap().unwrap());
    let requests: Vec<_> = (0..9).map(|_| request()).collect();
    let mut statuses = Vec::with_capacity(9);
    let made = measure(|| {
        for request in requests {
            let response = service.call(request).now_or_never().unwrap().unwrap();
            statuses.push(response.status().as_u16());
        }
    });
    assert_eq!((made.count_total, statuses), (0, vec![200; 9]), "the tier's quota, and not the limit's");
}

/// 500,000 clients would take 16 MB even at 32 bytes each.
#[test]
fn a_flood_does_not_grow_the_process() {
    let resident = || {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let limiter =
        Limiter::builder(Policy::per_client(Quota::per_hour(10))).memory_bytes(1 << 18).build().unwrap();
    let flood = |from: u32, to: u32| {
        for number in from..to {
            let client = limiter.client(&Identity::address(std::net::Ipv4Addr::from(number).into()));
            client.charge("client").into_future().now_or_never().unwrap().unwrap();
        }
    };
    flood(0, 10_000);
    let before = resident();
    let made = measure(|| flood(10_000, 510_000));
    let after = resident();
    assert_eq!(made.count_total, 0);
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
}

/// A hundred thousand sends that wait take at most a kilobyte each: those that are polled, with their places in the queue.
#[cfg(feature = "pace")]
#[test]
fn a_crowd_that_waits_takes_little_memory() {
    use tidegate::Pacer;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let pacer =
        Pacer::new([Limit::per_client("own", Quota::per_second(1))]).unwrap().max_waiting(100_000, 100_000);
    let crowd = 10_000;
    let made = measure(|| {
        let mut sends: Vec<_> = (0..crowd).map(|_| pacer.until_ready("a", 1)).collect();
        let gone = sends.iter_mut().filter_map(|send| send.now_or_never()).count();
        assert_eq!((gone, pacer.waiting()), (1, crowd - 1));
    });
    let each = made.bytes_max / crowd as u64;
    assert!(each <= 1_000, "{each} bytes");
}

/// Neither the future nor its way past the queue does, nor the layer around it.
#[cfg(feature = "pace")]
#[test]
fn a_send_that_may_go_at_once_allocates_nothing() {
    use tidegate::{PaceLayer, Pacer};
    let many = Quota::per_second(1_000_000);
    let pacer = Pacer::new([Limit::per_client("own", many), Limit::shared("all", many)]).unwrap();
    let layer = PaceLayer::new(pacer.clone(), |name: &&'static str| Identity::name(*name));
    let mut service = layer.layer(service_fn(|name| async move { Ok::<_, Infallible>(name) }));
    // Those who trace register their interest at the first event.
    pacer.until_ready("ann", 1).now_or_never().unwrap().unwrap();
    let mut sent = 0;
    let made = measure(|| {
        sent += usize::from(pacer.until_ready("ann", [("all", 3)]).now_or_never().unwrap().is_ok());
        sent += usize::from(pacer.try_take("ben", 1).now_or_never().unwrap().is_ok());
        sent += usize::from(service.call("ann").now_or_never().unwrap().is_ok());
    });
    assert_eq!((made.count_total, sent), (0, 3));
}

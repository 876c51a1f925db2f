//! Tidegate and its peers, set up alike: the same clients, and quotas that never refuse or always do.

use crate::{
    floor::Floor,
    work::{self, API_KEY, Bare, Direct, Identity, Layered, Req, Subject},
};
use axum07::response::IntoResponse;
use http::{Request, Response, StatusCode, request::Parts};
use std::{
    convert::Infallible,
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};
use tidegate::{Decision, HeaderStyle, Limit, Limiter, Policy, Quota, Rule, Source, ThrottleLayer};
use tower::Layer;

const DAY: Duration = Duration::from_secs(86_400);

/// What a limiter is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 1,000 a second and a burst that no run uses up: all are admitted, and all owe something.
    Allow,
    /// One a day: after the first request all are refused.
    Refuse,
}

/// A subject by its name. Bare services come first: what refuses is compared with the second, which drops the request too.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) subject: Box<dyn Subject>,
}

impl Named {
    /// The number of the bare service to compare it with; what is no layer has none.
    pub(crate) fn bare(&self) -> Option<usize> {
        match (self.name, self.mode) {
            (GOVERNOR_STRING | DECISION_ALONE | BARE | BARE_DROPPING, _) => None,
            (_, Mode::Allow) => Some(0),
            (_, Mode::Refuse) => Some(1),
        }
    }
}

/// All layers, for so many clients.
pub(crate) fn layers(identity: Identity, keys: u32) -> Vec<Named> {
    let dropping = layered(Bare::dropping(), identity, done);
    let mut all = vec![named(BARE, Mode::Allow, bare(identity)), named(BARE_DROPPING, Mode::Allow, dropping)];
    all.extend(tidegates(identity, keys));
    if identity == Identity::Address {
        let floor = |fields| layered(Floor::new(Bare::new(), keys, fields), identity, done);
        all.push(named(FLOOR, Mode::Allow, floor(false)));
        all.push(named(FLOOR_HEADERS, Mode::Allow, floor(true)));
    }
    all.extend(tower_governors(identity));
    all.extend(axum_gcras(identity));
    // Both take microseconds a request: a million clients say nothing that fewer do not.
    if keys <= 100_000 {
        all.extend(axum_governors(identity, keys));
        all.extend(tower_rate_limiters(identity));
    }
    if identity == Identity::ApiKey {
        all.push(named(GOVERNOR_STRING, Mode::Allow, governor(work::api_key)));
    }
    all
}

pub(crate) const BARE: &str = "bare service";
const BARE_DROPPING: &str = "bare service, dropping requests";
pub(crate) const FLOOR: &str = "floor";
pub(crate) const FLOOR_HEADERS: &str = "floor, headers";
pub(crate) const DECISION_ALONE: &str = "decision alone";
pub(crate) const GOVERNOR_STRING: &str = "governor check_key, String";

fn named(name: &'static str, mode: Mode, subject: impl Subject + 'static) -> Named {
    Named { name, mode, subject: Box::new(subject) }
}

fn bare(identity: Identity) -> impl Subject {
    layered(Bare::new(), identity, done)
}

pub(crate) fn layered<S, F>(service: S, identity: Identity, consume: F) -> Layered<S, F> {
    let identify = match identity {
        Identity::Address => work::set_address,
        Identity::ApiKey => work::set_api_key,
    };
    Layered { service, request: work::request, identify, identity, consume }
}

pub(crate) fn done<B>(answer: Result<Response<B>, Infallible>) -> StatusCode {
    answer.map_or(StatusCode::IM_A_TEAPOT, |response| response.status())
}

/// As many bytes that `entries` take 77 % of the stated capacity, as 100,000 clients do of the default.
pub(crate) fn bytes(entries: u32) -> usize {
    (4 << 20) * (entries as usize).div_ceil(100_000)
}

pub(crate) fn limiter(identity: Identity, quotas: &[Quota], bytes: usize) -> Limiter {
    let source = match identity {
        Identity::Address => Source::address(),
        Identity::ApiKey => Source::api_key_header(API_KEY.as_str()),
    };
    let names = ["client", "second"];
    let limits = names.iter().zip(quotas).map(|(name, quota)| Limit::per_client(*name, *quota));
    let rule = limits.fold(Rule::new("client"), Rule::limit);
    // A fixed secret, for instruction counts that can be compared.
    let builder = Limiter::builder(Policy::new().identify(source).rule(rule)).secret([7; 16]);
    builder.memory_bytes(bytes).build().unwrap()
}

pub(crate) fn quota(mode: Mode) -> Quota {
    match mode {
        Mode::Allow => Quota::per_second(1_000).burst(u32::MAX.into()),
        Mode::Refuse => Quota::per_day(1),
    }
}

pub(crate) fn tidegate(identity: Identity, layer: &ThrottleLayer) -> impl Subject + use<> {
    let clean = |extensions: &mut http::Extensions| drop(extensions.remove::<Arc<Decision>>());
    layered(layer.layer(Bare::cleaning(clean)), identity, done)
}

pub(crate) fn tidegates(identity: Identity, keys: u32) -> Vec<Named> {
    let one = |mode| limiter(identity, &[quota(mode)], bytes(keys)).layer();
    let two = || limiter(identity, &[quota(Mode::Allow); 2], bytes(2 * keys)).layer();
    let plain = |layer: ThrottleLayer| layer.headers(HeaderStyle::Off);
    [
        ("allowed", Mode::Allow, plain(one(Mode::Allow))),
        ("allowed, headers", Mode::Allow, one(Mode::Allow)),
        ("no rule", Mode::Allow, plain(Limiter::new(Policy::new()).unwrap().layer())),
        ("two limits", Mode::Allow, plain(two())),
        ("two limits, headers", Mode::Allow, two()),
        ("decision exposed", Mode::Allow, plain(one(Mode::Allow)).expose_decision()),
        ("refused", Mode::Refuse, one(Mode::Refuse)),
    ]
    .into_iter()
    .map(|(name, mode, layer)| {
        // Only what puts something into the extensions has to take it out.
        if name == "decision exposed" {
            return named(name, mode, tidegate(identity, &layer));
        }
        named(name, mode, layered(layer.layer(Bare::new()), identity, done))
    })
    .collect()
}

/// governor itself, with whatever key.
pub(crate) fn governor<K: Clone + Eq + std::hash::Hash + Send + Sync + 'static>(
    key: fn(u32) -> K,
) -> impl Subject + 'static {
    let quota = governor::Quota::with_period(Duration::from_millis(1)).unwrap().allow_burst(NonZeroU32::MAX);
    let governor = governor::RateLimiter::dashmap(quota);
    Direct { key, decide: move |key: &K| governor.check_key(key).is_ok() }
}

mod tower_governor_setup {
    use super::*;
    use tower_governor::{
        GovernorError, GovernorLayer,
        governor::GovernorConfigBuilder,
        key_extractor::{KeyExtractor, PeerIpKeyExtractor},
    };

    #[derive(Debug, Clone)]
    struct ApiKeyExtractor;

    impl KeyExtractor for ApiKeyExtractor {
        type Key = String;

        fn extract<T>(&self, request: &Request<T>) -> Result<String, GovernorError> {
            let key = request.headers().get(&API_KEY).and_then(|key| key.to_str().ok());
            key.map(str::to_owned).ok_or(GovernorError::UnableToExtractKey)
        }
    }

    pub(crate) fn all(identity: Identity) -> Vec<Named> {
        match identity {
            Identity::Address => with(identity, PeerIpKeyExtractor),
            Identity::ApiKey => with(identity, ApiKeyExtractor),
        }
    }

    fn with<K>(identity: Identity, extractor: K) -> Vec<Named>
    where
        K: KeyExtractor + Send + Sync + 'static,
        K::Key: Send + Sync,
    {
        let builder = |mode| {
            let (period, burst) = match mode {
                Mode::Allow => (Duration::from_millis(1), u32::MAX),
                Mode::Refuse => (DAY, 1),
            };
            let mut builder = GovernorConfigBuilder::default();
            builder.period(period).burst_size(burst);
            builder.key_extractor(extractor.clone())
        };
        let plain = |mode| GovernorLayer::new(builder(mode).finish().unwrap()).layer(Bare::new());
        let headers = GovernorLayer::new(builder(Mode::Allow).use_headers().finish().unwrap());
        vec![
            named("tower_governor", Mode::Allow, layered(plain(Mode::Allow), identity, done)),
            named(
                "tower_governor, headers",
                Mode::Allow,
                layered(headers.layer(Bare::new()), identity, done),
            ),
            named("tower_governor, refused", Mode::Refuse, layered(plain(Mode::Refuse), identity, done)),
        ]
    }
}
pub(crate) use tower_governor_setup::all as tower_governors;

/// The key that axum_gcra reads from a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HeaderKey(String);

#[async_trait::async_trait]
impl<S> axum07::extract::FromRequestParts<S> for HeaderKey {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let key = parts.headers.get(&API_KEY).and_then(|key| key.to_str().ok());
        key.map(|key| Self(key.to_owned())).ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// Without the layer that makes responses of its errors, which costs another box: here that happens on the spot.
fn axum_gcras(identity: Identity) -> Vec<Named> {
    fn with<K>(name: &'static str, mode: Mode, identity: Identity) -> Named
    where
        K: axum_gcra::Key + axum07::extract::FromRequestParts<()>,
        K::Rejection: IntoResponse,
    {
        let quota = match mode {
            Mode::Allow => axum_gcra::gcra::Quota::new(
                Duration::from_millis(1),
                NonZeroU64::new(u32::MAX.into()).unwrap(),
            ),
            Mode::Refuse => axum_gcra::gcra::Quota::simple(DAY),
        };
        let layer = axum_gcra::RateLimitLayer::<K>::builder().with_default_quota(quota).build();
        let layered =
            layered(layer.layer(Bare::new()), identity, |answer: Result<work::Res, _>| match answer {
                Ok(response) => response.status(),
                Err(error) => axum_gcra::Error::<Infallible, K::Rejection>::into_response(error).status(),
            });
        let (request, identify): (_, fn(&mut Req, u32)) = match identity {
            Identity::Address => (work::request07 as fn(Identity) -> Req, work::set_address07),
            Identity::ApiKey => (work::request as fn(Identity) -> Req, work::set_api_key),
        };
        named(name, mode, Layered { request, identify, ..layered })
    }
    [("axum_gcra", Mode::Allow), ("axum_gcra, refused", Mode::Refuse)]
        .map(|(name, mode)| match identity {
            Identity::Address => with::<axum_gcra::real_ip::RealIp>(name, mode, identity),
            Identity::ApiKey => with::<HeaderKey>(name, mode, identity),
        })
        .into()
}

/// It has no way to leave its headers out.
fn axum_governors(identity: Identity, keys: u32) -> Vec<Named> {
    use axum_governor::{GovernorConfigBuilder, GovernorLayer, Quota, extractor};
    let quota = |mode| match mode {
        Mode::Allow => Quota::requests_per_second(NonZeroU32::new(1_000).unwrap()).burst(NonZeroU32::MAX),
        Mode::Refuse => Quota::seconds_per_request(NonZeroU32::new(86_400).unwrap()),
    };
    [("axum-governor, headers", Mode::Allow), ("axum-governor, refused", Mode::Refuse)]
        .map(|(name, mode)| {
            // Beyond `max_keys` it would sweep its table in a request.
            let max_keys = 2 * keys as usize + 1;
            let builder = GovernorConfigBuilder::default();
            match identity {
                Identity::Address => {
                    let builder = builder.with_extractor(extractor::PeerIp::default()).expect_connect_info();
                    let config = builder.quota_default(quota(mode)).max_keys(max_keys).finish().unwrap();
                    named(name, mode, layered(GovernorLayer::new(config).layer(Bare::new()), identity, done))
                }
                Identity::ApiKey => {
                    let builder = builder.with_extractor(extractor::Header(&API_KEY));
                    let config = builder.quota_default(quota(mode)).max_keys(max_keys).finish().unwrap();
                    named(name, mode, layered(GovernorLayer::new(config).layer(Bare::new()), identity, done))
                }
            }
        })
        .into()
}

mod tower_rate_limiter_setup {
    use super::*;
    use tower_rate_limiter::{
        IpKeyExtractor, KeyExtractor, MemoryStore, RateLimitContext, RateLimitError, RateLimitFields,
        RateLimitLayer,
    };

    #[derive(Debug, Clone)]
    struct ApiKeyExtractor;

    impl KeyExtractor for ApiKeyExtractor {
        type Key = String;

        fn extract<T>(&self, request: &Request<T>) -> Result<String, RateLimitError> {
            let key = request.headers().get(&API_KEY).and_then(|key| key.to_str().ok());
            key.map(str::to_owned).ok_or_else(|| RateLimitError::Key("missing".into(), String::new()))
        }
    }

    pub(crate) fn all(identity: Identity) -> Vec<Named> {
        match identity {
            Identity::Address => with(identity, IpKeyExtractor::new()),
            Identity::ApiKey => with(identity, ApiKeyExtractor),
        }
    }

    fn with<K: KeyExtractor + Sync + 'static>(identity: Identity, extractor: K) -> Vec<Named> {
        let service = |mode, fields| {
            let layer = RateLimitLayer::builder(extractor.clone()).with_store(MemoryStore::new());
            let layer = layer.limit(if mode == Mode::Allow { u64::MAX } else { 1 }).window(DAY);
            let layer = layer.rate_limit_fields(fields).build().unwrap();
            // It tells its policies in the request's extensions.
            layer.layer(Bare::cleaning(|extensions| drop(extensions.remove::<RateLimitContext>())))
        };
        [
            ("tower-rate-limiter", Mode::Allow, RateLimitFields::Disabled),
            ("tower-rate-limiter, headers", Mode::Allow, RateLimitFields::Draft11),
            ("tower-rate-limiter, refused", Mode::Refuse, RateLimitFields::Draft11),
        ]
        .map(|(name, mode, fields)| named(name, mode, layered(service(mode, fields), identity, done)))
        .into()
    }
}
use tower_rate_limiter_setup::all as tower_rate_limiters;

/// The keyed decision alone, through the handle that a WebSocket's loop would use.
pub(crate) fn handle(keys: u32) -> impl Subject + 'static {
    let limiter = limiter(Identity::Address, &[quota(Mode::Allow)], bytes(keys));
    Direct { key: work::address, decide: move |ip: &IpAddr| charge(&limiter, *ip) }
}

pub(crate) fn charge(limiter: &Limiter, ip: IpAddr) -> bool {
    let charging = limiter.charge(&tidegate::Identity::address(ip), "client");
    work::now(charging.into_future()).is_ok_and(|decision| decision.is_allowed())
}

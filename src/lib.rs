//! Rate limiting for tower: one policy, enforced wherever requests pass.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use std::net::SocketAddr;
//! use tidegate::{Limiter, Policy, Quota};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = Limiter::new(Policy::per_client(Quota::per_minute(100).burst(20)))?;
//! let app = Router::new().route("/", get(|| async { "hello" })).layer(limiter.layer());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! // Without this, nobody has an address, and all are one client.
//! axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Behind a reverse proxy every connection comes from the proxy. Name it with [`Policy::trust_proxies`], or all clients
//! share one quota. Without feature `axum`, insert a [`PeerAddr`] into each request's extensions.
//!
//! # The way of a request
//!
//! 1. **Who is asking?** A [`Source`] finds an [`Identity`] in the [`RequestHead`]: the address, unless
//!    [`Policy::identify`] says otherwise. It becomes a key of fixed size at once. Nobody found is one shared client, or a
//!    401 or 400 where the source [refuses](Source::or_refuse).
//! 2. **Which limits apply?** Those of *every* [`Rule`] that matches the method and route, until one that is the
//!    [only](Rule::only) one. A [`Limit`] is a [`Quota`] for each client, for each client and route, or for all; a
//!    [`Cost`] says how many units the request takes.
//! 3. **May it pass?** Where a limit is on [`Concurrency`], a permit comes first, for which a request can wait. Then all
//!    limits are charged in one step, or none is. Counting is in memory, without waiting, unless there is a [`Store`]: Redis
//!    (feature `redis`), or one of your own. Who is refused too often can be [banned](Ban).
//! 4. **The answer.** An allowed request goes on untouched, and its response tells what is left in fields of a
//!    [`HeaderStyle`]. A refused one gets a 429 with `Retry-After` and problem details, or your own [`Refusal`].
//! 5. **What only the response tells.** A [`Settle`] gives back what does not count, such as logins that succeed, and adds
//!    what was not known, such as bytes.
//! 6. **What happened** goes to `tracing`, to whoever [observes](Observe), and with feature `metrics` to a recorder of metrics.
//!
//! Without HTTP, [`Limiter::client`] is charged by hand and answers with a [`Decision`]. Mistakes in a policy are found when
//! the limiter is built, all at once: see [`BuildError`]. Tests move time with a [`ManualClock`].
//!
//! What a program sends is held to quotas by waiting: see `Pacer` and `PaceLayer`, with feature `pace`.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | |
//! |---|---|
//! | `admin` | the admin API for clients, tiers and limits, an axum router |
//! | `journal` | keeps the clients of a [`MemoryRegistry`] in a file |
//! | `config` | `Config`: a policy and all around it from a TOML file |
//! | `axum` | reads axum's `ConnectInfo` and `MatchedPath`, and its `MockConnectInfo` in tests |
//! | `metrics` | numbers of what happens, for the recorder of the `metrics` facade |
//! | `pace` | the sending side: `Pacer` and `PaceLayer`, which wait instead of refusing, by tokio's timer |
//! | `redis` | `RedisStore`: one policy across many machines, counted in Redis or Valkey |
//! | `redis-tls` | `RedisStore` through TLS, by rustls with ring |
//! | `retry` | `Retry`, a policy for tower's retries that obeys what answers say, and `Backoff` for loops |
//! | `scrape` | `Scrape`: signals for pacers from an endpoint that Prometheus would scrape |
//!
//! # More
//!
//! The README has tables of set-ups, limits and headers; the directory `examples` has a program for each;
//! `docs/configuration.md` has all that a file can say, `docs/algorithms.md` says which quota stands for which algorithm, `docs/sending.md` how to send within limits, `docs/metrics.md` lists all metrics, and `docs/design.md` why things are as they are.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "admin")]
mod admin;
mod arena;
mod ban;
mod clock;
#[cfg(feature = "config")]
mod config;
mod error;
mod event;
mod identity;
mod key;
mod layer;
mod limiter;
mod live;
mod observe;
#[cfg(feature = "pace")]
mod pace;
mod permit;
mod policy;
mod quota;
#[cfg(feature = "redis")]
mod redis;
mod registry;
mod response;
mod status;
mod store;
mod sync;

#[cfg(feature = "admin")]
pub use admin::{Admin, AdminBuilder};
pub use clock::ManualClock;
#[cfg(feature = "config")]
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
pub use config::{Config, ConfigError, ConfigFormat, ConfigMistake, Period, Secret, Size};
pub use error::{BuildError, Mistake, QuotaError};
pub use event::{AdminAct, Event, Observe, Occasion};
pub use identity::{Identity, PeerAddr, Rejection, RequestHead, Source, TrustedProxies};
pub use key::Key;
pub use layer::{
    Flow, Ongoing, ResponseFuture, Throttle, ThrottleBody, ThrottleLayer, UploadBody, UploadLayer, Uploads,
};
pub use limiter::{
    BanError, Banned, ChargeError, ChargeFuture, Charging, Client, Decision, Hold, HoldFuture, Holding,
    Limiter, LimiterBuilder, ListEntry,
};
#[cfg(feature = "pace")]
#[cfg_attr(docsrs, doc(cfg(feature = "pace")))]
pub use pace::{
    Aimd, Batch, BatchPlan, Batches, Breaker, ByAnswer, Costs, Divert, DivertBy, Feedback, InFlight, Judge,
    JudgeBy, Outcome, Pace, PaceError, PaceFuture, PaceLayer, Pacer, Priority, PushError, Reject, Rejected,
    SendError, SendFuture, Signals, Unjudged,
};
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub use pace::{Backoff, Retry};
#[cfg(feature = "scrape")]
#[cfg_attr(docsrs, doc(cfg(feature = "scrape")))]
pub use pace::{Scrape, ScrapeError};
pub use policy::{Ban, Bandwidth, Concurrency, Cost, Limit, Lists, Policy, Rule, Settle, StoreDown};
pub use quota::{Quota, Rate};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use redis::{RedisBuilder, RedisRegistry, RedisStatus, RedisStore};
#[cfg(feature = "journal")]
pub use registry::JournalError;
pub use registry::{
    ApiKey, BeforeAfter, Changed, ClientChange, ClientPage, ClientPatch, ClientRecord, Clients, Grant,
    IdRule, IssuedKey, KeyHash, MemoryRegistry, Overrides, Registry, RegistryAnswer, RegistryError,
    TemporaryGrant, TierChange, Tiers, UnknownClients, Watcher,
};
pub use response::{HeaderStyle, Reason, Refusal};
pub use status::{LimitStatus, PermitStatus};
pub use store::{
    Charge, Joining, Lease, Occupied, OccupiedFuture, Op, Place, Reading, Slot, SlotReading, Store,
    StoreChange, StoreError, StoreFuture,
};

/// Compiles the examples in the README.
#[cfg(all(doctest, feature = "pace"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples in the guide to sending.
#[cfg(all(doctest, feature = "retry"))]
#[doc = include_str!("../docs/sending.md")]
struct Sending;

/// Compiles the examples in the guide to configuration.
#[cfg(all(doctest, feature = "config"))]
#[doc = include_str!("../docs/configuration.md")]
struct Configuration;

/// Compiles and runs the example in the list of metrics.
#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../docs/metrics.md")]
struct Metrics;

/// Compiles and runs the examples in the guide to algorithms.
#[cfg(doctest)]
#[doc = include_str!("../docs/algorithms.md")]
struct Algorithms;

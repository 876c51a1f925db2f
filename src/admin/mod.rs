//! Clients, tiers and limits over HTTP, while the system runs.
//!
//! Nobody may use it without a key, unless it is opened to its own machine. Keep it off the public network all the same:
//! serve it on a listener of its own, or name the [networks](Admin::allow_networks) that admins are in.
//!
//! Wrong keys are counted by address, and whoever guesses too often locks its own address out. Behind a proxy that the policy
//! does not [trust](crate::Policy::trust_proxies), or where no address is known, that is everybody's.

mod asked;
mod auth;
mod bans;
mod bodies;
mod clients;
mod grants;
mod keys;
mod lists;
mod openapi;
mod policy;
mod problem;
mod tiers;
mod usage;
mod views;
mod whom;

use crate::{
    BuildError, ClientRecord, Clients, KeyHash, Limiter, Mistake, RegistryError,
    clock::Timeline,
    event::{AdminAct, Event},
    registry::from_hex,
};
use auth::{Actor, Auth, AuthSettings};
use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::Response,
    routing::{MethodRouter, any, delete, get, post},
};
use problem::Problem;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, sync::Arc};
use views::{ClientView, Limits};

/// The admin API of a limiter with a registry, and the handler by which clients see their own limits.
///
/// ```
/// use axum::Router;
/// use tidegate::{Admin, Clients, Limiter, MemoryRegistry, Policy};
///
/// # fn main() -> Result<(), tidegate::BuildError> {
/// let clients = Clients::new(MemoryRegistry::new());
/// let limiter = Limiter::builder(Policy::new()).clients(clients).build()?;
/// let admin = Admin::builder(&limiter).key("a long random text").build()?;
/// let app: Router = Router::new().merge(admin.router()).merge(admin.self_service());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    office: Arc<Office>,
}

/// Settings of an admin API before it is built.
#[derive(Clone)]
#[must_use]
pub struct AdminBuilder {
    limiter: Limiter,
    settings: AuthSettings,
}

/// What handlers need.
#[derive(Debug)]
struct Office {
    limiter: Limiter,
    clients: Clients,
    auth: Auth,
}

impl Admin {
    /// The admin API of a limiter, with nobody who may use it yet.
    pub fn builder(limiter: &Limiter) -> AdminBuilder {
        AdminBuilder { limiter: limiter.clone(), settings: AuthSettings::default() }
    }

    /// All paths below `/admin`, to be merged into a router or served alone.
    ///
    /// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, or nobody's address is known.
    pub fn router(&self) -> Router {
        let router = Router::new();
        let router = route(router, "/admin/clients", "GET, HEAD", get(clients::list));
        let router = route(router, "/admin/clients/set", "POST, PUT", post(clients::set).put(clients::set));
        let router = route(router, "/admin/clients/get", "GET, HEAD", get(clients::get));
        let router = route(router, "/admin/clients/delete", "DELETE", delete(clients::delete));
        let router = route(router, "/admin/clients/usage", "GET, HEAD", get(usage::get));
        let router = route(router, "/admin/clients/reset", "POST", post(usage::reset));
        let router = route(router, "/admin/keys", "GET, HEAD", get(keys::list));
        let router = route(router, "/admin/keys/issue", "POST", post(keys::issue));
        let router = route(router, "/admin/keys/rotate", "POST", post(keys::rotate));
        let router = route(router, "/admin/keys/revoke", "DELETE", delete(keys::revoke));
        let router = route(router, "/admin/grants/get", "GET, HEAD", get(grants::get));
        let router = route(router, "/admin/grants/set", "POST, PUT", post(grants::set).put(grants::set));
        let router = route(router, "/admin/grants/delete", "DELETE", delete(grants::delete));
        let router = route(router, "/admin/tiers", "GET, HEAD", get(tiers::list));
        let router = route(router, "/admin/tiers/set", "POST, PUT", post(tiers::set).put(tiers::set));
        let router = route(router, "/admin/tiers/delete", "DELETE", delete(tiers::delete));
        let router = route(router, "/admin/limits", "GET, HEAD", get(policy::limits));
        let router = route(router, "/admin/limits/set", "POST, PUT", post(policy::set).put(policy::set));
        let set_concurrency = post(policy::set_concurrency).put(policy::set_concurrency);
        let router = route(router, "/admin/concurrency/set", "POST, PUT", set_concurrency);
        let router = route(router, "/admin/bans", "GET, HEAD", get(bans::list));
        let router = route(router, "/admin/bans/set", "POST, PUT", post(bans::set).put(bans::set));
        let router = route(router, "/admin/bans/delete", "DELETE", delete(bans::delete));
        let router = route(router, "/admin/lists", "GET, HEAD", get(lists::get));
        let router = route(router, "/admin/lists/add", "POST, PUT", post(lists::add).put(lists::add));
        let router = route(router, "/admin/lists/delete", "DELETE", delete(lists::delete));
        let router = route(router, "/admin/policy", "GET, HEAD", get(policy::get));
        let router = route(router, "/admin/openapi.json", "GET, HEAD", get(openapi::document));
        // No fallback, because of two routers with one only one could be merged.
        let router = router.route("/admin/{*path}", any(nothing_here));
        router
            .route_layer(middleware::from_fn_with_state(self.office.clone(), auth::guard))
            .route_layer(middleware::map_response(keep_nowhere))
            .with_state(self.office.clone())
    }

    /// `GET /v1/rate-limit`, by which clients see their own limits. It is for the public, and charges nothing itself.
    pub fn self_service(&self) -> Router {
        route(Router::new(), "/v1/rate-limit", "GET, HEAD", get(usage::own))
            .route_layer(middleware::map_response(keep_nowhere))
            .with_state(self.office.clone())
    }
}

impl AdminBuilder {
    /// A key that admins send in `X-Admin-Key`, or one more. Take at least 128 random bits: `openssl rand -hex 32`.
    pub fn key(mut self, key: &str) -> Self {
        if key.is_empty() {
            return self.mistake("an empty text is no key");
        }
        self.settings.keys.push(KeyHash::of(key.as_bytes()));
        self
    }

    /// The same by its hash, so that the key itself need not stand in configuration: its SHA-256 in 64 hexadecimal digits,
    /// as `printf %s "$KEY" | sha256sum` prints it.
    pub fn key_hash(mut self, hash: &str) -> Self {
        match from_hex(hash) {
            Some(hash) => self.settings.keys.push(KeyHash::from_bytes(hash)),
            None => return self.mistake("a key's hash has 64 hexadecimal digits"),
        }
        self
    }

    /// The networks that admins must come from, or more of them, such as `10.0.0.0/8`. Their addresses are found as the
    /// policy's clients' are.
    pub fn allow_networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.networks.extend(networks.into_iter().map(Into::into));
        self
    }

    /// Needs no key from this machine: of requests whose peer is a loopback address, that are meant for `localhost`, and
    /// that neither a proxy has passed on nor a page in a browser has made. For development.
    pub fn open_without_key_on_loopback(mut self) -> Self {
        self.settings.open_on_loopback = true;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// If a setting has a mistake, the limiter has no registry, or nobody could use the API; the error names all mistakes.
    pub fn build(mut self) -> Result<Admin, BuildError> {
        let clients = self.limiter.clients().cloned();
        if clients.is_none() {
            self = self.mistake("the limiter has no registry; set one with `LimiterBuilder::clients`");
        }
        let auth = Auth::new(self.settings, Timeline::system())?;
        match clients {
            Some(clients) => Ok(Admin { office: Arc::new(Office { limiter: self.limiter, clients, auth }) }),
            None => Err(BuildError::new(Vec::new())), // never, because of the mistake above
        }
    }

    fn mistake(mut self, reason: &str) -> Self {
        self.settings.mistakes.push(Mistake::Setting { setting: "Admin", reason: reason.to_owned() });
        self
    }
}

impl fmt::Debug for AdminBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminBuilder").field("keys", &self.settings.keys.len()).finish_non_exhaustive()
    }
}

/// A path whose other methods are answered with 405.
fn route(
    router: Router<Arc<Office>>,
    path: &str,
    allow: &'static str,
    methods: MethodRouter<Arc<Office>>,
) -> Router<Arc<Office>> {
    let refuse = move || async move {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow}"));
        problem.with(header::ALLOW, HeaderValue::from_static(allow))
    };
    router.route(path, methods.fallback(refuse))
}

/// No answer is for anybody else: what is asked for depends on a header that caches do not look at.
async fn keep_nowhere(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn nothing_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path; /admin/openapi.json has those that there are",
    )
}

impl Office {
    async fn record(&self, id: &str) -> Result<Arc<ClientRecord>, Problem> {
        let record = self.clients.get(id).await?;
        Ok(record.ok_or_else(|| RegistryError::no_client(id))?)
    }

    async fn view(&self, id: &str) -> Result<ClientView, Problem> {
        let (record, tiers) = (self.record(id).await?, self.clients.tiers().await?);
        Ok(ClientView::new(&record, &tiers, self.clients.now()))
    }

    async fn tiers(&self) -> Result<BTreeMap<String, Limits>, Problem> {
        let tiers = self.clients.tiers().await?;
        Ok(tiers.iter().map(|(name, grant)| (name.to_owned(), grant.into())).collect())
    }

    /// Tells what an admin has done, and what was there before and after.
    fn tell(
        &self,
        actor: &Actor,
        action: &str,
        subject: &str,
        old: Option<&impl Serialize>,
        new: Option<&impl Serialize>,
    ) {
        let inner = &self.limiter.inner;
        let old = old.and_then(|old| serde_json::to_string(old).ok());
        let new = new.and_then(|new| serde_json::to_string(new).ok());
        let (from, plain) = (actor.from, inner.plain_addresses);
        let (old, new) = (old.as_deref(), new.as_deref());
        let act = AdminAct { actor: &actor.name, from, plain, action, subject: Some(subject), old, new };
        inner.emit(&Event::Admin(&act));
    }
}

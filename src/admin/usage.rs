//! What clients have used, and forgiving it.

use super::{
    Office,
    asked::Asked,
    auth::ADMIN_KEY,
    problem::{Problem, ProblemBody},
    views::{BanView, LimitUsage, Limits, OwnLimits, PermitUsage, Usage},
};
use crate::{
    Charging, Client, Identity, RequestHead,
    policy::{Scope, Shares},
};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use std::sync::Arc;

/// What a client has used of each limit, on concurrency too, that goes by clients of the registry. Limits per route are told where `route`
/// says which one.
#[utoipa::path(
    get, path = "/admin/clients/usage", tag = "usage",
    params(
        ("client_id" = inline(String), Query, min_length = 1),
        ("route" = inline(Option<String>), Query, min_length = 1, description = "the template of a route, such as `/users/{id}`"),
    ),
    responses(
        (status = 200, description = "what it has used", body = Usage),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(State(office): State<Arc<Office>>, request: Request) -> Result<Json<Usage>, Problem> {
    let asked = Asked::new(&request);
    let (client_id, route) = (asked.required("client_id")?, asked.query("route")?);
    office.record(&client_id).await?;
    let client = office.limiter.client(&Identity::name(client_id.clone()));
    let used = office.usage(&client, route.as_deref(), Client::inspect).await?;
    Ok(Json(office.used(client_id, used)))
}

/// Forgives what a client owes, except what all clients share, and limits per route other than `route`.
#[utoipa::path(
    post, path = "/admin/clients/reset", tag = "usage",
    params(
        ("client_id" = inline(String), Query, min_length = 1),
        ("route" = inline(Option<String>), Query, min_length = 1, description = "the template of a route, such as `/users/{id}`"),
    ),
    responses(
        (status = 200, description = "what it has used now", body = Usage),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn reset(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<Usage>, Problem> {
    let asked = Asked::new(&request);
    let (client_id, route) = (asked.required("client_id")?, asked.query("route")?);
    office.record(&client_id).await?;
    let client = office.limiter.client(&Identity::name(client_id.clone()));
    let (before, _) = office.usage(&client, route.as_deref(), Client::inspect).await?;
    let done = office.forgive(&client, route.as_deref()).await;
    // Told in any case: what comes after a failure has not happened, but what came before it has.
    let after = office.usage(&client, route.as_deref(), Client::inspect).await;
    let limits = after.as_ref().ok().map(|(limits, _)| limits);
    office.tell(&asked.actor, "reset client", &client_id, Some(&before), limits);
    done?;
    Ok(Json(office.used(client_id, after?)))
}

/// What the caller may do and has done. It is not counted. Any other client's is told to admins alone.
#[utoipa::path(
    get, path = "/v1/rate-limit", tag = "self-service",
    params(("client_id" = inline(Option<String>), Query, min_length = 1)),
    responses(
        (status = 200, description = "what it may do and has done", body = OwnLimits),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn own(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<OwnLimits>, Problem> {
    let id = Asked::new(&request).query("client_id")?;
    let head = RequestHead::new(&request);
    let caller = office.limiter.identify(head);
    let is_admin = match (&id, head.headers().contains_key(&ADMIN_KEY)) {
        (Some(_), true) => office.admit(head).map(|_| true)?,
        _ => false,
    };
    if let Some(id) = id.filter(|_| is_admin) {
        office.record(&id).await?;
        let client = office.limiter.client(&Identity::name(id));
        return office.own_limits(&client, Client::inspect).await.map(Json);
    }
    let own = office.own_limits(&caller?, Client::peek).await.map_err(Problem::in_public)?;
    match Asked::new(&request).query("client_id")? {
        Some(id) if id != own.client_id => {
            Err(Problem::new(StatusCode::FORBIDDEN, "another client's limits are told to admins alone"))
        }
        _ => Ok(Json(own)),
    }
}

/// Asks what a client has used of a rule's limits: as the client itself or as an operator.
type Ask = for<'a> fn(&'a Client, &'a str) -> Charging<'a>;

/// What a client has used of its limits, and what of it runs at once.
type Used = (Vec<LimitUsage>, Vec<PermitUsage>);

impl Office {
    fn used(&self, client_id: String, (limits, concurrency): Used) -> Usage {
        let ban = self.limiter.ban_of(&Identity::name(&*client_id));
        Usage { banned: ban.as_ref().map(BanView::from), client_id, limits, concurrency }
    }

    async fn forgive(&self, client: &Client, route: Option<&str>) -> Result<(), Problem> {
        let inner = self.limiter.now().clone();
        for rule in inner.policy.rules.iter().filter(|rule| rule.registered) {
            let resetting = client.reset(&rule.name);
            match route {
                Some(route) => resetting.route(route).await?,
                None => resetting.await?,
            };
        }
        Ok(())
    }

    /// What a client has used of the limits that go by clients of the registry; `ask` is how it is asked for.
    async fn usage(&self, client: &Client, route: Option<&str>, ask: Ask) -> Result<Used, Problem> {
        let inner = self.limiter.now().clone();
        let policy = &inner.policy;
        let (mut limits, mut concurrency) = (Vec::new(), Vec::new());
        for rule in policy.rules.iter().filter(|rule| rule.registered) {
            if rule.limits.is_empty() && rule.concurrency.is_empty() {
                continue;
            }
            let peek = ask(client, &rule.name).cost(0);
            let decision = match route {
                Some(route) => peek.route(route).await?,
                None => peek.await?,
            };
            let told = |name: &str| {
                let limit = policy.limit(name);
                route.is_some() || limit.is_some_and(|limit| !matches!(limit.scope, Scope::ClientAndRoute(_)))
            };
            let tells_permit = |name: &str| {
                let mut limits = policy.concurrency.iter();
                route.is_some()
                    || limits.all(|limit| limit.name != name || limit.shares != Shares::NobodyOnOneRoute)
            };
            limits.extend(decision.limits().filter(|limit| told(limit.limit())).map(LimitUsage::from));
            concurrency.extend(
                decision.permits().filter(|permit| tells_permit(permit.limit())).map(PermitUsage::from),
            );
        }
        Ok((limits, concurrency))
    }

    async fn own_limits(&self, client: &Client, ask: Ask) -> Result<OwnLimits, Problem> {
        let known = client.lookup().await;
        let Some(found) = known.transpose()? else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "the request does not say which client it is from",
            ));
        };
        if !found.is_enabled() {
            return Err(crate::Rejection::DisabledClient.into());
        }
        let tiers = self.clients.tiers().await?;
        let grant = found.in_force(&tiers, self.clients.now());
        let (limits, _) = self.usage(client, None, ask).await?;
        let requests = limits.iter().find(|limit| limit.limit == crate::registry::REQUESTS);
        Ok(OwnLimits {
            client_id: found.client_id().to_owned(),
            rate_limit: Limits::from(&grant),
            current_usage: requests.map_or(0, |limit| limit.used),
            remaining: requests.map_or(grant.requests_per_min.unwrap_or(0), |limit| limit.remaining),
            limits,
        })
    }
}

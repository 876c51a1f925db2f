//! The policy in force, and its limits' quotas.

use super::{
    Office,
    asked::{Asked, only, text},
    bodies::{SetConcurrency, SetLimit},
    problem::{Problem, ProblemBody},
    views::{ConcurrencyChanged, ConcurrencyView, LimitChanged, LimitList, LimitView, PolicyView, RuleView},
};
use crate::{
    BuildError, Mistake, Quota,
    limiter::Inner,
    policy::{CompiledRule, Scope, Shares},
    registry::whole_number,
};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use std::sync::Arc;

/// The rules in force and the tiers.
#[utoipa::path(
    get, path = "/admin/policy", tag = "policy",
    responses((status = 200, description = "the policy", body = PolicyView)),
)]
pub(super) async fn get(State(office): State<Arc<Office>>) -> Result<Json<PolicyView>, Problem> {
    let inner = office.limiter.now().clone();
    let rules = inner.policy.rules.iter().map(|rule| RuleView {
        rule: rule.name.clone(),
        methods: rule.matcher.methods().iter().map(ToString::to_string).collect(),
        routes: rule.matcher.patterns().map(str::to_owned).collect(),
        shadow: rule.shadow,
        only: rule.only,
        by_hand: rule.by_hand,
        registered: rule.registered,
        limits: limits_of(&inner, rule),
        concurrency: concurrency_of(&inner, rule),
    });
    Ok(Json(PolicyView { rules: rules.collect(), tiers: office.tiers().await? }))
}

/// The limits of all rules.
#[utoipa::path(
    get, path = "/admin/limits", tag = "policy",
    responses((status = 200, description = "the limits", body = LimitList)),
)]
pub(super) async fn limits(State(office): State<Arc<Office>>) -> Json<LimitList> {
    let inner = office.limiter.now();
    let rules = &inner.policy.rules;
    let limits = rules.iter().flat_map(|rule| limits_of(&inner, rule)).collect();
    let concurrency = rules.iter().flat_map(|rule| concurrency_of(&inner, rule)).collect();
    Json(LimitList { limits, concurrency })
}

/// Puts another quota in force for a limit, from the next request on.
#[utoipa::path(
    method(post, put), path = "/admin/limits/set", tag = "policy",
    request_body = SetLimit,
    responses(
        (status = 200, description = "the quota until now and from now on", body = LimitChanged),
        (status = 404, description = "no such limit", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<LimitChanged>, Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["limit", "quota"])?;
    let (limit, quota) = (text(&body, "limit")?, text(&body, "quota")?);
    let quota = quota.parse::<Quota>().map_err(|error| Problem::bad("quota", &error.to_string()))?;
    let old =
        office.limiter.set_quota(&limit, quota).map_err(|error: BuildError| match error.mistakes() {
            [Mistake::Unknown { .. }] => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
            _ => Problem::bad("quota", &error.to_string()),
        })?;
    let (old, new) = (old.to_string(), quota.to_string());
    office.tell(&asked.actor, "set limit", &limit, Some(&old), Some(&new));
    Ok(Json(LimitChanged { limit, old, new }))
}

/// Lets so many requests run at once under a limit on concurrency, from the next request on.
#[utoipa::path(
    method(post, put), path = "/admin/concurrency/set", tag = "policy",
    request_body = SetConcurrency,
    responses(
        (status = 200, description = "the number until now and from now on", body = ConcurrencyChanged),
        (status = 404, description = "no such limit", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set_concurrency(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<ConcurrencyChanged>, Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["limit", "max"])?;
    let limit = text(&body, "limit")?;
    let new = body.get("max").and_then(whole_number).and_then(|max| u32::try_from(max).ok());
    let new = new.filter(|max| *max > 0).ok_or_else(|| {
        Problem::bad("max", "this field is required; a whole number from 1 to 4294967295 is accepted")
    })?;
    let old = office
        .limiter
        .set_concurrency(&limit, new)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string()))?;
    office.tell(&asked.actor, "set concurrency", &limit, Some(&old), Some(&new));
    Ok(Json(ConcurrencyChanged { limit, old, new }))
}

fn concurrency_of(inner: &Inner, rule: &CompiledRule) -> Vec<ConcurrencyView> {
    let view = rule.concurrency.clone().map(|number| {
        let limit = &inner.policy.concurrency[number];
        ConcurrencyView {
            rule: rule.name.clone(),
            limit: limit.name.clone(),
            max: inner.maximum(number),
            counted_for: match limit.shares {
                Shares::Nobody => "client",
                Shares::NobodyOnOneRoute => "client_and_route",
                Shares::All => "shared",
            },
            granted: limit.granted,
            queue: limit.queue,
        }
    });
    view.collect()
}

fn limits_of(inner: &Inner, rule: &CompiledRule) -> Vec<LimitView> {
    let limits = &inner.policy.limits[rule.limits.clone()];
    let view = limits.iter().map(|limit| LimitView {
        rule: rule.name.clone(),
        limit: limit.words.name.clone(),
        quota: limit.quota.quota().to_string(),
        counted_for: match limit.scope {
            Scope::Client(_) => "client",
            Scope::ClientAndRoute(_) => "client_and_route",
            Scope::Shared(_) => "shared",
        },
        granted: limit.granted.is_some(),
    });
    view.collect()
}

//! The policy in force, and its limits' quotas.

use super::{
    Office,
    asked::{Asked, only, text},
    bodies::SetLimit,
    problem::{Problem, ProblemBody},
    views::{LimitChanged, LimitList, LimitView, PolicyView, RuleView},
};
use crate::{
    BuildError, Mistake, Quota,
    policy::{CompiledRule, Scope},
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
    let rules = office.limiter.inner.policy.rules.iter().map(|rule| RuleView {
        rule: rule.name.clone(),
        methods: rule.matcher.methods().iter().map(ToString::to_string).collect(),
        routes: rule.matcher.patterns().map(str::to_owned).collect(),
        shadow: rule.shadow,
        only: rule.only,
        by_hand: rule.by_hand,
        registered: rule.registered,
        limits: office.limits(rule),
    });
    Ok(Json(PolicyView { rules: rules.collect(), tiers: office.tiers().await? }))
}

/// The limits of all rules.
#[utoipa::path(
    get, path = "/admin/limits", tag = "policy",
    responses((status = 200, description = "the limits", body = LimitList)),
)]
pub(super) async fn limits(State(office): State<Arc<Office>>) -> Json<LimitList> {
    let rules = &office.limiter.inner.policy.rules;
    Json(LimitList { limits: rules.iter().flat_map(|rule| office.limits(rule)).collect() })
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

impl Office {
    fn limits(&self, rule: &CompiledRule) -> Vec<LimitView> {
        let limits = &self.limiter.inner.policy.limits[rule.limits.clone()];
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
}

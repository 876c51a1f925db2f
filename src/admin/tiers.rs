//! Tiers: list, set, delete.

use super::{
    Office,
    asked::{Asked, text},
    bodies::SetTier,
    problem::{Problem, ProblemBody},
    views::{Limits, TierChanged, TierList},
};
use crate::{Grant, RegistryError};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::Value;
use std::sync::Arc;

/// All tiers and what they grant.
#[utoipa::path(
    get, path = "/admin/tiers", tag = "tiers",
    responses((status = 200, description = "the tiers", body = TierList)),
)]
pub(super) async fn list(State(office): State<Arc<Office>>) -> Result<Json<TierList>, Problem> {
    Ok(Json(TierList { tiers: office.tiers().await? }))
}

/// Sets all that a tier grants, from the next request on, in place of what it granted. What is left out does not stay as it
/// was: the tier `default` decides it.
#[utoipa::path(
    method(post, put), path = "/admin/tiers/set", tag = "tiers",
    request_body = SetTier,
    responses((status = 200, description = "what it granted and grants", body = TierChanged)),
)]
pub(super) async fn set(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<TierChanged>, Problem> {
    let (asked, mut body) = Asked::with_body(request).await?;
    let tier = text(&body, "tier")?;
    body.remove("tier");
    let grant = Grant::from_json(&Value::Object(body), WITHIN).map_err(in_body)?;
    let new = Limits::from(&grant);
    let old = office.clients.set_tier(&tier, grant).await?.as_ref().map(Limits::from);
    office.tell(&asked.actor, "set tier", &tier, old.as_ref(), Some(&new));
    Ok(Json(TierChanged { tier, old, new }))
}

/// Where a grant stands that is the body itself.
const WITHIN: &str = "body";

/// The error with the field named as the body has it.
fn in_body(error: RegistryError) -> Problem {
    match error {
        RegistryError::Invalid { field, message } => {
            let name = field.strip_prefix(WITHIN).and_then(|rest| rest.strip_prefix('.'));
            Problem::bad(name.unwrap_or(&field), &message)
        }
        other => other.into(),
    }
}

/// Removes a tier. Its clients fall back to the tier `default`.
#[utoipa::path(
    delete, path = "/admin/tiers/delete", tag = "tiers",
    params(("tier" = inline(String), Query, pattern = "^(?!default$).+", description = "any but `default`")),
    responses(
        (status = 204, description = "there is no such tier any more"),
        (status = 404, description = "no such tier", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::new(&request);
    let tier = asked.required("tier")?;
    let old = office.clients.remove_tier(&tier).await?;
    office.tell(&asked.actor, "delete tier", &tier, Some(&Limits::from(&old)), None::<&()>);
    Ok(StatusCode::NO_CONTENT)
}

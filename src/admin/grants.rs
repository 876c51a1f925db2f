//! Grants that end by themselves.

use super::{
    Office,
    asked::{Asked, only, seconds, text},
    bodies::SetGrant,
    problem::{Problem, ProblemBody},
    views::{ClientView, GrantOf},
};
use crate::{Grant, registry::from_text};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// The grant of a client, if it has one.
#[utoipa::path(
    get, path = "/admin/grants/get", tag = "grants",
    params(("client_id" = inline(String), Query, min_length = 1)),
    responses(
        (status = 200, description = "its grant", body = GrantOf),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<GrantOf>, Problem> {
    let client_id = Asked::new(&request).required("client_id")?;
    let record = office.record(&client_id).await?;
    let temporary_grant = record.temporary(office.clients.now()).map(Into::into);
    Ok(Json(GrantOf { client_id, temporary_grant }))
}

/// Grants a client more, or less, for a time; it goes before the client's own limits and its tier's.
#[utoipa::path(
    method(post, put), path = "/admin/grants/set", tag = "grants",
    request_body = SetGrant,
    responses(
        (status = 200, description = "the client as it is now", body = ClientView),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<ClientView>, Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["client_id", "rate_limit", "expires_in", "expires_at"])?;
    let id = text(&body, "client_id")?;
    let grant = Grant::from_json(body.get("rate_limit").unwrap_or(&Value::Null), "rate_limit")?;
    let duration = office.duration(&body)?;
    let (tiers, now) = (office.clients.tiers().await?, office.clients.now());
    let (old, new) = office.clients.begin_grant(&id, grant, duration).await?;
    let [old, new] = [old, new].map(|record| ClientView::new(&record, &tiers, now));
    office.tell(&asked.actor, "set grant", &id, Some(&old), Some(&new));
    Ok(Json(new))
}

/// Ends a client's grant before its time, if it has one.
#[utoipa::path(
    delete, path = "/admin/grants/delete", tag = "grants",
    params(("client_id" = inline(String), Query, min_length = 1)),
    responses(
        (status = 204, description = "it has none any more"),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::new(&request);
    let id = asked.required("client_id")?;
    let (tiers, now) = (office.clients.tiers().await?, office.clients.now());
    let (old, new) = office.clients.stop_grant(&id).await?;
    let [old, new] = [old, new].map(|record| ClientView::new(&record, &tiers, now));
    office.tell(&asked.actor, "delete grant", &id, Some(&old), Some(&new));
    Ok(StatusCode::NO_CONTENT)
}

impl Office {
    /// For how long a grant is to be.
    fn duration(&self, body: &Map<String, Value>) -> Result<Duration, Problem> {
        match (body.get("expires_in"), body.get("expires_at")) {
            (Some(value), None) => seconds(value, "expires_in", 1),
            (None, Some(_)) => {
                let end = from_text(&text(body, "expires_at")?);
                let duration = end.and_then(|end| end.duration_since(self.clients.now()).ok());
                duration.filter(|duration| !duration.is_zero()).ok_or_else(|| {
                    Problem::bad(
                        "expires_at",
                        "a time to come is accepted, in UTC, like 2027-01-15T10:30:00Z",
                    )
                })
            }
            _ => Err(Problem::bad("expires_in", "either this or expires_at is required")),
        }
    }
}

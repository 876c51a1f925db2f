//! Bans: list, set, delete.

use super::{
    Office,
    asked::{Asked, only, seconds},
    bodies::SetBan,
    problem::{Problem, ProblemBody},
    views::{BanList, BanView},
};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::Value;
use std::sync::Arc;

/// The bans in force, those that end soonest first.
#[utoipa::path(
    get, path = "/admin/bans", tag = "bans",
    responses((status = 200, description = "the bans", body = BanList)),
)]
pub(super) async fn list(State(office): State<Arc<Office>>) -> Json<BanList> {
    let bans: Vec<_> = office.limiter.bans().iter().map(BanView::from).collect();
    Json(BanList { count: bans.len(), bans })
}

/// Bans a client by its id, however it comes, or whoever comes from an address or with a key or header, for some seconds. One
/// that is banned already gets this time instead.
#[utoipa::path(
    method(post, put), path = "/admin/bans/set", tag = "bans",
    request_body = SetBan,
    responses(
        (status = 200, description = "the ban", body = BanView),
        (status = 409, description = "the policy has no bans", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<BanView>, Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["client_id", "address", "api_key", "header", "seconds"])?;
    let identity = office.whom(&body)?;
    let time = seconds(body.get("seconds").unwrap_or(&Value::Null), "seconds", 1)?;
    let old = office.limiter.ban_of(&identity).as_ref().map(BanView::from);
    let ban = office.limiter.ban(&identity, time)?;
    let new = BanView::from(&ban);
    office.tell(&asked.actor, "set ban", new.subject(), old.as_ref(), Some(&new));
    Ok(Json(new))
}

/// Lifts a ban, if there is one, and forgets the client's refusals. `handle` is the one that the list shows.
#[utoipa::path(
    delete, path = "/admin/bans/delete", tag = "bans",
    params(
        ("client_id" = inline(Option<String>), Query, min_length = 1),
        ("address" = inline(Option<String>), Query, min_length = 1),
        ("handle" = inline(Option<String>), Query, pattern = "^[0-9A-Fa-f]{32}$"),
    ),
    responses((status = 204, description = "there is no such ban any more")),
)]
pub(super) async fn delete(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::new(&request);
    let key = office.whom_asked(&asked)?.key(&office);
    if let Some(old) = office.limiter.lift(key).as_ref().map(BanView::from) {
        office.tell(&asked.actor, "delete ban", old.subject(), Some(&old), None::<&()>);
    }
    Ok(StatusCode::NO_CONTENT)
}

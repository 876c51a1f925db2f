//! Clients: list, set, get, delete.

use super::{
    Office,
    asked::{Asked, text},
    bodies::SetClient,
    problem::{Problem, ProblemBody},
    views::{ClientList, ClientView},
};
use crate::{ClientPatch, registry::LONGEST_PAGE};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::Value;
use std::sync::Arc;

/// All clients by id, up to 1000 at a time.
#[utoipa::path(
    get, path = "/admin/clients", tag = "clients",
    params(
        ("limit" = inline(Option<u32>), Query, minimum = 1, maximum = 1000, description = "the most clients; 1000 unless set"),
        ("cursor" = inline(Option<String>), Query, min_length = 1, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "a page of clients", body = ClientList)),
)]
pub(super) async fn list(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<ClientList>, Problem> {
    let asked = Asked::new(&request);
    let limit = match asked.query("limit")? {
        None => LONGEST_PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| {
                (1..=LONGEST_PAGE).contains(limit) && text.bytes().all(|byte| byte.is_ascii_digit())
            })
            .ok_or_else(|| Problem::bad("limit", "a whole number from 1 to 1000 is accepted"))?,
    };
    let cursor = asked.query("cursor")?;
    let (tiers, now) = (office.clients.tiers().await?, office.clients.now());
    let page = office.clients.page(cursor.as_deref(), limit).await?;
    let clients = page.clients.iter().map(|record| ClientView::new(record, &tiers, now)).collect();
    Ok(Json(ClientList { clients, count: page.count, next: page.next }))
}

/// Creates or changes a client. A field left out keeps its value; on creation `enabled` is `true` and the tier `default`.
#[utoipa::path(
    method(post, put), path = "/admin/clients/set", tag = "clients",
    request_body = SetClient,
    responses((status = 200, description = "the client as it is now", body = ClientView)),
)]
pub(super) async fn set(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<ClientView>, Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    let id = text(&body, "client_id")?;
    let patch = ClientPatch::from_json(&Value::Object(body))?;
    // Before the change, so that nothing comes between it and its event.
    let (tiers, now) = (office.clients.tiers().await?, office.clients.now());
    let (old, new) = office.clients.replace(&id, patch).await?;
    let view = ClientView::new(&new, &tiers, now);
    let old = old.map(|old| ClientView::new(&old, &tiers, now));
    office.tell(&asked.actor, "set client", &id, old.as_ref(), Some(&view));
    Ok(Json(view))
}

/// One client.
#[utoipa::path(
    get, path = "/admin/clients/get", tag = "clients",
    params(("client_id" = inline(String), Query, min_length = 1)),
    responses(
        (status = 200, description = "the client", body = ClientView),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<ClientView>, Problem> {
    let id = Asked::new(&request).required("client_id")?;
    Ok(Json(office.view(&id).await?))
}

/// Deletes a client, if it is there. What it owes is not forgiven.
#[utoipa::path(
    delete, path = "/admin/clients/delete", tag = "clients",
    params(("client_id" = inline(String), Query, min_length = 1)),
    responses((status = 204, description = "there is no such client any more")),
)]
pub(super) async fn delete(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::new(&request);
    let id = asked.required("client_id")?;
    let (tiers, now) = (office.clients.tiers().await?, office.clients.now());
    if let Some(old) = office.clients.remove(&id).await? {
        let old = ClientView::new(&old, &tiers, now);
        office.tell(&asked.actor, "delete client", &id, Some(&old), None::<&()>);
    }
    Ok(StatusCode::NO_CONTENT)
}

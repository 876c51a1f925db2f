//! API keys of clients.

use super::{
    Office,
    asked::{Asked, only, seconds, text},
    bodies::{IssueKey, RotateKey},
    problem::{Problem, ProblemBody},
    views::{KeyList, NewKey},
};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use std::{sync::Arc, time::Duration};

/// For how long a key is accepted after it was rotated, unless set.
const OVERLAP: Duration = Duration::from_secs(86_400);

/// The API keys of a client that are accepted, by their first characters.
#[utoipa::path(
    get, path = "/admin/keys", tag = "keys",
    params(("client_id" = inline(String), Query, min_length = 1)),
    responses(
        (status = 200, description = "its keys", body = KeyList),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<KeyList>, Problem> {
    let client_id = Asked::new(&request).required("client_id")?;
    let record = office.record(&client_id).await?;
    let keys = record.api_keys(office.clients.now()).map(Into::into).collect();
    Ok(Json(KeyList { client_id, keys }))
}

/// Issues a key for a client. The answer is the only one that has the secret.
#[utoipa::path(
    post, path = "/admin/keys/issue", tag = "keys",
    request_body = IssueKey,
    responses(
        (status = 201, description = "the key", body = NewKey),
        (status = 404, description = "no such client", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn issue(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<(StatusCode, Json<NewKey>), Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["client_id"])?;
    let id = text(&body, "client_id")?;
    let issued = office.clients.issue_key(&id).await?;
    office.tell(&asked.actor, "issue key", &id, None::<&()>, Some(&issued.key().prefix()));
    Ok((StatusCode::CREATED, Json(NewKey::new(id, &issued))))
}

/// Issues a key in place of another one, which is accepted for `overlap` seconds more.
#[utoipa::path(
    post, path = "/admin/keys/rotate", tag = "keys",
    request_body = RotateKey,
    responses(
        (status = 201, description = "the new key", body = NewKey),
        (status = 404, description = "no such client or key", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn rotate(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<(StatusCode, Json<NewKey>), Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["client_id", "prefix", "overlap"])?;
    let (id, prefix) = (text(&body, "client_id")?, text(&body, "prefix")?);
    let overlap = body.get("overlap").filter(|value| !value.is_null());
    let overlap = overlap.map_or(Ok(OVERLAP), |value| seconds(value, "overlap", 0))?;
    let issued = office.clients.rotate_key(&id, &prefix, overlap).await?;
    office.tell(&asked.actor, "rotate key", &id, Some(&prefix), Some(&issued.key().prefix()));
    Ok((StatusCode::CREATED, Json(NewKey::new(id, &issued))))
}

/// Ends a key at once.
#[utoipa::path(
    delete, path = "/admin/keys/revoke", tag = "keys",
    params(("client_id" = inline(String), Query, min_length = 1), ("prefix" = inline(String), Query, min_length = 1)),
    responses(
        (status = 204, description = "it is not accepted any more"),
        (status = 404, description = "no such client or key", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::new(&request);
    let (id, prefix) = (asked.required("client_id")?, asked.required("prefix")?);
    office.clients.revoke_key(&id, &prefix).await?;
    office.tell(&asked.actor, "revoke key", &id, Some(&prefix), None::<&()>);
    Ok(StatusCode::NO_CONTENT)
}

//! The OpenAPI document.

use super::{bans, bodies::Quota, clients, grants, keys, lists, policy, problem::ProblemBody, tiers, usage};
use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, PathItem, Ref, RefOr, Response, Schema,
        path::Operation,
        security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Tidegate admin API", description = "Clients and what they are granted, while the system runs."),
    paths(
        clients::list, clients::set, clients::get, clients::delete,
        usage::get, usage::reset, usage::own,
        keys::list, keys::issue, keys::rotate, keys::revoke,
        grants::get, grants::set, grants::delete,
        tiers::list, tiers::set, tiers::delete,
        policy::get, policy::limits, policy::set, policy::set_concurrency,
        bans::list, bans::set, bans::delete,
        lists::get, lists::add, lists::delete,
        document,
    ),
    components(schemas(ProblemBody, Quota)),
    modifiers(&Common),
)]
struct Document;

/// This document.
#[utoipa::path(
    get, path = "/admin/openapi.json", tag = "document",
    responses((status = 200, description = "an OpenAPI document", body = Object)),
)]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

/// What all operations have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = ApiKey::Header(ApiKeyValue::new("X-Admin-Key"));
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("admin_key", SecurityScheme::ApiKey(key));
        // utoipa 5 writes a least number of members as the most.
        for (name, least) in [("Granted", 1), ("AddToList", 2)] {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
                object.min_properties = Some(least);
            }
        }
        for (path, item) in &mut document.paths.paths {
            let is_own = path == "/v1/rate-limit";
            for (method, operation) in operations(item) {
                // Each operation has an id of its own, also where two methods do the same.
                operation.operation_id = Some(format!("{method}{}", path.replace(['/', '.', '-'], "_")));
                let none = SecurityRequirement::default();
                let key = SecurityRequirement::new::<_, [&str; 0], &str>("admin_key", []);
                operation.security = Some(if is_own { vec![none, key] } else { vec![key] });
                let takes_body = operation.request_body.is_some();
                for (status, description, applies) in [
                    ("400", "a field or parameter is missing or not accepted", true),
                    ("401", "a key is missing or not accepted", true),
                    ("403", "this address or caller may not do this", true),
                    ("413", "the body is too long", takes_body),
                    ("429", "too many wrong keys came from this address", true),
                    ("503", "the registry or store cannot be used", true),
                ] {
                    if applies {
                        let responses = &mut operation.responses.responses;
                        responses.entry(status.to_owned()).or_insert_with(|| problem(description).into());
                    }
                }
            }
        }
    }
}

fn problem(description: &str) -> Response {
    let mut response = Response::new(description);
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    response.content.insert("application/problem+json".to_owned(), content);
    response
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", item.get.as_mut()),
        ("post", item.post.as_mut()),
        ("put", item.put.as_mut()),
        ("delete", item.delete.as_mut()),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}

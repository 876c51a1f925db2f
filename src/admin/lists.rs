//! The allow list and the block list: show, add, delete.

use super::{
    Office,
    asked::{Asked, only, text},
    bodies::{AddToList, Named},
    problem::Problem,
    views::{EntryView, ListsView},
    whom::the_only,
};
use crate::{BuildError, Identity, ListEntry, Lists};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is on the lists. Whoever is on both is refused.
#[utoipa::path(
    get, path = "/admin/lists", tag = "lists",
    responses((status = 200, description = "the lists", body = ListsView)),
)]
pub(super) async fn get(State(office): State<Arc<Office>>) -> Json<ListsView> {
    let (block, allow): (Vec<_>, Vec<_>) = office.limiter.lists().into_iter().partition(ListEntry::is_block);
    let view = |entries: Vec<ListEntry>| entries.iter().map(EntryView::from).collect();
    Json(ListsView { allow: view(allow), block: view(block) })
}

/// Puts entries on a list, beside those that are there, from the next request on.
#[utoipa::path(
    method(post, put), path = "/admin/lists/add", tag = "lists",
    request_body = AddToList,
    responses((status = 200, description = "the entries as they are on the list", body = Vec<EntryView>)),
)]
pub(super) async fn add(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<Json<Vec<EntryView>>, Problem> {
    let (asked, body) = Asked::with_body(request).await?;
    only(&body, &["list", "networks", "client_ids", "api_keys"])?;
    let list = Named::read(&text(&body, "list")?)?;
    let lists = office.entries(list, &body)?;
    let (old, new) = office.before_and_after(&lists)?;
    if new.is_empty() {
        return Err(Problem::bad(
            "networks",
            "one entry at least is required, here or in client_ids or api_keys",
        ));
    }
    office.limiter.add_to_lists(&lists).map_err(|error| wrong("networks", &error))?;
    office.tell(&asked.actor, "add to list", list.name(), Some(&old), Some(&new));
    Ok(Json(new))
}

/// The parameters of a query that name an entry. An address is none, because a network may be of one address too.
const PARAMETERS: [&str; 3] = ["network", "client_id", "handle"];

/// Takes an entry off a list, if it is there. `handle` is the one that the list shows.
#[utoipa::path(
    delete, path = "/admin/lists/delete", tag = "lists",
    params(
        ("list" = inline(Named), Query),
        ("network" = inline(Option<String>), Query, min_length = 1),
        ("client_id" = inline(Option<String>), Query, min_length = 1),
        ("handle" = inline(Option<String>), Query, pattern = "^[0-9A-Fa-f]{32}$"),
    ),
    responses((status = 204, description = "it is not on the list any more")),
)]
pub(super) async fn delete(
    State(office): State<Arc<Office>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let asked = Asked::new(&request);
    let list = Named::read(&asked.required("list")?)?;
    let is_entry: Box<dyn Fn(&ListEntry) -> bool> = match the_only(&PARAMETERS, &asked)? {
        ("network", network) => {
            let lists = list.networks(vec![network]);
            let named = office.limiter.named(&lists).map_err(|error| wrong("network", &error))?;
            Box::new(move |entry| named.contains(entry))
        }
        (parameter, value) => {
            let key = office.whom_named(parameter, &value)?.key(&office);
            Box::new(move |entry| entry.key() == Some(key))
        }
    };
    let old = office.limiter.lists().into_iter().find(|entry| list.has(entry) && is_entry(entry));
    let Some(old) = old else { return Ok(StatusCode::NO_CONTENT) };
    match (old.network(), old.key()) {
        (Some(network), _) => {
            let lists = list.networks(vec![network]);
            office.limiter.remove_from_lists(&lists).map_err(|error| wrong("network", &error))?;
        }
        (None, Some(key)) => {
            office.limiter.remove_listed(key, list == Named::Block);
        }
        (None, None) => {}
    }
    office.tell(&asked.actor, "delete from list", list.name(), Some(&EntryView::from(&old)), None::<&()>);
    Ok(StatusCode::NO_CONTENT)
}

impl Named {
    fn read(text: &str) -> Result<Self, Problem> {
        match text {
            "allow" => Ok(Self::Allow),
            "block" => Ok(Self::Block),
            _ => Err(Problem::bad("list", "allow or block is accepted")),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }

    fn has(self, entry: &ListEntry) -> bool {
        entry.is_block() == (self == Self::Block)
    }

    fn networks(self, networks: Vec<String>) -> Lists {
        match self {
            Self::Allow => Lists::new().allow_networks(networks),
            Self::Block => Lists::new().block_networks(networks),
        }
    }

    fn with(self, lists: Lists, identity: Identity<'static>) -> Lists {
        match self {
            Self::Allow => lists.allow(identity),
            Self::Block => lists.block(identity),
        }
    }
}

impl Office {
    /// The entries that a body names.
    fn entries(&self, list: Named, body: &Map<String, Value>) -> Result<Lists, Problem> {
        let mut lists = list.networks(texts(body, "networks")?);
        let ids = texts(body, "client_ids")?;
        let mistakes: Vec<_> = ids.iter().filter(|id| self.clients.check_id(id).is_err()).collect();
        if let Some(first) = mistakes.first() {
            let error = self.client(first).err();
            let accepted = error.as_ref().map_or("", Problem::detail);
            return Err(Problem::bad("client_ids", &format!("{mistakes:?} are no ids; {accepted}")));
        }
        for identity in ids.into_iter().map(Identity::name) {
            lists = list.with(lists, identity);
        }
        for identity in texts(body, "api_keys")?.into_iter().map(Identity::api_key) {
            lists = list.with(lists, identity);
        }
        Ok(lists)
    }

    /// Of some entries those that are on the list, and all as they are to be on it.
    fn before_and_after(&self, lists: &Lists) -> Result<(Vec<EntryView>, Vec<EntryView>), Problem> {
        let all = self.limiter.named(lists).map_err(|error| wrong("networks", &error))?;
        let old = all.iter().filter(|entry| self.limiter.is_listed(entry)).map(EntryView::from).collect();
        Ok((old, all.iter().map(EntryView::from).collect()))
    }
}

/// All that is wrong with the networks.
fn wrong(field: &str, error: &BuildError) -> Problem {
    let mistakes: Vec<_> = error.mistakes().iter().map(ToString::to_string).collect();
    Problem::bad(field, &mistakes.join("; "))
}

/// So many entries of a kind are taken at once.
const MOST_ENTRIES: usize = 1_000;

/// Texts in a body.
fn texts(body: &Map<String, Value>, field: &str) -> Result<Vec<String>, Problem> {
    let wrong = || {
        Problem::bad(field, &format!("a list of 1 to {MOST_ENTRIES} strings that are not empty is accepted"))
    };
    match body.get(field) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) if (1..=MOST_ENTRIES).contains(&values.len()) => {
            let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            values.iter().map(|value| text(value).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

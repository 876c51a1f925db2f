#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    Clients, Limit, Limiter, MemoryRegistry, Policy, Quota, RequestHead, Rule, Source, UnknownClients,
};

/// However unlikely it is that a key is taken for a client's: for what is secret it must not happen at all.
#[test]
fn nobody_passes_by_an_api_key_that_is_taken_for_a_client() {
    let source = Source::api_key_header("x-api-key").or(Source::header("x-client-id")).registered();
    let limit = Limit::per_client("requests", Quota::per_minute(7)).granted();
    let policy = Policy::new().identify(source).rule(Rule::new("api").limit(limit));
    let clients = Clients::new(MemoryRegistry::new()).unknown(UnknownClients::refuse());
    let limiter = Limiter::builder(policy).clients(clients).build().unwrap();
    let inner = &limiter.inner;
    let grants = inner.grants.as_ref().unwrap();
    for (header, identity, passes) in
        [("x-api-key", Identity::api_key("guess"), false), ("x-client-id", Identity::name("guess"), true)]
    {
        grants.grades.put(identity.key(&inner.keys), &Rates::new([None].into_iter()));
        let request = http::Request::get("/").header(header, "guess").body(()).unwrap();
        let mut charged = Charged::default();
        inner.admit(&RequestHead::new(&request), &mut charged, &[]);
        assert_eq!(charged.registered.len(), usize::from(passes), "{header}");
    }
}

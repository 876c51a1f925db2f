//! Who gets through at all: clients that are known, with their name and without their credentials.

use crate::{problem::Problem, settings::AccessSettings};
use http::{HeaderName, HeaderValue, Request};
use std::sync::Arc;
use tidegate::{ChargeError, ClientRecord, Limiter, RequestHead};

/// What requests have to be, besides being within their limits.
#[derive(Debug)]
pub(crate) struct Access {
    limiter: Limiter,
    is_required: bool,
    client_field: Option<HeaderName>,
    strips: bool,
}

impl Access {
    /// Nothing where everybody gets through as they are.
    pub(crate) fn new(
        settings: &AccessSettings,
        client_field: Option<HeaderName>,
        limiter: &Limiter,
    ) -> Option<Self> {
        let is_required = settings.require.is_some();
        let strips = settings.strip_credentials;
        (is_required || strips || client_field.is_some()).then(|| Self {
            limiter: limiter.clone(),
            is_required,
            client_field,
            strips,
        })
    }

    /// Makes a request that its limits admit the one that the upstream may see.
    pub(crate) async fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        let record = match self.is_required || self.client_field.is_some() {
            true => self.record(request).await,
            false => Ok(None),
        };
        let record = match record {
            Ok(record) => record.filter(|record| record.is_enabled() && !record.is_uninvited()),
            Err(_) if !self.is_required => None,
            Err(problem) => return Err(problem),
        };
        if self.is_required && record.is_none() {
            return Err(Problem::UnknownClient);
        }
        if self.strips {
            let mut uri = std::mem::take(request.uri_mut());
            self.limiter.strip_credentials(&mut uri, request.headers_mut());
            *request.uri_mut() = uri;
        }
        if let Some(field) = &self.client_field {
            request.headers_mut().remove(field);
            if let Some(record) = record {
                let id = HeaderValue::from_bytes(record.client_id().as_bytes());
                request.headers_mut().insert(field, id.map_err(|_| Problem::UnknownClient)?);
            }
        }
        Ok(())
    }

    async fn record<B>(&self, request: &Request<B>) -> Result<Option<Arc<ClientRecord>>, Problem> {
        let client = self.limiter.identify(RequestHead::new(request)).map_err(|_| Problem::UnknownClient)?;
        client.record().await.map_err(|error| match error {
            ChargeError::Store(_) => Problem::NoRegistry,
            _ => Problem::UnknownClient,
        })
    }
}

//! What went wrong, as problem details (RFC 9457) with the members `error` and `message` beside.

use crate::{BanError, ChargeError, RegistryError, Rejection, response::whole_seconds};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// Why a request was not done.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// A URI that names the kind of problem; `about:blank` where the status says it.
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, and what is accepted.
    detail: &'a str,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// The same as `title`.
    error: &'a str,
    /// The same as `detail`.
    message: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), field: None, headers: Vec::new() }
    }

    pub(super) fn bad(field: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{field}: {message}")).about(field)
    }

    fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same with a header.
    pub(super) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same for whoever may ask: why a registry or store fails, which may name hosts and files, is for operators.
    pub(super) fn in_public(self) -> Self {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                let detail = "limits cannot be told at the moment; try again in a second";
                Self::new(self.status, detail).with(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => self,
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::Invalid { field, .. } => Self::new(StatusCode::BAD_REQUEST, detail).about(field),
            RegistryError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, detail),
            RegistryError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let problem = Self::new(rejection.status(), rejection.detail());
        match rejection.challenge() {
            Some(challenge) => problem.with(header::WWW_AUTHENTICATE, challenge),
            None => problem,
        }
    }
}

impl From<ChargeError> for Problem {
    fn from(error: ChargeError) -> Self {
        match error {
            ChargeError::Rejected(rejection) => rejection.into(),
            ChargeError::Blocked => Self::new(StatusCode::FORBIDDEN, error.to_string()),
            ChargeError::Banned { retry_after } => {
                let wait = whole_seconds(retry_after).max(1);
                Self::new(StatusCode::FORBIDDEN, error.to_string()).with(header::RETRY_AFTER, wait.into())
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }
}

impl From<BanError> for Problem {
    fn from(error: BanError) -> Self {
        let status = match error {
            BanError::Off => StatusCode::CONFLICT,
            BanError::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail, field, headers: more } = self;
        let title = status.canonical_reason().unwrap_or("Error");
        let body = ProblemBody {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail: &detail,
            field: field.as_deref(),
            error: title,
            message: &detail,
        };
        // A problem is always an object of JSON.
        let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(more);
        response
    }
}

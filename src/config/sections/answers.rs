use crate::{HeaderStyle, Policy, Reason, Refusal};
use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use schemars::JsonSchema;
use serde::Deserialize;

/// How limits and refusals are told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct AnswersSection {
    /// The fields by which answers tell clients their limits.
    fields: Fields,
    /// A sentence of your own that follows ours in a refusal's `detail`.
    text: Option<String>,
    /// A page about your limits, which a refusal points to.
    link: Option<String>,
    /// A refusal's body in your own words, instead of problem details.
    body: Option<BodySection>,
}

/// The fields of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Fields {
    /// `RateLimit-Policy` and `RateLimit` of draft 10, unless set.
    #[default]
    #[serde(rename = "draft-10")]
    Draft10,
    /// `RateLimit-Policy` and `RateLimit` of draft 7.
    #[serde(rename = "draft-7")]
    Draft7,
    /// `RateLimit-Policy`, `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` of draft 6.
    #[serde(rename = "draft-6")]
    Draft6,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` with the seconds to go.
    XRatelimit,
    /// The same with the reset in seconds since 1970.
    XRatelimitEpoch,
    /// No fields.
    Off,
}

/// A refusal's body. `{status}`, `{title}`, `{retry_after}` (seconds, 0 where waiting does not help) and `{limits}` (the names of
/// the limits that refuse, with commas) stand for what they say; in JSON they are escaped.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BodySection {
    /// Its media type; `application/json` unless set.
    content_type: Option<String>,
    /// The body.
    text: String,
}

impl AnswersSection {
    pub(super) fn add_to(&self, policy: Policy) -> Policy {
        let mut policy = policy.headers(match self.fields {
            Fields::Draft10 => HeaderStyle::Draft10,
            Fields::Draft7 => HeaderStyle::Draft7,
            Fields::Draft6 => HeaderStyle::Draft6,
            Fields::XRatelimit => HeaderStyle::XRateLimit,
            Fields::XRatelimitEpoch => HeaderStyle::XRateLimitEpoch,
            Fields::Off => HeaderStyle::Off,
        });
        policy = self.text.iter().fold(policy, Policy::refusal_text);
        policy = self.link.iter().fold(policy, Policy::refusal_link);
        match self.body.clone() {
            Some(body) => policy.refusal(move |refusal, _| body.respond(refusal)),
            None => policy,
        }
    }

    /// What is wrong with the media type, if anything is.
    pub(in super::super) fn wrong_content_type(&self) -> Option<String> {
        let text = self.body.as_ref()?.content_type.as_deref()?;
        let is_sound = text.contains('/') && HeaderValue::from_str(text).is_ok();
        (!is_sound).then(|| format!("{text:?} is no media type; write one like \"application/json\""))
    }
}

impl BodySection {
    fn respond(&self, refusal: &Refusal<'_>) -> Response<Bytes> {
        let content_type = self.content_type.as_deref().unwrap_or("application/json");
        let is_json = content_type.contains("json");
        let status = refusal.status();
        let title = match refusal.reason() {
            Reason::Limited => "Too Many Requests",
            _ => status.canonical_reason().unwrap_or("Refused"),
        };
        let limits: Vec<_> = refusal.violated().map(|limit| limit.limit()).collect();
        let permits: Vec<_> = refusal.violated_permits().map(|limit| limit.limit()).collect();
        let limits = [limits, permits].concat().join(",");
        let limits = if is_json { escaped(&limits) } else { limits };
        let retry_after = refusal.retry_after_secs().unwrap_or(0).to_string();
        let text = self.text.replace("{status}", status.as_str()).replace("{title}", title);
        let text = text.replace("{retry_after}", &retry_after).replace("{limits}", &limits);
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = status;
        if let Ok(content_type) = HeaderValue::from_str(content_type) {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        response
    }
}

/// A text as it stands between the quotes of JSON.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

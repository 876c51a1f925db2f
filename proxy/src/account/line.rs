//! A line of the access log.

use super::{Accounts, LogFormat, entry::Outturn, escape::escape};
use http::{
    HeaderName, Version,
    header::{HOST, REFERER, USER_AGENT},
};
use std::{io::Write, net::IpAddr, time::SystemTime};
use tidegate::RequestHead;

/// A line as far as the request says it, and what follows once its end is known.
#[derive(Debug)]
pub(super) struct Head {
    format: LogFormat,
    text: Vec<u8>,
    /// What stands behind status and bytes.
    behind: Vec<u8>,
}

impl Head {
    /// `client` is the address that a request comes from.
    pub(super) fn new(
        accounts: &Accounts,
        client: Option<IpAddr>,
        id: Option<&[u8]>,
        head: RequestHead<'_>,
    ) -> Self {
        let mut this = Self { format: accounts.format, text: Vec::with_capacity(512), behind: Vec::new() };
        let now = SystemTime::now();
        match accounts.format {
            LogFormat::Json => this.json(accounts, now, client, id, head),
            LogFormat::Combined => this.combined(accounts, now, client, id, head),
        }
        this
    }

    fn json(
        &mut self,
        accounts: &Accounts,
        now: SystemTime,
        client: Option<IpAddr>,
        id: Option<&[u8]>,
        head: RequestHead<'_>,
    ) {
        let text = &mut self.text;
        let _ = write!(text, "{{\"time\":\"{}\"", humantime::format_rfc3339_millis(now));
        let mut member = |name: &str, value: &[u8]| {
            let _ = write!(text, ",\"{name}\":\"");
            escape(value, LogFormat::Json, text);
            text.push(b'"');
        };
        if let Some(id) = id {
            member("id", id);
        }
        if let Some(client) = client {
            member("client", client.to_string().as_bytes());
        }
        member("method", head.method().as_str().as_bytes());
        member("target", &accounts.redact.apply(target(&head).as_bytes()));
        member("protocol", protocol(head.version()).as_bytes());
        if let Some(host) =
            field(&head, &HOST).or(head.uri().authority().map(|host| host.as_str().as_bytes()))
        {
            member("host", host);
        }
        if let Some(referer) = field(&head, &REFERER) {
            member("referer", &accounts.redact.apply(referer));
        }
        if let Some(agent) = field(&head, &USER_AGENT) {
            member("user_agent", agent);
        }
    }

    fn combined(
        &mut self,
        accounts: &Accounts,
        now: SystemTime,
        client: Option<IpAddr>,
        id: Option<&[u8]>,
        head: RequestHead<'_>,
    ) {
        let text = &mut self.text;
        match client {
            Some(client) => drop(write!(text, "{client}")),
            None => text.push(b'-'),
        }
        let _ = write!(text, " - - [{}] \"", clf_time(now));
        escape(head.method().as_str().as_bytes(), LogFormat::Combined, text);
        text.push(b' ');
        escape(&accounts.redact.apply(target(&head).as_bytes()), LogFormat::Combined, text);
        let _ = write!(text, " {}\"", protocol(head.version()));
        let quoted = |value: Option<&[u8]>, to: &mut Vec<u8>| {
            to.extend(b" \"");
            escape(value.filter(|value| !value.is_empty()).unwrap_or(b"-"), LogFormat::Combined, to);
            to.push(b'"');
        };
        let referer = field(&head, &REFERER).map(|referer| accounts.redact.apply(referer));
        quoted(referer.as_deref(), &mut self.behind);
        quoted(field(&head, &USER_AGENT), &mut self.behind);
        self.behind.extend(b" id=");
        escape(id.unwrap_or(b"-"), LogFormat::Combined, &mut self.behind);
    }

    /// The whole line.
    pub(super) fn line(self, outturn: &Outturn<'_>) -> Vec<u8> {
        let Self { format, mut text, behind } = self;
        let Outturn { status, bytes, is_whole, outcome, times } = outturn;
        let [decision, total] = [times.decision, times.total].map(|time| time.as_micros());
        let upstream = times.upstream.map(|time| time.as_micros());
        let word = outcome.word;
        match format {
            LogFormat::Json => {
                let _ = write!(text, ",\"status\":{status},\"bytes\":{bytes},\"whole\":{is_whole}");
                let _ = write!(text, ",\"decision\":\"{word}\"");
                if let Some(rule) = outcome.rule {
                    text.extend(b",\"rule\":\"");
                    escape(rule.as_bytes(), format, &mut text);
                    text.push(b'"');
                }
                let _ = write!(text, ",\"decision_us\":{decision}");
                if let Some(upstream) = upstream {
                    let _ = write!(text, ",\"upstream_us\":{upstream}");
                }
                let _ = writeln!(text, ",\"total_us\":{total}}}");
            }
            LogFormat::Combined => {
                let _ = write!(text, " {status} {bytes}");
                text.extend(behind);
                let _ = write!(text, " whole={is_whole} decision={word} rule=\"");
                escape(outcome.rule.unwrap_or("-").as_bytes(), format, &mut text);
                let _ = write!(text, "\" decision_us={decision} upstream_us=");
                match upstream {
                    Some(upstream) => drop(write!(text, "{upstream}")),
                    None => text.push(b'-'),
                }
                let _ = writeln!(text, " total_us={total}");
            }
        }
        text
    }
}

fn field<'a>(head: &RequestHead<'a>, name: &HeaderName) -> Option<&'a [u8]> {
    head.headers().get(name).map(http::HeaderValue::as_bytes)
}

/// Path and query; what stands before them in an absolute target may have a password.
fn target<'a>(head: &RequestHead<'a>) -> &'a str {
    head.uri().path_and_query().map_or("-", |target| target.as_str())
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `21/Nov/2026:04:41:59 +0000`.
fn clf_time(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(now).to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1)));
    format!("{}/{}/{}:{} +0000", part(8, 10), month.unwrap_or(&"Jan"), part(0, 4), part(11, 19))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_as_apache_has_them() {
        let time = |secs| clf_time(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(time(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(time(1_795_236_119), "21/Nov/2026:04:41:59 +0000");
        assert_eq!(time(951_782_399), "28/Feb/2000:23:59:59 +0000");
    }
}

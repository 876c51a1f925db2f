//! Which upstream a request is for.

use crate::{check::is_host, settings::UpstreamSettings};

/// Hosts and prefixes of paths, and the upstreams that they lead to.
#[derive(Debug)]
pub(crate) struct Routes {
    /// The ones to prefer first: with a host before those without, then by the longest prefix.
    routes: Vec<Route>,
}

#[derive(Debug, PartialEq, Eq)]
struct Route {
    /// In lower case; all hosts where there is none.
    host: Option<String>,
    /// Without a slash at its end.
    prefix: String,
    upstream: usize,
}

impl Routes {
    /// Answers with what is wrong, where something is.
    pub(crate) fn new(upstreams: &[UpstreamSettings]) -> Result<Self, String> {
        let mut routes: Vec<Route> = Vec::new();
        for (upstream, settings) in upstreams.iter().enumerate() {
            let hosts: Vec<_> = match settings.hosts.as_slice() {
                [] => vec![None],
                hosts => hosts.iter().map(|host| Some(host.to_ascii_lowercase())).collect(),
            };
            let is_bare = |host: &str| is_host(host.as_bytes()) && without_port(host) == host;
            if let Some(host) = hosts.iter().flatten().find(|host| !is_bare(host)) {
                return Err(format!(
                    "{host:?} is no host; write it without scheme, port and path, like api.example.com"
                ));
            }
            if settings.paths.is_empty() {
                return Err(format!("{} is for no path; write /, or leave paths out", settings.url));
            }
            if let Some(check) = settings.health.as_ref().filter(|check| !is_path(&check.path)) {
                return Err(format!("{:?} is no path to ask for; write it like /healthz", check.path));
            }
            for path in &settings.paths {
                if !path.starts_with('/') || path.contains(['?', '#', '{', '*']) {
                    return Err(format!("{path:?} begins no path; write it like /api"));
                }
                let prefix = path.trim_end_matches('/').to_owned();
                for host in hosts.clone() {
                    if let Some(other) =
                        routes.iter().find(|route| route.host == host && route.prefix == prefix)
                    {
                        let other = upstreams
                            .get(other.upstream)
                            .map_or(String::new(), |other| other.url.to_string());
                        return Err(format!(
                            "{path:?} leads to both {other} and {}; leave out one",
                            settings.url
                        ));
                    }
                    routes.push(Route { host, prefix: prefix.clone(), upstream });
                }
            }
        }
        routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.prefix.len())));
        Ok(Self { routes })
    }

    /// The number of the upstream for a host, with or without a port, and a path.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<usize> {
        let host = host.map(without_port);
        let is_for = |route: &&Route| {
            let is_host = route
                .host
                .as_ref()
                .is_none_or(|for_host| host.is_some_and(|host| host.eq_ignore_ascii_case(for_host)));
            let rest = path.strip_prefix(route.prefix.as_str());
            is_host
                && (route.prefix.is_empty()
                    || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        };
        self.routes.iter().find(is_for).map(|route| route.upstream)
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok()
}

fn without_port(host: &str) -> &str {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    name.map_or(host, |(name, _)| name)
}

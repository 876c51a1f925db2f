//! Where in the file a mistake of sense stands, which the policy names by rule and limit.

use super::{
    ConfigError,
    document::{Member, Node, Place},
    mistake::Found,
    variables::Hidden,
};
use crate::{BuildError, Mistake};

/// A file and its tree.
pub(super) struct Source {
    file: String,
    text: String,
    root: Node,
    hidden: Hidden,
}

impl Source {
    pub(super) fn new(file: &str, text: &str, root: Node, hidden: Hidden) -> Self {
        Self { file: file.to_owned(), text: text.to_owned(), root, hidden }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The error that tells what was found.
    pub(super) fn error(&self, found: Found) -> ConfigError {
        let error = found.error(&self.file, &self.text, &self.hidden);
        error.unwrap_or_else(|| ConfigError::unreadable(&self.file, "nothing is wrong with it"))
    }

    /// The same for mistakes of a build.
    #[cfg(feature = "redis")]
    pub(super) fn build_error(&self, error: &BuildError) -> ConfigError {
        let mut found = Found::default();
        self.add(error, &mut found);
        self.error(found)
    }

    pub(super) fn add(&self, error: &BuildError, found: &mut Found) {
        for mistake in error.mistakes() {
            found.add(self.place_of(mistake), mended(mistake));
        }
    }

    /// Where the value under these keys stands, or the last one of them that is there.
    pub(super) fn at(&self, keys: &[&str]) -> &Place {
        let (mut node, mut place) = (&self.root, &self.root.place);
        for key in keys {
            match node.member(key) {
                Some(Member { key, value }) => (node, place) = (value, key),
                None => break,
            }
        }
        place
    }

    /// Where a value of an element of a list stands.
    pub(super) fn in_list(&self, list: &str, number: usize, keys: &[&str]) -> &Place {
        let Some(item) = self.root.get(list).and_then(|list| list.items().get(number)) else {
            return &self.root.place;
        };
        in_table(item, keys)
    }

    fn place_of(&self, mistake: &Mistake) -> &Place {
        match mistake {
            Mistake::Quota { rule, limit, .. } => self.in_limit(rule, limit, "quota"),
            Mistake::Cost { rule, limit, .. } => self.in_limit(rule, limit, "cost"),
            Mistake::Concurrency { rule, limit, .. } => self.in_limit(rule, limit, "max"),
            Mistake::DuplicateLimit { rule, limit } => self.in_limit(rule, limit, "name"),
            Mistake::DuplicateRule { rule } | Mistake::Hidden { rule, .. } => self.in_rule(rule, "name"),
            Mistake::Pattern { rule, pattern, .. } => {
                let rules = self.rules().filter(|node| is_named(node, rule));
                let routes = rules.filter_map(|rule| rule.get("routes")).flat_map(Node::items);
                let found = routes.filter(|route| route.text() == Some(pattern)).last();
                found.map_or_else(|| self.in_rule(rule, "routes"), |route| &route.place)
            }
            Mistake::Name { name } => {
                let rule = self.rule(name).map(|_| self.in_rule(name, "name"));
                let limits = self.rules().flat_map(limits);
                let limit = || {
                    limits
                        .filter(|limit| is_named(limit, name))
                        .last()
                        .map(|limit| in_table(limit, &["name"]))
                };
                rule.or_else(limit).unwrap_or(&self.root.place)
            }
            Mistake::Network { text, place } => self.texts(text).unwrap_or_else(|| self.setting(place)),
            Mistake::Source { name, .. } => self.texts(name).unwrap_or_else(|| self.setting("identity")),
            Mistake::Setting { setting, reason } => {
                self.quoted_rule(reason).unwrap_or_else(|| self.setting(setting))
            }
            Mistake::Unknown { .. } => &self.root.place,
        }
    }

    /// The section or key that a setting of a builder stands in.
    fn setting(&self, setting: &str) -> &Place {
        let keys: &[&str] = match setting {
            "ban" => &["ban"],
            "memory_bytes" => &["store", "memory"],
            "secret" => &["store", "secret"],
            "max_in_flight" => &["store", "max_in_flight"],
            "max_waiting" => &["store", "max_waiting"],
            "trusted proxies" | "TrustedProxies" | "hops" => &["trusted_proxies"],
            "ipv4_prefix" | "ipv6_prefix" | "identity" | "Source::registered" => &["identity"],
            "allow list" => &["allow"],
            "block list" => &["block"],
            "Overrides" => &["registry", "overrides"],
            "IdRule" => &["registry", "ids"],
            "backoff" => &["store", "redis", "first_pause"],
            "url" | "store" => &["store", "redis", "url"],
            "deadline" | "connect_timeout" | "failures" | "known_refusals" | "connections" | "prefix"
            | "permit_life" | "root_certificates" | "client_certificate" | "client_key" => {
                return self.at(&["store", "redis", setting]);
            }
            _ if setting.starts_with("Clients") || setting.starts_with("fallback") => &["registry"],
            _ if setting.starts_with("Admin") => &["admin"],
            _ => &[],
        };
        self.at(keys)
    }

    /// The rule that a reason begins with, where it does.
    fn quoted_rule(&self, reason: &str) -> Option<&Place> {
        let rest = reason.strip_prefix("rule \"")?;
        let (name, rest) = rest.split_once('"')?;
        self.rule(name)?;
        let limit = rest.split_once("limit \"").and_then(|(_, rest)| rest.split_once('"'));
        Some(match limit {
            Some((limit, _)) => self.in_limit(name, limit, "granted"),
            None => self.in_rule(name, "resource"),
        })
    }

    /// Where a text stands that is nowhere else.
    fn texts(&self, text: &str) -> Option<&Place> {
        fn find<'n>(node: &'n Node, text: &str, found: &mut Vec<&'n Place>) {
            if node.text() == Some(text) {
                found.push(&node.place);
            }
            node.items().iter().for_each(|item| find(item, text, found));
            if let super::document::Kind::Table(members) = &node.kind {
                members.values().for_each(|member| find(&member.value, text, found));
            }
        }
        let mut found = Vec::new();
        find(&self.root, text, &mut found);
        found.first().copied()
    }

    /// Rules and pacers, which are rules too.
    fn rules(&self) -> impl Iterator<Item = &Node> {
        ["rule", "pace"].into_iter().flat_map(|list| self.root.get(list).map_or(&[][..], Node::items))
    }

    /// The last rule of a name, which is the one that is too many.
    fn rule(&self, name: &str) -> Option<&Node> {
        self.rules().filter(|rule| is_named(rule, name)).last()
    }

    fn in_rule(&self, name: &str, key: &str) -> &Place {
        self.rule(name).map_or(&self.root.place, |rule| in_table(rule, &[key]))
    }

    fn in_limit(&self, rule: &str, limit: &str, key: &str) -> &Place {
        // A limit without a name has its rule's.
        let is_meant = |node: &&Node| is_named(node, limit) || node.get("name").is_none() && limit == rule;
        let meant = || self.rules().filter(|node| is_named(node, rule)).flat_map(limits).filter(is_meant);
        let found = meant().filter(|limit| limit.get(key).is_some()).last().or_else(|| meant().last());
        found.map_or_else(|| self.in_rule(rule, "name"), |limit| in_table(limit, &[key]))
    }
}

fn limits(rule: &Node) -> impl Iterator<Item = &Node> {
    ["limit", "concurrency"].into_iter().flat_map(|list| rule.get(list).map_or(&[][..], Node::items))
}

fn is_named(node: &Node, name: &str) -> bool {
    node.get("name").and_then(Node::text) == Some(name)
}

fn in_table<'n>(table: &'n Node, keys: &[&str]) -> &'n Place {
    let (mut node, mut place) = (table, &table.place);
    for key in keys {
        match node.member(key) {
            Some(member) => (node, place) = (&member.value, &member.key),
            None => break,
        }
    }
    place
}

/// What is wrong, in the words of a file where the words of code would not help.
pub(super) fn mended(mistake: &Mistake) -> String {
    let text = mistake.to_string();
    let words = [
        ("add `.registered()` to the source", "set registered = true in its [identity]"),
        ("with `.registered()`", "with registered = true"),
        ("set one with `.clients(..)`", "add [registry]"),
        ("say who, with `trusting`", "say who, with trusting"),
        (
            "set it with `.secret(..)`, from 16 random bytes",
            "set secret in [store]; make one with `openssl rand -hex 16`",
        ),
        ("set a key, with `.key(..)` or `.key_hash(..)`", "set keys or key_hashes"),
        ("with `.burst(n)` or \"burst n\"", "with \"burst n\""),
        ("use Source::address() and trusted proxies", "use \"address\" and [trusted_proxies]"),
        ("set it on Source::address()", "add \"address\" to its sources"),
        ("set one with `LimiterBuilder::clients`", "add [registry]"),
    ];
    words.iter().fold(text, |text, (code, file)| text.replace(code, file))
}

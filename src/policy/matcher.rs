//! Which requests a rule is for, and what their routes are called.

use super::{paths::Paths, pattern::Pattern};
use crate::Mistake;
use http::Method;
use matchit::Router;

/// The requests that a rule is for: some methods or all, some route patterns or every path.
///
/// A slash at the end of a path makes no difference. `/api/{*rest}` matches neither `/api` nor `/api/`, as for axum; a rule
/// for all of it lists both.
#[derive(Debug)]
pub(crate) struct Matcher {
    methods: Vec<Method>,
    /// Nothing where every path matches.
    routes: Option<Routes>,
}

#[derive(Debug, Default)]
struct Routes {
    patterns: Vec<Pattern>,
    router: Router<usize>,
}

/// How a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// Under every reading of the path.
    Whole,
    /// Under some readings. Then `only` must not end the search: `/static/../login` would pass by a rule for `/login`
    /// behind one for `/static/{*rest}`.
    Partial,
}

impl Matcher {
    /// Compiles what `rule` matches; what is wrong with its patterns goes to `mistakes`.
    pub(crate) fn compile(
        rule: &str,
        methods: &[Method],
        patterns: &[String],
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut routes = (!patterns.is_empty()).then(Routes::default);
        if let Some(routes) = &mut routes {
            for text in patterns {
                if let Err(reason) = routes.add(text) {
                    mistakes.push(Mistake::Pattern { rule: rule.into(), pattern: text.clone(), reason });
                }
            }
        }
        Self { methods: methods.to_vec(), routes }
    }

    /// Whether the rule is for a request, under any reading of its path.
    ///
    /// `template` is the route that the router matched. The path's readings count besides, so that a rule for `/users/me`
    /// holds where the router has only `/users/{id}`.
    pub(crate) fn matches(
        &self,
        method: &Method,
        template: Option<&str>,
        paths: &Paths<'_>,
    ) -> Option<Match> {
        if !self.takes(method) {
            return None;
        }
        let Some(routes) = &self.routes else { return Some(Match::Whole) };
        let named = template.is_some_and(|template| routes.takes_template(template));
        // The template is how the router read the raw path.
        // Where the router took another route, an exemption for this one may not lift what that one is held to.
        let (mut any, mut all) = (named, named || template.is_none());
        for reading in paths.iter().skip(usize::from(named)) {
            let found = at(&routes.router, reading).is_some();
            any |= found;
            all &= found;
        }
        any.then_some(if all { Match::Whole } else { Match::Partial })
    }

    #[cfg(feature = "admin")]
    pub(crate) fn methods(&self) -> &[Method] {
        &self.methods
    }

    #[cfg(feature = "admin")]
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().flat_map(|routes| &routes.patterns).map(Pattern::text)
    }

    /// Whether the rule is for some paths only.
    pub(crate) const fn has_routes(&self) -> bool {
        self.routes.is_some()
    }

    /// The text of the rule's pattern that matches one reading of a path.
    pub(crate) fn name(&self, path: &str) -> Option<&str> {
        let routes = self.routes.as_ref()?;
        routes.patterns.get(at(&routes.router, path)?).map(Pattern::text)
    }

    /// Whether it is certain that all that `later` matches is matched here too.
    pub(crate) fn covers(&self, later: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!later.methods.is_empty() && later.methods.iter().all(|method| self.takes(method)));
        methods
            && match (&self.routes, &later.routes) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(own), Some(their)) => {
                    their.patterns.iter().all(|narrow| own.patterns.iter().any(|wide| wide.covers(narrow)))
                }
            }
    }

    /// HEAD counts as GET, because a GET handler serves it. Method-override headers are ignored.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

impl Routes {
    fn add(&mut self, text: &str) -> Result<(), String> {
        let pattern = Pattern::parse(text)?;
        if let Some(other) = self.patterns.iter().find(|other| other.clashes(&pattern)) {
            let other = other.text();
            return Err(if other == pattern.text() {
                "it stands twice in the rule, since a slash at its end makes no difference; leave one out"
                    .into()
            } else {
                format!(
                    "{other:?}, in the same rule, takes the same paths or some of them; leave one out, or move it to a rule of its own"
                )
            });
        }
        insert(&mut self.router, &pattern, self.patterns.len()).map_err(|e| e.to_string())?;
        self.patterns.push(pattern);
        Ok(())
    }

    /// Whether a pattern takes all that a template takes. `/{*rest}` as a path would match `/{page}`, which takes only part.
    fn takes_template(&self, template: &str) -> bool {
        at(&self.router, template)
            .is_some_and(|found| !template.contains("{*") || self.patterns[found].is_open())
    }
}

/// All patterns of a policy, to name the route of a request that no router has named.
#[derive(Debug)]
pub(crate) struct Templates {
    /// The most specific first.
    patterns: Vec<Pattern>,
    /// Patterns whose catch-alls, if any, stand equally deep: others can clash, and a router holds no two that do.
    routers: Vec<(Option<usize>, Router<usize>)>,
}

impl Templates {
    /// Takes the patterns of all rules. Of those that take the same paths the first stands for all; those that cannot be
    /// parsed are left out, because [`Matcher::compile`] reports them.
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns: Vec<_> = patterns.into_iter().flat_map(Pattern::parse).collect();
        patterns.sort_by(|a, b| a.shape().cmp(b.shape()));
        patterns.dedup_by(|later, first| later.shape().cmp(first.shape()).is_eq());

        let mut routers: Vec<(Option<usize>, Router<usize>)> = Vec::new();
        for (i, pattern) in patterns.iter().enumerate() {
            let depth = pattern.is_open().then(|| pattern.depth());
            if !routers.iter().any(|(of, _)| *of == depth) {
                routers.push((depth, Router::new()));
            }
            let router = routers.iter_mut().find(|(of, _)| *of == depth);
            // Never refused, because no two of them clash.
            let _ = router.map(|(_, router)| insert(router, pattern, i));
        }
        Self { patterns, routers }
    }

    /// The most specific pattern that matches the first reading that any matches.
    pub(crate) fn name(&self, paths: &Paths<'_>) -> Option<&str> {
        paths.iter().find_map(|path| self.name_one(path))
    }

    /// The most specific pattern that matches one reading of a path.
    pub(crate) fn name_one(&self, path: &str) -> Option<&str> {
        let found = self.routers.iter().filter_map(|(_, router)| at(router, path)).min()?;
        self.patterns.get(found).map(Pattern::text)
    }
}

fn at(router: &Router<usize>, path: &str) -> Option<usize> {
    router.at(path).ok().map(|found| *found.value)
}

/// Inserts a pattern with and without a slash at its end.
fn insert(router: &mut Router<usize>, pattern: &Pattern, value: usize) -> Result<(), matchit::InsertError> {
    if !pattern.is_open() {
        router.insert(format!("{}/", pattern.text()), value)?;
    }
    router.insert(pattern.text(), value)
}

#[cfg(test)]
mod tests;

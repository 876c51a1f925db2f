use super::{
    Config, ConfigError,
    check::check,
    document::{Node, Step},
    locate,
    mistake::Found,
    schema,
    sections::Sections,
    variables::{self, Hidden, Variables},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, fs, path::Path, sync::Arc};

/// What a file may say: the library's own sections, and those of whoever reads it.
///
/// A program that has settings of its own declares their sections, and takes them from the [`Config`]. A section that nobody
/// has declared is a mistake.
///
/// ```
/// use schemars::JsonSchema;
/// use serde::Deserialize;
/// use tidegate::ConfigFormat;
///
/// /// Where the app listens.
/// #[derive(Default, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct Server {
///     /// The port.
///     port: u16,
/// }
///
/// # fn main() -> Result<(), tidegate::ConfigError> {
/// let format = ConfigFormat::new().section::<Server>("server");
/// let config = format.parse("app.toml", "[server]\nport = 8080")?;
/// assert_eq!(config.section::<Server>("server").unwrap_or_default().port, 8080);
/// let error = format.parse("app.toml", "[server]\nprot = 8080").unwrap_err();
/// assert_eq!(error.to_string(), r#"app.toml:2:1: "prot" is not known here; did you mean "port"?"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ConfigFormat {
    others: Vec<Section>,
    /// Those of the process, unless others were given.
    variables: Option<Variables>,
}

/// A section that is somebody else's.
#[derive(Clone)]
struct Section {
    name: &'static str,
    schema: Value,
    /// What is wrong with a value of it, and where in it.
    trial: fn(Value) -> Option<(Vec<Step>, String)>,
}

impl ConfigFormat {
    /// The library's own sections, with the variables of the process.
    pub const fn new() -> Self {
        Self { others: Vec::new(), variables: None }
    }

    /// One more section: a table, or a list of tables (`[[name]]`) for a `Vec`. Types should deny unknown fields, so that
    /// misspelled keys are mistakes; the descriptions in the schema are their comments.
    pub fn section<T: DeserializeOwned + JsonSchema>(mut self, name: &'static str) -> Self {
        let trial = |value| read::<T>(value).err();
        self.others.push(Section { name, schema: schema::of::<T>(), trial });
        self
    }

    /// These variables instead of those of the process, for tests.
    pub fn variables(
        mut self,
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.variables = Some(variables.collect());
        self
    }

    /// The JSON Schema (draft 2020-12) of a file.
    pub fn schema(&self) -> Value {
        let mut whole = schema::of::<Sections>();
        whole["title"] = json!("Tidegate");
        for section in &self.others {
            schema::add(&mut whole, section.name, section.schema.clone());
        }
        whole
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or has mistakes; the error names all of them.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => self.parse(&name, &text),
            Err(error) => Err(ConfigError::unreadable(&name, &error.to_string())),
        }
    }

    /// Reads what a file of this name says.
    ///
    /// # Errors
    ///
    /// If it has mistakes; the error names all of them.
    pub fn parse(&self, file: &str, text: &str) -> Result<Config, ConfigError> {
        let mut hidden = Hidden::new();
        let mut found = Found::default();
        let config = self.parse_all(file, text, &mut hidden, &mut found);
        match found.error(file, text, &hidden) {
            Some(error) => Err(error),
            None => config.ok_or_else(|| ConfigError::unreadable(file, "it says nothing")),
        }
    }

    fn parse_all(&self, file: &str, text: &str, hidden: &mut Hidden, found: &mut Found) -> Option<Config> {
        let mut root = Node::parse(text, found);
        let process =
            || std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let variables = self.variables.clone().unwrap_or_else(|| process().collect());
        variables::fill(&mut root, &variables, hidden, found);
        variables::override_by(&mut root, &variables, hidden, found);
        check(&mut root, &self.schema(), found);
        if !found.is_empty() {
            return None;
        }
        let mut own = root.json();
        let mut others = BTreeMap::new();
        for section in &self.others {
            let Some(value) = own.as_object_mut().and_then(|members| members.remove(section.name)) else {
                continue;
            };
            if let Some((way, reason)) = (section.trial)(value.clone()) {
                let way: Vec<_> = [Step::Key(section.name.to_owned())].into_iter().chain(way).collect();
                found.add(root.place_of(&way), reason);
            }
            others.insert(section.name, value);
        }
        match read::<Sections>(own) {
            Ok(sections) => {
                let config = Config::new(
                    Arc::new(locate::Source::new(file, text, root, hidden.clone())),
                    sections,
                    others,
                );
                config.find_mistakes(found);
                Some(config)
            }
            Err((way, reason)) => {
                found.add(root.place_of(&way), reason);
                None
            }
        }
    }
}

impl Default for ConfigFormat {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ConfigFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<_> = self.others.iter().map(|section| section.name).collect();
        f.debug_struct("ConfigFormat").field("others", &others).finish_non_exhaustive()
    }
}

/// The value as a type, or what is wrong with it and where.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, (Vec<Step>, String)> {
    use serde_path_to_error::Segment;

    serde_path_to_error::deserialize(value).map_err(|error| {
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(Step::Number(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { variant } => Some(Step::Key(variant.clone())),
            Segment::Unknown => None,
        };
        let way = error.path().iter().map_while(step).collect();
        (way, error.into_inner().to_string())
    })
}

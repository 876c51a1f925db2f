//! A policy and all around it, from one TOML file.
//!
//! The file becomes a tree whose values know where they stand. Variables of the environment are put into it, and it is held
//! against a JSON Schema that is made from the types of the sections; so all mistakes of form are found at once, those of
//! sections that others own among them. What is left becomes the same descriptions that code would make, which are
//! compiled once on trial: mistakes of sense are found at once too, and told by the line that they stand in.

mod check;
mod document;
mod file;
mod format;
mod kinds;
mod locate;
mod mistake;
mod near;
mod reload;
mod schema;
mod sections;
mod variables;

pub use file::Config;
pub use format::ConfigFormat;
pub use kinds::{Period, Secret, Size};
pub use mistake::{ConfigError, ConfigMistake};

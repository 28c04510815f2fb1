//! Turns the operations of the checked-in OpenAPI document into an enum, so that the table of who may call what is a
//! `match` over it: a route that nobody entered there does not compile.
use std::{fmt::Write, path::PathBuf};

use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "../../gateway/openapi.json";
    println!("cargo:rerun-if-changed={file}");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let (mut variants, mut all, mut routes) = (String::new(), String::new(), String::new());
    for (path, operations) in document["paths"].as_object().ok_or("no paths")? {
        for (method, operation) in operations.as_object().ok_or("no operations")? {
            let id = operation["operationId"].as_str().ok_or("an operation without an id")?;
            let name = camel(id);
            let method = method.to_uppercase();
            writeln!(variants, "    /// `{method} {path}`\n    {name},")?;
            writeln!(all, "        Operation::{name},")?;
            writeln!(routes, "            Operation::{name} => ({method:?}, {path:?}),")?;
        }
    }
    let code = format!(
        "/// The operations of the OpenAPI document.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]\n\
         pub enum Operation {{\n{variants}}}\n\n\
         impl Operation {{\n    /// All of them, in the order of the document.\n    \
         pub const ALL: &[Operation] = &[\n{all}    ];\n\n    \
         /// Method and path.\n    pub fn route(self) -> (&'static str, &'static str) {{\n        \
         match self {{\n{routes}        }}\n    }}\n}}\n"
    );
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("operations.rs");
    std::fs::write(out, code)?;
    Ok(())
}

fn camel(id: &str) -> String {
    id.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect()
}

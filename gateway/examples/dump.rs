//! Prints the document.
fn main() {
    println!("{}", aegis_gateway::openapi().to_pretty_json().unwrap_or_default());
}

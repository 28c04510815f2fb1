//! What the metrics say of the product as a whole: which calls there are, and the connections of each database.

use std::{collections::HashSet, sync::LazyLock};

use aegis_db::Db;
use aegis_telemetry::{Pool, UNMATCHED};
use axum::http::{Extensions, Uri};

use crate::roles::Role;

/// The method of a call as the metrics name it: only those that there are, for a caller may make others up.
pub fn method(uri: &Uri, _: &Extensions) -> String {
    static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| aegis_rpc::methods(aegis_proto::DESCRIPTORS));
    let path = uri.path();
    if KNOWN.contains(path) { aegis_telemetry::rpc_method(path).to_owned() } else { UNMATCHED.to_owned() }
}

/// Has the pools of a role's database measured.
pub fn watch_pools(role: Role, db: Db) {
    let name = move |part: &str| if part.is_empty() { role.to_string() } else { format!("{role} {part}") };
    aegis_telemetry::watch_pools(move || {
        let pools = db.pools().into_iter();
        pools.map(|(part, used, idle, max)| Pool { name: name(part), used, idle, max }).collect()
    });
}

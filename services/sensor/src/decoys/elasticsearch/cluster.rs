//! What a node says of itself and its cluster.

use chrono::Utc;

use super::{
    Elastic, Reply,
    json::quoted,
    store::{self, Query, uuid},
};
use crate::session::Session;

impl Elastic {
    pub(super) fn root(&self) -> String {
        let (build, compatible) = match self.seven() {
            true => (
                format!("\"build_flavor\":\"default\",\"build_type\":\"deb\",\"build_hash\":\"{}\"", self.hash),
                ("6.8.0", "6.0.0-beta1"),
            ),
            false => (
                format!("\"build_flavor\":\"default\",\"build_type\":\"rpm\",\"build_hash\":\"{}\"", self.hash),
                ("5.6.0", "5.0.0"),
            ),
        };
        format!(
            "{{\"name\":{},\"cluster_name\":{},\"cluster_uuid\":\"{}\",\"version\":{{\"number\":\"{}\",{build},\"build_date\":\"{}\",\"build_snapshot\":false,\"lucene_version\":\"{}\",\"minimum_wire_compatibility_version\":\"{}\",\"minimum_index_compatibility_version\":\"{}\"}},\"tagline\":\"You Know, for Search\"}}",
            quoted(&self.node),
            quoted(&self.cluster),
            uuid(&self.persona.secret("elastic cluster uuid")),
            self.version,
            self.built,
            self.lucene,
            compatible.0,
            compatible.1
        )
    }

    pub(super) fn node_id(&self) -> String {
        uuid(&self.persona.secret("elastic node id"))
    }

    pub(super) fn health(&self) -> String {
        let shards = self.with(|store| store.indices.len());
        format!(
            "{{\"cluster_name\":{},\"status\":\"yellow\",\"timed_out\":false,\"number_of_nodes\":1,\"number_of_data_nodes\":1,\"active_primary_shards\":{shards},\"active_shards\":{shards},\"relocating_shards\":0,\"initializing_shards\":0,\"unassigned_shards\":{shards},\"delayed_unassigned_shards\":0,\"number_of_pending_tasks\":0,\"number_of_in_flight_fetch\":0,\"task_max_waiting_in_queue_millis\":0,\"active_shards_percent_as_number\":50.0}}",
            quoted(&self.cluster)
        )
    }

    pub(super) fn nodes(&self, session: &Session) -> String {
        let ip = session.local().ip().to_canonical();
        format!(
            "{{\"_nodes\":{{\"total\":1,\"successful\":1,\"failed\":0}},\"cluster_name\":{},\"nodes\":{{\"{}\":{{\"name\":{},\"transport_address\":\"{ip}:9300\",\"host\":\"{ip}\",\"ip\":\"{ip}\",\"version\":\"{}\",\"build_flavor\":\"default\",\"build_type\":\"deb\",\"build_hash\":\"{}\",\"roles\":[\"data\",\"ingest\",\"master\"],\"os\":{{\"name\":\"Linux\",\"arch\":\"amd64\",\"available_processors\":{}}},\"process\":{{\"id\":{},\"mlockall\":false}},\"jvm\":{{\"pid\":{},\"version\":\"17.0.6\",\"vm_name\":\"OpenJDK 64-Bit Server VM\",\"start_time_in_millis\":{}}},\"http\":{{\"bound_address\":[\"[::]:{}\"],\"publish_address\":\"{ip}:{}\",\"max_content_length_in_bytes\":104857600}},\"plugins\":[]}}}}}}",
            quoted(&self.cluster),
            self.node_id(),
            quoted(&self.node),
            self.version,
            self.hash,
            2 << self.persona.number("cpus", 3),
            700 + self.persona.number("elastic pid", 900),
            700 + self.persona.number("elastic pid", 900),
            self.persona.booted_at.timestamp_millis() + 31_000,
            session.local().port(),
            session.local().port()
        )
    }

    pub(super) fn cluster_stats(&self) -> Reply {
        let (indices, documents) = self.with(|store| (store.indices.len(), store.search("", &Query::default()).len()));
        Reply::json(format!(
            "{{\"_nodes\":{{\"total\":1,\"successful\":1,\"failed\":0}},\"cluster_name\":{},\"cluster_uuid\":\"{}\",\"timestamp\":{},\"status\":\"yellow\",\"indices\":{{\"count\":{indices},\"docs\":{{\"count\":{documents},\"deleted\":0}}}},\"nodes\":{{\"count\":{{\"total\":1,\"data\":1,\"ingest\":1,\"master\":1}},\"versions\":[\"{}\"]}}}}",
            quoted(&self.cluster),
            uuid(&self.persona.secret("elastic cluster uuid")),
            Utc::now().timestamp_millis(),
            self.version
        ))
    }

    pub(super) fn cat(&self, what: &str, list: &str, heads: bool, as_json: bool) -> Reply {
        let ip = self.persona.ip.to_canonical().to_string();
        let (heads_of, rows): (&[&str], Vec<Vec<String>>) = match what {
            "indices" => (
                &[
                    "health",
                    "status",
                    "index",
                    "uuid",
                    "pri",
                    "rep",
                    "docs.count",
                    "docs.deleted",
                    "store.size",
                    "pri.store.size",
                ],
                self.with(|store| {
                    let row = |(name, index): (&String, &store::Index)| {
                        let size = size(index.size());
                        let count = index.documents.len().to_string();
                        ["yellow", "open", name, &index.uuid, "1", "1", &count, "0", &size, &size]
                            .map(str::to_owned)
                            .into()
                    };
                    let names = store.matching(list);
                    store.indices.iter().filter(|(name, _)| names.contains(name)).map(row).collect()
                }),
            ),
            "health" => {
                let shards = self.with(|store| store.indices.len()).to_string();
                let now = Utc::now();
                let (epoch, time) = (now.timestamp().to_string(), now.format("%H:%M:%S").to_string());
                (
                    &[
                        "epoch",
                        "timestamp",
                        "cluster",
                        "status",
                        "node.total",
                        "node.data",
                        "shards",
                        "pri",
                        "relo",
                        "init",
                        "unassign",
                        "pending_tasks",
                        "max_task_wait_time",
                        "active_shards_percent",
                    ],
                    vec![
                        [
                            epoch.as_str(),
                            &time,
                            &self.cluster,
                            "yellow",
                            "1",
                            "1",
                            &shards,
                            &shards,
                            "0",
                            "0",
                            &shards,
                            "0",
                            "-",
                            "50.0%",
                        ]
                        .map(str::to_owned)
                        .into(),
                    ],
                )
            }
            "nodes" => (
                &[
                    "ip",
                    "heap.percent",
                    "ram.percent",
                    "cpu",
                    "load_1m",
                    "load_5m",
                    "load_15m",
                    "node.role",
                    "master",
                    "name",
                ],
                vec![
                    [
                        ip.as_str(),
                        &(20 + Utc::now().timestamp() / 60 % 40).to_string(),
                        "93",
                        &(1 + Utc::now().timestamp() / 7 % 6).to_string(),
                        "0.12",
                        "0.09",
                        "0.05",
                        "cdfhilmrstw",
                        "*",
                        &self.node,
                    ]
                    .map(str::to_owned)
                    .into(),
                ],
            ),
            "master" => (
                &["id", "host", "ip", "node"],
                vec![[self.node_id().as_str(), &ip, &ip, &self.node].map(str::to_owned).into()],
            ),
            "count" => {
                let count = self.with(|store| store.search(list, &Query::default()).len()).to_string();
                let now = Utc::now();
                (
                    &["epoch", "timestamp", "count"],
                    vec![vec![now.timestamp().to_string(), now.format("%H:%M:%S").to_string(), count]],
                )
            }
            "shards" => (
                &["index", "shard", "prirep", "state", "docs", "store", "ip", "node"],
                self.with(|store| {
                    let names = store.matching(list);
                    let rows =
                        store.indices.iter().filter(|(name, _)| names.contains(name)).flat_map(|(name, index)| {
                            let (count, size) = (index.documents.len().to_string(), size(index.size()));
                            let primary = [name.as_str(), "0", "p", "STARTED", &count, &size, &ip, &self.node]
                                .map(str::to_owned)
                                .into();
                            let replica =
                                [name.as_str(), "0", "r", "UNASSIGNED", "", "", "", ""].map(str::to_owned).into();
                            [primary, replica]
                        });
                    rows.collect()
                }),
            ),
            "allocation" => (
                &[
                    "shards",
                    "disk.indices",
                    "disk.used",
                    "disk.avail",
                    "disk.total",
                    "disk.percent",
                    "host",
                    "ip",
                    "node",
                ],
                vec![
                    ["6", "1.4mb", "21.7gb", "56.4gb", "78.1gb", "27", &ip, &ip, &self.node].map(str::to_owned).into(),
                ],
            ),
            "aliases" | "plugins" | "templates" | "tasks" | "pending_tasks" | "recovery" | "repositories" => {
                (&[], Vec::new())
            }
            _ => {
                let text = format!("no handler found for uri [/_cat/{what}] and method [GET]");
                return Reply::with(400, format!("{{\"error\":{}}}", quoted(&text)));
            }
        };
        if as_json {
            let row = |row: &Vec<String>| {
                let fields =
                    heads_of.iter().zip(row).map(|(head, value)| format!("{}:{}", quoted(head), quoted(value)));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            };
            return Reply::json(format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(",")));
        }
        let mut lines: Vec<Vec<String>> = rows;
        if heads {
            lines.insert(0, heads_of.iter().map(|head| (*head).to_owned()).collect());
        }
        let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads_of.len()).map(width).collect();
        let shown = lines.iter().map(|line| {
            let cells = line.iter().zip(&widths).map(|(cell, width)| {
                let number = cell.starts_with(|sign: char| sign.is_ascii_digit()) && !cell.contains('.');
                if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join(" ") + "\n"
        });
        Reply::text(shown.collect::<String>())
    }
}

/// Bytes as `_cat` shows them.
fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes}b"),
        1024..1_048_576 => format!("{}.{}kb", bytes / 1024, bytes % 1024 * 10 / 1024),
        _ => format!("{}.{}mb", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

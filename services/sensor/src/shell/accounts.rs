//! Accounts: those that a system brings, and the files that say so.

use super::{Family, Machine, User, daemons};

/// Accounts that a system brings: name, uid, home, shell.
fn system_users(family: Family) -> &'static [(&'static str, u32, &'static str, &'static str)] {
    const NOLOGIN: &str = "/usr/sbin/nologin";
    const DEBIAN: &[(&str, u32, &str, &str)] = &[
        ("daemon", 1, "/usr/sbin", NOLOGIN),
        ("bin", 2, "/bin", NOLOGIN),
        ("sys", 3, "/dev", NOLOGIN),
        ("sync", 4, "/bin", "/bin/sync"),
        ("games", 5, "/usr/games", NOLOGIN),
        ("man", 6, "/var/cache/man", NOLOGIN),
        ("lp", 7, "/var/spool/lpd", NOLOGIN),
        ("mail", 8, "/var/mail", NOLOGIN),
        ("news", 9, "/var/spool/news", NOLOGIN),
        ("uucp", 10, "/var/spool/uucp", NOLOGIN),
        ("proxy", 13, "/bin", NOLOGIN),
        ("www-data", 33, "/var/www", NOLOGIN),
        ("backup", 34, "/var/backups", NOLOGIN),
        ("list", 38, "/var/list", NOLOGIN),
        ("irc", 39, "/run/ircd", NOLOGIN),
        ("_apt", 42, "/nonexistent", NOLOGIN),
        ("nobody", 65534, "/nonexistent", NOLOGIN),
        ("messagebus", 100, "/nonexistent", NOLOGIN),
        ("systemd-network", 998, "/", NOLOGIN),
        ("systemd-timesync", 102, "/", NOLOGIN),
        ("sshd", 104, "/run/sshd", NOLOGIN),
    ];
    const RED_HAT: &[(&str, u32, &str, &str)] = &[
        ("bin", 1, "/bin", "/sbin/nologin"),
        ("daemon", 2, "/sbin", "/sbin/nologin"),
        ("adm", 3, "/var/adm", "/sbin/nologin"),
        ("lp", 4, "/var/spool/lpd", "/sbin/nologin"),
        ("sync", 5, "/sbin", "/bin/sync"),
        ("shutdown", 6, "/sbin", "/sbin/shutdown"),
        ("halt", 7, "/sbin", "/sbin/halt"),
        ("mail", 8, "/var/spool/mail", "/sbin/nologin"),
        ("operator", 11, "/root", "/sbin/nologin"),
        ("games", 12, "/usr/games", "/sbin/nologin"),
        ("ftp", 14, "/var/ftp", "/sbin/nologin"),
        ("nobody", 65534, "/", "/sbin/nologin"),
        ("dbus", 81, "/", "/sbin/nologin"),
        ("sshd", 74, "/usr/share/empty.sshd", "/sbin/nologin"),
        ("chrony", 998, "/var/lib/chrony", "/sbin/nologin"),
    ];
    const BSD: &[(&str, u32, &str, &str)] = &[
        ("daemon", 1, "/root", NOLOGIN),
        ("operator", 2, "/", NOLOGIN),
        ("bin", 3, "/", NOLOGIN),
        ("tty", 4, "/", NOLOGIN),
        ("kmem", 5, "/", NOLOGIN),
        ("games", 7, "/", NOLOGIN),
        ("news", 8, "/", NOLOGIN),
        ("man", 9, "/usr/share/man", NOLOGIN),
        ("sshd", 22, "/var/empty", NOLOGIN),
        ("bind", 53, "/", NOLOGIN),
        ("www", 80, "/nonexistent", NOLOGIN),
        ("nobody", 65534, "/nonexistent", NOLOGIN),
    ];
    const BUSYBOX: &[(&str, u32, &str, &str)] = &[
        ("daemon", 1, "/usr/sbin", "/bin/false"),
        ("bin", 2, "/bin", "/bin/false"),
        ("sys", 3, "/dev", "/bin/false"),
        ("sync", 4, "/bin", "/bin/sync"),
        ("mail", 8, "/var/spool/mail", "/bin/false"),
        ("www-data", 33, "/var/www", "/bin/false"),
        ("operator", 37, "/var", "/bin/false"),
        ("nobody", 65534, "/home", "/bin/false"),
        ("sshd", 1001, "/var/empty", "/bin/false"),
    ];
    match family {
        Family::Debian => DEBIAN,
        Family::RedHat => RED_HAT,
        Family::Bsd => BSD,
        Family::BusyBox => BUSYBOX,
        Family::Windows => &[],
    }
}

/// An account that the system brings.
pub fn system_user(family: Family, name: &str) -> Option<(u32, &'static str, &'static str)> {
    system_users(family).iter().find(|user| user.0 == name).map(|user| (user.1, user.2, user.3))
}

/// The name of an account that the system brings.
pub fn system_name(family: Family, uid: u32) -> Option<&'static str> {
    system_users(family).iter().find(|user| user.1 == uid).map(|user| user.0)
}

pub(super) fn passwd(machine: &Machine, users: &[User]) -> String {
    let family = machine.facts().family;
    let mut text = String::new();
    let mut line = |name: &str, uid: u32, gecos: &str, home: &str, shell: &str| {
        text.push_str(&format!(
            "{name}:{}:{uid}:{uid}:{gecos}:{home}:{shell}\n",
            if family == Family::Bsd { "*" } else { "x" }
        ));
    };
    for user in users.iter().filter(|user| user.uid == 0) {
        line(&user.name, 0, &user.gecos, &user.home, &user.shell);
    }
    for (name, uid, home, shell) in system_users(family) {
        line(name, *uid, name, home, shell);
    }
    let shell = if matches!(family, Family::RedHat) { "/sbin/nologin" } else { "/usr/sbin/nologin" };
    for (uid, name, home) in daemons::owners(machine) {
        if uid != 0 && system_user(family, name).is_none() {
            line(name, uid, "", home, if name == "postgres" { "/bin/bash" } else { shell });
        }
    }
    for user in users.iter().filter(|user| user.uid != 0) {
        let gecos = if family == Family::Debian && !user.gecos.is_empty() {
            format!("{},,,", user.gecos)
        } else {
            user.gecos.clone()
        };
        line(&user.name, user.uid, &gecos, &user.home, &user.shell);
    }
    text
}

pub(super) fn shadow(machine: &Machine, users: &[User]) -> String {
    let family = machine.facts().family;
    let days = machine.installed_at().timestamp() / 86_400;
    let mut text = String::new();
    let mut people = users.to_vec();
    people.sort_by_key(|user| user.uid);
    for (n, user) in people.iter().enumerate() {
        // What yescrypt or SHA-512 crypt would look like; it is the hash of nothing.
        let secret = machine.persona().secret(&format!("shadow {}", user.name));
        let more = machine.persona().secret(&format!("shadow more {}", user.name));
        let hash =
            if machine.facts().id == "centos" || family == Family::BusyBox || machine.facts().version_id == "20.04" {
                format!("$6${}${}", crypt_text(&secret, 16), crypt_text(&[secret, more].concat(), 86))
            } else {
                format!("$y$j9T${}${}", crypt_text(&secret, 22), crypt_text(&more, 43))
            };
        text.push_str(&format!("{}:{hash}:{days}:0:99999:7:::\n", user.name));
        if n == 0 {
            for (name, ..) in system_users(family) {
                text.push_str(&format!("{name}:*:{days}:0:99999:7:::\n"));
            }
            for (uid, name, _) in daemons::owners(machine) {
                if uid != 0 && system_user(family, name).is_none() {
                    text.push_str(&format!("{name}:!:{days}::::::\n"));
                }
            }
        }
    }
    text
}

fn crypt_text(bytes: &[u8], length: usize) -> String {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..length)
        .map(|n| {
            let byte = bytes
                .get(n % bytes.len().max(1))
                .copied()
                .unwrap_or(0)
                .wrapping_add(u8::try_from(n).unwrap_or(0).wrapping_mul(37));
            char::from(LETTERS.get(usize::from(byte & 63)).copied().unwrap_or(b'.'))
        })
        .collect()
}

pub(super) fn group(machine: &Machine, users: &[User]) -> String {
    let family = machine.facts().family;
    let mut text = String::from(if family == Family::Bsd { "wheel:*:0:root\n" } else { "root:x:0:\n" });
    for (name, gid, ..) in system_users(family) {
        text.push_str(&format!("{name}:x:{gid}:\n"));
    }
    let first = users.iter().find(|user| user.uid >= 1000).map(|user| user.name.as_str()).unwrap_or("");
    match family {
        Family::Debian => text.push_str(&format!("adm:x:4:syslog,{first}\nsudo:x:27:{first}\nssh:x:110:\n")),
        Family::RedHat => text.push_str(&format!("wheel:x:10:{first}\nssh_keys:x:999:\n")),
        _ => {}
    }
    for user in users.iter().filter(|user| user.uid >= 1000) {
        text.push_str(&format!("{}:x:{}:\n", user.name, user.uid));
    }
    text
}

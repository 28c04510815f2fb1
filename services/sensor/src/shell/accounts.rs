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

/// Where an account is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    System,
    Daemon,
    Person,
}

/// All accounts in the order of `/etc/passwd`: the superuser, those that the system and the daemons bring, people.
/// Whatever tells of accounts asks here, so that all of it tells the same.
fn all<'a>(machine: &'a Machine, people: &'a [User]) -> impl Iterator<Item = (Origin, User)> + 'a {
    let family = machine.facts().family;
    let system = system_users(family).iter().map(|(name, uid, home, shell)| {
        let user = User {
            name: (*name).to_owned(),
            uid: *uid,
            home: (*home).to_owned(),
            shell: (*shell).to_owned(),
            gecos: (*name).to_owned(),
        };
        (Origin::System, user)
    });
    // They are known only once one has come this far.
    let daemons = std::iter::once_with(move || of_daemons(machine, people)).flatten();
    let person = |user: &User| (Origin::Person, user.clone());
    let superuser = people.iter().filter(|user| user.uid == 0).map(person);
    superuser
        .chain(system)
        .chain(daemons.map(|user| (Origin::Daemon, user)))
        .chain(people.iter().filter(|user| user.uid != 0).map(person))
}

/// Accounts that the daemons bring and neither the system nor a person has.
pub(super) fn of_daemons(machine: &Machine, people: &[User]) -> Vec<User> {
    let family = machine.facts().family;
    if family == Family::Windows {
        return Vec::new();
    }
    let nologin = if family == Family::RedHat { "/sbin/nologin" } else { "/usr/sbin/nologin" };
    let known = |name: &str| {
        system_users(family).iter().any(|user| user.0 == name) || people.iter().any(|user| user.name == name)
    };
    daemons::owners(machine)
        .into_iter()
        .filter(|(uid, name, _)| *uid != 0 && !known(name))
        .map(|(uid, name, home)| User {
            name: name.to_owned(),
            uid,
            home: home.to_owned(),
            shell: if name == "postgres" { "/bin/bash" } else { nologin }.to_owned(),
            gecos: String::new(),
        })
        .collect()
}

/// The account of this name.
pub(super) fn by_name(machine: &Machine, people: &[User], name: &str) -> Option<User> {
    all(machine, people).map(|(_, user)| user).find(|user| user.name == name)
}

/// The account with this user id.
pub(super) fn by_uid(machine: &Machine, people: &[User], uid: u32) -> Option<User> {
    all(machine, people).map(|(_, user)| user).find(|user| user.uid == uid)
}

pub(super) fn passwd(machine: &Machine, users: &[User]) -> String {
    let family = machine.facts().family;
    let password = if family == Family::Bsd { "*" } else { "x" };
    all(machine, users)
        .map(|(origin, User { name, uid, home, shell, gecos })| {
            let more = match origin {
                Origin::Person if family == Family::Debian && uid != 0 && !gecos.is_empty() => ",,,",
                _ => "",
            };
            format!("{name}:{password}:{uid}:{uid}:{gecos}{more}:{home}:{shell}\n")
        })
        .collect()
}

pub(super) fn shadow(machine: &Machine, users: &[User]) -> String {
    let days = machine.installed_at().timestamp() / 86_400;
    all(machine, users)
        .map(|(origin, User { name, .. })| match origin {
            Origin::System => format!("{name}:*:{days}:0:99999:7:::\n"),
            Origin::Daemon => format!("{name}:!:{days}::::::\n"),
            Origin::Person => format!("{name}:{}:{days}:0:99999:7:::\n", password(machine, &name)),
        })
        .collect()
}

/// What yescrypt or SHA-512 crypt would look like; it is the hash of nothing.
fn password(machine: &Machine, name: &str) -> String {
    let facts = machine.facts();
    let secret = machine.persona().secret(&format!("shadow {name}"));
    let more = machine.persona().secret(&format!("shadow more {name}"));
    if facts.id == "centos" || facts.family == Family::BusyBox || facts.version_id == "20.04" {
        format!("$6${}${}", crypt_text(&secret, 16), crypt_text(&[secret, more].concat(), 86))
    } else {
        format!("$y$j9T${}${}", crypt_text(&secret, 22), crypt_text(&more, 43))
    }
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

/// Groups that are no account's own: id, name, and whether the first of the people is in it.
pub(super) fn more_groups(family: Family) -> &'static [(u32, &'static str, bool)] {
    match family {
        Family::Debian => &[(4, "adm", true), (27, "sudo", true), (106, "ssh", false)],
        Family::RedHat => &[(10, "wheel", true), (999, "ssh_keys", false)],
        _ => &[],
    }
}

/// Id and name of all groups: each account has one of its own, but for those whose id another group has.
fn groups(machine: &Machine, users: &[User]) -> Vec<(u32, String)> {
    let family = machine.facts().family;
    let more = more_groups(family);
    let mut groups: Vec<(u32, String)> = all(machine, users)
        .map(|(_, user)| (user.uid, own_group(family, user)))
        .filter(|(gid, _)| !more.iter().any(|group| group.0 == *gid))
        .collect();
    // After those of the system, before those of people.
    let at = groups.iter().rposition(|(gid, _)| *gid < 1000).map_or(0, |last| last + 1);
    groups.splice(at..at, more.iter().map(|(gid, name, _)| (*gid, (*name).to_owned())));
    groups
}

/// The name of a group id.
pub(super) fn group_name(machine: &Machine, users: &[User], gid: u32) -> Option<String> {
    let family = machine.facts().family;
    if let Some((_, name, _)) = more_groups(family).iter().find(|group| group.0 == gid) {
        return Some((*name).to_owned());
    }
    by_uid(machine, users, gid).map(|user| own_group(family, user))
}

/// The name of the group that has the same id as this account.
fn own_group(family: Family, user: User) -> String {
    if family == Family::Bsd && user.uid == 0 { "wheel".to_owned() } else { user.name }
}

pub(super) fn group(machine: &Machine, users: &[User]) -> String {
    let family = machine.facts().family;
    let first = users.iter().find(|user| user.uid >= 1000).map(|user| user.name.as_str()).unwrap_or("");
    groups(machine, users)
        .into_iter()
        .map(|(gid, name)| {
            let members = match (family, name.as_str()) {
                (Family::Bsd, "wheel") => "root".to_owned(),
                (Family::Debian, "adm") => format!("syslog,{first}"),
                (_, name) if more_groups(family).iter().any(|group| group.1 == name && group.2) => first.to_owned(),
                _ => String::new(),
            };
            let password = if family == Family::Bsd && gid == 0 { "*" } else { "x" };
            format!("{name}:{password}:{gid}:{members}\n")
        })
        .collect()
}

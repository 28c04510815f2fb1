//! Commands on users.

use std::{net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    super::{
        Machine, User,
        accounts::more_groups,
        expand::told,
        run::{Io, Shell},
        vfs::name,
    },
    Args, system,
};
use crate::session::EventType;

/// An address of the same network, that somebody who runs the machine would have.
pub(super) fn neighbour(machine: &Machine, label: &str) -> String {
    match machine.persona().ip {
        IpAddr::V4(ip) => {
            let [a, b, c, own] = ip.octets();
            let d = 10 + machine.persona().number(label, 220);
            format!("{a}.{b}.{c}.{}", if u64::from(own) == d { d + 1 } else { d })
        }
        IpAddr::V6(_) => "fe80::2".to_owned(),
    }
}

/// Who was logged in before, the newest last: when, who, for how many minutes. The same whenever it is asked for.
pub(super) fn logins(machine: &Machine, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, String, i64)> {
    let persona = machine.persona();
    let number = |label: String, end| i64::try_from(persona.number(&label, end)).unwrap_or(0);
    let mut all = Vec::new();
    let mut at = persona.booted_at;
    for n in 0..2000 {
        at += chrono::Duration::seconds(14_400 + number(format!("login gap {n}"), 400_000));
        let minutes = number(format!("login time {n}"), 170);
        if at + chrono::Duration::minutes(minutes + 5) > now {
            break;
        }
        let user = persona.pick(&format!("login user {n}"), machine.users()).map_or("root", |user| user.name.as_str());
        all.push((at, user.to_owned(), minutes));
        if all.len() > 9 {
            all.remove(0);
        }
    }
    all
}

pub(super) fn id(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let user = match args.rest.first() {
        None => shell.user.clone(),
        Some(wanted) => match shell.files.user(wanted) {
            Some(user) => user,
            None => {
                shell.complain(io, &format!("id: '{wanted}': no such user\n"));
                return 1;
            }
        },
    };
    let (uid, name) = (user.uid, &user.name);
    let group = &shell.files.group_name(uid);
    let first = shell.machine().users().iter().find(|user| user.uid >= 1000).is_some_and(|first| first.uid == uid);
    let more: Vec<(u32, &str)> = more_groups(shell.machine().facts().family)
        .iter()
        .filter(|(.., has_first)| first && *has_first)
        .map(|(gid, name, _)| (*gid, *name))
        .collect();
    let text = if argv.first().is_some_and(|word| word.ends_with("groups")) || (args.has('G') && args.has('n')) {
        std::iter::once(group.as_str()).chain(more.iter().map(|(_, name)| *name)).collect::<Vec<_>>().join(" ")
    } else if args.has('n') {
        if args.has('g') { group.to_owned() } else { name.clone() }
    } else if args.has('u') || args.has('g') {
        uid.to_string()
    } else {
        let groups: String = more.iter().map(|(gid, name)| format!(",{gid}({name})")).collect();
        format!("uid={uid}({name}) gid={uid}({group}) groups={uid}({group}){groups}")
    };
    shell.say(io, &format!("{text}\n"));
    0
}

pub(super) fn whoami(shell: &mut Shell, io: &Io) -> i32 {
    let text = format!("{}\n", shell.user.name);
    shell.say(io, &text);
    0
}

pub(super) fn who(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let login = shell.login.clone();
    let user = shell.user.name.clone();
    let mut text = String::new();
    match argv.first().map(|word| name(word)) {
        Some("w") => {
            text.push_str(&system::uptime_line(shell));
            text.push_str("USER     TTY      FROM             LOGIN@   IDLE   JCPU   PCPU WHAT\n");
            if shell.terminal.tty {
                text.push_str(&format!(
                    "{user:<8} {:<8} {:<16} {}    0.00s  0.03s  0.00s w\n",
                    login.tty,
                    login.from,
                    login.at.format("%H:%M")
                ));
            }
        }
        Some("users") if shell.terminal.tty => text.push_str(&format!("{user}\n")),
        _ if shell.terminal.tty => {
            text.push_str(&format!(
                "{user:<8} {:<12} {} ({})\n",
                login.tty,
                login.at.format("%Y-%m-%d %H:%M"),
                login.from
            ));
        }
        _ => {}
    }
    shell.say(io, &text);
    0
}

pub(super) fn last(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let persona = machine.persona();
    if argv.first().is_some_and(|word| word.ends_with("lastlog")) {
        let mut text = "Username         Port     From                                       Latest\n".to_owned();
        for user in shell.files.users() {
            text.push_str(&if user.name == shell.user.name {
                format!(
                    "{:<16} {:<8} {:<42} {}\n",
                    user.name,
                    shell.login.tty,
                    shell.login.from,
                    shell.login.at.format("%a %b %e %H:%M:%S +0000 %Y")
                )
            } else {
                format!("{:<16} {:<51} **Never logged in**\n", user.name, "")
            });
        }
        shell.say(io, &text);
        return 0;
    }
    let mut text = String::new();
    if shell.terminal.tty {
        text.push_str(&format!(
            "{:<8} {:<12} {:<16} {}   still logged in\n",
            shell.user.name,
            shell.login.tty,
            shell.login.from,
            shell.login.at.format("%a %b %e %H:%M")
        ));
    }
    for (at, user, minutes) in logins(&machine, shell.login.at).iter().rev() {
        let until = *at + chrono::Duration::minutes(*minutes);
        text.push_str(&format!(
            "{user:<8} pts/0        {:<16} {} - {}  ({:02}:{:02})\n",
            neighbour(&machine, "last login"),
            at.format("%a %b %e %H:%M"),
            until.format("%H:%M"),
            minutes / 60,
            minutes % 60
        ));
    }
    let booted = persona.booted_at;
    text.push_str(&format!(
        "reboot   system boot  {:<16} {}   still running\n\nwtmp begins {}\n",
        machine.facts().kernel.chars().take(16).collect::<String>(),
        booted.format("%a %b %e %H:%M"),
        booted.format("%a %b %e %H:%M:%S %Y")
    ));
    shell.say(io, &text);
    0
}

/// Tells of a credential that was typed in a session.
fn secret(shell: &Shell, user: &str, password: &str, method: &str, accepted: bool) {
    let kind = if accepted { EventType::AuthSuccess } else { EventType::AuthFail };
    shell.session.emit(
        kind,
        format!("{method} for {}", told(user)),
        &[("username", &told(user)), ("password", &told(password)), ("method", method)],
    );
}

pub(super) async fn passwd(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    if argv.first().is_some_and(|word| word.ends_with("chpasswd")) {
        let text = super::from_bytes(&shell.read_input(io).await);
        if shell.user.uid != 0 {
            shell.complain(io, "chpasswd: Cannot change password: Permission denied\n");
            return 1;
        }
        for (user, password) in text.lines().filter_map(|line| line.split_once(':')).take(16) {
            secret(shell, user, password, "chpasswd", true);
        }
        return 0;
    }
    let (args, _) = Args::new(argv, "");
    let user = args.rest.first().map_or_else(|| shell.user.name.clone(), |user| (*user).to_owned());
    if shell.files.user(&user).is_none() {
        shell.complain(io, &format!("passwd: user '{user}' does not exist\n"));
        return 1;
    }
    if shell.user.uid != 0 && user != shell.user.name {
        shell.complain(io, &format!("passwd: You may not view or modify password information for {user}.\n"));
        return 1;
    }
    if shell.user.uid != 0 {
        shell.complain(io, &format!("Changing password for {user}.\n"));
        if shell.read_input_line(io, "Current password: ", false).await.is_none() {
            return 1;
        }
    }
    let first = shell.read_input_line(io, "New password: ", false).await;
    let second = shell.read_input_line(io, "Retype new password: ", false).await;
    match (first, second) {
        (Some(first), Some(second)) if first == second && !first.is_empty() => {
            secret(shell, &user, &first, "passwd", true);
            shell.complain(io, "passwd: password updated successfully\n");
            0
        }
        (Some(_), Some(_)) => {
            shell.complain(io, "Sorry, passwords do not match.\npasswd: Authentication token manipulation error\npasswd: password unchanged\n");
            10
        }
        _ => {
            shell.complain(io, "passwd: Authentication token manipulation error\npasswd: password unchanged\n");
            10
        }
    }
}

pub(super) async fn su(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "cs");
    let operands: Vec<&str> = args.rest.iter().copied().filter(|word| *word != "-").collect();
    let login = args.rest.contains(&"-") || args.has('l');
    let wanted = operands.first().copied().unwrap_or("root");
    let Some(user) = shell.files.user(wanted) else {
        shell.complain(
            io,
            &format!("su: user {wanted} does not exist or the user entry does not contain all the required fields\n"),
        );
        return 1;
    };
    if shell.user.uid != 0 {
        let Some(password) = shell.read_input_line(io, "Password: ", false).await else { return 1 };
        secret(shell, wanted, &password, "su", false);
        shell.wait(Duration::from_millis(2100)).await;
        shell.complain(io, "su: Authentication failure\n");
        return 1;
    }
    become_user(shell, user, login, values.iter().find(|(letter, _)| *letter == 'c').map(|(_, command)| *command), io)
        .await
}

async fn become_user(shell: &mut Shell, user: User, login: bool, command: Option<&str>, io: &Io) -> i32 {
    shell.enter(user, login);
    match command {
        None => 0,
        Some(command) => {
            let status = shell.run_script(command, io, true).await;
            shell.leave();
            status
        }
    }
}

pub(super) async fn sudo(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let mut words = argv.iter().skip(1).peekable();
    let (mut wanted, mut interactive, mut login, mut list, mut from_input) =
        ("root".to_owned(), false, false, false, false);
    while let Some(option) = words.next_if(|word| word.starts_with('-')) {
        match option.as_str() {
            "-u" => wanted = words.next().cloned().unwrap_or(wanted),
            "-i" => (interactive, login) = (true, true),
            "-s" => interactive = true,
            "-l" => list = true,
            "-S" => from_input = true,
            _ => {}
        }
    }
    let command: Vec<String> = words.cloned().collect();
    let name = shell.user.name.clone();
    let first = shell.machine().users().iter().find(|user| user.uid >= 1000).is_some_and(|user| user.name == name);
    if shell.user.uid != 0 {
        for round in 0..3 {
            let prompt = format!("[sudo] password for {name}: ");
            let Some(password) = shell.read_input_line(io, &prompt, false).await else {
                shell.complain(io, "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper\nsudo: a password is required\n");
                return 1;
            };
            secret(shell, &name, &password, "sudo", false);
            // What was good enough to log in with is not known here: any password that is not empty is the user's own.
            if !password.is_empty() && first {
                break;
            }
            shell.wait(Duration::from_millis(1900)).await;
            if !password.is_empty() {
                shell.complain(io, &format!("{name} is not in the sudoers file.\n"));
                return 1;
            }
            if round == 2 || from_input {
                shell.complain(io, "sudo: 3 incorrect password attempts\n");
                return 1;
            }
            shell.complain(io, "Sorry, try again.\n");
        }
    }
    if list {
        let host = shell.machine().persona().hostname.clone();
        shell.say(io, &format!("User {name} may run the following commands on {host}:\n    (ALL : ALL) ALL\n"));
        return 0;
    }
    let Some(user) = shell.files.user(&wanted) else {
        shell.complain(io, &format!("sudo: unknown user {wanted}\n"));
        return 1;
    };
    if command.is_empty() {
        if !interactive {
            shell.complain(io, "usage: sudo -h | -K | -k | -V\nusage: sudo -l [-AknS] [-g group] [-h host] [-p prompt] [-U user] [-u user] [command [arg ...]]\nusage: sudo [-AbEHknPS] [-u user] [VAR=value] [-i | -s] [command [arg ...]]\n");
            return 1;
        }
        return become_user(shell, user, login, None, io).await;
    }
    if command.first().is_some_and(|word| ["su", "bash", "sh"].contains(&word.as_str())) && command.len() <= 2 {
        shell.enter(user, command.iter().any(|word| word == "-"));
        return 0;
    }
    shell.enter(user, false);
    let status = shell.call(&command, io).await;
    shell.leave();
    status
}

pub(super) fn manage(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (args, values) = Args::new(argv, "sdgGucpe");
    if shell.user.uid != 0 {
        shell.complain(
            io,
            &format!("{program}: Permission denied.\n{program}: cannot lock /etc/passwd; try again later.\n"),
        );
        return 1;
    }
    let Some(user) = args.rest.last() else { return 2 };
    let known = shell.files.user(user).is_some();
    match program.as_str() {
        "useradd" | "adduser" if known => {
            shell.complain(io, &format!("{program}: user '{user}' already exists\n"));
            9
        }
        "useradd" | "adduser" => {
            if let Some((_, password)) = values.iter().find(|(letter, _)| *letter == 'p') {
                secret(shell, user, password, &program, true);
            }
            shell.files.login(user);
            0
        }
        "userdel" | "usermod" if !known => {
            shell.complain(io, &format!("{program}: user '{user}' does not exist\n"));
            6
        }
        _ => 0,
    }
}

pub(super) fn getent(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let Some(file) = argv.get(1).filter(|file| ["passwd", "group", "shadow", "hosts"].contains(&file.as_str())) else {
        return 1;
    };
    let text = super::from_bytes(&shell.files.read("/", &format!("/etc/{file}"), 64 << 10).unwrap_or_default());
    let text: String = text
        .lines()
        .filter(|line| argv.get(2).is_none_or(|key| line.split(':').next() == Some(key.as_str())))
        .map(|line| format!("{line}\n"))
        .collect();
    shell.say(io, &text);
    if text.is_empty() { 2 } else { 0 }
}

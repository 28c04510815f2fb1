//! Commands on processes and services.

use std::time::Duration;

use chrono::Utc;

use super::{
    super::{
        Family,
        processes::{self, Process},
        run::{Flow, Io, Shell, Source},
        vfs::name,
    },
    Args, system,
};

/// Longest that one command waits.
const MAX_WAIT: f64 = 600.0;

/// All processes and those of the session.
fn all(shell: &Shell, own: &str) -> Vec<(Process, &'static str)> {
    let mut all: Vec<(Process, &'static str)> =
        processes::all(shell.machine()).into_iter().map(|process| (process, "?")).collect();
    let uid = shell.user.uid;
    let user: &'static str = if uid == 0 { "root" } else { "" };
    let mut add = |pid: u64, parent: u64, uid: u32, user: &'static str, command: String, tty| {
        all.push((
            Process {
                pid,
                parent,
                uid,
                user,
                command,
                kernel: false,
                virtual_size: 9_000 + pid % 900,
                resident: 4_100 + pid % 600,
            },
            tty,
        ));
    };
    let sshd = shell.machine().pid("sshd session", 3, 9);
    add(shell.pid.saturating_sub(sshd + 4), 1, 0, "root", format!("sshd: {} [priv]", shell.user.name), "?");
    add(
        shell.pid.saturating_sub(sshd),
        shell.pid.saturating_sub(sshd + 4),
        uid,
        user,
        format!("sshd: {}@{}", shell.user.name, if shell.terminal.tty { &shell.login.tty } else { "notty" }),
        "?",
    );
    let tty = if shell.login.tty.ends_with('0') { "pts/0" } else { "pts/1" };
    let tty = if shell.terminal.tty { tty } else { "?" };
    add(shell.pid, shell.pid.saturating_sub(sshd), uid, user, format!("-{}", shell.dialect), tty);
    add(shell.pid + 1, shell.pid, uid, user, own.to_owned(), tty);
    all
}

fn owner(shell: &Shell, process: &Process) -> String {
    let name = if process.user.is_empty() { shell.files.user_name(process.uid) } else { process.user.to_owned() };
    if name.len() > 8 { format!("{}+", name.get(..7).unwrap_or("")) } else { name }
}

pub(super) fn ps(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let options: String =
        argv.iter().skip(1).filter(|word| !word.chars().all(|c| c.is_ascii_digit())).cloned().collect();
    let own = format!("ps {}", argv.get(1..).unwrap_or_default().join(" "));
    let list = all(shell, own.trim());
    let booted = shell.machine().persona().booted_at;
    let today = Utc::now().date_naive();
    let start = |process: &Process| {
        let at = if process.pid < 2000 { booted } else { Utc::now() };
        if at.date_naive() == today { at.format("%H:%M").to_string() } else { at.format("%b%d").to_string() }
    };
    let total = shell.machine().memory().max(1);
    let mut text = String::new();
    if shell.machine().facts().family == Family::BusyBox {
        text.push_str("PID   USER     COMMAND\n");
        for (process, _) in &list {
            text.push_str(&format!("{:5} {:<8} {}\n", process.pid, owner(shell, process), process.command));
        }
    } else if options.contains('u') && !options.contains('e') {
        text.push_str("USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n");
        for (process, tty) in &list {
            if !options.contains('a') && !options.contains('x') && *tty == "?" {
                continue;
            }
            let memory = process.resident as f64 * 100.0 / total as f64;
            let state = match process {
                Process { kernel: true, .. } => "I<",
                _ if process.pid == shell.pid + 1 => "R+",
                _ => "Ss",
            };
            text.push_str(&format!(
                "{:<8} {:>7}  0.0 {memory:>4.1} {:>6} {:>5} {tty:<8} {state:<4} {:<5}   0:{:02} {}\n",
                owner(shell, process),
                process.pid,
                process.virtual_size,
                process.resident,
                start(process),
                process.pid % 7,
                process.command
            ));
        }
    } else if options.contains('f') {
        text.push_str("UID          PID    PPID  C STIME TTY          TIME CMD\n");
        for (process, tty) in &list {
            text.push_str(&format!(
                "{:<8} {:>7} {:>7}  0 {:<5} {tty:<8} 00:00:{:02} {}\n",
                owner(shell, process),
                process.pid,
                process.parent,
                start(process),
                process.pid % 7,
                process.command
            ));
        }
    } else {
        let every = options.contains('e') || options.contains('A') || options.contains('x');
        text.push_str("    PID TTY          TIME CMD\n");
        for (process, tty) in &list {
            if every || *tty != "?" {
                text.push_str(&format!(
                    "{:>7} {tty:<8} 00:00:{:02} {}\n",
                    process.pid,
                    process.pid % 7,
                    process.name().trim_start_matches('-')
                ));
            }
        }
    }
    shell.say(io, &text);
    0
}

pub(super) async fn top(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "nd");
    let rounds = values.iter().find(|(letter, _)| *letter == 'n').and_then(|(_, n)| n.parse::<u32>().ok());
    let mut round = 0;
    loop {
        let mut list = all(shell, "top");
        list.sort_by_key(|(process, _)| {
            std::cmp::Reverse(if process.pid == shell.pid + 1 { u64::MAX } else { process.resident })
        });
        let (total, free, cache, available) = super::super::content::memory(shell.machine());
        let mib = |kib: u64| kib as f64 / 1024.0;
        let mut text = if args.has('b') { String::new() } else { "\x1b[H\x1b[2J".to_owned() };
        text.push_str(&format!(
            "top -{}Tasks: {} total,   1 running, {} sleeping,   0 stopped,   0 zombie\n%Cpu(s):  0.3 us,  0.3 sy,  0.0 ni, 99.3 id,  0.0 wa,  0.0 hi,  0.0 si,  0.0 st\nMiB Mem : {:8.1} total, {:8.1} free, {:8.1} used, {:8.1} buff/cache\nMiB Swap:    975.0 total,    975.0 free,      0.0 used. {:8.1} avail Mem\n\n    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND\n",
            system::uptime_line(shell), list.len(), list.len() - 1, mib(total), mib(free), mib(total.saturating_sub(free + cache)), mib(cache), mib(available)
        ));
        let rows = usize::from(shell.terminal.size.1).saturating_sub(8).clamp(10, 60);
        for (process, _) in list.iter().take(rows) {
            text.push_str(&format!(
                "{:>7} {:<8}  20   0 {:>7} {:>6} {:>6} S   0.0 {:>5.1}   0:{:02}.{:02} {}\n",
                process.pid,
                owner(shell, process),
                process.virtual_size,
                process.resident,
                process.resident / 2,
                process.resident as f64 * 100.0 / total.max(1) as f64,
                process.pid % 9,
                process.pid % 97,
                process.name()
            ));
        }
        shell.say(io, &text);
        round += 1;
        if !shell.terminal.tty || rounds.is_some_and(|rounds| round >= rounds) || round > 200 {
            return 0;
        }
        shell.flush().await;
        // A key that is typed ends the wait; q ends it all.
        let typed = tokio::time::timeout(Duration::from_secs(3), shell.terminal.byte()).await;
        if let Ok(Some(b'q' | 3) | None) = typed {
            return 0;
        }
    }
}

pub(super) fn find(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "us");
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let list = processes::all(shell.machine());
    if program == "pstree" {
        let names: Vec<String> = list
            .iter()
            .filter(|process| !process.kernel && process.pid > 1)
            .map(|process| process.name().to_owned())
            .collect();
        let text = format!("systemd─┬─{}\n", names.join("\n        ├─"));
        shell.say(io, &text);
        return 0;
    }
    let Some(pattern) = args.rest.first() else {
        shell.complain(
            io,
            &format!("{program}: no matching criteria specified\nTry `{program} --help' for more information.\n"),
        );
        return 2;
    };
    let found: Vec<&Process> = list
        .iter()
        .filter(|process| {
            if args.has('f') {
                process.command.contains(pattern)
            } else if program.starts_with("pg") || program == "pkill" {
                process.name().contains(pattern)
            } else {
                process.name() == *pattern
            }
        })
        .collect();
    if found.is_empty() {
        if program == "killall" {
            shell.complain(io, &format!("{pattern}: no process found\n"));
        }
        return 1;
    }
    let text = match program.as_str() {
        "pgrep" => found
            .iter()
            .map(|process| {
                if args.has('l') || args.has('a') {
                    format!("{} {}\n", process.pid, process.name())
                } else {
                    format!("{}\n", process.pid)
                }
            })
            .collect(),
        "pidof" => found.iter().rev().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" ") + "\n",
        _ => {
            if shell.user.uid != 0 {
                shell.complain(
                    io,
                    &format!(
                        "{program}: killing pid {} failed: Operation not permitted\n",
                        found.first().map_or(0, |process| process.pid)
                    ),
                );
                return 1;
            }
            String::new()
        }
    };
    shell.say(io, &text);
    0
}

pub(super) async fn sleep(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let mut seconds = 0.0;
    for word in argv.iter().skip(1) {
        let (number, factor) = match word.chars().last() {
            Some('m') => (word.trim_end_matches('m'), 60.0),
            Some('h') => (word.trim_end_matches('h'), 3600.0),
            Some('d') => (word.trim_end_matches('d'), 86_400.0),
            _ => (word.trim_end_matches('s'), 1.0),
        };
        match number.parse::<f64>() {
            Ok(number) if number >= 0.0 => seconds += number * factor,
            _ => {
                shell.complain(
                    io,
                    &format!("sleep: invalid time interval '{word}'\nTry 'sleep --help' for more information.\n"),
                );
                return 1;
            }
        }
    }
    if argv.len() < 2 {
        shell.complain(io, "sleep: missing operand\nTry 'sleep --help' for more information.\n");
        return 1;
    }
    if shell.wait(Duration::from_secs_f64(seconds.min(MAX_WAIT))).await { 130 } else { 0 }
}

/// Services that systemd knows: name, what it is.
const UNITS: [(&str, &str); 6] = [
    ("cron", "Regular background program processing daemon"),
    ("dbus", "D-Bus System Message Bus"),
    ("rsyslog", "System Logging Service"),
    ("ssh", "OpenBSD Secure Shell server"),
    ("systemd-journald", "Journal Service"),
    ("systemd-logind", "User Login Management"),
];

pub(super) async fn systemctl(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (args, _) = Args::new(argv, "nu");
    if program == "journalctl" {
        let booted = shell.machine().persona().booted_at;
        let host = shell.machine().persona().hostname.clone();
        let text: String = UNITS
            .iter()
            .enumerate()
            .map(|(n, (_, what))| {
                let at = booted + chrono::Duration::seconds(4 + i64::try_from(n).unwrap_or(0));
                format!("{} {host} systemd[1]: Started {what}.\n", at.format("%b %d %H:%M:%S"))
            })
            .collect();
        shell.say(io, &text);
        return 0;
    }
    let (action, unit) = match (program.as_str(), args.rest.as_slice()) {
        ("service", [unit, action, ..]) | ("systemctl", [action, unit, ..]) => {
            (*action, Some(unit.trim_end_matches(".service").to_owned()))
        }
        ("systemctl", [action]) => (*action, None),
        _ => ("list-units", None),
    };
    let unit = unit.map(|unit| {
        if unit == "sshd" {
            "ssh".to_owned()
        } else if unit == "crond" {
            "cron".to_owned()
        } else {
            unit
        }
    });
    let known = unit.as_deref().and_then(|unit| UNITS.iter().find(|(name, _)| *name == unit));
    match (action, &unit, known) {
        ("list-units" | "list-unit-files", ..) => {
            let rows: String = UNITS
                .iter()
                .map(|(name, what)| format!("  {:<28} loaded active running {what}\n", format!("{name}.service")))
                .collect();
            shell.say(io, &format!("  UNIT                         LOAD   ACTIVE SUB     DESCRIPTION\n{rows}\nLOAD   = Reflects whether the unit definition was properly loaded.\nACTIVE = The high-level unit activation state, i.e. generalization of SUB.\nSUB    = The low-level unit activation state, values depend on unit type.\n{} loaded units listed.\n", UNITS.len()));
            0
        }
        ("status", Some(_), Some((name, what))) => {
            let pid = processes::all(shell.machine())
                .iter()
                .find(|process| process.command.contains(name))
                .map_or(1, |process| process.pid);
            let booted = shell.machine().persona().booted_at;
            shell.say(io, &format!("● {name}.service - {what}\n     Loaded: loaded (/lib/systemd/system/{name}.service; enabled; preset: enabled)\n     Active: active (running) since {} UTC; {} ago\n   Main PID: {pid} ({name})\n      Tasks: 1\n        CPU: {}ms\n", booted.format("%a %Y-%m-%d %H:%M:%S"), system::up(shell.machine().uptime()), 40 + pid % 900));
            0
        }
        ("is-active", _, Some(_)) => {
            shell.say(io, "active\n");
            0
        }
        ("is-active", ..) => {
            shell.say(io, "inactive\n");
            3
        }
        ("status", Some(unit), None) => {
            shell.complain(io, &format!("Unit {unit}.service could not be found.\n"));
            4
        }
        ("daemon-reload" | "daemon-reexec", ..) if shell.user.uid == 0 => 0,
        ("start" | "stop" | "restart" | "reload" | "enable" | "disable" | "mask", Some(unit), known) => {
            if shell.user.uid != 0 {
                shell.complain(io, &format!("Failed to {action} {unit}.service: Interactive authentication required.\nSee system logs and 'systemctl status {unit}.service' for details.\n"));
                return 1;
            }
            if known.is_none() && shell.files.stat("/", &format!("/etc/systemd/system/{unit}.service"), true).is_err() {
                shell.complain(io, &format!("Failed to {action} {unit}.service: Unit {unit}.service not found.\n"));
                return 5;
            }
            shell.wait(Duration::from_millis(180)).await;
            0
        }
        _ => 0,
    }
}

pub(super) async fn crontab(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "u");
    let user = values.first().map_or_else(|| shell.user.name.clone(), |(_, user)| (*user).to_owned());
    let path = format!("/var/spool/cron/crontabs/{}", user.replace('/', ""));
    let mut files = shell.files.clone();
    files.uid = 0;
    if args.has('l') {
        return match files.read("/", &path, 64 << 10) {
            Ok(bytes) => {
                shell.emit(&io.out, &bytes);
                0
            }
            Err(_) => {
                shell.complain(io, &format!("no crontab for {user}\n"));
                1
            }
        };
    }
    if args.has('r') {
        if files.remove("/", &path, false, false).is_err() {
            shell.complain(io, &format!("no crontab for {user}\n"));
            return 1;
        }
        return 0;
    }
    let bytes = match args.rest.first() {
        Some(file) if *file != "-" => match shell.files.read(&shell.cwd, file, 64 << 10) {
            Ok(bytes) => bytes,
            Err(errno) => {
                shell.complain(io, &format!("{file}: {}\n", errno.text()));
                return 1;
            }
        },
        _ if args.has('e') => {
            shell.say(io, &format!("no crontab for {user} - using an empty one\ncrontab: installing new crontab\n"));
            return 0;
        }
        _ => shell.read_input(io).await,
    };
    let _ = files.make_folder("/", "/var/spool/cron/crontabs", 0o1730);
    let _ = files.truncate("/", &path, 0).and_then(|path| files.write("/", &path, None, &bytes));
    0
}

/// Commands that run another one.
pub(super) async fn wrapped(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let mut rest = argv.iter().skip(1).peekable();
    while let Some(option) = rest.next_if(|word| word.starts_with('-')) {
        if matches!(option.as_str(), "-n" | "-s" | "-k") {
            rest.next();
        }
    }
    if matches!(program.as_str(), "timeout" | "chroot") {
        rest.next();
    }
    let command: Vec<String> = rest.cloned().collect();
    if command.is_empty() {
        return 125;
    }
    if program == "nohup" && shell.terminal.tty {
        shell.complain(io, "nohup: ignoring input and appending output to 'nohup.out'\n");
    }
    let io = if program == "nohup" { Io { input: Source::bytes(Vec::new()), ..io.clone() } } else { io.clone() };
    let begun = Utc::now();
    let status = shell.call(&command, &io).await;
    if program == "time" {
        let took = (Utc::now() - begun).num_milliseconds().max(1);
        shell.complain(
            &io,
            &format!(
                "\nreal\t{}m{}.{:03}s\nuser\t0m0.001s\nsys\t0m0.002s\n",
                took / 60_000,
                took / 1000 % 60,
                took % 1000
            ),
        );
    }
    status
}

pub(super) async fn shutdown(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    if shell.user.uid != 0 {
        shell.complain(io, &format!("Failed to set wall message, ignoring: Interactive authentication required.\nFailed to {program} system via logind: Interactive authentication required.\n"));
        return 1;
    }
    // The machine goes down, as far as this connection can see.
    shell.wait(Duration::from_millis(700)).await;
    while shell.leave() {}
    shell.flow = Some(Flow::Exit);
    0
}

//! Package managers, interpreters, editors: as far as they can be believed.

use std::time::Duration;

use super::{
    super::{
        Family,
        run::{Io, Shell},
        vfs::name,
    },
    Args, find,
};

pub(super) async fn install(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (args, _) = Args::new(argv, "o");
    let action = args.rest.first().copied().unwrap_or("");
    let facts = shell.machine().facts();
    if program == "pkg" || action.is_empty() {
        shell.say(io, "usage: see the manual\n");
        return 1;
    }
    let changes =
        matches!(action, "install" | "remove" | "update" | "upgrade" | "purge" | "dist-upgrade" | "autoremove");
    if changes && shell.user.uid != 0 {
        let text = match facts.family {
            Family::RedHat => {
                "Error: This command has to be run with superuser privileges (under the root user on most systems).\n"
            }
            _ if action == "update" => {
                "Reading package lists... Done\nE: Could not open lock file /var/lib/apt/lists/lock - open (13: Permission denied)\nE: Unable to lock directory /var/lib/apt/lists/\n"
            }
            _ => {
                "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?\n"
            }
        };
        shell.complain(io, text);
        return 100;
    }
    // The mirrors cannot be reached from here.
    if facts.family == Family::RedHat {
        if shell.wait(Duration::from_secs(4)).await {
            return 130;
        }
        let text = if facts.id == "centos" {
            "Loaded plugins: fastestmirror\nCould not retrieve mirrorlist http://mirrorlist.centos.org/?release=7&arch=x86_64&repo=os&infra=stock error was\n14: curl#6 - \"Could not resolve host: mirrorlist.centos.org; Unknown error\"\n\n Cannot find a valid baseurl for repo: base/7/x86_64\n"
        } else {
            "Rocky Linux 9 - BaseOS                          0.0  B/s |   0  B     00:04    \nErrors during downloading metadata for repository 'baseos':\n  - Curl error (6): Couldn't resolve host name for https://mirrors.rockylinux.org/mirrorlist?arch=x86_64&repo=BaseOS-9 [Could not resolve host: mirrors.rockylinux.org]\nError: Failed to download metadata for repo 'baseos': Cannot prepare internal mirrorlist: Curl error (6): Couldn't resolve host name\n"
        };
        shell.complain(io, text);
        return 1;
    }
    let mirror = if facts.id == "ubuntu" { "http://archive.ubuntu.com/ubuntu" } else { "http://deb.debian.org/debian" };
    let host = mirror.split('/').nth(2).unwrap_or("");
    match action {
        "update" => {
            if shell.wait(Duration::from_secs(3)).await {
                return 130;
            }
            shell.say(io, &format!("Ign:1 {mirror} {0} InRelease\nErr:1 {mirror} {0} InRelease\n  Temporary failure resolving '{host}'\nReading package lists... Done\n", facts.codename));
            shell.complain(io, &format!("W: Failed to fetch {mirror}/dists/{}/InRelease  Temporary failure resolving '{host}'\nW: Some index files failed to download. They have been ignored, or old ones used instead.\n", facts.codename));
            0
        }
        "install" => {
            shell.say(
                io,
                "Reading package lists... Done\nBuilding dependency tree... Done\nReading state information... Done\n",
            );
            shell.wait(Duration::from_millis(600)).await;
            let mut status = 0;
            for package in args.rest.iter().skip(1) {
                if find(shell, package).is_ok() {
                    shell.say(io, &format!("{package} is already the newest version.\n"));
                } else {
                    shell.complain(io, &format!("E: Unable to locate package {package}\n"));
                    status = 100;
                }
            }
            if status == 0 {
                shell.say(io, "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n");
            }
            status
        }
        "upgrade" | "dist-upgrade" | "remove" | "autoremove" | "purge" => {
            shell.say(io, "Reading package lists... Done\nBuilding dependency tree... Done\nReading state information... Done\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n");
            0
        }
        _ => {
            shell.complain(io, &format!("E: Invalid operation {action}\n"));
            100
        }
    }
}

pub(super) fn list(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let facts = shell.machine().facts();
    let debian = facts.family == Family::Debian;
    let packages: &[(&str, &str)] = if debian {
        &[
            ("apt", "2.6.1"),
            ("base-files", "12.4+deb12u5"),
            ("bash", "5.2.15-2+b2"),
            ("coreutils", "9.1-1"),
            ("curl", "7.88.1-10+deb12u5"),
            ("openssh-server", ""),
            ("sudo", "1.9.13p3-1+deb12u1"),
            ("wget", "1.21.3-1+b2"),
        ]
    } else {
        &[
            ("bash", "5.1.8-9.el9"),
            ("coreutils", "8.32-35.el9"),
            ("curl", "7.76.1-29.el9"),
            ("openssh-server", ""),
            ("sudo", "1.9.5p2-10.el9_3"),
            ("wget", "1.21.1-7.el9"),
        ]
    };
    let rows: String = packages
        .iter()
        .map(|(package, version)| {
            let version = if version.is_empty() { facts.ssh } else { version };
            if debian {
                format!("ii  {package:<16} {version:<24} amd64        {package}\n")
            } else {
                format!("{package}-{version}.x86_64\n")
            }
        })
        .collect();
    if debian && !argv.iter().any(|word| word.starts_with("-l") || word == "--list" || word == "-W") {
        return 0;
    }
    let head = if debian {
        "Desired=Unknown/Install/Remove/Purge/Hold\n| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend\n|/ Err?=(none)/Reinst-required (Status,Err: uppercase=bad)\n||/ Name             Version                  Architecture Description\n+++-================-========================-============-===============\n"
    } else {
        ""
    };
    shell.say(io, &format!("{head}{rows}"));
    0
}

pub(super) fn which(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let mut status = 0;
    let whereis = argv.first().is_some_and(|word| word.ends_with("whereis"));
    for word in argv.iter().skip(1).filter(|word| !word.starts_with('-')) {
        match find(shell, word) {
            Ok(path) if whereis => shell.say(io, &format!("{word}: {path}\n")),
            Ok(path) => shell.say(io, &format!("{path}\n")),
            Err(_) if whereis => shell.say(io, &format!("{word}:\n")),
            Err(_) => {
                status = 1;
                if shell.machine().facts().family == Family::RedHat {
                    let path = shell.variable_text("PATH").unwrap_or_default();
                    shell.complain(io, &format!("/usr/bin/which: no {word} in ({path})\n"));
                }
            }
        }
    }
    status
}

/// Programs that are too much to be played: they tell their version, print what is plainly printed, and else are silent.
pub(super) async fn interpreter(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let first = argv.get(1).map(String::as_str);
    match (program.as_str(), first) {
        ("python3", Some("-V" | "--version")) => {
            let version = match shell.machine().facts().version_id {
                "12" => "3.11.2",
                "11" => "3.9.2",
                "22.04" => "3.10.12",
                "20.04" => "3.8.10",
                "9.4" => "3.9.18",
                _ => "3.6.8",
            };
            shell.say(io, &format!("Python {version}\n"));
        }
        ("perl", Some("-v" | "--version")) => shell.say(io, "\nThis is perl 5, version 36, subversion 0 (v5.36.0) built for x86_64-linux-gnu-thread-multi\n\nCopyright 1987-2022, Larry Wall\n"),
        ("python3" | "perl", Some("-c" | "-e")) => {
            // Only a text that is printed as it stands.
            let source = argv.get(2).cloned().unwrap_or_default();
            let quoted = source.strip_prefix("print").map(|rest| rest.trim().trim_matches(['(', ')', ';']));
            if let Some(text) = quoted.and_then(|text| text.strip_prefix(['"', '\''])).and_then(|text| text.strip_suffix(['"', '\''])) {
                let end = if program == "python3" { "\n" } else { "" };
                shell.say(io, &format!("{}{end}", super::super::expand::escapes(text)));
            }
        }
        ("gcc", _) => {
            shell.complain(io, "gcc: fatal error: no input files\ncompilation terminated.\n");
            return 1;
        }
        ("make", _) => {
            shell.complain(io, "make: *** No targets specified and no makefile found.  Stop.\n");
            return 2;
        }
        ("vi" | "vim" | "nano", file) if shell.terminal.tty => return edit(shell, &program, file, io).await,
        _ => {}
    }
    0
}

/// An editor: what is typed as text is put at the end of the file when it is written.
async fn edit(shell: &mut Shell, program: &str, file: Option<&str>, io: &Io) -> i32 {
    let path = file.unwrap_or("").to_owned();
    let content =
        if path.is_empty() { Vec::new() } else { shell.files.read(&shell.cwd, &path, 16 << 10).unwrap_or_default() };
    let rows = usize::from(shell.terminal.size.1).clamp(5, 100);
    let text = super::from_bytes(&content);
    let mut screen = String::from("\x1b[?1049h\x1b[H\x1b[2J");
    let mut lines = text.lines();
    for _ in 0..rows - 1 {
        screen.push_str(lines.next().unwrap_or("~"));
        screen.push('\n');
    }
    let new = if content.is_empty() {
        " [New]".to_owned()
    } else {
        format!(" {}L, {}B", text.lines().count(), content.len())
    };
    screen.push_str(&format!("\"{path}\"{new}\x1b[H"));
    shell.say(io, &screen);
    shell.flush().await;
    let (mut typed, mut command, mut inserting, mut written) = (String::new(), String::new(), program == "nano", false);
    while let Some(byte) = shell.terminal.byte().await {
        match (inserting, byte) {
            (true, 27) => inserting = false,
            (true, 24) if program == "nano" => break,
            (true, 15) if program == "nano" => written = true,
            (true, _) if typed.len() < 32 << 10 => {
                let c = if byte == b'\r' { '\n' } else { char::from(byte) };
                typed.push(c);
                let shown = [byte];
                let shown: &[u8] = if byte == b'\r' { b"\n" } else { &shown };
                if shell.terminal.write(shown).await.is_err() {
                    break;
                }
            }
            (true, _) => {}
            (false, b'\r' | b'\n') => {
                let line = std::mem::take(&mut command);
                if let Some(line) = line.strip_prefix(':') {
                    written |= line.starts_with(['w', 'x']);
                    if line.contains('q') || line.starts_with('x') {
                        break;
                    }
                }
            }
            (false, b'i' | b'a' | b'o' | b'A' | b'I' | b'O') if command.is_empty() => inserting = true,
            (false, 3) => {}
            (false, byte) => {
                command.push(char::from(byte));
                if command.ends_with("ZZ") {
                    written = true;
                    break;
                }
                if command.len() > 64 || (!command.starts_with(':') && !command.starts_with('Z')) {
                    command.clear();
                }
                if command.starts_with(':') && shell.terminal.write(&[byte]).await.is_err() {
                    break;
                }
            }
        }
    }
    if written && !path.is_empty() && !typed.is_empty() {
        let _ = shell.files.write(&shell.cwd, &path, None, super::super::expand::to_bytes(&typed).as_slice());
    }
    shell.say(io, "\x1b[?1049l");
    0
}

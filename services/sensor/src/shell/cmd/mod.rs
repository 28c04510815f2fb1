//! The commands of the machine: how one is found, and which of them is what.

mod builtin;
mod busybox;
mod edit;
mod files;
mod hash;
mod look;
mod ls;
mod net;
mod packages;
mod process;
mod system;
mod text;
mod transfer;
mod users;

use futures::future::BoxFuture;

use super::{
    Family,
    expand::from_bytes,
    run::{Flow, Io, Shell, Sink, Source},
    vfs::{Errno, Kind, Vfs, name},
};

/// Most choices that a tab shows.
const MAX_CHOICES: usize = 60;

/// Options and operands of a command: single letters, long options, and what is neither.
pub(super) struct Args<'a> {
    letters: String,
    long: Vec<&'a str>,
    rest: Vec<&'a str>,
}

impl<'a> Args<'a> {
    /// Reads them; the letters in `valued` take a value, which is in `values`.
    fn new(argv: &'a [String], valued: &str) -> (Args<'a>, Vec<(char, &'a str)>) {
        let mut args = Args { letters: String::new(), long: Vec::new(), rest: Vec::new() };
        let mut values = Vec::new();
        let mut words = argv.iter().skip(1).map(String::as_str);
        let mut plain = false;
        while let Some(word) = words.next() {
            if plain || word == "-" || !word.starts_with('-') {
                args.rest.push(word);
            } else if word == "--" {
                plain = true;
            } else if let Some(long) = word.strip_prefix("--") {
                args.long.push(long);
            } else {
                for (at, letter) in word.char_indices().skip(1) {
                    args.letters.push(letter);
                    if valued.contains(letter) {
                        let value = word.get(at + letter.len_utf8()..).filter(|value| !value.is_empty());
                        if let Some(value) = value.or_else(|| words.next()) {
                            values.push((letter, value));
                        }
                        break;
                    }
                }
            }
        }
        (args, values)
    }

    fn has(&self, letter: char) -> bool {
        self.letters.contains(letter)
    }

    fn long(&self, name: &str) -> bool {
        self.long.iter().any(|long| long.split('=').next() == Some(name))
    }
}

/// Runs a command by its name.
pub(super) fn call<'a>(shell: &'a mut Shell, argv: &'a [String], io: &'a Io) -> BoxFuture<'a, i32> {
    Box::pin(async move {
        let Some(word) = argv.first() else { return 0 };
        for path in argv.iter().skip(1) {
            // Also `if=FILE` and `file=@FILE`.
            let path = path.rsplit(['=', '@']).next().unwrap_or(path);
            shell.files.settle(&shell.cwd, path).await;
        }
        if let Some(status) = builtin::call(shell, word, argv, io).await {
            return status;
        }
        let path = match find(shell, word) {
            Ok(path) => path,
            Err(errno) => return missing(shell, word, errno, io),
        };
        shell.pid += 1;
        run_file(shell, &path, word, argv, io).await
    })
}

/// What a shell says of a command that is not there.
fn missing(shell: &mut Shell, word: &str, errno: Errno, io: &Io) -> i32 {
    let prefix = shell.name.clone();
    let path = word.contains('/');
    let text = match shell.dialect {
        "csh" if path => format!("{word}: {}.\n", errno.text()),
        "csh" => format!("{word}: Command not found.\n"),
        "sh" if shell.machine().facts().family == Family::Debian => {
            format!(
                "{prefix}: 1: {word}: {}\n",
                if path && errno != Errno::NoEntry { errno.text() } else { "not found" }
            )
        }
        "sh" => {
            format!("{prefix}: {word}: {}\n", if path && errno != Errno::NoEntry { errno.text() } else { "not found" })
        }
        _ if path => format!("{prefix}: {word}: {}\n", errno.text()),
        _ if shell.machine().facts().id == "ubuntu" && shell.terminal.tty => {
            format!("\n{word}: command not found\n").trim_start().to_owned()
        }
        _ => format!("{prefix}: {word}: command not found\n"),
    };
    shell.complain(io, &text);
    if errno == Errno::NoEntry || !path { 127 } else { 126 }
}

/// Where a command is.
pub(super) fn find(shell: &Shell, word: &str) -> Result<String, Errno> {
    if word.contains('/') {
        let (path, meta) = shell.files.stat(&shell.cwd, word, true)?;
        if meta.is_folder() {
            return Err(Errno::IsFolder);
        }
        return if meta.mode & 0o111 == 0 { Err(Errno::Denied) } else { Ok(path) };
    }
    for folder in shell.variable_text("PATH").unwrap_or_default().split(':').take(64) {
        let path = format!("{folder}/{word}");
        if let Ok((_, meta)) = shell.files.stat("/", &path, true)
            && meta.kind == Kind::File
            && meta.mode & 0o111 != 0
        {
            return Ok(path);
        }
    }
    Err(Errno::NoEntry)
}

/// Runs a file: a program of the system by its name, a script of the attacker by its text.
async fn run_file(shell: &mut Shell, path: &str, word: &str, argv: &[String], io: &Io) -> i32 {
    let applet = name(word);
    let real = shell.files.resolve(&shell.cwd, path, true).unwrap_or_else(|_| path.to_owned());
    let head = shell.files.read_at(&real, 0, 64 << 10).unwrap_or_default();
    let ours = shell.files.pristine(&real);
    if !ours {
        shell.keep(&real).await;
    }
    if ours && head.starts_with(b"\x7fELF") {
        return match run_program(shell, applet, argv, io).await {
            Some(status) => status,
            None if name(&real) != applet => run_program(shell, name(&real), argv, io).await.unwrap_or(0),
            None => 0,
        };
    }
    if head.starts_with(b"\x7fELF") || head.starts_with(b"MZ") {
        return run_foreign(shell, word, &head, io);
    }
    if head.contains(&0) {
        let text = format!("{}: {word}: cannot execute binary file: Exec format error\n", shell.name);
        shell.complain(io, &text);
        return 126;
    }
    let kept =
        (std::mem::replace(&mut shell.positional, argv.get(1..).unwrap_or_default().to_vec()), shell.name.clone());
    shell.name = word.to_owned();
    let status = shell.run_script(&from_bytes(&head), io, true).await;
    (shell.positional, shell.name) = kept;
    status
}

/// A program that the attacker brought: it is never run. One for another machine is refused as the kernel does; one for
/// this machine seems to go into the background.
fn run_foreign(shell: &mut Shell, word: &str, head: &[u8], io: &Io) -> i32 {
    let machine = match shell.machine().facts().family {
        Family::BusyBox => 0x28,
        _ => 0x3e,
    };
    let fits = head.starts_with(b"\x7fELF") && head.get(18) == Some(&machine);
    // Also 32-bit programs of the same maker run.
    let old = machine == 0x3e && head.starts_with(b"\x7fELF") && head.get(18) == Some(&3);
    if fits || old {
        return 0;
    }
    let text = match shell.dialect {
        "bash" => format!("{}: {word}: cannot execute binary file: Exec format error\n", shell.name),
        _ => format!("{}: {word}: Exec format error\n", shell.name),
    };
    shell.complain(io, &text);
    126
}

/// Runs a program of the system; none when it is there and does nothing that could be seen.
pub(super) fn run_program<'a>(
    shell: &'a mut Shell,
    applet: &'a str,
    argv: &'a [String],
    io: &'a Io,
) -> BoxFuture<'a, Option<i32>> {
    Box::pin(async move {
        Some(match applet {
            "[" | "test" | "true" | "false" | "printf" | "kill" | "pwd" | "echo" => {
                return builtin::call(shell, applet, argv, io).await;
            }
            "ls" | "dir" | "vdir" => ls::ls(shell, argv, io),
            "cat" | "tac" | "more" | "less" | "zcat" => files::cat(shell, argv, io).await,
            "cp" => files::cp(shell, argv, io),
            "mv" => files::mv(shell, argv, io),
            "rm" | "unlink" => files::rm(shell, argv, io),
            "mkdir" => files::mkdir(shell, argv, io),
            "rmdir" => files::rmdir(shell, argv, io),
            "touch" => files::touch(shell, argv, io),
            "chmod" => files::chmod(shell, argv, io),
            "chown" | "chgrp" => files::chown(shell, argv, io),
            "ln" => files::ln(shell, argv, io),
            "stat" => look::stat(shell, argv, io),
            "find" => look::find(shell, argv, io).await,
            "du" => look::du(shell, argv, io),
            "readlink" | "realpath" => look::readlink(shell, argv, io),
            "basename" | "dirname" => look::names(shell, argv, io),
            "mktemp" => look::mktemp(shell, argv, io),
            "dd" => transfer::dd(shell, argv, io).await,
            "file" => look::file(shell, argv, io),
            "chattr" | "lsattr" => look::attributes(shell, argv, io),
            "tar" => transfer::tar(shell, argv, io),
            "gzip" | "gunzip" | "bzip2" | "bunzip2" => transfer::gzip(shell, argv, io),
            "head" | "tail" => text::ends(shell, argv, io).await,
            "grep" | "egrep" | "fgrep" => text::grep(shell, argv, io).await,
            "wc" => text::wc(shell, argv, io).await,
            "sort" | "uniq" | "rev" => text::lines(shell, argv, io).await,
            "cut" => edit::cut(shell, argv, io).await,
            "tr" => edit::tr(shell, argv, io).await,
            "sed" => edit::sed(shell, argv, io).await,
            "awk" | "mawk" | "gawk" => edit::awk(shell, argv, io).await,
            "tee" => text::tee(shell, argv, io).await,
            "xargs" => text::xargs(shell, argv, io).await,
            "seq" => text::seq(shell, argv, io),
            "yes" => text::yes(shell, argv, io),
            "base64" => hash::base64(shell, argv, io).await,
            "md5sum" | "sha1sum" | "sha256sum" | "sha512sum" | "md5" | "sha256" => hash::sum(shell, argv, io).await,
            "cmp" | "diff" | "comm" => text::compare(shell, argv, io),
            "uname" => system::uname(shell, argv, io),
            "hostname" | "hostnamectl" => system::hostname(shell, argv, io),
            "uptime" => system::uptime(shell, argv, io),
            "free" => system::free(shell, argv, io),
            "df" => system::df(shell, argv, io),
            "mount" | "umount" => system::mount(shell, argv, io),
            "dmesg" => system::dmesg(shell, argv, io),
            "lscpu" => system::lscpu(shell, io),
            "nproc" => system::nproc(shell, io),
            "lsmod" | "kldstat" => system::lsmod(shell, io),
            "lsblk" | "blkid" | "fdisk" | "lspci" => system::devices(shell, argv, io),
            "date" => system::date(shell, argv, io),
            "env" | "printenv" => system::env(shell, argv, io).await,
            "sysctl" => system::sysctl(shell, argv, io),
            "freebsd-version" => {
                shell.say(io, "13.2-RELEASE\n");
                0
            }
            "lsb_release" => system::lsb_release(shell, argv, io),
            "ps" => process::ps(shell, argv, io),
            "top" => process::top(shell, argv, io).await,
            "pgrep" | "pidof" | "pkill" | "killall" | "pstree" => process::find(shell, argv, io),
            "sleep" => process::sleep(shell, argv, io).await,
            "systemctl" | "service" | "journalctl" => process::systemctl(shell, argv, io).await,
            "crontab" => process::crontab(shell, argv, io).await,
            "nohup" | "nice" | "timeout" | "time" | "stdbuf" | "setsid" | "chroot" => {
                process::wrapped(shell, argv, io).await
            }
            "watch" => process::wrapped(shell, argv, io).await,
            "reboot" | "poweroff" | "halt" | "shutdown" => process::shutdown(shell, argv, io).await,
            "lsof" | "iptables" | "iptables-save" => net::tables(shell, argv, io),
            "ifconfig" => net::ifconfig(shell, argv, io),
            "ip" => net::ip(shell, argv, io),
            "netstat" | "ss" | "sockstat" => net::sockets(shell, argv, io),
            "route" | "arp" => net::routes(shell, argv, io),
            "ping" => net::ping(shell, argv, io).await,
            "ssh" | "scp" | "sftp" | "telnet" | "nc" | "ftp" => net::client(shell, argv, io).await,
            "wget" | "curl" | "tftp" | "ftpget" | "ftpput" | "fetch" => transfer::fetch(shell, argv, io).await,
            "id" | "groups" => users::id(shell, argv, io),
            "whoami" | "logname" => users::whoami(shell, io),
            "w" | "who" | "users" => users::who(shell, argv, io),
            "last" | "lastlog" => users::last(shell, argv, io),
            "passwd" | "chpasswd" => users::passwd(shell, argv, io).await,
            "su" => users::su(shell, argv, io).await,
            "sudo" => users::sudo(shell, argv, io).await,
            "useradd" | "adduser" | "userdel" | "usermod" | "groupadd" => users::manage(shell, argv, io),
            "getent" => users::getent(shell, argv, io),
            "tty" => {
                let text =
                    if shell.terminal.tty { format!("/dev/{}\n", shell.login.tty) } else { "not a tty\n".to_owned() };
                shell.say(io, &text);
                i32::from(!shell.terminal.tty)
            }
            "apt" | "apt-get" | "apt-cache" | "yum" | "dnf" | "pkg" => packages::install(shell, argv, io).await,
            "dpkg" | "dpkg-query" | "rpm" => packages::list(shell, argv, io),
            "which" | "whereis" => packages::which(shell, argv, io),
            "python3" | "perl" | "gcc" | "make" | "vi" | "vim" | "nano" => packages::interpreter(shell, argv, io).await,
            "sh" | "bash" | "dash" | "ash" | "csh" | "tcsh" => sh(shell, argv, io).await,
            "busybox" => return busybox::call(shell, argv, io).await,
            "clear" => {
                shell.say(io, "\x1b[H\x1b[2J\x1b[3J");
                0
            }
            "stty" => {
                if argv.get(1).is_some_and(|word| word == "size") {
                    let (columns, rows) = shell.terminal.size;
                    shell.say(io, &format!("{rows} {columns}\n"));
                }
                0
            }
            _ => return None,
        })
    })
}

/// A shell that is started in this one.
async fn sh(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let word = argv.first().map(String::as_str).unwrap_or("sh");
    match argv.get(1).map(String::as_str) {
        Some("--version") if shell.machine().facts().family != Family::BusyBox => {
            let text = format!(
                "GNU bash, version {} (x86_64-pc-linux-gnu)\nCopyright (C) Free Software Foundation, Inc.\n",
                shell.machine().facts().shell
            );
            shell.say(io, &text);
            0
        }
        Some(option) if option.starts_with('-') && option.contains('c') => {
            let Some(source) = argv.get(2) else {
                shell.complain(io, &format!("{word}: -c: option requires an argument\n"));
                return 2;
            };
            let source = source.clone();
            let kept = (
                std::mem::replace(&mut shell.positional, argv.get(4..).unwrap_or_default().to_vec()),
                shell.name.clone(),
            );
            shell.name = argv.get(3).cloned().unwrap_or_else(|| word.to_owned());
            let status = shell.run_script(&source, io, true).await;
            (shell.positional, shell.name) = kept;
            status
        }
        Some(file) if !file.starts_with('-') => {
            let file = file.to_owned();
            if let Ok(path) = shell.files.resolve(&shell.cwd, &file, true) {
                shell.keep(&path).await;
            }
            match shell.files.read(&shell.cwd, &file, 256 << 10) {
                Ok(bytes) if bytes.starts_with(b"\x7fELF") => {
                    shell.complain(io, &format!("{file}: {file}: cannot execute binary file\n"));
                    126
                }
                Ok(bytes) => {
                    let rest = argv.get(2..).unwrap_or_default().to_vec();
                    let kept = (std::mem::replace(&mut shell.positional, rest), shell.name.clone());
                    shell.name = file;
                    let status = shell.run_script(&from_bytes(&bytes), io, true).await;
                    (shell.positional, shell.name) = kept;
                    status
                }
                Err(errno) => {
                    let text = match shell.dialect {
                        "bash" => format!("{word}: {file}: {}\n", errno.text()),
                        _ => format!("{word}: can't open '{file}'\n"),
                    };
                    shell.complain(io, &text);
                    127
                }
            }
        }
        _ => match &io.input {
            Source::Bytes(_) => {
                let source = from_bytes(&shell.read_input(io).await);
                shell.run_script(&source, io, true).await
            }
            Source::Terminal if shell.terminal.tty => {
                let user = shell.user.clone();
                shell.enter(user, false);
                0
            }
            Source::Terminal => {
                let source = from_bytes(&shell.read_input(io).await);
                shell.run_script(&source, io, true).await
            }
        },
    }
}

/// What is shown after a login.
pub(super) fn greeting(shell: &Shell) -> String {
    let machine = shell.machine();
    let facts = machine.facts();
    let persona = machine.persona();
    // Somebody was there before, from the same network.
    let from = users::neighbour(machine, "last login");
    let last_login = match users::logins(machine, shell.login.at).last() {
        Some((at, ..)) => format!("Last login: {} from {from}\n", at.format("%a %b %e %H:%M:%S %Y")),
        None => String::new(),
    };
    match facts.id {
        "debian" => format!(
            "Linux {} {} {} {}\n\nThe programs included with the Debian GNU/Linux system are free software;\nthe exact distribution terms for each program are described in the\nindividual files in /usr/share/doc/*/copyright.\n\nDebian GNU/Linux comes with ABSOLUTELY NO WARRANTY, to the extent\npermitted by applicable law.\n{last_login}",
            persona.hostname, facts.kernel, facts.kernel_version, facts.machine
        ),
        "ubuntu" => {
            let [one, ..] = super::content::load(machine);
            let used = machine.disk_used() * 100 / machine.disk().max(1);
            format!(
                "Welcome to {} (GNU/Linux {} x86_64)\n\n * Documentation:  https://help.ubuntu.com\n * Management:     https://landscape.canonical.com\n * Support:        https://ubuntu.com/pro\n\n  System information as of {} UTC\n\n  System load:  {one:.2}               Processes:              {}\n  Usage of /:   {used}.{}% of {:.2}GB   Users logged in:        0\n  Memory usage: {}%                IPv4 address for {}: {}\n  Swap usage:   0%\n\n\n{} updates can be applied immediately.\n\n{last_login}",
                facts.pretty,
                facts.kernel,
                shell.login.at.format("%a %b %e %H:%M:%S"),
                super::processes::all(machine).len() + 60,
                persona.number("used part", 10),
                machine.disk() as f64 / 1_048_576.0 * 0.95,
                12 + persona.number("memory used", 25),
                facts.interface,
                persona.ip,
                persona.number("updates", 60),
            )
        }
        "rocky" | "centos" | "freebsd" => last_login,
        _ => String::new(),
    }
}

/// What a tab completes: one choice is what is to be added, several are to be shown.
pub(super) fn complete(files: &Vfs, cwd: &str, path: &str, before: &str) -> Vec<String> {
    let start = before.rfind([' ', '|', ';', '&', '>', '<']).map_or(0, |at| at + 1);
    let word = before.get(start..).unwrap_or("");
    let first = before.get(..start).unwrap_or("").trim().is_empty();
    let (folder, prefix) = match word.rfind('/') {
        Some(at) => (word.get(..=at).unwrap_or("/"), word.get(at + 1..).unwrap_or("")),
        None => ("", word),
    };
    let mut found: Vec<String> = Vec::new();
    if first && folder.is_empty() {
        for place in path.split(':').take(16) {
            let list = files.list("/", place).unwrap_or_default();
            found.extend(list.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)));
        }
    } else {
        for (name, meta) in files.list(cwd, if folder.is_empty() { "." } else { folder }).unwrap_or_default() {
            if name.starts_with(prefix) && (prefix.starts_with('.') || !name.starts_with('.')) {
                found.push(if meta.is_folder() { format!("{name}/") } else { name });
            }
        }
    }
    found.sort();
    found.dedup();
    found.truncate(MAX_CHOICES);
    match found.as_slice() {
        [one] => {
            let rest = one.get(prefix.len()..).unwrap_or("").to_owned();
            vec![if one.ends_with('/') { rest } else { format!("{rest} ") }]
        }
        _ => found,
    }
}

/// The contents of the operands, or the input when there are none.
async fn inputs(shell: &mut Shell, program: &str, operands: &[&str], io: &Io) -> (Vec<(String, Vec<u8>)>, i32) {
    let mut status = 0;
    let mut all = Vec::new();
    if operands.is_empty() {
        let bytes = shell.read_input(io).await;
        return (vec![(String::new(), bytes)], 0);
    }
    for operand in operands.iter().take(256) {
        if *operand == "-" {
            let bytes = shell.read_input(io).await;
            all.push(("-".to_owned(), bytes));
            continue;
        }
        match shell.files.read(&shell.cwd, operand, super::run::MAX_PIPE) {
            Ok(bytes) => all.push(((*operand).to_owned(), bytes)),
            Err(errno) => {
                let text = match (shell.machine().facts().family, program) {
                    (Family::BusyBox, _) => format!("{program}: can't open '{operand}': {}\n", errno.text()),
                    (_, "head" | "tail") => {
                        format!("{program}: cannot open '{operand}' for reading: {}\n", errno.text())
                    }
                    _ => format!("{program}: {operand}: {}\n", errno.text()),
                };
                shell.complain(io, &text);
                status = 1;
            }
        }
    }
    (all, status)
}

fn stop(shell: &mut Shell) {
    shell.flow = Some(Flow::Exit);
}

fn is_terminal(io: &Io) -> bool {
    matches!(io.out, Sink::Out)
}

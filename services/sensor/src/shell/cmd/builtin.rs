//! Commands that are part of the shell.

use super::{
    super::{
        Family,
        expand::{escapes, from_bytes},
        run::{Flow, Io, Shell},
        vfs::{Errno, Kind},
    },
    find, stop,
};

/// Runs a command of the shell; none when it has no such.
pub(super) async fn call(shell: &mut Shell, word: &str, argv: &[String], io: &Io) -> Option<i32> {
    let first = argv.get(1).map(String::as_str);
    Some(match word {
        ":" | "true" => 0,
        "false" => 1,
        "cd" | "chdir" => cd(shell, first, io),
        "pwd" => {
            let text = format!("{}\n", shell.cwd);
            shell.say(io, &text);
            0
        }
        "echo" => {
            echo(shell, argv, io);
            0
        }
        "printf" => printf(shell, argv, io),
        "exit" | "logout" | "bye" if word != "bye" => {
            shell.status = first.and_then(|status| status.parse::<i32>().ok()).unwrap_or(shell.status) & 0xff;
            let status = shell.status;
            if word == "logout" || shell.name.starts_with('-') && shell.dialect == "bash" && shell.terminal.tty {
                shell.say(io, "logout\n");
            }
            stop(shell);
            status
        }
        "export" | "declare" | "local" | "typeset" | "readonly" => export(shell, word, argv, io),
        "unset" => {
            for name in argv.iter().skip(1).filter(|name| !name.starts_with('-')) {
                shell.variables.remove(name);
            }
            0
        }
        "set" => {
            if argv.len() == 1 {
                let text: String =
                    shell.variables.iter().map(|(name, (value, _))| format!("{name}={value}\n")).collect();
                shell.say(io, &text);
            } else if first == Some("--") {
                shell.positional = argv.get(2..).unwrap_or_default().to_vec();
            }
            0
        }
        "alias" => {
            if argv.len() == 1 {
                let text: String =
                    shell.aliases.iter().map(|(name, value)| format!("alias {name}='{value}'\n")).collect();
                shell.say(io, &text);
            }
            for pair in argv.iter().skip(1) {
                if let Some((name, value)) = pair.split_once('=')
                    && shell.aliases.len() < 128
                {
                    shell.aliases.insert(name.to_owned(), value.to_owned());
                }
            }
            0
        }
        "unalias" => {
            for name in argv.iter().skip(1) {
                if name == "-a" {
                    shell.aliases.clear();
                }
                shell.aliases.remove(name);
            }
            0
        }
        "history" => history(shell, first, io),
        "type" | "command" | "hash" => return Some(kind(shell, word, argv, io).await),
        "eval" => {
            let source = argv.get(1..).unwrap_or_default().join(" ");
            shell.run_script(&source, io, false).await
        }
        "exec" => {
            let rest = argv.get(1..).unwrap_or_default().to_vec();
            if rest.is_empty() {
                return Some(0);
            }
            let status = shell.call(&rest, io).await;
            shell.status = status;
            stop(shell);
            status
        }
        "source" | "." => match first {
            None => {
                let text = format!("{}: {word}: filename argument required\n", shell.name);
                shell.complain(io, &text);
                2
            }
            Some(file) => match shell.files.read(&shell.cwd, file, 256 << 10) {
                Ok(bytes) => shell.run_script(&from_bytes(&bytes), io, false).await,
                Err(errno) => {
                    let text = format!("{}: {file}: {}\n", shell.name, errno.text());
                    shell.complain(io, &text);
                    1
                }
            },
        },
        "read" => {
            let names: Vec<String> = argv.iter().skip(1).filter(|name| !name.starts_with('-')).cloned().collect();
            let silent = argv.iter().any(|option| option.starts_with('-') && option.contains('s'));
            match shell.read_input_line(io, "", !silent).await {
                None => 1,
                Some(line) => {
                    let mut words = line.split_whitespace();
                    for (n, name) in names.iter().enumerate() {
                        let value = if n + 1 == names.len() {
                            words.by_ref().collect::<Vec<_>>().join(" ")
                        } else {
                            words.next().unwrap_or("").to_owned()
                        };
                        shell.set(name, &value);
                    }
                    0
                }
            }
        }
        "[" | "test" | "[[" => {
            let end = argv.len() - usize::from(matches!(argv.last().map(String::as_str), Some("]" | "]]")));
            let words: Vec<&str> = argv.get(1..end).unwrap_or_default().iter().map(String::as_str).collect();
            i32::from(!test(shell, &words, 0))
        }
        "return" => {
            shell.status = first.and_then(|status| status.parse().ok()).unwrap_or(shell.status);
            shell.flow = Some(Flow::Return);
            shell.status
        }
        "break" => {
            shell.flow = Some(Flow::Break(first.and_then(|n| n.parse().ok()).unwrap_or(1)));
            0
        }
        "continue" => {
            shell.flow = Some(Flow::Continue(first.and_then(|n| n.parse().ok()).unwrap_or(1)));
            0
        }
        "shift" => {
            let count = first.and_then(|n| n.parse::<usize>().ok()).unwrap_or(1).min(shell.positional.len());
            shell.positional.drain(..count);
            0
        }
        "let" => {
            let value = argv.iter().skip(1).fold(0, |_, text| super::super::expand::calculate(shell, text));
            i32::from(value == 0)
        }
        "umask" => {
            if argv.len() == 1 {
                shell.say(io, "0022\n");
            }
            0
        }
        "ulimit" => {
            let text = match first {
                None | Some("-f") => "unlimited\n",
                Some("-n") => "1024\n",
                Some("-a") => {
                    "real-time non-blocking time  (microseconds, -R) unlimited\ncore file size              (blocks, -c) 0\ndata seg size               (kbytes, -d) unlimited\nfile size                   (blocks, -f) unlimited\nmax locked memory           (kbytes, -l) 252944\nopen files                          (-n) 1024\nstack size                  (kbytes, -s) 8192\ncpu time                   (seconds, -t) unlimited\nvirtual memory              (kbytes, -v) unlimited\n"
                }
                _ => "",
            };
            shell.say(io, text);
            0
        }
        "kill" => {
            let pids = argv.iter().skip(1).filter(|word| !word.starts_with('-'));
            let known: Vec<u64> =
                super::super::processes::all(shell.machine()).iter().map(|process| process.pid).collect();
            let mut status = 0;
            let mut text = String::new();
            for pid in pids {
                match pid.parse::<u64>() {
                    Ok(pid) if known.contains(&pid) && shell.user.uid == 0 => {}
                    Ok(pid) if known.contains(&pid) => {
                        status = 1;
                        text.push_str(&format!("{}: kill: ({pid}) - Operation not permitted\n", shell.name));
                    }
                    Ok(pid) if pid == shell.pid => {}
                    Ok(pid) => {
                        status = 1;
                        text.push_str(&format!("{}: kill: ({pid}) - No such process\n", shell.name));
                    }
                    Err(_) => {
                        status = 1;
                        text.push_str(&format!("{}: kill: {pid}: arguments must be process or job IDs\n", shell.name));
                    }
                }
            }
            shell.complain(io, &text);
            status
        }
        "jobs" | "wait" | "trap" | "fg" | "bg" | "times" => 0,
        "disown" | "shopt" | "enable" | "bind" if shell.dialect == "bash" => 0,
        "help" if shell.machine().facts().family == Family::BusyBox => {
            shell.say(io, "Built-in commands:\n------------------\n\t. : [ [[ alias break cd chdir command continue echo eval exec exit export\n\tfalse hash help history kill let local printf pwd read readonly return\n\tset shift source test times trap true type ulimit umask unalias unset\n\twait\n");
            0
        }
        _ => return None,
    })
}

fn cd(shell: &mut Shell, to: Option<&str>, io: &Io) -> i32 {
    let home = shell.variable_text("HOME").unwrap_or_else(|| "/".to_owned());
    let target = match to {
        None | Some("~" | "--") => home,
        Some("-") => {
            let old = shell.variable_text("OLDPWD").unwrap_or_else(|| shell.cwd.clone());
            shell.say(io, &format!("{old}\n"));
            old
        }
        Some(path) => path.to_owned(),
    };
    let found = shell.files.stat(&shell.cwd, &target, true).and_then(|(path, meta)| {
        if meta.is_folder() { shell.files.list("/", &path).map(|_| path) } else { Err(Errno::NotFolder) }
    });
    match found {
        Ok(path) => {
            let old = std::mem::replace(&mut shell.cwd, path.clone());
            shell.set("OLDPWD", &old);
            shell.set("PWD", &path);
            0
        }
        Err(errno) => {
            let text = match (shell.dialect, shell.machine().facts().family) {
                ("bash", _) => format!("{}: cd: {target}: {}\n", shell.name, errno.text()),
                ("csh", _) => format!("{target}: {}.\n", errno.text()),
                (_, Family::BusyBox) => format!("{}: cd: can't cd to {target}: {}\n", shell.name, errno.text()),
                _ => format!("{}: 1: cd: can't cd to {target}\n", shell.name),
            };
            shell.complain(io, &text);
            1
        }
    }
}

fn echo(shell: &mut Shell, argv: &[String], io: &Io) {
    let mut words = argv.get(1..).unwrap_or_default();
    // dash and BusyBox read escapes where bash does not.
    let mut escaped = shell.dialect == "sh" && shell.machine().facts().family == Family::Debian;
    let mut line_end = true;
    while let Some((first, rest)) = words.split_first() {
        let letters = first.strip_prefix('-').unwrap_or("");
        if letters.is_empty() || !letters.chars().all(|c| "neE".contains(c)) {
            break;
        }
        for letter in letters.chars() {
            match letter {
                'n' => line_end = false,
                'e' => escaped = true,
                _ => escaped = false,
            }
        }
        words = rest;
    }
    let mut text = words.join(" ");
    if escaped {
        if let Some(at) = text.find("\\c") {
            text.truncate(at);
            line_end = false;
        }
        text = escapes(&text);
    }
    if line_end {
        text.push('\n');
    }
    shell.say(io, &text);
}

fn printf(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let Some(format) = argv.get(1) else {
        let text = format!("{}: printf: usage: printf [-v var] format [arguments]\n", shell.name);
        shell.complain(io, &text);
        return 2;
    };
    let format = escapes(format);
    let mut arguments = argv.get(2..).unwrap_or_default().iter();
    let mut out = String::new();
    loop {
        let before = arguments.len();
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut spec = String::new();
            while let Some(c) = chars.peek().filter(|c| "-+ 0123456789.#".contains(**c)) {
                spec.push(*c);
                chars.next();
            }
            let left = spec.starts_with('-');
            let zero = spec.starts_with('0');
            let digits: String =
                spec.chars().skip_while(|c| "-+ #0".contains(*c)).take_while(char::is_ascii_digit).collect();
            let width = digits.parse::<usize>().unwrap_or(0).min(1024);
            let mut next = || arguments.next().cloned().unwrap_or_default();
            let text = match chars.next() {
                Some('%') => "%".to_owned(),
                Some('s') => next(),
                Some('b') => escapes(&next()),
                Some('c') => next().chars().take(1).collect(),
                Some('d' | 'i' | 'u') => super::super::expand::calculate(shell, &next()).to_string(),
                Some('x') => format!("{:x}", super::super::expand::calculate(shell, &next())),
                Some('X') => format!("{:X}", super::super::expand::calculate(shell, &next())),
                Some('o') => format!("{:o}", super::super::expand::calculate(shell, &next())),
                Some(other) => other.to_string(),
                None => "%".to_owned(),
            };
            let fill = width.saturating_sub(text.chars().count());
            match (left, zero) {
                (true, _) => out.push_str(&format!("{text}{}", " ".repeat(fill))),
                (false, true) => out.push_str(&format!("{}{text}", "0".repeat(fill))),
                (false, false) => out.push_str(&format!("{}{text}", " ".repeat(fill))),
            }
        }
        if arguments.len() == 0 || arguments.len() == before || out.len() > 1 << 20 {
            break;
        }
    }
    shell.say(io, &out);
    0
}

fn export(shell: &mut Shell, word: &str, argv: &[String], io: &Io) -> i32 {
    let names: Vec<&String> = argv.iter().skip(1).filter(|name| !name.starts_with('-')).collect();
    if names.is_empty() {
        let text: String = shell
            .variables
            .iter()
            .filter(|(_, (_, exported))| *exported || word != "export")
            .map(|(name, (value, _))| match shell.dialect {
                "bash" => format!("declare -x {name}=\"{value}\"\n"),
                _ => format!("export {name}='{value}'\n"),
            })
            .collect();
        shell.say(io, &text);
        return 0;
    }
    for pair in names {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair.as_str(), None),
        };
        if let Some(value) = value {
            shell.set(name, value);
        }
        if let Some(known) = shell.variables.get_mut(name) {
            known.1 = true;
        }
    }
    0
}

fn history(shell: &mut Shell, first: Option<&str>, io: &Io) -> i32 {
    match first {
        Some("-c") => shell.history.clear(),
        Some(option) if option.starts_with('-') => {}
        _ => {
            let most = first.and_then(|n| n.parse::<usize>().ok()).unwrap_or(usize::MAX);
            let skip = shell.history.len().saturating_sub(most);
            let text: String =
                shell.history.iter().enumerate().skip(skip).map(|(n, line)| format!("{:5}  {line}\n", n + 1)).collect();
            shell.say(io, &text);
        }
    }
    0
}

const OWN: &str = ". : [ alias bg break cd command continue declare echo eval exec exit export false fg hash help history jobs kill let \
    local logout printf pwd read readonly return set shift source test times trap true type ulimit umask unalias unset wait";

async fn kind(shell: &mut Shell, word: &str, argv: &[String], io: &Io) -> i32 {
    if word == "hash" {
        return 0;
    }
    let mut names = argv.get(1..).unwrap_or_default();
    let mut path_only = word == "type";
    if word == "command" {
        match names.split_first() {
            Some((option, rest)) if option == "-v" || option == "-V" => names = rest,
            Some(_) => {
                let rest = names.to_vec();
                return super::call(shell, &rest, io).await;
            }
            None => return 0,
        }
        path_only = false;
    }
    let mut status = 0;
    for name in names {
        let own = OWN.split_whitespace().any(|own| own == name);
        let text = match (own, shell.aliases.get(name), find(shell, name)) {
            (_, Some(alias), _) if path_only => format!("{name} is aliased to `{alias}'\n"),
            (_, Some(alias), _) => format!("alias {name}='{alias}'\n"),
            (true, ..) if path_only => format!("{name} is a shell builtin\n"),
            (true, ..) => format!("{name}\n"),
            (false, _, Ok(path)) if path_only => format!("{name} is {path}\n"),
            (false, _, Ok(path)) => format!("{path}\n"),
            (false, _, Err(_)) => {
                status = 1;
                if path_only {
                    let text = format!("{}: type: {name}: not found\n", shell.name);
                    shell.complain(io, &text);
                }
                continue;
            }
        };
        shell.say(io, &text);
    }
    status
}

/// An expression of `[`.
fn test(shell: &Shell, words: &[&str], depth: usize) -> bool {
    if depth > 16 {
        return false;
    }
    if let Some(at) = words.iter().position(|word| matches!(*word, "-o" | "||")) {
        let (left, right) = words.split_at(at);
        return test(shell, left, depth + 1) || test(shell, right.get(1..).unwrap_or_default(), depth + 1);
    }
    if let Some(at) = words.iter().position(|word| matches!(*word, "-a" | "&&")).filter(|at| *at > 0) {
        let (left, right) = words.split_at(at);
        return test(shell, left, depth + 1) && test(shell, right.get(1..).unwrap_or_default(), depth + 1);
    }
    let number = |text: &str| text.trim().parse::<i64>().unwrap_or(0);
    let meta = |path: &str| shell.files.stat(&shell.cwd, path, true).ok().map(|(_, meta)| meta);
    match words {
        ["!", rest @ ..] => !test(shell, rest, depth + 1),
        [] => false,
        [word] => !word.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-e" | "-a", path] => meta(path).is_some(),
        ["-f", path] => meta(path).is_some_and(|meta| meta.kind == Kind::File),
        ["-d", path] => meta(path).is_some_and(|meta| meta.is_folder()),
        ["-s", path] => meta(path).is_some_and(|meta| meta.size > 0),
        ["-x", path] => meta(path).is_some_and(|meta| meta.mode & 0o111 != 0),
        ["-r", path] => {
            meta(path).is_some_and(|meta| shell.user.uid == 0 || meta.mode & 0o004 != 0 || meta.uid == shell.user.uid)
        }
        ["-w", path] => {
            meta(path).is_some_and(|meta| shell.user.uid == 0 || meta.mode & 0o002 != 0 || meta.uid == shell.user.uid)
        }
        ["-L" | "-h", path] => {
            shell.files.stat(&shell.cwd, path, false).is_ok_and(|(_, meta)| matches!(meta.kind, Kind::Link(_)))
        }
        ["-t", _] => shell.terminal.tty,
        [left, "=" | "==", right] if depth == 0 || !right.is_empty() => {
            super::super::expand::fits(right, left) || left == right
        }
        [left, "!=", right] => left != right,
        [left, "-eq", right] => number(left) == number(right),
        [left, "-ne", right] => number(left) != number(right),
        [left, "-lt", right] => number(left) < number(right),
        [left, "-le", right] => number(left) <= number(right),
        [left, "-gt", right] => number(left) > number(right),
        [left, "-ge", right] => number(left) >= number(right),
        _ => false,
    }
}

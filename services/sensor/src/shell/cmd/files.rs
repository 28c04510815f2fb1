//! Commands on files and folders.

use chrono::Utc;

use super::{
    super::{
        Family,
        run::{Io, Shell, Source},
        vfs::{Meta, name, parent},
    },
    Args, inputs,
};

pub(super) async fn cat(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    if args.rest.is_empty() && matches!(io.input, Source::Terminal) && shell.terminal.tty && program == "cat" {
        // Line by line, as a terminal gives them.
        while let Some(line) = shell.read_input_line(io, "", true).await {
            shell.say(io, &format!("{line}\n"));
        }
        return if shell.flow.is_some() { 130 } else { 0 };
    }
    if args.rest.is_empty() && matches!(io.input, Source::Terminal) && program == "cat" {
        // As it comes: whole programs are sent this way.
        while let Some(bytes) = shell.terminal.some(32 << 10).await {
            shell.emit(&io.out, &bytes);
            if shell.flow.is_some() {
                return 130;
            }
        }
        return 0;
    }
    let (inputs, status) = inputs(shell, &program, &args.rest, io).await;
    for (_, bytes) in inputs {
        if args.has('n') {
            let text = super::super::expand::from_bytes(&bytes);
            let text: String = text.lines().enumerate().map(|(n, line)| format!("{:6}\t{line}\n", n + 1)).collect();
            shell.say(io, &text);
        } else {
            shell.emit(&io.out, &bytes);
        }
    }
    status
}

pub(super) fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

pub(super) fn cp(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "t");
    let Some((to, from)) = args.rest.split_last().filter(|(_, from)| !from.is_empty()) else {
        return usage(shell, "cp", args.rest.first().copied(), io);
    };
    let into = shell.files.stat(&shell.cwd, to, true).is_ok_and(|(_, meta)| meta.is_folder());
    let mut status = 0;
    for source in from {
        let target = if into { join(to, name(source)) } else { (*to).to_owned() };
        match shell.files.stat(&shell.cwd, source, true) {
            Ok((_, meta)) if meta.is_folder() && !args.has('r') && !args.has('R') && !args.has('a') => {
                shell.complain(io, &format!("cp: -r not specified; omitting directory '{source}'\n"));
                status = 1;
            }
            Ok((path, meta)) => {
                if let Err(errno) = copy(shell, &path, &meta, &target, 0) {
                    shell.complain(io, &format!("cp: cannot create regular file '{target}': {}\n", errno.text()));
                    status = 1;
                }
            }
            Err(errno) => {
                shell.complain(io, &format!("cp: cannot stat '{source}': {}\n", errno.text()));
                status = 1;
            }
        }
    }
    status
}

fn copy(shell: &Shell, from: &str, meta: &Meta, to: &str, depth: usize) -> Result<(), super::Errno> {
    if meta.is_folder() {
        if depth > 12 {
            return Err(super::Errno::Loop);
        }
        match shell.files.make_folder(&shell.cwd, to, meta.mode) {
            Ok(()) | Err(super::Errno::Exists) => {}
            Err(errno) => return Err(errno),
        }
        for (name, meta) in shell.files.list("/", from)? {
            copy(shell, &join(from, &name), &meta, &join(to, &name), depth + 1)?;
        }
        return Ok(());
    }
    let bytes = shell.files.read_at(from, 0, 4 << 20)?;
    shell.files.truncate(&shell.cwd, to, 0)?;
    shell.files.write(&shell.cwd, to, None, &bytes)?;
    let mode = meta.mode & 0o777;
    shell.files.change(&shell.cwd, to, |meta| meta.mode = mode)
}

pub(super) fn mv(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "t");
    let Some((to, from)) = args.rest.split_last().filter(|(_, from)| !from.is_empty()) else {
        return usage(shell, "mv", args.rest.first().copied(), io);
    };
    let into = shell.files.stat(&shell.cwd, to, true).is_ok_and(|(_, meta)| meta.is_folder());
    let mut status = 0;
    for source in from {
        let target = if into { join(to, name(source)) } else { (*to).to_owned() };
        if let Err(errno) = shell.files.rename(&shell.cwd, source, &target) {
            let text = match errno {
                super::Errno::NoEntry => format!("mv: cannot stat '{source}': {}\n", errno.text()),
                _ => format!("mv: cannot move '{source}' to '{target}': {}\n", errno.text()),
            };
            shell.complain(io, &text);
            status = 1;
        }
    }
    status
}

pub(super) fn usage(shell: &mut Shell, program: &str, first: Option<&str>, io: &Io) -> i32 {
    let text = match (shell.machine().facts().family, first) {
        (Family::BusyBox, _) => {
            format!("BusyBox v1.33.0 (2021-03-09 14:10:11 UTC) multi-call binary.\n\nUsage: {program} [OPTIONS] ...\n")
        }
        (_, None) => format!("{program}: missing file operand\nTry '{program} --help' for more information.\n"),
        (_, Some(first)) => format!(
            "{program}: missing destination file operand after '{first}'\nTry '{program} --help' for more information.\n"
        ),
    };
    shell.complain(io, &text);
    1
}

pub(super) fn rm(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let all = args.has('r') || args.has('R') || args.long("recursive");
    let force = args.has('f') || args.long("force");
    if args.rest.is_empty() {
        return if force { 0 } else { usage(shell, "rm", None, io) };
    }
    let mut status = 0;
    for path in &args.rest {
        if *path == "/" && all && !args.long("no-preserve-root") {
            shell.complain(io, "rm: it is dangerous to operate recursively on '/'\nrm: use --no-preserve-root to override this failsafe\n");
            status = 1;
            continue;
        }
        match shell.files.remove(&shell.cwd, path, false, all) {
            Ok(()) => {}
            Err(super::Errno::NoEntry) if force => {}
            Err(errno) => {
                shell.complain(io, &format!("rm: cannot remove '{path}': {}\n", errno.text()));
                status = 1;
            }
        }
    }
    status
}

pub(super) fn mkdir(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "m");
    if args.rest.is_empty() {
        shell.complain(io, "mkdir: missing operand\nTry 'mkdir --help' for more information.\n");
        return 1;
    }
    let mut status = 0;
    for path in &args.rest {
        let mut parts = vec![path.trim_end_matches('/').to_owned()];
        if args.has('p') {
            while let Some(above) =
                parts.last().map(|last| parent(last).to_owned()).filter(|above| above != "/" && parts.len() < 32)
            {
                if !parts.last().is_some_and(|last| last.contains('/')) {
                    break;
                }
                parts.push(above);
            }
        }
        while let Some(part) = parts.pop() {
            match shell.files.make_folder(&shell.cwd, &part, 0o755) {
                Ok(()) => {}
                Err(super::Errno::Exists) if args.has('p') => {}
                Err(errno) => {
                    shell.complain(io, &format!("mkdir: cannot create directory '{path}': {}\n", errno.text()));
                    status = 1;
                    break;
                }
            }
        }
    }
    status
}

pub(super) fn rmdir(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let mut status = 0;
    for path in &args.rest {
        if let Err(errno) = shell.files.remove(&shell.cwd, path, true, false) {
            shell.complain(io, &format!("rmdir: failed to remove '{path}': {}\n", errno.text()));
            status = 1;
        }
    }
    status
}

pub(super) fn touch(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "rdt");
    let mut status = 0;
    for path in &args.rest {
        let result = if shell.files.stat(&shell.cwd, path, true).is_ok() {
            let now = Utc::now().timestamp();
            shell.files.change(&shell.cwd, path, |meta| meta.mtime = now)
        } else if args.has('c') {
            Ok(())
        } else {
            shell.files.truncate(&shell.cwd, path, 0).map(|_| ())
        };
        if let Err(errno) = result {
            shell.complain(io, &format!("touch: cannot touch '{path}': {}\n", errno.text()));
            status = 1;
        }
    }
    status
}

/// A mode as `chmod` is told it: octal or `u+x`.
fn changed_mode(mode: u32, change: &str) -> Option<u32> {
    if let Ok(octal) = u32::from_str_radix(change, 8) {
        return (octal <= 0o7777).then_some(octal);
    }
    let mut mode = mode;
    for part in change.split(',') {
        let at = part.find(['+', '-', '='])?;
        let (who, rest) = part.split_at(at);
        let sign = rest.chars().next()?;
        let mut bits = 0;
        for letter in rest.chars().skip(1) {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' | 'X' => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => return None,
            };
        }
        let mut mask = 0;
        for letter in who.chars() {
            mask |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        if mask == 0 {
            mask = if sign == '+' && bits & 0o222 != 0 { 0o7755 } else { 0o7777 };
        }
        mode = match sign {
            '+' => mode | (bits & mask),
            '-' => mode & !(bits & mask),
            _ => (mode & !mask) | (bits & mask),
        };
    }
    Some(mode)
}

pub(super) fn chmod(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let all = argv.iter().any(|word| word == "-R");
    let mut words = argv.iter().skip(1).filter(|word| *word != "-R" && *word != "-f" && *word != "-v");
    let Some(change) = words.next() else { return usage(shell, "chmod", None, io) };
    let change = change.clone();
    let paths: Vec<String> = words.cloned().collect();
    if paths.is_empty() {
        shell.complain(
            io,
            &format!("chmod: missing operand after '{change}'\nTry 'chmod --help' for more information.\n"),
        );
        return 1;
    }
    let mut status = 0;
    for path in paths {
        let Ok((real, meta)) = shell.files.stat(&shell.cwd, &path, true) else {
            shell.complain(io, &format!("chmod: cannot access '{path}': No such file or directory\n"));
            status = 1;
            continue;
        };
        let Some(mode) = changed_mode(meta.mode, &change) else {
            shell.complain(io, &format!("chmod: invalid mode: '{change}'\nTry 'chmod --help' for more information.\n"));
            return 1;
        };
        let mut todo = vec![real];
        let mut seen = 0;
        while let Some(path) = todo.pop() {
            seen += 1;
            if seen > 500 {
                break;
            }
            if all {
                todo.extend(shell.files.list("/", &path).unwrap_or_default().iter().map(|(name, _)| join(&path, name)));
            }
            if let Err(errno) = shell.files.change("/", &path, |meta| meta.mode = mode) {
                shell.complain(io, &format!("chmod: changing permissions of '{path}': {}\n", errno.text()));
                status = 1;
            }
        }
    }
    status
}

pub(super) fn chown(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let Some((owner, paths)) = args.rest.split_first() else { return usage(shell, &program, None, io) };
    let (user, group) = owner.split_once([':', '.']).unwrap_or((owner, ""));
    let find = |name: &str| name.parse::<u32>().ok().or_else(|| shell.files.user(name).map(|user| user.uid));
    let (user, group) = if program == "chgrp" { ("", user) } else { (user, group) };
    let (uid, gid) = (find(user), find(group));
    if !user.is_empty() && uid.is_none() {
        shell.complain(io, &format!("chown: invalid user: '{owner}'\n"));
        return 1;
    }
    let mut status = 0;
    for path in paths {
        let result = if shell.user.uid == 0 {
            shell.files.change(&shell.cwd, path, |meta| {
                meta.uid = uid.unwrap_or(meta.uid);
                meta.gid = gid.unwrap_or(meta.gid);
            })
        } else {
            Err(super::Errno::NotPermitted)
        };
        if let Err(errno) = result {
            let text = match errno {
                super::Errno::NoEntry => format!("{program}: cannot access '{path}': {}\n", errno.text()),
                _ => format!("{program}: changing ownership of '{path}': {}\n", errno.text()),
            };
            shell.complain(io, &text);
            status = 1;
        }
    }
    status
}

pub(super) fn ln(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "t");
    let Some((target, rest)) = args.rest.split_first() else { return usage(shell, "ln", None, io) };
    let mut path = rest.first().map_or_else(|| name(target).to_owned(), |path| (*path).to_owned());
    if shell.files.stat(&shell.cwd, &path, true).is_ok_and(|(_, meta)| meta.is_folder()) {
        path = join(&path, name(target));
    }
    if args.has('f') {
        let _ = shell.files.remove(&shell.cwd, &path, false, false);
    }
    let result = if args.has('s') {
        shell.files.link(&shell.cwd, &path, target)
    } else {
        match shell.files.stat(&shell.cwd, target, true) {
            Ok((real, meta)) => copy(shell, &real, &meta, &path, 0),
            Err(errno) => Err(errno),
        }
    };
    if let Err(errno) = result {
        let kind = if args.has('s') { "symbolic" } else { "hard" };
        shell.complain(io, &format!("ln: failed to create {kind} link '{path}': {}\n", errno.text()));
        return 1;
    }
    0
}
